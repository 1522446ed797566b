"""Startup patches for a private, single-node Ray, which halve the CPU time that it takes to start.

Each entry names what Ray 2.60 does by default, and what it costs (CPU seconds on the machine of
docs/internals/performance.md).
All of them are private names, which come from `compat`: what another Ray does not have, or was not tested with, stays
as it is and costs time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Protocol
from unittest.mock import patch

from rungwise.engine.cluster import compat

START_SECONDS = 300.0  # that a process of Ray's may take to start, on a busy machine

ENVIRONMENT = {
    # A worker's imports begin when its process does, while the driver still prepares the search.
    "RAY_preload_python_modules": "rungwise.trainable.worker.preload",
    # The driver has 0 and the exporter 15: with Ray's own 15 MLflow's imports took the processor from the first trials.
    "RAY_worker_niceness": "5",
    # While Tune's reservation holds all processors and its actors are still to come, Ray ends processes that have been
    # idle for a second: those that it has started for them. New ones import all again (2 s of CPU each).
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    # The logs of a sweep that runs for weeks.
    "RAY_ROTATION_MAX_BYTES": "1000000",
    "RAY_ROTATION_BACKUP_COUNT": "1",
    # A process that asks the raylet for a connection before it listens tries again after a second, not 20 ms.
    "RAY_raylet_client_connect_timeout_milliseconds": "20",
    "RAY_raylet_client_num_connect_attempts": "500",
    # gcs_server writes its port last; Ray waits 30 s for that, which a busy machine may exceed.
    "RAY_gcs_server_port_wait_time_s": f"{START_SECONDS:.0f}",
    # What stands in for the raylet's agents ends with the raylet, however that ends: their pipe closes.
    "RAY_enable_pipe_based_agent_to_parent_health_check": "1",
}

_UNUSED = (
    "start_api_server",  # the dashboard's server, started even without a dashboard: 1.5 s, and ray.init waits for it
    "start_monitor",  # the autoscaler of a cluster that cannot grow: 0.7 s
    "start_log_monitor",  # sends workers' output to a driver that does not ask for it: 0.7 s
)

# The raylet's two Python agents serve the dashboard and runtime environments: 1.5 s of CPU, and the raylet registers no
# worker before they have said where they listen. It demands that both run, but not what they do.
_AGENTS = ("--dashboard_agent_command=", "--runtime_env_agent_command=")
_STAND_IN = "cat"
_PORTS = (
    "METRICS_AGENT_PORT_NAME",
    "METRICS_EXPORT_PORT_NAME",
    "DASHBOARD_AGENT_LISTEN_PORT_NAME",
    "RUNTIME_ENV_AGENT_PORT_NAME",
)
_NO_PORT = -1  # what Ray's own agents say of a service that is not in use


class Process(Protocol):
    """A process of Ray's: what is used of its Popen."""

    args: list[str]
    pid: int

    def poll(self) -> int | None: ...


@contextmanager
def minimal_processes(launched: Callable[[], None], started: list[Process]) -> Iterator[None]:
    """Within the block `ray.init` starts only what trials need: gcs_server and raylet, entered in `started`.

    `launched` is called when both run, from where on Ray needs this process no more until its workers are there.
    """
    services, node = compat.services_module(), compat.node_class()
    with ExitStack() as stack:
        # Ray's processes are children in our group: a SIGTERM to all of it (`timeout`, systemd, a CI runner) would end
        # them before us, and a call of a dead GCS lasts a minute. A session of their own, which trials share.
        if original := getattr(services, "ConsolePopen", None):

            def popen(*args: Any, **options: Any) -> Any:
                process = original(*args, **options, start_new_session=True)
                started.append(process)
                return process

            stack.enter_context(patch.object(services, "ConsolePopen", popen))
        for name in _UNUSED:
            _replace(stack, node, name, _do_nothing)
        # A thread of the driver that prints what the record says anyway. A Ray that is ended before this thread has
        # begun (Ctrl-C in the first second) waits a minute for it: 6 of 16 tries.
        _replace(stack, compat.worker_module(), "listen_error_messages", _do_nothing)
        # Usage statistics, which are off: this walks a dict to which another thread adds, who imports parts of Ray
        # while Ray starts ("dictionary changed size during iteration").
        unwanted = compat.usage_hook()  # imported here, or it would be among the hooks later
        kept = [hook for hook in getattr(compat.worker_module(), "_post_init_hooks", []) if hook is not unwanted]
        _replace(stack, compat.worker_module(), "_post_init_hooks", kept)
        _replace_agents(stack, launched, started)
        yield


