"""The cluster files that we ship: accepted by the installed Ray's own code, closed, and as small as they say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
RAY_UP = ["cluster.yaml", "clusters/gcp.yaml", "clusters/onprem.yaml"]
ALL = [*RAY_UP, "clusters/kuberay.yaml", "clusters/kuberay-accounts.yaml"]


def load(name: str) -> dict[str, Any]:
    text: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return text


def validate(config: dict[str, Any]) -> dict[str, Any]:
    """Ray's defaults and Ray's schema, as `ray up` applies them; no network, no account."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(config)
    for kind in prepared["available_node_types"].values():
        kind.setdefault("resources", {})  # what `ray up` asks the cloud
    validate_config(prepared)
    return prepared


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", RAY_UP)
def test_ray_accepts_the_file(name: str) -> None:
    validate(load(name))


MISTAKES: list[Callable[[dict[str, Any]], object]] = [
    lambda config: config.update(max_worker=3),
    lambda config: config.update(head_node_type="nobody"),
    lambda config: config["available_node_types"]["gpu_t4"].update(min_worker=1),
    lambda config: config["available_node_types"]["gpu_t4"].update(min_workers=9),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_same_check_refuses_mistakes(mistake: Callable[[dict[str, Any]], object]) -> None:
    config = load("cluster.yaml")
    mistake(config)
    with pytest.raises(Exception, match=r"."):
        validate(config)


@pytest.mark.parametrize("name", ["cluster.yaml", "clusters/gcp.yaml"])
def test_a_cloud_has_an_on_demand_head_and_up_to_eight_spot_workers_of_two_types(name: str) -> None:
    config = load(name)
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert not {"InstanceMarketOptions", "scheduling", "guestAccelerators"} & head["node_config"].keys()
    assert head["max_workers"] == 0
    assert config["max_workers"] == 8
    assert len(types) >= 2
    for kind in types.values():
        assert kind.get("min_workers", 0) == 0
        assert kind["max_workers"] == 8
        spot = kind["node_config"]
        assert spot.get("InstanceMarketOptions") == {"MarketType": "spot"} or spot["scheduling"]["preemptible"]


def test_on_google_the_head_and_the_workers_have_accounts_of_their_own_and_workers_reach_storage_only() -> None:
    config = load("clusters/gcp.yaml")
    types = config["available_node_types"]
    (head,) = types.pop(config["head_node_type"])["node_config"]["serviceAccounts"]
    for kind in types.values():
        (worker,) = kind["node_config"]["serviceAccounts"]
        assert worker["email"] != head["email"]
        assert worker["scopes"] == ["https://www.googleapis.com/auth/devstorage.read_write"]


@pytest.mark.parametrize("name", RAY_UP)
def test_the_dashboard_is_on_loopback_and_the_token_goes_to_every_node(name: str) -> None:
    config = load(name)
    (start,) = [command for command in config["head_start_ray_commands"] if "--head" in command]
    assert "--dashboard-host=127.0.0.1" in start
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("clusters/node.sh" in command for command in config["setup_commands"])


@pytest.mark.parametrize("name", ALL)
def test_no_file_holds_a_secret_or_an_open_range(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "0.0.0.0/0" not in text
    assert not re.search(r"AKIA|BEGIN .*PRIVATE KEY|password|secret_access", text, re.IGNORECASE)


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_brings_the_package_and_all_that_its_links_mean(name: str) -> None:
    mounts = load(name)["file_mounts"].items()
    brought = {Path(local).name for remote, local in mounts if remote.startswith("~/rungwise/")}
    links = [path for path in (ROOT / "rungwise").iterdir() if path.is_symlink()]
    assert {path.readlink().parts[1] for path in links} == {"sweeps", "trainable", "results"}
    assert {"rungwise", "sweeps", "trainable", "results", "clusters", "pyproject.toml", "constraints.txt"} == brought
