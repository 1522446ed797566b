"""The first point of a search without arms: a plain network, with as little regularisation as the space allows.

What is off by default (dropout, L2, weight decay, ...) takes the end of its range that is nearest to off, everything
else the middle of its range, and of categories our default. A range says where its author expects the answer, so its
middle is a better guess than a random draw (Syne Tune begins with the middle of everything); but the middle of all
regularisers together is far too much. What each of them gains is measured in docs/internals/performance.md, "The
search".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler

from rungwise.trainable.config import Config

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


class DefaultPointSampler(BaseSampler):
    """Suggests that point, always the same; of conditional spaces too, as it suggests each parameter by itself."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return default_value(param_name, param_distribution)


def default_value(name: str, distribution: BaseDistribution) -> Any:
    """The low end of a range whose hyperparameter is 0 by default; the middle of another range, logarithmic where the
    range is; of categories `Config`'s default, or else the first."""
    field = Config.model_fields.get(name)
    default = field.default if field else None
    match distribution:
        case CategoricalDistribution():
            return default if default in distribution.choices else distribution.choices[0]
        case FloatDistribution() | IntDistribution():
            low, high, step = distribution.low, distribution.high, distribution.step
            if default == 0:
                return low
            middle = math.sqrt(low) * math.sqrt(high) if distribution.log else low + (high - low) / 2
            if step is not None:
                middle = min(low + step * round((middle - low) / step), high)
            return int(middle) if isinstance(distribution, IntDistribution) else middle
    raise TypeError(f"a range must be a float, an int or categories, but {name} is {distribution}")
