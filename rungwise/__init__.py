"""Hyperparameter sweeps on Ray Tune that compare alternatives, with an interval for the difference.

    from rungwise import FloatDistribution, Sweep, main     # in a sweep script, which ends with main(SWEEP)
    run = rungwise.run(SWEEP, trials=8)                     # from Python: returns the opened run
    run = rungwise.open_run("runs/mnist_l2")                # open an existing run

Names are imported on first use (PEP 562), so that `--help` does not wait for Ray, torch and MLflow. In a checkout the
packages are the folders `sweeps/engine`, `trainable` and `results`; `rungwise/` holds links to them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rungwise.engine import CategoricalDistribution, FloatDistribution, IntDistribution, Sweep, main, run
    from rungwise.errors import RungwiseError
    from rungwise.reporting import report
    from rungwise.results.exporters.loggers.callback import LogBatch, LoggedReport
    from rungwise.results.run import Run
    from rungwise.results.run import open as open_run
    from rungwise.trainable.data.table.columns import Columns
    from rungwise.trainable.own.trial import TrialStopped

_HOMES = {
    "CategoricalDistribution": "rungwise.engine",
    "Columns": "rungwise.trainable.data.table.columns",
    "FloatDistribution": "rungwise.engine",
    "IntDistribution": "rungwise.engine",
    "LogBatch": "rungwise.results.exporters.loggers.callback",
    "LoggedReport": "rungwise.results.exporters.loggers.callback",
    "Run": "rungwise.results.run",
    "RungwiseError": "rungwise.errors",
    "Sweep": "rungwise.engine",
    "TrialStopped": "rungwise.trainable.own.trial",
    "main": "rungwise.engine",
    "report": "rungwise.reporting",
    "run": "rungwise.engine",
    "open_run": "rungwise.results.run",
}

__all__ = [
    "CategoricalDistribution",
    "Columns",
    "FloatDistribution",
    "IntDistribution",
    "LogBatch",
    "LoggedReport",
    "Run",
    "RungwiseError",
    "Sweep",
    "TrialStopped",
    "__version__",
    "main",
    "open_run",
    "report",
    "run",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from rungwise.packages.versions import package_version

        return package_version("rungwise")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), "open" if name == "open_run" else name)


def __dir__() -> list[str]:
    return __all__
