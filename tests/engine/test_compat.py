"""Private names of Ray and Optuna, taken away one by one: a sweep starts and suggests without any of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import TPESampler
from ray.tune.search.optuna import OptunaSearch
from support.loop import Loop
from support.sweeping import ROOT

from rungwise.distributions import FloatDistribution, IntDistribution
from rungwise.engine import Sweep
from rungwise.engine.cluster import attach, nodes, sigterm, startup_patches
from rungwise.engine.cluster import compat as ray_compat
from rungwise.engine.search import compat as optuna_compat
from rungwise.engine.search.samplers import SamplerContext, build_sampler

RAY_MODULES = (
    "ray._private.services", "ray._private.node", "ray._private.worker", "ray._private.state", "ray._raylet",
    "ray.tune.execution.class_cache", "ray.air._internal.usage",
    "ray.autoscaler._private.kuberay.autoscaling_config",
)  # fmt: skip
RAY_NAMES = (
    "ray._private.services:ConsolePopen",
    "ray._private.services:start_ray_process",
    "ray._private.services:canonicalize_bootstrap_address",
    "ray._private.node:Node",
    *(f"ray._private.node:Node.{name}" for name in ("start_raylet", "get_session_dir_path", "node_id")),
    *(f"ray._private.node:Node.{name}" for name in startup_patches._UNUSED),
    "ray._private.worker:listen_error_messages",
    "ray._private.state:state",
    *(f"ray._raylet:{name}" for name in ("CoreWorker", "persist_port", "Config", "AuthenticationTokenLoader")),
    *(f"ray._raylet:{name}" for name in startup_patches._PORTS),
    "ray.tune.execution.class_cache:DEFAULT_ENV_VARS",
    "ray.tune.execution.class_cache:ENV_VARS_TO_PROPAGATE",
    "ray.air._internal.usage:tag_callbacks",
    "ray._private.worker:_post_init_hooks",
    "ray.autoscaler._private.kuberay.autoscaling_config:AutoscalingConfigProducer",
)
SPACE = {"lr": FloatDistribution(1e-4, 1e-1, log=True), "batch_size": IntDistribution(32, 256, step=32)}


def remove(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `module` or `module:attribute` unknown to whatever imports it from now on."""
    module, _, attribute = name.partition(":")
    if attribute:
        *owners, last = attribute.split(".")
        owner = import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        monkeypatch.delattr(owner, last)
    else:
        import_module(module)
        package, _, last = module.rpartition(".")
        monkeypatch.delattr(import_module(package), last)
        monkeypatch.setitem(sys.modules, module, None)


