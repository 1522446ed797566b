"""How a training function takes its hyperparameters: as one mapping, as a dataclass or pydantic model, or by name.

def train(config, trial): ...               # config["lr"] or config.lr
def train(config: Settings, trial): ...     # a dataclass, or a pydantic model: names, types and bounds are checked
def train(lr, width=64, *, trial): ...      # one parameter a hyperparameter
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError, create_model

from rungwise.errors import RungwiseError
from rungwise.text import unknown
from rungwise.trainable.faults import ordinary, reason
from rungwise.trainable.protocol import RESERVED
from rungwise.trainable.training.loop_functions import name_of

CONFIG_NAMES = ("config", "cfg", "params", "hparams", "hyperparameters")  # of a parameter that takes all of them
TRIAL = "trial"  # the parameter that takes a `Trial`


class FunctionError(RungwiseError, ValueError):
    """A function that cannot be a training: the rule, and what it is."""

    code = 2


class Hyperparameters(dict[str, Any]):
    """A configuration: a dict whose keys are attributes, too. Remembers which ones were read."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        object.__setattr__(self, "read", set())

    read: set[str]

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(unknown("hyperparameter", name, list(dict.keys(self)))) from None

    def __iter__(self) -> Iterator[str]:  # `dict(config)`, `**config` and `json.dumps` come by here
        self.read |= dict.keys(self)
        return super().__iter__()

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)

    def items(self) -> Any:
        self.read |= dict.keys(self)
        return super().items()

    def values(self) -> Any:
        self.read |= dict.keys(self)
        return super().values()

    def copy(self) -> Hyperparameters:
        return Hyperparameters(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hyperparameters, (dict(self),)


class Arguments:
    """The hyperparameters that a function takes, and how."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises FunctionError for a function that takes none, or whose annotations mean nothing."""
        self._function = function
        try:
            parameters = inspect.signature(function).parameters
            hints = _hints(function, [name for name in parameters if name != TRIAL])
        except Exception as error:  # an annotation that does not resolve, or no signature at all
            raise FunctionError(f"the parameters of {name_of(function)} must be known, but {reason(error)}") from error
        self._takes_trial = TRIAL in parameters
        names = [name for name in parameters if name != TRIAL]
        self._positional = [name for name, each in parameters.items() if each.kind is each.POSITIONAL_ONLY]
        if not names:
            raise FunctionError(
                f"{name_of(function)} must take hyperparameters: def {name_of(function)}(config, trial)"
            )
        self.model: type[BaseModel] | None = None
        """What the hyperparameters are checked by; None: any name and value is legal."""
        self._dataclass: type | None = None
        self._first = first = names[0]
        kind = hints.get(first)
        self._whole = len(names) == 1 and (first in CONFIG_NAMES or _is_settings(kind) or _is_mapping(kind))
        if self._whole and isinstance(kind, type) and issubclass(kind, BaseModel):
            self.model = kind
        elif self._whole and dataclasses.is_dataclass(kind):
            self._dataclass = kind  # type: ignore[assignment]
            self.model = _of_dataclass(kind, hints_of=typing.get_type_hints(kind, include_extras=True))  # type: ignore[arg-type]
        elif not self._whole:
            self.model = _of_parameters(name_of(function), parameters, hints)

    def problems(self, values: Mapping[str, Any]) -> list[str]:
        """What is wrong with these hyperparameters, a line each; those that are absent are no problem."""
        if self.model is None:
            return []
        names = self._names()
        found = [unknown("hyperparameter", name, names) for name in values if name not in (*names, *RESERVED)]
        known = {name: value for name, value in values.items() if name in names}
        try:
            self._validate(known)
        except FunctionError as error:
            found.append(str(error))
        except ValidationError as error:
            for item in error.errors():
                if item["type"] == "missing":
                    continue
                rule, where = item["msg"], ".".join(str(part) for part in item["loc"])
                rule = rule.removeprefix("Value error, ") if item["type"] == "value_error" else _lower(rule)
                found.append(f"{where}: {rule}, but got {item['input']!r}" if where else rule)
        return found

    def missing(self, names: Collection[str]) -> list[str]:
        """Hyperparameters that have no default and are not among these names."""
        fields = self.model.model_fields.items() if self.model else ()
        return [name for name, field in fields if field.is_required() and name not in names]

    def _validate(self, values: Mapping[str, Any]) -> BaseModel:
        """Raises pydantic.ValidationError, and FunctionError for what else a check of the user's raises."""
        assert self.model is not None
        try:
            with ordinary():
                return self.model.model_validate(values)
        except ValidationError:
            raise
        except Exception as error:
            raise FunctionError(f"{self.model.__name__} must check hyperparameters, but {reason(error)}") from error

    def parse(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All hyperparameters as JSON, with defaults filled in. Raises pydantic.ValidationError, FunctionError."""
        if self.model is None:
            return dict(values)
        parsed = self._validate({name: value for name, value in values.items() if name in self._names()})
        return {**parsed.model_dump(mode="json"), **{name: values[name] for name in RESERVED if name in values}}

    def describe(self) -> dict[str, dict[str, str]]:
        """{hyperparameter: {"type", "unit", "help"}} of those that are declared."""
        kinds = {float: "float", int: "int", bool: "bool"}
        fields = self.model.model_fields.items() if self.model else ()
        return {
            name: {
                "type": kinds.get(field.annotation, "str") if isinstance(field.annotation, type) else "str",
                "unit": "",
                "help": field.description or "",
            }
            for name, field in fields
            if field.annotation is not Any
        }

    def whole_numbers(self) -> frozenset[str]:
        """Names of those that are declared as int."""
        fields = self.model.model_fields.items() if self.model else ()
        return frozenset(name for name, field in fields if field.annotation is int)

    def bind(self, values: Mapping[str, Any], trial: Any) -> tuple[Callable[[], Any], Hyperparameters | None]:
        """The call of the function with these hyperparameters, and, where they are a mapping, that mapping."""
        extra = {TRIAL: trial} if self._takes_trial else {}
        given = {name: value for name, value in values.items() if name not in RESERVED}
        if not self._whole:
            own = given if self.model is None else {n: v for n, v in values.items() if n in self._names()}
            return self._call(own | extra), None
        if self.model is None:
            mapping = Hyperparameters(given)
            return self._call({self._first: mapping} | extra), mapping
        settings: Any = self._validate({n: v for n, v in values.items() if n in self._names()})
        if self._dataclass is not None:
            settings = self._dataclass(**{name: getattr(settings, name) for name in self._names()})
        return self._call({self._first: settings} | extra), None

    def _call(self, given: Mapping[str, Any]) -> Callable[[], Any]:
        """The function with these parameters, each given by name where it has one for its callers."""
        words = [given[name] for name in self._positional if name in given]
        named = {name: value for name, value in given.items() if name not in self._positional}
        return lambda: self._function(*words, **named)

    def _names(self) -> list[str]:
        assert self.model is not None
        return list(self.model.model_fields)


def _hints(function: Callable[..., Any], names: Sequence[str]) -> dict[str, Any]:
    """The annotations of these parameters. What else is annotated may have been imported for type checkers alone, and
    so may that of a configuration: then it is taken as a mapping.

    Raises NameError, or what else an annotation raises, for one that does not resolve.
    """
    annotated = inspect.unwrap(_annotated(function))
    given = {name: each for name, each in inspect.get_annotations(annotated).items() if name in names}
    holder = types.SimpleNamespace(__annotations__=given)
    try:
        return typing.get_type_hints(holder, getattr(annotated, "__globals__", {}), include_extras=True)
    except NameError:
        if len(names) == 1 and names[0] in CONFIG_NAMES:
            return {}
        raise


def _annotated(function: Callable[..., Any]) -> Callable[..., Any]:
    """What holds the annotations of a function, of a `functools.partial` of one, or of an object that is called."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return type(function).__call__


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, BaseModel))


