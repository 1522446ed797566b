"""The loggers that a sweep can name in `--loggers`. Cheap on purpose: a logger's module is imported when it logs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rungwise.results.exporters.loggers.feed import Feed
from rungwise.results.exporters.loggers.settings import MLFLOW, LogSettings
from rungwise.text import unknown


@dataclass(frozen=True, slots=True)
class Entry:
    """A logger of the registry."""

    feed: Callable[[Path, LogSettings], Feed]  # (the run's folder, what to log) -> what brings it up to date
    shown_by: str | None = None  # command that shows what was logged, with {folder} for the run's folder
    package: str | None = None  # that it needs beyond Rungwise's own; the extra of that name installs it


def _mlflow(run: Path, settings: LogSettings) -> Feed:
    from rungwise.results.exporters.mlflow import mlflow_feed

    return mlflow_feed(run, settings=settings)


def _tensorboard(run: Path, _settings: LogSettings) -> Feed:
    from rungwise.results.exporters.loggers.tensorboard import TensorBoardLogger

    return Feed(run, "tensorboard", lambda: TensorBoardLogger(run))


def _wandb(run: Path, settings: LogSettings) -> Feed:
    from rungwise.results.exporters.loggers.wandb import WandbLogger

    return Feed(run, "wandb", lambda: WandbLogger(run, settings))


def _optuna(run: Path, _settings: LogSettings) -> Feed:
    from rungwise.results.exporters.loggers.optuna import StudyLogger

    return Feed(run, "optuna", lambda: StudyLogger(run))


LOGGERS = {
    MLFLOW: Entry(_mlflow),
    "tensorboard": Entry(_tensorboard, "tensorboard --logdir {folder}/tensorboard", "tensorboard"),
    "wandb": Entry(_wandb, "wandb sync {folder}/wandb/offline-run-* (if logged with WANDB_MODE=offline)", "wandb"),
    "optuna": Entry(_optuna, "rungwise dashboard {folder}"),
}


def feed_of(name: str, run: Path, settings: LogSettings) -> Feed:
    """What brings one logger up to date.

    Args:
        name: Of `LOGGERS`, or a function's import path, which is run: it must be the user's own word.
        run: The run's folder.
        settings: What to log, and under which names.

    Raises:
        LoggerError: It cannot log, whatever the record says.
    """
    if ":" not in name:
        return LOGGERS[name].feed(run, settings)
    from rungwise.results.exporters.loggers.callback import CallbackLogger, identifier

    return Feed(run, identifier(name), lambda: CallbackLogger(run, name, settings.folder))


def problems(names: Iterable[str]) -> Iterator[str]:
    """What is wrong with `--loggers`, a line each."""
    for name in names:
        if ":" in name:
            from rungwise.results.exporters.loggers.callback import problem

            if wrong := problem(name):
                yield wrong
        elif name not in LOGGERS:
            yield f"{unknown('--loggers', name, list(LOGGERS))}, or a function: module:function, file.py:function"
        elif (package := LOGGERS[name].package) and importlib.util.find_spec(package) is None:
            yield f"--loggers {name} needs a package that is not installed: pip install 'rungwise[{package}]'"
