"""Trials of a study in an Optuna storage: a database, or the file of a JournalStorage."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rungwise.engine.search.earlier.trial import EarlierTrial, Source, WarmStartError
from rungwise.results.exporters.optuna_study import quiet_optuna
from rungwise.results.io.redaction import redacted_uri, remember, without_secrets
from rungwise.text import some_of, unknown

if TYPE_CHECKING:
    import optuna

_LEFT_OUT = {
    "PRUNED": "it was stopped early, and how its steps compare with epochs here is not known",
    "FAIL": "it failed",
    "RUNNING": "it had not ended",
    "WAITING": "it had not begun",
}


@quiet_optuna()
def read(where: str | Path, name: str | None, objectives: Mapping[str, str]) -> Source:
    """The trials of a study.

    Args:
        where: URL of a database, or the path of a journal file.
        name: The study's name; None for the only one that there is.
        objectives: {metric: max or min} of this sweep.

    Raises:
        WarmStartError: There is no such study, or it has other objectives.
    """
    import optuna
    from optuna.exceptions import OptunaError
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import SQLAlchemyError

    shown = redacted_uri(str(where))
    try:
        if isinstance(where, Path):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # experimental in some versions
                storage: Any = JournalStorage(JournalFileBackend(str(where)))
        else:
            remember(where)
            storage = RDBStorage(where, skip_table_creation=True)
        names = sorted(optuna.get_all_study_names(storage))
        if name is None and len(names) != 1:
            held = f"the studies {some_of(names)}" if names else "no study"
            raise WarmStartError(f"--warm-start {shown}::STUDY must name a study, as {shown} contains {held}")
        chosen = name or names[0]
        if chosen not in names:
            raise WarmStartError(f"--warm-start {shown}: {unknown('study', chosen, names)}")
        study = optuna.load_study(study_name=chosen, storage=storage)
        order, notes = _order(study, objectives, f"{shown}::{chosen}")
        trials = [_trial(trial, order) for trial in study.get_trials(deepcopy=False)]
    except WarmStartError:
        raise
    except (OptunaError, SQLAlchemyError, ImportError, LookupError, ValueError, RuntimeError, OSError) as error:
        line = (without_secrets(str(error), str(where)).strip().splitlines() or [type(error).__name__])[0]
        raise WarmStartError(f"--warm-start: the Optuna storage {shown} cannot be read: {line}") from None
    return Source(f"{shown}::{chosen}", trials, notes)


def _order(study: optuna.Study, objectives: Mapping[str, str], name: str) -> tuple[list[str], tuple[str, ...]]:
    """The metrics of the study's values, in its order, and what was assumed. Raises WarmStartError."""
    names = study.metric_names or list(objectives)
    theirs = dict(zip(names, ("min" if way.name == "MINIMIZE" else "max" for way in study.directions), strict=False))
    if len(names) != len(study.directions) or theirs != dict(objectives):
        named = [f"{metric} ({way})" for metric, way in theirs.items()]
        has = ", ".join(named if study.metric_names else [way.name.lower() for way in study.directions])
        asked = ", ".join(f"{metric} ({way})" for metric, way in objectives.items())
        raise WarmStartError(
            f"--warm-start needs studies of the same objectives, but {name} has {has} and this sweep {asked}"
        )
    assumed = f"its values count as {', '.join(names)}, as it names none"
    return names, () if study.metric_names else (assumed,)


def _trial(trial: optuna.trial.FrozenTrial, order: list[str]) -> EarlierTrial:
    from optuna.distributions import distribution_to_json

    return EarlierTrial(
        params=trial.params,
        values=dict(zip(order, trial.values or (), strict=False)),
        left_out=_LEFT_OUT.get(trial.state.name),
        distributions={name: distribution_to_json(kind) for name, kind in trial.distributions.items()},
    )
