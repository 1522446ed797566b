"""Everything that can be known to be wrong before Ray starts, all of it at once: rule, value, valid choices."""

from __future__ import annotations

import ast
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rungwise.engine.cluster.local_ray import local_resources
from rungwise.engine.execution.run_lock import LOCK
from rungwise.engine.experiment import space
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import OWN, SCHEDULERS, Options
from rungwise.engine.experiment.sweep import Sweep
from rungwise.engine.search import samplers
from rungwise.engine.search import warm_start as warm
from rungwise.engine.search.samplers import SAMPLERS, SearchConditions
from rungwise.results.exporters.tracking_uri import valid_uri
from rungwise.results.io.files import HALF
from rungwise.results.io.paths import run_name_problem, shown
from rungwise.results.record.record import FILE, Record, RecordError
from rungwise.trainable import config as hyper
from rungwise.trainable.report import MODES, Report

if TYPE_CHECKING:
    from rungwise.trainable.data.dataset import Dataset

BUDGET = ("epochs", "reports_per_epoch")
BESIDE = [
    "parameters",
    "seconds_per_epoch",
]  # objectives that `trainable.worker.worker` reports when they are asked for
LEAST_ETA = 1.1  # below it rungs lie nearer to each other than reports


def problems(experiment: Experiment, options: Options) -> list[str]:
    """One line a problem; [] when the sweep can start."""
    found = [*_numbers(experiment, options), *_choices(experiment, options), *_data(experiment, options)]
    found += _names(experiment)
    found += _hyperparameters(experiment)
    found += [] if found else _searching(experiment, options)
    found += _said_twice(Path(sys.argv[0]))
    found += _resources(options)
    found += _folder(experiment, options)
    if not found:  # bad input leaves nothing behind
        found += _unmakeable(options.out / options.name)
    if options.tracking_uri is not None and (wrong := valid_uri(options.tracking_uri)):
        found.append(wrong)
    return list(dict.fromkeys(found))


def notes(experiment: Experiment, options: Options, data: Dataset) -> list[str]:
    """What is good to know, searched or not: of the flags that use a GPU."""
    return _gpu_notes(experiment, options, data)


def search_notes(experiment: Experiment, data: Dataset) -> list[str]:
    """What is good to know before a search only, as finding it out takes seconds: of models that cannot be exported."""
    return unexportable([hyper.parsed(experiment.given(arm)) for arm in experiment.arms], data)


def unexportable(models: Iterable[hyper.Config], data: Dataset) -> list[str]:
    """A line for each model of the user's own that torch.export refuses: better heard before a search than after it."""
    own = [model for model in models if model.model not in hyper.MODELS]
    if not own:
        return []
    from rungwise.trainable.export.saved_model import unexportable

    problems = dict.fromkeys(problem for model in own if (problem := unexportable(model, data)))
    return [
        f"the model can be trained and scored, but torch.export refuses it, so model/ will hold its weights and no "
        f"program: {problem}"
        for problem in problems
    ]


def _gpu_notes(experiment: Experiment, options: Options, data: Dataset) -> list[str]:
    if options.address is not None or not local_resources().gpus:
        return []
    many = not _unpackable(experiment) and data.target is None
    if options.resources.gpus == 0:
        flags = f"--gpus-per-trial 1{' --pack auto' if many else ''}"
        return [f"trials train on the CPU; {flags} trains them on this machine's GPU"]
    if many and options.pack == "off":
        return ["--gpus-per-trial 1 --pack auto trains many networks at once on a GPU, which is far faster"]
    return []


def idle_flags(sweep: Sweep, options: Options) -> list[str]:
    """Flags that differ from what the script says and do nothing beside others: a line each."""
    rungs, stops = options.scheduler, options.scheduler != "none" or options.patience is not None
    idle = [
        (options.eta != sweep.eta and rungs in ("median", "none"), "--eta", f"--scheduler {rungs} has no rungs"),
        (options.grace != sweep.grace and rungs == "none", "--grace", "--scheduler none stops nobody"),
        (options.confirm_seeds != sweep.confirm_seeds and not options.confirm, "--confirm-seeds",
         "--no-confirm trains nothing again"),
        (options.confirm_configs != sweep.confirm_configs and not options.confirm, "--confirm-configs",
         "--no-confirm trains nothing again"),
        (options.audit > 0 and not stops, "--audit", "nobody is stopped"),
        (options.price_per_hour is not None and not options.plan, "--price-per-hour", "it is for --plan"),
        (options.widen and options.fresh, "--widen", "--fresh begins a run of its own"),
        (options.accept_changed_model and options.fresh, "--accept-changed-model", "--fresh begins a run of its own"),
    ]  # fmt: skip
    return [f"{flag} has no effect here: {why}" for does_nothing, flag, why in idle if does_nothing]


