"""A private Ray without what one machine and one sweep have no use for. It starts in half the CPU time.

Each entry names what Ray 2.60 does unasked, and what it costs (CPU seconds on the machine of docs/performance.md). All
of them are names inside Ray: one that a later Ray no longer has is left alone, and only time is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

ENVIRONMENT = {
    # A worker's imports begin when its process does, while the driver still prepares the search.
    "RAY_preload_python_modules": "torch,trainable.trial",
    # The raylet's agent looks for a dashboard once a second and logs that there is none.
    "RAY_ROTATION_MAX_BYTES": "1000000",
    "RAY_ROTATION_BACKUP_COUNT": "1",
}

_UNUSED = (
    "start_api_server",  # the dashboard's server, started even without a dashboard: 1.5 s, and ray.init waits for it
    "start_monitor",  # the autoscaler of a cluster that cannot grow: 0.7 s
    "start_log_monitor",  # sends workers' output to a driver that does not ask for it: 0.7 s
)


@contextmanager
def few_processes() -> Iterator[None]:
    """Within the block `ray.init` starts only what trials need: gcs_server, raylet and its agents."""
    from ray._private import utils
    from ray._private.node import Node

    with ExitStack() as stack:
        # The raylet waits for its agent, which without the dashboard's packages serves no web pages.
        if hasattr(utils, "get_dashboard_dependency_error"):
            stack.enter_context(patch.object(utils, "get_dashboard_dependency_error", lambda: ImportError("not used")))
        for name in _UNUSED:
            if hasattr(Node, name):
                stack.enter_context(patch.object(Node, name, _nothing))
        yield


@contextmanager
def few_imports() -> Iterator[None]:
    """Within the block Tune neither gives its actors an environment of their own nor counts which loggers are used.

    An actor with a runtime environment cannot take one of the processes that Ray has started already (with torch
    imported): a new one imports Ray twice, 3 s in all. Trials inherit the driver's environment either way. Counting
    loggers, for usage statistics that are off, imports MLflow, Comet and Weights & Biases: 1.3 s.
    """
    from ray.air._internal import usage
    from ray.tune.execution import class_cache

    with ExitStack() as stack:
        for name, empty in (("DEFAULT_ENV_VARS", {}), ("ENV_VARS_TO_PROPAGATE", set())):
            if hasattr(class_cache, name):
                stack.enter_context(patch.object(class_cache, name, empty))
        if hasattr(usage, "tag_callbacks"):
            stack.enter_context(patch.object(usage, "tag_callbacks", _nothing))
        yield


def _nothing(*_: Any, **__: Any) -> None:
    return None
