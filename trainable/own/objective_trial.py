"""The class `ObjectiveTrial`: what an Optuna objective is given in place of `optuna.Trial`. Optuna is not imported."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rungwise.distributions import (
    CategoricalDistribution,
    Distribution,
    FloatDistribution,
    IntDistribution,
    Scalar,
    contains,
    distribution_to_json,
    middle,
)
from rungwise.errors import RungwiseError
from rungwise.text import DEEPEST, printable_name, size_problem
from rungwise.trainable.messages import SuggestionRequest
from rungwise.trainable.own.run import ObjectiveReport
from rungwise.trainable.own.trial import Trial, TrialStopped
from rungwise.trainable.protocol import RESERVED

if TYPE_CHECKING:
    from rungwise.trainable.own.objective import ObjectiveRun

ATTRIBUTE_LEVELS = DEEPEST - 2  # in the record it is a value of a dict in a dict
WITHOUT_STUDY = ("one", "plan")  # phases in which what is not given is the middle of its range


class ObjectiveError(RungwiseError, ValueError):
    """What an objective asks for or returns breaks a rule; the message says which."""


class ObjectiveTrial:
    """One trial, as an objective sees it: the methods of `optuna.Trial` that objectives call.

    Attributes:
        number: Number of the trial in the record, from 1.
        params: The values suggested so far; those that the arm fixes, too.
        distributions: Their ranges.
        user_attrs: What `set_user_attr` has set.
        datetime_start: When this attempt began.
    """

    def __init__(self, trial: Trial, given: Mapping[str, Any], objectives: Sequence[str], run: ObjectiveRun) -> None:
        """`given`: hyperparameters that are known before they are asked for: of the arm, or of a repetition."""
        self._trial, self._given, self._objectives, self._run = trial, given, objectives, run
        self.number = trial.number
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, Distribution] = {}
        self.user_attrs: dict[str, Any] = {}
        self.datetime_start = datetime.now()
        self._pending: ObjectiveReport | None = None  # the last report, until it is known whether it is judged
        self._sent: ObjectiveReport | None = None  # the last one that was sent
        self._steps: set[int] = set()  # of the reports, as the objective counts them
        self._offset = 0  # 1 where it counts from 0
        self._is_pruned = False

    def __getattr__(self, name: str) -> Any:
        if name in ("data", "device", "seed", "arm", "phase", "attempt", "checkpoint", "save", "save_due", "epochs"):
            return getattr(self._trial, name)
        raise AttributeError(
            f"trial.{name} is not known here: an objective's trial has suggest_float, suggest_int, "
            "suggest_categorical, report, should_prune, set_user_attr, user_attrs, params, distributions, number and "
            "datetime_start"
        )

    # -- suggestions -------------------------------------------------------------------------------------------

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A real number in [low, high], on a grid from `low` where `step` is given; `log`: its logarithm is uniform."""
        bounds = _finite(name, low=low, high=high, **({} if step is None else {"step": step}))
        if step is not None and log:
            raise ObjectiveError(f"{name}: log and step exclude each other, but got step={step}")
        distribution = FloatDistribution(bounds["low"], bounds["high"], bool(log), bounds.get("step"))
        return float(self._suggest(name, distribution))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number in [low, high], on a grid from `low`; `log`: its logarithm is uniform."""
        bounds = _finite(name, low=low, high=high, step=step)
        if log and step != 1:
            raise ObjectiveError(f"{name}: log and step exclude each other, but got step={step}")
        bounds = _finite(name, **{what: int(bound) for what, bound in bounds.items()})  # of 1e30, too
        distribution = IntDistribution(int(bounds["low"]), int(bounds["high"]), bool(log), int(bounds["step"]))
        return int(self._suggest(name, distribution))

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Any:
        """One of `choices`: booleans, numbers, text or None."""
        choices = [getattr(choice, "item", lambda given=choice: given)() for choice in choices]  # NumPy's
        if not choices:
            raise ObjectiveError(f"{name}: choices must not be empty")
        for choice in choices:
            if not isinstance(choice, Scalar) or (isinstance(choice, float) and not math.isfinite(choice)):
                raise ObjectiveError(
                    f"{name}: a choice must be a boolean, a number, text or None, as the record keeps it, but got "
                    f"{choice!r}; suggest its name, and look it up in a dict"
                )
            if problem := size_problem(choice):
                raise ObjectiveError(f"{name}: choices {problem}")
        return self._suggest(name, CategoricalDistribution(choices))

    def suggest_uniform(self, name: str, low: float, high: float) -> float:
        """The old name of `suggest_float`."""
        return self.suggest_float(name, low, high)

    def suggest_loguniform(self, name: str, low: float, high: float) -> float:
        """The old name of `suggest_float(log=True)`."""
        return self.suggest_float(name, low, high, log=True)

    def suggest_discrete_uniform(self, name: str, low: float, high: float, q: float) -> float:
        """The old name of `suggest_float(step=q)`."""
        return self.suggest_float(name, low, high, step=q)

    def _suggest(self, name: str, distribution: Distribution) -> Any:
        self._run.asked.add(name)
        if name in self.distributions:  # as in Optuna the first range counts
            if type(self.distributions[name]) is not type(distribution):
                raise ObjectiveError(f"{name}: the range must stay {self.distributions[name]}, but is {distribution}")
            return self.params[name]
        if not isinstance(name, str) or not name.strip() or printable_name(name) != name:
            raise ObjectiveError(f"a hyperparameter's name must be one line of printable characters, but got {name!r}")
        if name in RESERVED:
            raise ObjectiveError(f"{name!r} belongs to the sweep; give the hyperparameter another name, as 'n_{name}'")
        value = self._value(name, distribution)
        if not contains(distribution, value):
            raise ObjectiveError(f"{name} must be within {distribution}, but {value!r} was given")
        self.distributions[name], self.params[name] = distribution, value
        return value

    def _value(self, name: str, distribution: Distribution) -> Any:
        if name in self._given:
            return self._given[name]
        if self._trial.phase in WITHOUT_STUDY:
            return middle(distribution)
        if self._trial.phase != "search":
            raise ObjectiveError(
                f"{name}: the trial that this one repeats was never asked for it, so that there is no value to repeat; "
                "which names are suggested must not depend on the seed, and all are suggested before the first report"
            )
        self._flush()
        return self._run.ask(SuggestionRequest(name, distribution_to_json(distribution)))

    # -- reports -----------------------------------------------------------------------------------------------

    def report(self, value: float, step: int) -> None:
        """Report the objective's value after `step`, from 0 or 1; a step's second report is ignored, as in Optuna."""
        if len(self._objectives) > 1:
            raise NotImplementedError("trial.report takes one objective, as Optuna's does; return several at the end")
        try:
            value, step = float(value), int(step)
        except (TypeError, ValueError):
            raise TypeError(f"a report takes a number and a whole step, but got {value!r} and {step!r}") from None
        if step < 0:
            raise ValueError(f"step must be at least 0, but got {step}")
        if step in self._steps:
            warnings.warn(f"the report is ignored, as step {step} has one already", stacklevel=2)
            return
        if self._is_pruned:
            raise TrialStopped
        if not self._steps and step == 0:
            self._offset = 1
        self._steps.add(step)
        self._flush()
        epoch = float(step + self._offset)
        self._pending = ObjectiveReport({self._objectives[0]: value}, epoch, is_judged=True)

    def should_prune(self) -> bool:
        """Whether a rung stops the trial at its last report. A trial that never asks is never stopped."""
        if len(self._objectives) > 1:
            raise NotImplementedError("trial.should_prune takes one objective, as Optuna's does")
        if self._pending is not None and not self._is_pruned:
            self._sent, self._pending = self._pending, None
            try:
                self._run.report(self._sent)
            except TrialStopped:
                self._is_pruned = True
        return self._is_pruned

    def _flush(self) -> None:
        """Send the last report if nobody asked for a verdict on it."""
        if self._pending is not None:
            self._sent, self._pending = self._pending, None
            self._sent.is_judged = False
            self._run.report(self._sent)

    def last_report(self, returned: Any) -> ObjectiveReport | None:
        """The trial's last report, of what the objective returned; None when it has been sent.

        Raises:
            ObjectiveError: It returned something else than a number for each objective.
        """
        values = _values(returned, self._objectives)
        earlier = self._pending or self._sent
        if earlier is not None and earlier[self._objectives[0]] == values[self._objectives[0]]:
            pending, self._pending = self._pending, None
            return pending
        self._flush()
        return ObjectiveReport(values, None if earlier is None else earlier.epoch, is_judged=True)

    def last_pruned_report(self) -> None:
        """The objective raised `TrialPruned`: send what it reported before."""
        if not self._is_pruned:
            self._flush()

    # -- attributes --------------------------------------------------------------------------------------------

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep a value beside the trial: in the record and in the exported Optuna study.

        Raises TypeError when it is no JSON, and ObjectiveError when it is larger than the record takes.
        """
        kept = json.loads(json.dumps(value))
        if problem := size_problem(kept, ATTRIBUTE_LEVELS):
            raise ObjectiveError(f"the attribute {key!r} {problem}")
        self.user_attrs[key] = kept
        self._run.attributes[key] = self.user_attrs[key]


