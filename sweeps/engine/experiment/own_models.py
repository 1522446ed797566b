"""The models of a user's own that a sweep names: tried before anything starts, and compared with what a run began with.

A model is what it builds, not how its function is written: at a few configurations of the sweep, its layers' types and
its tensors' names, types and shapes. The record keeps these configurations with what was built, so that a later driver
builds at the same ones. A record never says what is imported: its models are known by the names of their functions, of
which several files may have one, and only those that the running sweep names are called.
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

Kept = Mapping[
    str, Any
]  # {function: {"source": ..., "built": [{"values": {...}, "layers": {...}, ...}]}}, in the record


@dataclass(frozen=True)
class Tried:
    """One configuration: what the model built there, or why it could not be trained."""

    function: str  # its name among `names`
    values: Mapping[str, Any]
    made: Mapping[str, Any] | None  # `trainable.export.model_check.structure`
    problem: str | None
    wrong: bool = False  # it builds something that is no model of this data, wherever else it may be one


def names(experiment: Experiment, trials: Iterable[Trial] = ()) -> dict[str, str]:
    """{a name: how this sweep calls it} of all models of the user's own: the function's name, or, where several files
    have such a function, file.py:function.

    Of a space that is a function nobody knows all models: those that it names at the parameters of `trials` count too.
    """
    if experiment.trained_by.is_own:
        return {}
    said = [experiment.given(arm).get("model") for arm in experiment.arms]
    for arm in experiment.arms:
        ranges = experiment.space_of(arm)
        if callable(ranges):
            said += [values.get("model") for values in space.draws(ranges, DRAWS)]
        elif "model" in ranges:
            said += space.values(ranges["model"])
    if callable(experiment.space_object):
        for trial in trials:
            if (model := trial.config.get("model", "mlp")) not in said and ":" in str(model):
                said.append(_said(experiment.space_object, trial))
    called = list(dict.fromkeys(name for name in said if isinstance(name, str) and ":" in name))
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
    """The model that the sweep's own space function names where it suggests the trial's parameters."""
    with contextlib.suppress(Exception), ordinary():
        _, values = space.replayed(function, trial.params)
        return values.get("model")
    return None


def trusted(config: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
    """A record's configuration with its model as the running sweep calls it: `known`, its `names`. Raises ModelError
    for one that it does not name, or of which nobody can tell which one it is."""
    model = config.get("model", "mlp")
    if not isinstance(model, str) or ":" not in model or model in known.values():
        return dict(config)
    alike: list[str] = []  # its file may have been moved
    for short in (_function, _file_and_function):
        alike = [called for called in known.values() if short(called) == short(model)]
        if len(alike) == 1:
            return {**config, "model": alike[0]}
    said = ", ".join(sorted(known)) or "none"
    raise ModelError(
        f"a run goes on with the models that its script names, but the record names {model!r} and the script "
        f"{said}; nothing that a record alone names is imported"
    )


def known(reader: Reader) -> Kept:
    """What the record holds; of a run of an earlier version, which kept a function's source alone, that."""
    model = reader.definition().model
    old: Kept = {}
    if not isinstance(model, str) and "source" in model:
        old = {model["function"]: {"source": model["source"], "built": []}}
    return {**old, **(reader.meta("models") or {})}


def tried(experiment: Experiment, data: Dataset, kept: Kept | None = None) -> list[Tried]:
    """Each own model at a few configurations: those of `kept`, what the record holds, or else ends of the space."""
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
    found: dict[str, Tried] = {}
    for values in known or list(_configurations(experiment)):
        key = json.dumps(values, sort_keys=True, default=str)
        if ":" in str(values.get("model", "mlp")) and key not in found and len(found) < MOST:
            found[key] = _try(name_of.get(values["model"], str(values["model"])), values, data)
    return list(found.values())


