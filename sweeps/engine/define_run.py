"""Records the definition of a run, or refuses to continue a run of another definition."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import replace

from rungwise.engine.errors import CannotRun, refuse
from rungwise.engine.execution.remaining_work import checkpoint_root, has_work
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.engine.validation.hints import print_notes
from rungwise.engine.worth import worth_change
from rungwise.results.exporters.loggers.settings import KEY, LogSettings
from rungwise.results.io.redaction import Verbatim, redacted_uri
from rungwise.results.record.definition import Definition
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State, Trial
from rungwise.results.record.writer import Record, to_json
from rungwise.text import plural
from rungwise.trainable.messages import SCORED_PHASES
from rungwise.trainable.protocol import SweepData

PROGRAM_REFUSAL = (
    "--name {name!r} contains trials of another program. Choose another --name, or --fresh; --accept-changed-model "
    "continues with both in one run, and retrains what was confirmed. What changed:"
)
MODEL_REFUSAL = (
    "--name {name!r} contains trials of another network. Choose another --name, or --fresh; --accept-changed-model "
    "continues with both in one run. What changed:"
)
REFUSAL = (
    "--name {name!r} contains a run of another definition. Choose another --name, or --fresh; --widen continues when "
    "the new space contains the old one. What changed:"
)


def define_run(record: Record, experiment: Experiment, options: Options, data: SweepData) -> bool:
    """Record the experiment's definition, unless the record holds trials of another one. A plan has no trials.

    Returns:
        Whether there is work to do. The user's own models are built only then.

    Raises:
        CannotRun: The run has another definition, or another network.
    """
    from rungwise.engine.experiment.resume_check import differences, widening_problems

    with Reader(record.path.parent) as reader:
        worth_changed = worth_change(reader, experiment)
        kept, before, trials = reader.meta("definition"), reader.definition(), reader.trials("search")
    begun = kept is not None
    if trials and len(before.arms) > 1 and "searches" not in kept:
        note = "--trials is now of each search of each arm, --searches asks for several; this run contains one search"
        print_notes(options, [f"{note} of {plural(before.trials, 'trial')} of each arm"])
    if not begun:
        record.set_meta("id", uuid.uuid4().hex)
    elif trials and (changed := [*differences(before, experiment), *worth_changed]):
        problems = widening_problems(experiment.space_object, before, trials) if options.widen else []
        if problems or not (options.widen and all(line.startswith("space") for line in changed)):
            raise CannotRun("\n  ".join([REFUSAL.format(name=options.name), *changed, *problems]), code=2)
        record.event("widened", changed=changed)
    if trials:
        _accept_program(record, before, experiment, options)
    work = has_work(record.path.parent, experiment, checkpoint_root(options))
    _record_warm_start(record, experiment, options, begun=bool(trials))
    record.set_meta("definition", (_extended(before, experiment) if trials else experiment).to_json())
    if work or options.plan:
        _define_models(record, experiment, options, data)
    described = [experiment.trained_by.describe(experiment.given(arm)) for arm in experiment.arms]
    settings = options.log_settings()
    with Reader(record.path.parent) as reader:
        record.set_meta(KEY, (settings.resuming(LogSettings.of(reader)) if begun else settings).to_json())
    record.set_meta("hyperparameters", {name: about for some in described for name, about in some.items()})
    record.commit()
    return work


def _extended(before: Definition, experiment: Experiment) -> Experiment:
    """The definition of a resumed run: it never asks for less than before, and once suggestions were made in the order
    of arrival, they stay so."""
    return replace(
        experiment,
        trials=max(experiment.trials, before.trials),
        searches=max(experiment.searches, before.searches),
        order="arrival" if before.order == "arrival" else experiment.order,
        worth=before.worth if experiment.worth is None else experiment.worth,
        until_sure=max(experiment.until_sure, before.until_sure),
    )


def _define_models(record: Record, experiment: Experiment, options: Options, data: SweepData) -> None:
    """Try the user's own models, and enter what they build, unless the record's trials are of other networks."""
    from rungwise.engine.experiment import own_models as models

    with Reader(record.path.parent) as reader:
        before, trials, unfit = models.known(reader), reader.trials(), reader.unfit()
    in_flight = [trial for trial in trials if not trial.state.ended]
    own = models.names(experiment, in_flight)
    for trial in in_flight:  # nothing is imported because a record names it
        models.trusted(trial.config, own)
    begun = bool(trials)
    example = experiment.trained_by.data_of(data.full, 1)
    tries = models.tried(experiment, example, before if begun else None)
    refuse(models.problems(tries))
    if begun:
        changed, notes = models.changes(before, tries), models.notes(before, tries)
        lines = [line for some in changed.values() for line in some]
        if changed and not options.accept_changed_model:
            raise CannotRun("\n  ".join([MODEL_REFUSAL.format(name=options.name), *lines]), code=2)
        superseded = []
        if options.accept_changed_model:
            others = models.trained_by(trials, {*changed, *models.unknown(before, tries)})
            why = "another network was accepted in its model's place"
            superseded = _supersede(record, trials, [*others, *unfit], why)
        if changed or notes or superseded:
            record.event("model changed", accepted=lines, notes=notes, superseded=superseded)
        print_notes(options, notes)
    if tries:
        record.set_meta("models", Verbatim(models.kept(tries, before)))


def _accept_program(record: Record, before: Definition, experiment: Experiment, options: Options) -> None:
    """Enter that the run goes on with another program. Raises CannotRun, unless the user accepts it."""
    from rungwise.engine.experiment.resume_check import program_changes

    if not (changed := program_changes(before, experiment)):
        return
    if not options.accept_changed_model:
        raise CannotRun("\n  ".join([PROGRAM_REFUSAL.format(name=options.name), *changed]), code=2)
    with Reader(record.path.parent) as reader:
        trials = reader.trials()
    superseded = _supersede(record, trials, [trial.trial for trial in trials], "another program was accepted")
    record.event("model changed", accepted=changed, notes=[], superseded=superseded)
    record.commit()


def _supersede(record: Record, trials: Iterable[Trial], numbers: Iterable[int], why: str) -> list[int]:
    """End the confirmations in flight of another model or program than the one that goes on. Returns all trials of
    such: their confirmations cannot be scored any more, and are trained again."""
    with Reader(record.path.parent) as reader:
        superseded = set(numbers) - reader.superseded()
    for trial in trials:
        if trial.trial in superseded and trial.phase in SCORED_PHASES and not trial.state.ended:
            record.end_trial(trial.trial, State.FAILED, reason=why)
    return sorted(superseded)


def _record_warm_start(record: Record, experiment: Experiment, options: Options, *, begun: bool) -> None:
    """Enter the points and earlier trials that the search begins with, once. Raises CannotRun."""
    from rungwise.engine.search.earlier.trial import WarmStartError
    from rungwise.engine.search.warm_start import earlier_trials, points

    if not (options.warm_start or options.enqueue):
        return
    asked = Verbatim(like=[redacted_uri(str(place)) for place in options.warm_start], enqueue=list(options.enqueue))
    if begun:
        with Reader(record.path.parent) as reader:
            if reader.meta("begun with") != json.loads(to_json(asked)):
                raise CannotRun(
                    "--warm-start and --enqueue say how a run begins, but this one has begun with others: leave them "
                    "out to go on with it, or begin another run with --fresh or --name",
                    code=2,
                )
        return
    try:
        notes: list[str] = []
        earlier = earlier_trials(experiment, options.warm_start, experiment.data.digest, options.store_uri, notes)
        record.set_meta("earlier", Verbatim(earlier))
        record.set_meta("enqueued", Verbatim(points(experiment, options.enqueue)))
    except WarmStartError as problem:
        raise CannotRun(str(problem), code=2) from None
    print_notes(options, notes)
    record.set_meta("begun with", asked)
