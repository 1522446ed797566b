"""Notes on a sweep that can start: GPU flags, flags without effect."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from rungwise.engine.cluster.local_ray import local_resources
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.engine.experiment.sweep import Sweep
from rungwise.engine.validation.choices import unpackable
from rungwise.results.io.text import say, say_prose
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State
from rungwise.text import plural
from rungwise.trainable.protocol import SweepData


def gpu_notes(experiment: Experiment, options: Options, data: SweepData) -> list[str]:
    """Which flags would train this sweep on the machine's GPU, or faster on it."""
    if options.address is not None or not local_resources().gpus:
        return []
    many = not unpackable(experiment) and bool(data.about.get("classes"))
    if options.resources.gpus == 0:
        flags = f"--gpus-per-trial 1{' --pack auto' if many else ''}"
        return [f"trials train on the CPU; {flags} trains them on this machine's GPU"]
    if many and options.pack == "off":
        return ["--gpus-per-trial 1 --pack auto trains many networks at once on a GPU, which is far faster"]
    return []


def order_notes(experiment: Experiment, options: Options) -> list[str]:
    """How to fill this machine's workers, where searches of one trial in flight are too few for them."""
    fit, studies = options.resources.fits(local_resources()), len(experiment.studies)
    idle = options.address is None and options.concurrency == 0 and options.pack == "off" and fit > studies
    if experiment.order != "fixed" or not idle:
        return []
    return [
        f"{fit} trials fit on this machine, but each of the {studies} searches trains one at a time, so that results "
        "do not depend on timing; to use all workers, ask for more --searches, or for --order arrival"
    ]


def failed_notes(folder: Path) -> list[str]:
    """That trials which FAILED before count, whatever has been mended since."""
    with Reader(folder) as reader:
        failed = [trial for trial in reader.trials("search") if trial.state is State.FAILED]
    count = sum(trial.failure is None or not trial.failure.kind.is_infeasible for trial in failed)
    if not count:
        return []
    return [f"{plural(count, 'trial')} of this run FAILED before, and will not be trained again; --fresh starts over"]


def untuned_notes(experiment: Experiment) -> list[str]:
    """Why the defaults are not trained that are asked for."""
    if not experiment.untuned_seeds or experiment.untuned_config is not None:
        return []
    first = next(iter(experiment.arms))
    if not callable(experiment.space_object) and not experiment.space_of(first):
        return [f"what tuning gains over the defaults is not measured: {first} searches nothing"]
    return [
        "what tuning gains over the defaults is not measured: the training declares no default of something that is "
        "searched, as parameters or a dataclass with defaults would"
    ]


def idle_flags(sweep: Sweep, options: Options) -> list[str]:
    """Flags that differ from the script's values and have no effect beside other flags: a line each."""
    rungs, stops = options.scheduler, options.scheduler != "none" or options.patience is not None
    idle = [
        (options.eta != sweep.eta and rungs in ("median", "none"), "--eta", f"--scheduler {rungs} has no rungs"),
        (options.grace != sweep.grace and rungs == "none", "--grace", "with --scheduler none no trial is stopped"),
        (options.confirm_seeds != sweep.confirm_seeds and not options.confirm, "--confirm-seeds",
         "--no-confirm retrains nothing"),
        (options.confirm_configs != sweep.confirm_configs and not options.confirm, "--confirm-configs",
         "--no-confirm retrains nothing"),
        (options.refit_seeds != sweep.refit_seeds and not options.confirm, "--refit-seeds",
         "--no-confirm retrains nothing"),
        (options.untuned_seeds != sweep.untuned_seeds and not options.confirm, "--untuned-seeds",
         "--no-confirm retrains nothing"),
        (options.audit > 0 and not stops, "--audit", "no trial is stopped early"),
        (options.price_per_hour is not None and not options.plan, "--price-per-hour", "it is for --plan"),
        (options.widen and options.fresh, "--widen", "--fresh starts a new run"),
        (options.accept_changed_model and options.fresh, "--accept-changed-model", "--fresh starts a new run"),
    ]  # fmt: skip
    return [f"{flag} has no effect here: {why}" for does_nothing, flag, why in idle if does_nothing]


def print_notes(options: Options, notes: Iterable[str]) -> None:
    """Each note once on standard error, unless --quiet."""
    for note in [] if options.quiet else dict.fromkeys(notes):
        say_prose(f"note: {note}")


def print_wait(options: Options, doing: str) -> None:
    """What takes a while, on a terminal, which shows nothing else then; unless --quiet."""
    if not options.quiet and sys.stderr.isatty():
        say(f"{doing} ...", sys.stderr)
