"""Packs on a cluster that grows. Not in `make test-cluster`, which would take three minutes longer."""

import os

import pytest
from test_cluster import HERE, lab, tools  # noqa: F401  # a fixture

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces of other users' processes need root"),
]


def test_lanes_bring_machines_and_the_loss_of_one_loses_no_trial() -> None:
    lab("--aws", "--", "python", str(HERE / "scenario_lanes.py"))
