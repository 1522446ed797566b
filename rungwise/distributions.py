"""The ranges that are searched: real numbers, whole numbers, and choices.

They have the names and arguments of `optuna.distributions`, and differ in one thing: a bad range does not raise where
it is written, but is reported by `rungwise.engine.validation` together with everything else that is wrong with the
sweep. They also keep Optuna's import out of `--help`, and out of the processes that train.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class FloatDistribution:
    """A real number in [low, high].

    Args:
        low: Lower bound, included.
        high: Upper bound, included.
        log: Whether the logarithm is uniform instead of the value.
        step: Distance of two values on a grid that begins at `low`; None: any value.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass(frozen=True)
class IntDistribution:
    """A whole number in [low, high].

    Args:
        low: Lower bound, included.
        high: Upper bound, included.
        log: Whether the logarithm is uniform instead of the value.
        step: Distance of two values on a grid that begins at `low`.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1


@dataclass(frozen=True)
class CategoricalDistribution:
    """One of several values.

    Args:
        choices: Booleans, numbers, strings or None. Widths of layers are a string: "256-128".
    """

    choices: Sequence[Scalar]


Distribution = FloatDistribution | IntDistribution | CategoricalDistribution


def distribution_to_json(distribution: Distribution) -> str:
    """The distribution as `optuna.distributions.json_to_distribution` reads it."""
    return json.dumps({"name": type(distribution).__name__, "attributes": asdict(distribution)})


def contains(distribution: Distribution, value: Any) -> bool:
    """Whether `value` lies in the range and on its grid, or is one of the choices."""
    if isinstance(distribution, CategoricalDistribution):
        return any(type(choice) is type(value) and choice == value for choice in distribution.choices)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    if not distribution.low <= value <= distribution.high:
        return False
    if isinstance(distribution, IntDistribution) and value != int(value):
        return False
    if distribution.step is None:
        return True
    steps = (value - distribution.low) / distribution.step
    return abs(steps - round(steps)) < 1e-8  # Optuna's own tolerance


def middle(distribution: Distribution) -> Scalar:
    """The middle of the range, logarithmic where the range is; the first choice."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    low, high, step = distribution.low, distribution.high, distribution.step
    value = math.sqrt(low) * math.sqrt(high) if distribution.log else low + (high - low) / 2
    if step is not None:
        value = min(low + step * round((value - low) / step), high)
    return int(value) if isinstance(distribution, IntDistribution) else value