def suggestions(folder: Path, count: int, **changes: Any) -> list[dict[str, Any]]:
    """The first `count` suggestions of a search whose trials end one by one; half of it after a resume."""
    sweep = Sweep("compat", SPACE, epochs=3, scheduler="none", **changes)
    folder.mkdir()
    configs: list[dict[str, Any]] = []
    for _ in range(2):
        loop = Loop(folder, sweep, trials=count, sampler=sweep.sampler)
        while len(configs) < (count // 2 if not configs else count):
            trial = loop.deal()
            assert trial is not None
            assert not isinstance(trial, str)
            if trial.config["attempt"] == 1:
                configs.append(trial.config["config"])
            if len(configs) == count // 2 and trial.config["attempt"] == 1:
                break  # the driver ends while it is in flight
            loop.train(trial, lambda config, step: -abs(config["lr"] - 0.01) + step / 100)
        loop.record.close()
    return configs


@pytest.mark.parametrize("name", [*RAY_MODULES, *RAY_NAMES])
def test_a_driver_starts_and_suggests_without_a_private_name_of_ray(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove(name, monkeypatch)
    with (
        startup_patches.minimal_processes(lambda: None, []),
        startup_patches.minimal_imports(),
        sigterm.kept_while_ray_starts(),
    ):
        startup_patches.forget_token()
    trial = Loop(tmp_path, Sweep("compat", SPACE), trials=1, sampler="random").deal()
    assert trial is not None
    assert not isinstance(trial, str)


def test_what_a_missing_name_of_ray_does_not_touch_is_patched_still(monkeypatch: pytest.MonkeyPatch) -> None:
    remove("ray._private.services:ConsolePopen", monkeypatch)
    node: Any = ray_compat.node_class()
    with startup_patches.minimal_processes(lambda: None, []):
        assert node.start_monitor is startup_patches._do_nothing
    assert node.start_monitor is not startup_patches._do_nothing


def test_a_private_ray_starts_while_another_thread_imports_parts_of_ray() -> None:
    """Usage tags are kept in a dict that each such import adds to, and that `ray.init` walked when it was done. The
    hook registers itself when it is imported, which `ray.init` does in a process that is new."""
    code = """
from rungwise.engine.cluster import startup_patches
with startup_patches.minimal_processes(lambda: None, []):
    from ray._common.usage import usage_lib
    from ray._private import worker
    print([hook.__name__ for hook in worker._post_init_hooks])
print([hook.__name__ for hook in worker._post_init_hooks])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    within, after = map(ast.literal_eval, done.stdout.splitlines())
    assert "put_pre_init_usage_stats" in after
    assert within == [name for name in after if name != "put_pre_init_usage_stats"]


START = """
from rungwise.engine.cluster import compat
from rungwise.engine.cluster.local_ray import Ray
for name in ("services_module", "node_class", "worker_module", "raylet_module", "class_cache_module", "usage_module"):
    setattr(compat, name, lambda: None)
connection = Ray(None)
import ray  # reads the token that Ray(None) has made: only its private names would have it read another one
init = ray.init
def strict(**options):
    hidden = [name for name in options if name.startswith("_")]
    if hidden:
        raise RuntimeError(f"Unknown keyword argument(s): {', '.join(hidden)}")
    return init(**options)
ray.init = strict
connection.start(1, 0)
@ray.remote
def square(number):
    return number * number
print(ray.get(square.remote(7)), (connection._folder / "ray").is_dir())
connection.stop()
print(connection._folder.exists())
second = Ray(None)  # of the same process, whose core keeps the token that it has read
second.start(1, 0)
print(ray.get(square.remote(8)))
second.stop()
"""


@pytest.mark.long
def test_private_rays_start_and_end_one_after_the_other_without_any_private_name() -> None:
    done = subprocess.run([sys.executable, "-c", START], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["49 True", "False", "64"]
    assert "cannot be told to listen on loopback only; its token still guards it" in done.stderr


def test_without_its_private_name_ray_resolves_auto_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    remove("ray._private.services:canonicalize_bootstrap_address", monkeypatch)
    assert ray_compat.address_of_running_cluster() == "auto"
    assert attach._resolve("auto") == "auto"


@pytest.mark.parametrize("name", ["ray._private.state", "ray._private.state:state"])
def test_without_its_private_name_no_node_types_are_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remove(name, monkeypatch)
    assert ray_compat.reported_node_groups() == []


@pytest.mark.parametrize("name", [name for name in (*RAY_MODULES, *RAY_NAMES) if "kuberay" in name])
def test_without_its_private_name_kuberay_names_no_node_types(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    remove(name, monkeypatch)
    monkeypatch.setattr(nodes, "CONFIGURATION", tmp_path / "none.yaml")
    monkeypatch.setattr(nodes, "_reported", list)
    monkeypatch.setenv("RAY_CLUSTER_NAME", "lab")
    monkeypatch.setenv("RAY_CLUSTER_NAMESPACE", "lab")
    assert nodes.configured() == ([], [])
    assert "the node types of lab cannot be read" in caplog.text


@pytest.fixture
def fresh_tpe_choice() -> Any:
    """The choice between our TPE and Optuna's is made anew, in the test and after it."""
    optuna_compat.fast_tpe_class.cache_clear()
    yield
    optuna_compat.fast_tpe_class.cache_clear()


@pytest.mark.usefixtures("fresh_tpe_choice")
@pytest.mark.parametrize("name", ["_METHODS", "_ATTRIBUTES", "version", "_get_trials", "default_gamma"])
def test_optunas_own_tpe_suggests_where_private_names_or_the_version_differ(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = SamplerContext(0, 0, SPACE)
    assert type(build_sampler("tpe", context)) is optuna_compat.fast_tpe_class() is not None
    optuna_compat.fast_tpe_class.cache_clear()
    if name == "version":
        monkeypatch.setattr(optuna, "__version__", "5.1.0")
    elif name == "_get_trials":
        monkeypatch.delattr(optuna.Study, "_get_trials")
    elif name == "default_gamma":
        remove("optuna.samplers._tpe.sampler:default_gamma", monkeypatch)
        monkeypatch.delitem(sys.modules, "rungwise.engine.search.fast_tpe")
    else:  # renamed: Optuna's own code has the new name, ours looks for the old one
        monkeypatch.setattr(optuna_compat, name, (*getattr(optuna_compat, name), "_renamed"))
    assert type(build_sampler("tpe", context)) is TPESampler


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_a_search_without_private_names_of_optuna_suggests_the_same(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = suggestions(tmp_path / "with", 24, sampler=sampler)
    monkeypatch.setattr(optuna_compat, "fast_tpe_class", lambda: None)
    for name in ("number_of_trials", "trial_attributes"):
        original = getattr(optuna_compat, name)
        monkeypatch.setattr(
            optuna_compat, name, lambda study, *args, original=original: original(Public(study), *map(Public, args))
        )
    ask = optuna_compat.suggest
    monkeypatch.setattr(optuna_compat, "suggest", lambda searcher, *args: ask(Public(searcher), *args))
    assert suggestions(tmp_path / "without", 24, sampler=sampler) == expected


class Public:
    """An object without its private names."""

    def __init__(self, wrapped: Any) -> None:
        self.__wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.__wrapped, name)


def test_what_samplers_attach_is_read_without_private_names_too() -> None:
    study: Any = optuna.create_study(sampler=TPESampler(seed=0, multivariate=True))
    for _ in range(12):
        trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        study.tell(trial, trial.params["x"])
    attributes = optuna_compat.trial_attributes(study, trial)
    assert attributes
    assert optuna_compat.trial_attributes(Public(study), Public(trial)) == attributes  # type: ignore[arg-type]
    assert optuna_compat.number_of_trials(Public(study)) == optuna_compat.number_of_trials(study) == 12  # type: ignore[arg-type]
    study._storage.set_study_system_attr(study._study_id, "cache", [1])
    assert optuna_compat.study_attributes(study) == {"cache": [1]}
    assert optuna_compat.study_attributes(Public(study)) == {}  # type: ignore[arg-type]


def test_a_running_trial_goes_on_without_its_private_id() -> None:
    study = optuna.create_study()
    numbers = [study.ask().number for _ in range(3)]
    del study.get_trials(deepcopy=False)[1]._trial_id
    trial = optuna_compat.resumed_trial(study, 1)
    trial.report(0.5, 1)
    assert (trial.number, numbers) == (1, [0, 1, 2])
    assert study.get_trials(deepcopy=False)[1].intermediate_values == {1: 0.5}


def test_rays_optuna_search_suggests_from_our_study_or_is_left_out() -> None:
    space: Any = {"x": optuna.distributions.FloatDistribution(0, 1)}
    values = []
    for hidden in (False, True):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
        searcher: Any = OptunaSearch(space=space, metric="objective", mode="max")
        trials: dict[str, optuna.Trial] = {}
        values.append(optuna_compat.suggest(Public(searcher) if hidden else searcher, study, trials, space, "a"))  # type: ignore[arg-type]
        assert len(study.trials) == 1
        assert trials["a"].params == values[-1]
    assert values[0] == values[1]