def _replace(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Put `value` in the place of `owner.name` until `stack` is closed; not where the owner has no such name."""
    if hasattr(owner, name):
        stack.enter_context(patch.object(owner, name, value))


def _replace_agents(stack: ExitStack, launched: Callable[[], None], started: list[Process]) -> None:
    """Give the raylet two idle processes for agents, and tell it at once that they serve nothing. Only with the Ray for
    which this was tested: another one may want to talk to them."""
    import ray

    raylet, services, node_class = compat.raylet_module(), compat.services_module(), compat.node_class()
    ports = [getattr(raylet, name, None) for name in _PORTS]
    persist = getattr(raylet, "persist_port", None)
    start_raylet = getattr(node_class, "start_raylet", None)
    start_process = getattr(services, "start_ray_process", None)
    identified = hasattr(node_class, "get_session_dir_path") and hasattr(node_class, "node_id")
    if not ray.__version__.startswith(compat.TESTED) or not identified or None in ports:
        return
    if persist is None or start_raylet is None or start_process is None:
        return

    def start_raylet_without_agents(node: Any, *args: Any, **options: Any) -> None:
        for port in ports:
            persist(node.get_session_dir_path(), node.node_id, port, _NO_PORT)
        start_raylet(node, *args, **options)
        launched()
        # Ray looks for it once, after 0.1 s, then every second, and gives up after 30 s. It will do so if this fails.
        until = time.monotonic() + (START_SECONDS if started else 1.0)
        with suppress(Exception):
            while time.monotonic() < until and not node.get_gcs_client().get_all_node_info(timeout=1.0):
                if started and started[-1].poll() is not None:  # the raylet has died
                    break
                time.sleep(0.01)

    def start(command: list[str], *args: Any, **options: Any) -> Any:
        agents = {word: flag + _STAND_IN for word in command for flag in _AGENTS if word.startswith(flag)}
        return start_process([agents.get(word, word) for word in command], *args, **options)

    stack.enter_context(patch.object(node_class, "start_raylet", start_raylet_without_agents))
    stack.enter_context(patch.object(services, "start_ray_process", start))


@contextmanager
def minimal_imports() -> Iterator[None]:
    """Within the block Tune neither gives its actors an environment of their own nor counts which loggers are used.

    An actor with a runtime environment cannot take one of the processes that Ray has started already (with torch
    imported): a new one imports Ray twice, 3 s in all. Trials inherit the driver's environment either way. Counting
    loggers, for usage statistics that are off, imports MLflow, Comet and Weights & Biases: 1.3 s.
    """
    with ExitStack() as stack:
        _replace(stack, compat.class_cache_module(), "DEFAULT_ENV_VARS", {})
        _replace(stack, compat.class_cache_module(), "ENV_VARS_TO_PROPAGATE", set())
        _replace(stack, compat.usage_module(), "tag_callbacks", _do_nothing)
        yield


def forget_token() -> None:
    """Let Ray read its environment and token anew: it does so once a process, which may have used another Ray before
    its first sweep, or a cluster's."""
    raylet = compat.raylet_module()
    with suppress(AttributeError, TypeError):  # this Ray has none
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


def _do_nothing(*_: Any, **__: Any) -> None:
    return None