def _data(experiment: Experiment, options: Options) -> list[str]:
    """A user's own file is read whole: nobody has tested it."""
    from rungwise.trainable.data import dataset as data

    found = data.problems(options.data, options.data_root)
    if not found and (options.data not in data.DATASETS or options.data in data.SMALL):
        try:
            loaded = data.load(options.data, options.data_root)
            found = _measurable(experiment, loaded)
            if loaded.target is not None and options.pack != "off":
                found.append("--pack trains classifications only, but the labels are real numbers; leave it off")
        except data.DataError as error:
            found = [str(error)]
    return found


def _measurable(experiment: Experiment, data: Dataset) -> list[str]:
    """Objectives that the data does not have, and what does not suit its samples."""
    regression = data.target is not None
    wrong = ("val_accuracy",) if regression else ("val_mse", "val_mae", "val_r2")
    kind, way = ("real numbers", "metric='val_r2'") if regression else ("classes", "metric='val_accuracy'")
    found = [f"labels are {kind}, so there is no {name}; say {way}" for name in experiment.objectives if name in wrong]
    return found + unsuited(experiment, data.shape)


def unsuited(experiment: Experiment, shape: tuple[int, ...]) -> list[str]:
    """What of the arms' models and augmentation does not suit samples of `shape`; the ranges of a dict included."""
    found: list[str] = []
    for arm in experiment.arms:
        given, searched = experiment.given(arm), experiment.space_of(arm)
        ranges = {} if callable(searched) or space.problems(searched, given) else searched
        inner = [{**given, name: value} for name, kind in ranges.items() for value in space.values(kind)]
        for values in [given, *inner]:
            found += [] if hyper.problems(values) else hyper.unfit(hyper.parsed(values), shape)
    return list(dict.fromkeys(found))


def one_problems(experiment: Experiment, options: Options) -> list[str]:
    """The same for `--one`, which needs legal hyperparameters and data, and no Ray."""
    from rungwise.trainable.data import dataset as data

    try:
        values = json.loads(options.one or "")
    except json.JSONDecodeError as error:
        return [f"--one takes a JSON object, but got {options.one!r} ({error})"]
    if not isinstance(values, dict):
        return [f"--one takes a JSON object such as '{{\"lr\": 0.1}}', but got {options.one!r}"]
    found = [f"{name} is the sweep's budget; say --epochs" for name in BUDGET if name in values]
    values = {"seed": experiment.seed, **experiment.common, **values, "epochs": experiment.epochs}
    found += [*hyper.problems(values), *data.problems(options.data, options.data_root)]
    if options.plan:
        found.append("--one runs a trial and --plan none: say one of them")
    return found + _resources(options)


def _numbers(experiment: Experiment, options: Options) -> list[str]:
    asked = experiment
    rules: list[tuple[bool, str, Any]] = [
        (asked.trials >= 1, "--trials >= 1 must hold, but got", asked.trials),
        (asked.epochs >= 1, "--epochs >= 1 must hold, but got", asked.epochs),
        (LEAST_ETA <= asked.eta < math.inf, f"--eta must be a number from {LEAST_ETA} up, but got", asked.eta),
        (0 <= asked.seed < 2**63, "--seed must lie from 0 to 2**63 - 1, but got", asked.seed),
        (options.concurrency >= 0, "--concurrency >= 0 must hold (0 = as many as fit), but got", options.concurrency),
        (options.retries >= 0, "--retries >= 0 must hold, but got", options.retries),
        (options.confirm_configs >= 1, "--confirm-configs >= 1 must hold (or --no-confirm), but got",
         options.confirm_configs),
        (options.confirm_seeds >= 1, "--confirm-seeds >= 1 must hold (or --no-confirm), but got",
         options.confirm_seeds),
        (0 <= options.audit <= 1, "--audit takes a share from 0 to 1, but got", options.audit),
        (options.checkpoint_seconds >= 0, "--checkpoint-seconds >= 0 must hold, but got", options.checkpoint_seconds),
        (asked.reports_per_epoch >= 1, "reports_per_epoch >= 1 must hold, but got", asked.reports_per_epoch),
        (asked.patience is None or asked.patience > 0, "--patience > 0 must hold, but got", asked.patience),
        (asked.max_parameters is None or asked.max_parameters >= 1, "--max-parameters >= 1 must hold, but got",
         asked.max_parameters),
        (options.time_budget is None or options.time_budget > 0, "--time-budget > 0 must hold, but got",
         options.time_budget),
        (options.price_per_hour is None or 0 <= options.price_per_hour < math.inf,
         "--price-per-hour >= 0 must hold, but got", options.price_per_hour),
    ]  # fmt: skip
    found = [f"{rule} {value}" for holds, rule, value in rules if not holds]
    if not asked.grace <= asked.epochs:  # a NaN is refused too
        found.append(f"grace <= epochs must hold, but got grace={asked.grace:g}, epochs={asked.epochs}")
    if asked.grace * asked.reports_per_epoch < 1:
        found.append(
            f"grace must be at least one report, but got grace={asked.grace:g} epochs "
            f"at {asked.reports_per_epoch} report(s) an epoch"
        )
    return found + _objectives(experiment)


