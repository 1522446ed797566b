"""A training that is a function of the user's: a generator of reports, or code that owns its loop."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rungwise.trainable.own.arguments import Arguments, FunctionError
from rungwise.trainable.own.calls import CallReports
from rungwise.trainable.own.run import OwnRun
from rungwise.trainable.own.training import OwnTraining, searched
from rungwise.trainable.own.trial import Trial
from rungwise.trainable.training.loop_functions import name_of, unsendable


@dataclass(frozen=True)
class FunctionTraining(OwnTraining):
    """`def train(config, trial)`."""

    train: Callable[..., Any]

    kind = "function"

    @property
    def name(self) -> str:
        return name_of(self.train)

    @cached_property
    def _arguments(self) -> Arguments:
        return Arguments(self.train)

    def own_problems(self) -> list[str]:
        if not (self.test is None or callable(self.test)):
            return ["test must be a function of (config, trial), as train is one, but got a program"]
        return function_problems(train=self.train, test=self.test) + unsendable(data=self.data.load)

    def problems(self, values: Mapping[str, Any]) -> list[str]:
        return self._arguments.problems(values)

    def missing(self, names: Collection[str]) -> list[str]:
        return self._arguments.missing(names)

    @property
    def declares_hyperparameters(self) -> bool:
        return self._arguments.model is not None

    def parse(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return self._arguments.parse(values)

    def with_defaults(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        if not self.declares_hyperparameters:
            return None
        try:
            return self.parse(values)
        except ValueError:
            return None

    def describe(self, values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
        return self._arguments.describe()

    def whole_numbers(self, values: Mapping[str, Any]) -> frozenset[str]:
        return self._arguments.whole_numbers()

    def reports(self, config: Mapping[str, Any], trial: Trial, run: OwnRun) -> Iterator[Mapping[str, Any]]:
        call, run.mapping = self._arguments.bind(config, trial)
        return call() if is_generator(self.train) else CallReports(call)

    def notes(self, run: OwnRun) -> tuple[str, ...]:
        """Hyperparameters that nothing read: a search over them, or an arm of them, compares nothing."""
        if run.mapping is None or not run.mapping.read:
            return ()
        unread = [name for name in searched(run.assignment.config) if name not in run.mapping.read]
        return tuple(f"{self.name} never reads the hyperparameter {name!r}" for name in unread)


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether calling it makes a generator of reports."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.isgeneratorfunction(inspect.unwrap(function)) or inspect.isgeneratorfunction(
        getattr(function, "__call__", None)  # noqa: B004
    )


def function_problems(**functions: Callable[..., Any] | None) -> list[str]:
    """Why these cannot take hyperparameters in processes that train, a line each."""
    found: list[str] = []
    for function in functions.values():
        if function is not None:
            try:
                Arguments(function)
            except FunctionError as error:
                found.append(str(error))
    return found + unsendable(**functions)