def _finite(name: object, **bounds: Any) -> dict[str, float]:
    """Bounds as Python's numbers. Raises ObjectiveError."""
    numbers = {}
    for what, value in bounds.items():
        try:
            numbers[what] = value if isinstance(value, int | float) else value.item()
        except AttributeError:
            raise ObjectiveError(f"{name}: {what} must be a number, but got {value!r}") from None
        if isinstance(numbers[what], int) and (problem := size_problem(numbers[what])):
            raise ObjectiveError(f"{name}: {what} {problem}")
        if not math.isfinite(numbers[what]):
            raise ObjectiveError(f"{name}: {what} must be finite, but got {value!r}")
    if numbers["low"] > numbers["high"]:
        raise ObjectiveError(f"{name}: low must be at most high, but got low={bounds['low']}, high={bounds['high']}")
    return numbers


def _values(returned: Any, objectives: Sequence[str]) -> dict[str, float]:
    words = "a number" if len(objectives) == 1 else f"{len(objectives)} numbers, of {', '.join(objectives)}"
    several = isinstance(returned, Sequence) and not isinstance(returned, str)
    values = list(returned) if several else [returned]
    number: Callable[[Any], float] = float
    try:
        if len(values) != len(objectives):
            raise ValueError
        return {name: number(value) for name, value in zip(objectives, values, strict=True)}
    except (TypeError, ValueError):
        raise ObjectiveError(f"the objective must return {words}, but returned {returned!r:.80}") from None