def _objectives(experiment: Experiment) -> list[str]:
    metrics, found = [field.name for field in fields(Report) if field.name != "step"], []
    if experiment.metric not in metrics:
        found.append(hyper.unknown("metric", experiment.metric, metrics))
    elif wrong := _mode_problem("mode", experiment.metric, experiment.mode):
        found.append(wrong)
    for name, mode in list(cast(Mapping[str, str | None], experiment.objectives).items())[1:]:
        if name not in metrics + BESIDE:
            found.append(hyper.unknown("objective", name, metrics + BESIDE))
        elif wrong := _mode_problem("an objective's mode", name, mode):
            found.append(wrong)
    return found


def _mode_problem(what: str, metric: str, mode: object) -> str | None:
    if mode is None:
        return f"{what} must be said, 'max' or 'min', as {metric} may be either"
    said = f"got {mode!r}" if what == "mode" else f"{metric} has {mode!r}"
    if mode not in ("max", "min"):
        return f"{what} must be 'max' or 'min', but {said}"
    if (known := MODES.get(metric, mode)) != mode:
        better = "less" if known == "min" else "more"
        return f"{what} must be {known!r} for {metric}, of which {better} is better, but {said}; leave it out"
    return None


def _choices(experiment: Experiment, options: Options) -> list[str]:
    found = [
        hyper.unknown("--sampler", sampler, list(SAMPLERS))
        for sampler in map(experiment.sampler_of, experiment.arms)
        if isinstance(sampler, str) and sampler not in (*SAMPLERS, OWN)
    ]
    given = experiment.sampler_object
    if given == OWN:
        found.append("--sampler own is what the script's Sweep(sampler=...) makes, but this one names none of its own")
    if isinstance(given, Mapping) and (strange := [arm for arm in given if arm not in experiment.arms]):
        found.append(hyper.unknown("arm of sampler", strange[0], list(experiment.arms)))
    if not _is_object(options.sampler_options):
        found.append(f"--sampler-options takes a JSON object, but got {options.sampler_options!r}")
    if experiment.scheduler not in SCHEDULERS:
        found.append(hyper.unknown("--scheduler", experiment.scheduler, list(SCHEDULERS)))
    if options.pack not in ("auto", "off") and not (options.pack.isdigit() and int(options.pack) >= 1):
        found.append(f"--pack takes auto, off, or how many trials a process trains at once, but got {options.pack!r}")
    elif options.pack != "off":
        found += _unpackable(experiment)
    if problem := run_name_problem(options.name):
        found.append(f"--name: {problem}, but got {shown(options.name)}")
    return found


def _unpackable(experiment: Experiment) -> list[str]:
    """What a process would train one at a time, which it does as well without --pack."""
    given = {arm: experiment.given(arm) for arm in experiment.arms}
    models = sorted({str(values.get("model", "mlp")) for values in given.values()} - {"mlp"})
    augmented = sorted({name for values in given.values() for name in hyper.AUGMENTATION if values.get(name)})
    found = [f"--pack trains model='mlp' only, but the sweep has model={model!r}; leave it off" for model in models]
    return found + [f"--pack trains without augmentation, but the sweep has {name}; leave it off" for name in augmented]


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False


def _searching(experiment: Experiment, options: Options) -> list[str]:
    """What the sampler cannot do with a space that is legal, and what the search is to begin with."""
    found = []
    asked, count = experiment, len(experiment.arms)
    for index, arm in enumerate(asked.arms):
        share = (asked.trials - index + count - 1) // count  # trials are dealt in turn
        stops = asked.scheduler != "none" or asked.patience is not None
        conditions = SearchConditions(share, stops, len(asked.objectives), asked.seed)
        found += samplers.problems(asked.sampler_of(arm), asked.sampler_options, asked.space_of(arm), conditions)
    if "grid" in map(asked.sampler_of, asked.arms) and (options.like or options.enqueue):
        found.append("--sampler grid tries its points in an order of its own, but got --like or --enqueue")
    return [*found, *warm.problems(asked, options.like, options.enqueue)]