def problems(tries: list[Tried]) -> list[str]:
    """A line for each model that makes no logits somewhere, or cannot be trained anywhere. What fails here and there
    is for its trials to say: a model may refuse some configurations."""
    found = [one.problem for one in tries if one.wrong]
    for name in dict.fromkeys(one.function for one in tries):
        mine = [one for one in tries if one.function == name]
        if all(one.problem and not one.wrong for one in mine):
            found.append(f"the model {name!r} must train, but at {_words(mine[0].values)} it raised {mine[0].problem}")
    return list(dict.fromkeys(line for line in found if line))


def kept(tries: list[Tried], before: Kept | None = None) -> dict[str, Any]:
    """What the record keeps, as JSON; configurations that it holds already stay."""
    found: dict[str, Any] = dict(before or {})
    for name in dict.fromkeys(one.function for one in tries):
        built = [{"values": _values(one), **one.made} for one in tries if one.function == name and one.made]
        found[name] = {"source": space.source(import_function(_called(tries, name))), "built": built}
    return found


def changes(before: Kept, tries: list[Tried]) -> dict[str, list[str]]:
    """What the models build otherwise than when the run began: {function: a line each}."""
    lines: dict[str, list[str]] = {}
    for one in tries:
        old = next((o for o in before.get(one.function, {}).get("built", ()) if o["values"] == _values(one)), None)
        if old is None:
            continue
        where = f"model {one.function} at {_words(one.values)}"
        found = lines.setdefault(one.function, [])
        if one.made is None:
            found.append(f"{where}: could be trained -> {one.problem}")
            continue
        for part in ("layers", "tensors"):
            then, now = old[part], one.made[part]
            found += [
                f"{where}: {name or 'itself'}: {then.get(name, 'absent')} -> {now.get(name, 'absent')}"
                for name in then.keys() | now.keys()
                if then.get(name) != now.get(name)
            ]
    return {function: sorted(found) for function, found in sorted(lines.items()) if found}


def unknown(before: Kept, tries: list[Tried]) -> list[str]:
    """Functions written otherwise than in a run of an earlier version, which kept nothing of what they built."""
    return [
        name
        for name, about in before.items()
        if not about["built"] and any(one.made for one in tries if one.function == name)
        if about.get("source") != space.source(import_function(_called(tries, name)))
    ]


def trained_by(trials: Iterable[Trial], functions: Iterable[str]) -> list[int]:
    """Numbers of the trials that trained a model of these names (`names`)."""
    wanted = set(functions)
    own = {trial.trial: str(trial.config.get("model", "")) for trial in trials}
    return [number for number, model in own.items() if wanted & {_function(model), _file_and_function(model), model}]


def notes(before: Kept, tries: list[Tried]) -> list[str]:
    """What changed in the files of models that build the same as when the run began, or of which that is not known."""
    found = [
        f"the function {name!r} has changed since this run began; what it built then is not known"
        for name in unknown(before, tries)
    ]
    for name in before.keys() - changes(before, tries).keys():
        about, mine = before[name], [one for one in tries if one.function == name and one.made]
        built, now = [point["files"] for point in about["built"]], [one.made["files"] for one in mine if one.made]
        files = sorted(
            {file for then in built for one in now for file in one if then.get(file) not in (None, one[file])}
        )
        found += [f"{file} has changed since this run began, but {name!r} builds the same network" for file in files]
    return sorted(found)


def _called(tries: list[Tried], name: str) -> str:
    return next(str(one.values["model"]) for one in tries if one.function == name)


def _values(one: Tried) -> dict[str, Any]:
    """As the record keeps them: without the model, whose file may be moved, and as JSON has them."""
    values = {name: value for name, value in one.values.items() if name != "model"}
    return dict(json.loads(json.dumps(values)))


def _words(values: Mapping[str, Any]) -> str:
    said = [f"{name}={value}" for name, value in values.items() if name != "model"]
    return ", ".join(said) or "its defaults"


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
    """Legal ones of each arm: both ends of all ranges, or some draws of a function; else what it fixes."""
    for arm in experiment.arms:
        given, ranges = experiment.given(arm), experiment.space_of(arm)
        points = list(space.draws(ranges, 2)) if callable(ranges) else space.corners(ranges)
        legal = [{**given, **point} for point in points if not hyper.problems({**given, **point})]
        yield from legal or [given]