def _is_mapping(kind: Any) -> bool:
    origin = typing.get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _of_dataclass(kind: type, hints_of: Mapping[str, Any]) -> type[BaseModel]:
    """A pydantic model with the dataclass's fields and defaults; annotations may bound values (`Annotated`)."""
    fields: dict[str, Any] = {}
    for field in [field for field in dataclasses.fields(kind) if field.init]:  # the others it computes
        default: Any = ...
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        fields[field.name] = (hints_of[field.name], default)
    return _model(kind.__name__, fields)


def _of_parameters(
    name: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]
) -> type[BaseModel] | None:
    """A pydantic model with the function's parameters; None when it takes any (`**hyperparameters`)."""
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    fields: dict[str, Any] = {
        each.name: (hints.get(each.name, Any), ... if each.default is each.empty else each.default)
        for each in parameters.values()
        if each.name != TRIAL and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }
    return _model(name, fields)


def _model(name: str, fields: Mapping[str, Any]) -> type[BaseModel]:
    for field, (kind, _) in fields.items():
        try:
            _adapt(kind)
        except Exception as error:
            raise FunctionError(f"{name}: the type of {field} must be one of values, but {reason(error)}") from error
    config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())
    made: type[BaseModel] = create_model(name, __config__=config, **fields)
    return made


def _adapt(kind: Any) -> None:
    """Raise what is wrong with a type of hyperparameters. Models and dataclasses within one have rules of their own."""
    try:
        TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        TypeAdapter(kind)


def _lower(rule: str) -> str:
    return rule[:1].lower() + rule[1:]
