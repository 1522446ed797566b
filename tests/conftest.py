"""What holds for every test."""

import pytest

from results.tracking import VARIABLES


@pytest.fixture(autouse=True)
def no_tracking_server_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test writes into its own folder, never to the MLflow server that the environment names."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