def _hyperparameters(experiment: Experiment) -> list[str]:
    arms, fixed = experiment.arm_objects, experiment.fixed
    found = [] if arms else ["a sweep has at least one arm, but arms is empty"]
    is_function = callable(experiment.space_object)
    searched = {} if callable(experiment.space_object) else experiment.space_object
    found += [
        f"{name} is the sweep's budget, not a hyperparameter; set it on the Sweep or as a flag"
        for name in BUDGET
        if any(name in where for where in (searched, fixed, *arms.values()))
    ]
    for arm in arms:
        fixes = experiment.fixes(arm)
        found += [
            f"an arm must not contradict fixed, but arm {arm!r} says {name}={value!r} and fixed {fixed[name]!r}"
            for name, value in fixes.items()
            if name in fixed and fixed[name] != value
        ]
        if is_function and (ranges := arms[arm].keys() - fixes.keys()):
            found.append(
                f"an arm may search a range of its own when the space is a dict, but the space is a function and arm "
                f"{arm!r} has one for {', '.join(sorted(ranges))}"
            )
        given = experiment.given(arm)
        found += [line for line in hyper.problems(given) if line not in found]
        model = {} if hyper.problems({"model": given.get("model", "mlp")}) else {"model": given.get("model", "mlp")}
        legal = {name: value for name, value in given.items() if not hyper.problems({**model, name: value})}
        found += [line for line in space.problems(experiment.space_of(arm), legal) if line not in found]
    return found


def _names(experiment: Experiment) -> list[str]:
    """Names that the record would hold in another form, so that a later driver would not know them again."""
    found = space.unnameable(
        [("a sweep's name", experiment.sweep), *(("an arm's name", arm) for arm in experiment.arms)]
    )
    searched = experiment.space_object
    ranges = space.suggested(searched) if callable(searched) else [searched]
    return found + [
        line
        for given in (*ranges, experiment.fixed, *experiment.arm_objects.values())
        for line in space.misnamed(given)
    ]


def _said_twice(script: Path) -> list[str]:
    """Names given twice in a dict that the script writes into `Sweep(...)`: Python keeps the last, in silence."""
    if script.suffix != ".py" or not script.is_file():
        return []  # typed at a prompt
    found = []
    calls = [node for node in ast.walk(ast.parse(script.read_bytes())) if isinstance(node, ast.Call)]
    for keyword in [keyword for call in calls if ast.unparse(call.func).endswith("Sweep") for keyword in call.keywords]:
        if isinstance(keyword.value, ast.Dict):
            names = Counter(key.value for key in keyword.value.keys if isinstance(key, ast.Constant))
            found += [f"a name must be given once, but {keyword.arg} says {name!r} twice (line {keyword.value.lineno})"
                      for name, times in names.items() if times > 1]  # fmt: skip
    return found


def _resources(options: Options) -> list[str]:
    have, takes, found = local_resources(), options.resources, []
    for kind, asked, exist in (("CPUs", takes.cpus, have.cpus), ("GPUs", takes.gpus, have.gpus)):
        flag = f"--{kind.lower()}-per-trial"
        if not asked >= 0:
            found.append(f"{flag} >= 0 must hold, but got {asked:g}")
        elif kind == "GPUs" and asked > 1:
            way = "more trials at once use more GPUs"
            found.append(f"{flag}: a trial trains on one GPU, or on a share of it, but got {asked:g}; {way}")
        elif asked > exist and options.address is None:
            found.append(f"{flag}: this machine has {exist:g} {kind}, but got {asked:g}; use fewer, or --address")
    if takes.cpus == takes.gpus == 0:
        found.append("a trial needs a CPU or a GPU, but --cpus-per-trial and --gpus-per-trial are both 0")
    return found


def _folder(experiment: Experiment, options: Options) -> list[str]:
    folder = options.out / options.name
    try:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    except OSError as error:
        return [f"--out must be a folder that can be written, but {folder}: {error.strerror}"]
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return [f"--out must be a folder that can be written, but {folder} cannot, because of {there}"]
    if not folder.exists():
        return []
    if not (folder / FILE).exists():
        if (folder / HALF).is_dir():  # its head was killed while it brought the run home
            again = f"{folder} holds half of a run, and --mirror brings all of it; or choose another --name"
            return [] if options.mirror else [again]
        # A killed driver may leave the lock, and a record that was never finished: neither is anybody's work.
        foreign = sorted(child.name for child in folder.iterdir() if child.name not in (LOCK, f".{FILE}.tmp"))
        return [f"{folder} holds {foreign[0]} but no {FILE}; choose another --name"] if foreign else []
    try:
        with Record.reader(folder) as reader:
            owner = reader.definition().sweep or experiment.sweep
    except RecordError:
        return []  # no bad input: opening it for writing names the file and the damage
    if owner != experiment.sweep:
        return [f"--name {options.name!r} is taken by a run of sweep {owner!r} in {options.out}; choose another"]
    return []


def _unmakeable(folder: Path) -> list[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return [f"--out must be a folder that can be written, but {folder}: {error.strerror}"]
    return []
