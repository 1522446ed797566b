"""Private names of Optuna and of Ray's `OptunaSearch`. Each function says what a search loses without its name, and
has a public fallback (tests/engine/test_compat.py runs each of them)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from ray.tune.search.optuna import OptunaSearch

    from rungwise.engine.search.fast_tpe import FastTPESampler

TESTED = "5.0."  # of Optuna: fast_tpe repeats a method of its TPESampler
_METHODS = ("_sample", "_get_params", "_compare", "_compute_acquisition_func")
_ATTRIBUTES = (
    "_gamma", "_constant_liar", "_parzen_estimator_cls", "_parzen_estimator_parameters", "_rng", "_n_ei_candidates",
    "_search_space",
)  # fmt: skip


@cache
def fast_tpe_class() -> type[FastTPESampler] | None:
    """Our TPE sampler, or None where the private names of Optuna's `TPESampler` differ from those that it needs.

    Optuna's own suggests the same, and takes about twice as long at 2,000 trials (docs/internals/performance.md, "The
    driver").
    """
    import optuna
    from optuna.samplers import TPESampler

    names = {*dir(TPESampler), *vars(TPESampler(seed=0))}
    complete = names.issuperset((*_METHODS, *_ATTRIBUTES)) and hasattr(optuna.Study, "_get_trials")
    if not complete or not optuna.__version__.startswith(TESTED):
        return None
    try:
        from rungwise.engine.search.fast_tpe import FastTPESampler
    except ImportError:
        return None
    return FastTPESampler


def number_of_trials(study: optuna.Study) -> int:
    """How many trials the study has, those in flight included. Without the storage's count (`_storage`, `_study_id`)
    the trials are listed: milliseconds per suggestion at thousands of trials."""
    try:
        return study._storage.get_n_trials(study._study_id)
    except AttributeError:
        return len(study.get_trials(deepcopy=False))


def study_attributes(study: optuna.Study) -> dict[str, Any]:
    """What samplers attach to the study (Optuna's system attributes, which a `Study` does not show).

    {} without `_storage`: a resumed NSGA-II or NSGA-III goes on without its cache of generations.
    """
    try:
        return dict(study._storage.get_study_system_attrs(study._study_id))
    except AttributeError:
        return {}


def trial_attributes(study: optuna.Study, trial: optuna.Trial) -> dict[str, Any]:
    """What samplers attached to `trial`. Without `_storage` and `_trial_id` all trials of the study are listed for it:
    milliseconds per suggestion at thousands of trials."""
    try:
        return dict(study._storage.get_trial_system_attrs(trial._trial_id))
    except AttributeError:
        return dict(study.get_trials(deepcopy=False)[trial.number].system_attrs)


def resumed_trial(study: optuna.Study, number: int) -> optuna.Trial:
    """The study's RUNNING trial `number`, to report to and to tell. Without `_trial_id` its number is taken, which is
    the same in a study that is alone in its memory, as all of ours are."""
    from optuna.trial import Trial

    trial = study.get_trials(deepcopy=False)[number]
    return Trial(study, getattr(trial, "_trial_id", number))


def suggest(
    searcher: OptunaSearch,
    study: optuna.Study,
    trials: dict[str, optuna.Trial],
    space: dict[str, BaseDistribution],
    trial_id: str,
) -> dict[str, Any]:
    """Let Ray's `OptunaSearch` suggest a point of `space` from `study` for the Tune trial `trial_id`, and enter the
    Optuna trial in `trials`. Where Ray names its study otherwise (`_ot_study`, `_ot_trials`), Optuna is called
    directly, which suggests the same."""
    own: Any = searcher
    if not (hasattr(own, "_ot_study") and hasattr(own, "_ot_trials")):
        trials[trial_id] = study.ask(fixed_distributions=space)
        return dict(trials[trial_id].params)
    own._ot_study, own._ot_trials = study, trials
    return own.suggest(trial_id) or {}
