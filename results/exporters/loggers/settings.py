"""What a sweep is logged to, and under which names: the flags of the last session, kept in the record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from rungwise.results.io.redaction import Verbatim
from rungwise.results.record.reader import Reader

MLFLOW = "mlflow"
KEY = "logging"  # in the record
RESERVED = ("mlflow.", "rungwise.")  # how the keys of our own and MLflow's tags begin


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """Where a sweep is logged."""

    loggers: tuple[str, ...] = (MLFLOW,)  # names of the registry, and functions: module:function, file.py:function
    experiment: str | None = None  # of MLflow, by name; None: the sweep's name
    parent: str | None = None  # the MLflow run that the sweep's run is nested under
    project: str | None = None  # of W&B; None: the sweep's name
    tags: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""  # in which modules of functions are looked for

    @classmethod
    def chosen(
        cls,
        loggers: tuple[str, ...],
        experiment: str | None,
        tags: tuple[str, ...],
        folder: str,
        environment: Mapping[str, str],
    ) -> Self:
        """Of the flags and the environment.

        Args:
            loggers: `--loggers`.
            experiment: `--experiment`; by default what MLFLOW_EXPERIMENT_NAME and WANDB_PROJECT say.
            tags: `--tags`, each KEY=VALUE.
            folder: The script's folder.
            environment: Of the driver; MLFLOW_RUN_ID is the MLflow run to nest the sweep under.
        """
        return cls(
            loggers=tuple(map(_whole_path, loggers)),
            experiment=experiment or environment.get("MLFLOW_EXPERIMENT_NAME") or None,
            parent=environment.get("MLFLOW_RUN_ID") or None,
            project=experiment or environment.get("WANDB_PROJECT") or None,
            tags=dict(tag.split("=", 1) for tag in tags),
            folder=folder,
        )

    def resuming(self, before: Self) -> Self:
        """The settings of a session that resumes a run: what it does not name stays as it was, for a place that was
        named anew would get all trials again.

        Args:
            before: The settings of the last session.
        """
        return replace(
            self,
            experiment=self.experiment or before.experiment,
            parent=self.parent or before.parent,
            project=self.project or before.project,
            tags={**before.tags, **self.tags},
        )

    @classmethod
    def of(cls, reader: Reader) -> Self:
        """What the record keeps; of a record of an earlier version, MLflow alone."""
        return cls.from_json(reader.meta(KEY) or {})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Unknown keys are left out, and so is what is not of its form: records come from anywhere."""
        texts = {key: values.get(key) for key in ("experiment", "parent", "project")}
        loggers, tags = values.get("loggers", [MLFLOW]), values.get("tags", {})
        return cls(
            loggers=tuple(map(str, loggers)) if isinstance(loggers, list) else (MLFLOW,),
            tags={str(key): str(value) for key, value in tags.items()} if isinstance(tags, dict) else {},
            folder=str(values.get("folder", "")),
            **{key: str(text) if text else None for key, text in texts.items()},
        )

    def to_json(self) -> Verbatim:
        """What the record keeps. The function's path is one's own: the record of another user runs nothing."""
        return Verbatim(json.loads(json.dumps(asdict(self))))


def _whole_path(logger: str) -> str:
    """A function's file by its whole path: the exporter has another working folder."""
    where, _, function = logger.rpartition(":")
    return f"{Path(where).absolute()}:{function}" if where.endswith(".py") else logger


def tag_problems(tags: tuple[str, ...]) -> list[str]:
    """What is wrong with `--tags`, a line each."""
    lines = []
    for tag in tags:
        key, equals, _ = tag.partition("=")
        if not (key and equals):
            lines.append(f"--tags takes KEY=VALUE, but got {tag!r}")
        elif key.startswith(RESERVED):
            lines.append(f"--tags: keys must not begin with {' or '.join(RESERVED)}, but got {key!r}")
    return lines
