"""Trials of an MLflow experiment: its runs that have finished and name the hyperparameters as params."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rungwise.engine.search.earlier.trial import EarlierTrial, Source, WarmStartError
from rungwise.results.exporters.mlflow_client import ExportError, Store, errors
from rungwise.results.exporters.tracking_uri import sqlite_path, valid_uri
from rungwise.results.io.redaction import redacted_uri, remember


def read(uri: str, name: str | None) -> Source:
    """The runs of an experiment.

    Args:
        uri: MLflow's tracking URI.
        name: The experiment's name; None for the only one that has runs.

    Raises:
        WarmStartError: There is no such experiment.
    """
    remember(uri)
    shown = redacted_uri(uri)
    if problem := valid_uri(uri):
        raise WarmStartError(f"--warm-start: {problem}")
    if (database := sqlite_path(uri)) and not database.is_file():
        raise WarmStartError(f"--warm-start: the MLflow store {shown} must exist, but there is no file {database}")
    try:
        with errors(uri):
            store = Store(uri)
            names = store.experiment_names()
            if name is None:
                held = [each for each in names if next(iter(store.runs_of(each)), None) is not None]
                if len(held) != 1:
                    listed = f"the experiments {', '.join(held)}" if held else "no runs"
                    raise WarmStartError(f"--warm-start {shown}::EXPERIMENT must name one, as it contains {listed}")
                name = held[0]
            if name not in names:
                raise WarmStartError(f"--warm-start: {shown} must contain the experiment {name!r}, but has {names}")
            trials = [_trial(*each) for each in store.runs_of(name)]
    except ExportError as error:
        raise WarmStartError(f"--warm-start: {error}") from None
    return Source(f"{shown}::{name}", [trial for trial in trials if trial is not None])


def _trial(
    status: str, params: Mapping[str, str], metrics: Mapping[str, float], tags: Mapping[str, str]
) -> EarlierTrial | None:
    """None of a run that only holds others."""
    if not params or ("rungwise.run" in tags and "rungwise.trial" not in tags):
        return None
    left_out = None if status == "FINISHED" else f"its status is {status}"
    if tags.get("rungwise.phase", "search") != "search":
        left_out = f"it is of the phase {tags['rungwise.phase']}, not of a search"
    values = {name: value if math.isfinite(value) else math.nan for name, value in metrics.items()}
    return EarlierTrial(params, values, left_out)
