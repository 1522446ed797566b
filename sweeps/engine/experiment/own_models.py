"""A user's own models: built before the sweep starts, and compared with what they built when the run began.

Two models are the same if they build the same network, whatever the source of their functions: the same types of layers
and the same names, types and shapes of tensors, at a few configurations of the sweep. The record keeps these
configurations and what was built, so that a later driver builds the same ones. Nothing is imported because a record
names it: a recorded model is identified by the name of its function (and file, where several files have a function of
that name), and only functions that the running sweep names are called.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from rungwise.engine.experiment import space
from rungwise.engine.experiment.experiment import Experiment
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import Trial
from rungwise.trainable import config as hyper
from rungwise.trainable.faults import message, ordinary, reason, refusing_exit
from rungwise.trainable.import_path import ModelError, import_function

if TYPE_CHECKING:
    from rungwise.trainable.data.dataset import Dataset

MOST = 8  # configurations that are tried
DRAWS = 16  # of a space that is a function

# What the record keeps: {function: {"source": ..., "built": [{"values": {...}, "layers": {...}, ...}]}}
Kept = Mapping[str, Any]


@dataclass(frozen=True)
class Tried:
    """One configuration: what the model builds for it, or why it cannot be trained."""

    function: str  # its name among `names`
    values: Mapping[str, Any]
    made: Mapping[str, Any] | None  # `trainable.export.model_check.structure`
    problem: str | None
    wrong: bool = False  # what it builds is no model of this data, for any configuration


def names(experiment: Experiment, trials: Iterable[Trial] = ()) -> dict[str, str]:
    """{name in the record: name in this sweep} of all the user's own models. The former is the function's name, or
    file.py:function where several files have a function of that name.

    A space that is a function does not list its models: those that it returns for the parameters of `trials` count too.
    """
    if experiment.trained_by.is_own:
        return {}
    models = [experiment.given(arm).get("model") for arm in experiment.arms]
    for arm in experiment.arms:
        ranges = experiment.space_of(arm)
        if callable(ranges):
            models += [values.get("model") for values in space.draws(ranges, DRAWS)]
        elif "model" in ranges:
            models += space.values(ranges["model"])
    if callable(experiment.space_object):
        for trial in trials:
            if (model := trial.config.get("model", "mlp")) not in models and ":" in str(model):
                models.append(_said(experiment.space_object, trial))
    called = list(dict.fromkeys(name for name in models if isinstance(name, str) and ":" in name))
    for short in (_function, _file_and_function):
        times = Counter(map(short, called))
        if len(times) == len(called):
            return {short(name): name for name in called}
    return {_file_and_function(name) if times[_file_and_function(name)] == 1 else name: name for name in called}


def _function(model: str) -> str:
    return model.rpartition(":")[2]


def _file_and_function(model: str) -> str:
    file, _, name = model.rpartition(":")
    return f"{PurePath(file).name}:{name}"


def _said(function: space.DefineByRun, trial: Trial) -> object:
    """The model that the sweep's space function returns for the trial's parameters."""
    with contextlib.suppress(Exception), ordinary():
        _, values = space.replayed(function, trial.params)
        return values.get("model")
    return None


def trusted(config: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
    """A recorded configuration, with its model as the running sweep names it (`known`: see `names`).

    Raises:
        ModelError: The sweep does not name the model, or names several that it could be.
    """
    model = config.get("model", "mlp")
    if not isinstance(model, str) or ":" not in model or model in known.values():
        return dict(config)
    alike: list[str] = []  # its file may have been moved
    for short in (_function, _file_and_function):
        alike = [called for called in known.values() if short(called) == short(model)]
        if len(alike) == 1:
            return {**config, "model": alike[0]}
    named = ", ".join(sorted(known)) or "none"
    raise ModelError(
        f"a run resumes with the models that its script names, but the record names {model!r} and the script names "
        f"{named}; nothing is imported because a record names it"
    )


def known(reader: Reader) -> Kept:
    """What the record holds of own models. An earlier version kept only the source of a function."""
    model = reader.definition().model
    old: Kept = {}
    if not isinstance(model, str) and "source" in model:
        old = {model["function"]: {"source": model["source"], "built": []}}
    return {**old, **(reader.meta("models") or {})}


def tried(experiment: Experiment, data: Dataset, kept: Kept | None = None) -> list[Tried]:
    """Build each own model at a few configurations: those of `kept` (what the record holds), else ends of the space."""
    called = names(experiment)
    if not called:
        return []
    name_of = {model: name for name, model in called.items()}
    known = [
        {**point["values"], "model": called[name]}
        for name, about in (kept or {}).items()
        for point in about["built"]
        if name in called
    ]
    tries: dict[str, Tried] = {}
    for values in known or list(_configurations(experiment)):
        key = json.dumps(values, sort_keys=True, default=str)
        if ":" in str(values.get("model", "mlp")) and key not in tries and len(tries) < MOST:
            tries[key] = _try(name_of.get(values["model"], str(values["model"])), values, data)
    return list(tries.values())


def problems(tries: list[Tried]) -> list[str]:
    """A line for each model whose output is not logits for some configuration, or that no configuration can train. A
    model may reject some configurations: then only their trials fail."""
    lines = [one.problem for one in tries if one.wrong]
    for name in dict.fromkeys(one.function for one in tries):
        own_tries = [one for one in tries if one.function == name]
        if all(one.problem and not one.wrong for one in own_tries):
            lines.append(
                f"the model {name!r} must train, but at {_words(own_tries[0].values)} it raised {own_tries[0].problem}"
            )
    return list(dict.fromkeys(line for line in lines if line))


def kept(tries: list[Tried], before: Kept | None = None) -> dict[str, Any]:
    """What the record is to keep, as JSON; configurations that it holds already stay."""
    models: dict[str, Any] = dict(before or {})
    for name in dict.fromkeys(one.function for one in tries):
        built = [{"values": _values(one), **one.made} for one in tries if one.function == name and one.made]
        models[name] = {"source": space.source(import_function(_called(tries, name))), "built": built}
    return models


def changes(before: Kept, tries: list[Tried]) -> dict[str, list[str]]:
    """{function: a line for each difference between what it builds now and when the run began}."""
    lines: dict[str, list[str]] = {}
    for one in tries:
        old = next((o for o in before.get(one.function, {}).get("built", ()) if o["values"] == _values(one)), None)
        if old is None:
            continue
        where = f"model {one.function} at {_words(one.values)}"
        changed = lines.setdefault(one.function, [])
        if one.made is None:
            changed.append(f"{where}: could be trained -> {one.problem}")
            continue
        for part in ("layers", "tensors"):
            then, now = old[part], one.made[part]
            changed += [
                f"{where}: {name or 'itself'}: {then.get(name, 'absent')} -> {now.get(name, 'absent')}"
                for name in then.keys() | now.keys()
                if then.get(name) != now.get(name)
            ]
    return {function: sorted(changed) for function, changed in sorted(lines.items()) if changed}


def unknown(before: Kept, tries: list[Tried]) -> list[str]:
    """Functions whose source changed since a run of an earlier version, which did not keep what they built."""
    return [
        name
        for name, about in before.items()
        if not about["built"] and any(one.made for one in tries if one.function == name)
        if about.get("source") != space.source(import_function(_called(tries, name)))
    ]


def trained_by(trials: Iterable[Trial], functions: Iterable[str]) -> list[int]:
    """Numbers of the trials that trained one of these models (see `names`)."""
    wanted = set(functions)
    own = {trial.trial: str(trial.config.get("model", "")) for trial in trials}
    return [number for number, model in own.items() if wanted & {_function(model), _file_and_function(model), model}]


def notes(before: Kept, tries: list[Tried]) -> list[str]:
    """Changed files of models that build the same network as before, or of which that is not known."""
    lines = [
        f"the function {name!r} has changed since this run began; what it built then is not known"
        for name in unknown(before, tries)
    ]
    for name in before.keys() - changes(before, tries).keys():
        about, own_tries = before[name], [one for one in tries if one.function == name and one.made]
        built, now = [point["files"] for point in about["built"]], [one.made["files"] for one in own_tries if one.made]
        files = sorted(
            {file for then in built for one in now for file in one if then.get(file) not in (None, one[file])}
        )
        lines += [f"{file} has changed since this run began, but {name!r} builds the same network" for file in files]
    return sorted(lines)


def _called(tries: list[Tried], name: str) -> str:
    return next(str(one.values["model"]) for one in tries if one.function == name)


def _values(one: Tried) -> dict[str, Any]:
    """The values as the record keeps them: as JSON, and without the model, whose file may be moved."""
    values = {name: value for name, value in one.values.items() if name != "model"}
    return dict(json.loads(json.dumps(values)))


def _words(values: Mapping[str, Any]) -> str:
    settings = [f"{name}={value}" for name, value in values.items() if name != "model"]
    return ", ".join(settings) or "its defaults"


def _try(name: str, values: Mapping[str, Any], data: Dataset) -> Tried:
    from rungwise.trainable.export.model_check import rehearse
    from rungwise.trainable.model import OutputError

    try:
        with refusing_exit():
            return Tried(name, values, rehearse(hyper.parse_config(values), data), None)
    except OutputError as error:
        return Tried(name, values, None, message(error), wrong=True)
    except Exception as error:  # whatever a user's code raises
        return Tried(name, values, None, reason(error))


def _configurations(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Legal configurations of each arm: both ends of all ranges, or draws of a function; else its fixed values."""
    for arm in experiment.arms:
        given, ranges = experiment.given(arm), experiment.space_of(arm)
        points = list(space.draws(ranges, 2)) if callable(ranges) else space.corners(ranges)
        legal = [{**given, **point} for point in points if not hyper.problems({**given, **point})]
        yield from legal or [given]
