"""The stopping rules by name. To add one: a module with a `StoppingRule`, and an entry here and in the flag's
choices."""

from __future__ import annotations

from collections.abc import Callable

from rungwise.engine.schedulers.asha import Asha
from rungwise.engine.schedulers.base import RungSchedule, StoppingRule
from rungwise.engine.schedulers.hyperband import Hyperband
from rungwise.engine.schedulers.median import Median
from rungwise.engine.schedulers.patience import NoStopping

SCHEDULERS: dict[str, Callable[[RungSchedule, str], StoppingRule]] = {
    "asha": lambda schedule, mode: Asha(schedule, schedule.steps()[0], mode),
    "hyperband": Hyperband,
    "median": Median,
    "none": lambda _schedule, _mode: NoStopping(),
}
