"""Functions of the user's in the built-in training loop: metrics, loss, optimiser and schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rungwise.errors import RungwiseError
from rungwise.trainable.faults import reason


class LoopFunctionError(RungwiseError, ValueError):
    """A function of the user's in the loop that returned what the loop cannot use; the message says the rule."""


@dataclass(frozen=True)
class LoopFunctions:
    """What a sweep replaces in the loop; nothing by default.

    Outputs are what the model returns for a batch: logits (B, K) of classes, with targets int64 (B,); of a regression
    (B,) with targets (B,), float32: for `loss` in standard deviations from the mean, for `metrics` in their own unit.
    """

    metrics: Mapping[str, Callable[[Any, Any], Any]] = field(default_factory=dict)
    """{name: function of (outputs, targets) of a whole split, that returns a number}; reported as val_<name>."""
    loss: Callable[[Any, Any], Any] | None = None
    """Function of (outputs, targets) of a batch that returns a scalar tensor, in place of cross-entropy or the MSE."""
    optimizer: Callable[[Any, Any], Any] | None = None
    """Function of (model, config) that returns a torch.optim.Optimizer. The loop sets its learning rate."""
    schedule: Callable[[float], float] | None = None
    """Function of the share of all steps that are taken, 0 to 1, that returns a factor of the learning rate."""

    def __bool__(self) -> bool:
        return bool(self.metrics or self.loss or self.optimizer or self.schedule)

    def definition(self) -> dict[str, Any]:
        """The functions by name, as JSON."""
        named = {name: getattr(self, name) for name in ("loss", "optimizer", "schedule")}
        names: dict[str, Any] = {name: name_of(function) for name, function in named.items() if function is not None}
        return names | ({"metrics": sorted(self.metrics)} if self.metrics else {})

    def scored(self, outputs: Any, targets: Any) -> dict[str, float]:
        """The metrics of a split. Raises LoopFunctionError for what is no number."""
        scores = {}
        for name, function in self.metrics.items():
            value = function(outputs, targets)
            try:
                scores[name] = float(value)
            except (TypeError, ValueError, RuntimeError):
                raise LoopFunctionError(
                    f"a metric must return a number, but {name} returned {type(value).__name__}"
                ) from None
        return scores


NO_FUNCTIONS = LoopFunctions()


def name_of(function: Any) -> str:
    """The name of a function, for messages and the record."""
    return str(getattr(function, "__name__", None) or type(function).__name__)


def unsendable(**functions: Callable[..., Any] | None) -> list[str]:
    """What cannot be sent to the processes that train, a line each."""
    import cloudpickle

    lines = []
    for role, function in functions.items():
        try:
            cloudpickle.dumps(function)
        except Exception as error:
            lines.append(f"{role}: {name_of(function)} must be sent to processes that train, but {reason(error)}")
    return lines
