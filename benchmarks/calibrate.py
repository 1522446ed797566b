"""How often an answer errs, on synthetic sweeps whose truth is known: no training, seconds to minutes.

    make calibrate                                     # this, and sweeps of two identical arms on the simulator
    python benchmarks/calibrate.py --records 4000

Each record is a finished sweep of two arms: searches, each with a winner that is trained on two fresh seeds, and what
each of these models scores on every test sample. It goes through `rungwise.results.analysis.answer.answer`, as any
run does. Half of the records have two identical arms ("errs": says "helps" or "hurts"); the other half have a true
difference of exactly `worth` ("errs": says that it is not worth having). "covers" is the share of 95% intervals that
hold the true difference, over both halves. Settings: standard deviation between searches 0, 0.03, 0.05, 0.1 points;
359 and 10,000 test samples; 4, 5, 8 and 12 searches of each arm.

A sample is right with the probability sigmoid(ease + arm + search + seed + taste), where ease is the sample's and taste
belongs to a sample and an arm. Their spreads are those of real trainings of mnist_l2's network: 98.2% are right, two
seeds disagree on 1.1% of samples, and accuracies on 10,000 samples have a standard deviation of 0.075 points.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import tyro
from scipy.special import expit

from rungwise.results.analysis.answer import WORTH, answer
from rungwise.results.analysis.findings import Verdict
from rungwise.results.record.definition import DatasetSummary, Definition
from rungwise.results.record.types import ReportRow, State, Trial

Model = tuple[float, np.ndarray]  # of a confirmed model: its validation accuracy, and which test samples it has right
ARMS = ("control", "treatment")
SEEDS = 2  # of each search's winner
EASE, SPREAD, TASTE = 17.8, 8.3, 0.55  # mean and standard deviations; by `test_the_samples_are_those_of_real_trainings`
SEED_SD = 0.015  # points, between seeds, beside what the finite test split adds
MOST_ERRORS = 0.057  # 5% and two standard errors of 4,000
LEAST_COVERAGE = 0.93


@dataclass(frozen=True)
class Search:
    """One search: what its trials reported, which of them won, and the winner's models on fresh seeds."""

    models: Sequence[Model]
    trials: Sequence[Sequence[float]] = ((0.98,),)  # validation accuracies, one an epoch
    winner: int = 0  # index of the trial


@dataclass(frozen=True)
class Setting:
    """What one synthetic sweep is drawn from."""

    search_sd: float  # points of accuracy
    samples: int
    searches: int

    @property
    def worth(self) -> float:
        """5% of the control's error, as the default is, but no less than the split can tell."""
        return max(0.0008, 4 / self.samples)


SETTINGS = [Setting(*one) for one in product((0.0, 0.03, 0.05, 0.1), (359, 10_000), (4, 5, 8, 12))]


@cache
def _curve() -> tuple[np.ndarray, np.ndarray]:
    """Shifts, and the expected accuracy of a model with each, over samples and tastes."""
    ease = np.random.default_rng(0).normal(EASE, np.hypot(SPREAD, TASTE), 400_000)
    shifts = np.linspace(-25, 15, 401)
    return shifts, np.array([expit(ease + shift).mean() for shift in shifts])


def accuracy(shift: float) -> float:
    """Expected accuracy of a model with this shift."""
    return float(np.interp(shift, *_curve()))


def shift_for(expected: float) -> float:
    """The shift with which a model has this expected accuracy."""
    shifts, accuracies = _curve()
    return float(np.interp(expected, accuracies, shifts))


@cache
def slope() -> float:
    """Accuracy per unit of shift."""
    return (accuracy(0.1) - accuracy(-0.1)) / 0.2


class SyntheticSplit:
    """Test samples, and which of them a model of an arm has right."""

    def __init__(self, samples: int, draw: np.random.Generator) -> None:
        self._draw = draw
        self._ease = draw.normal(EASE, SPREAD, samples)
        self._tastes: dict[str, np.ndarray] = {}

    def right(self, arm: str, shift: float) -> np.ndarray:
        """For a model with this shift, (samples,)."""
        if arm not in self._tastes:
            self._tastes[arm] = self._draw.normal(0, TASTE, len(self._ease))
        right: np.ndarray = self._draw.random(len(self._ease)) < expit(self._ease + self._tastes[arm] + shift)
        return right


class SyntheticRecord:
    """Answers what `answer` asks of a `Reader`, of a finished sweep of two arms.

    Args:
        samples: of the test split.
        worth: the smallest difference that is worth having.
        arms: of each arm its searches.
        until_sure: as the flag: up to how many searches are added; 0: none.
    """

    def __init__(self, samples: int, worth: float, arms: Mapping[str, Sequence[Search]], until_sure: int = 0) -> None:
        self._samples, self._worth, self._arms, self._until_sure = samples, worth, arms, until_sure
        self._trials, self._curves = list[Trial](), dict[int, dict[int, ReportRow]]()
        self._scores, self._packed = dict[int, dict[str, float]](), dict[int, tuple[int, bytes]]()
        for arm, searches in arms.items():
            for number_of_search, search in enumerate(searches, 1):
                trials = [self._add_trial(arm, number_of_search, "search", None, told) for told in search.trials]
                for validation, right in search.models:
                    source = trials[search.winner]
                    number = self._add_trial(arm, number_of_search, "confirm", source, [validation])
                    self._scores[number] = {"accuracy": float(right.mean())}
                    self._packed[number] = samples, np.packbits(right).tobytes()

    def _add_trial(self, arm: str, search: int, phase: str, source: int | None, told: Sequence[float]) -> int:
        number = len(self._trials) + 1
        self._trials.append(
            Trial(
                number, arm, phase, source, State.COMPLETED, {}, {}, {"seed": number}, 1, None, None, None, None, None,
                None, 0.0, 0.0, 0.0, search=search,
            )
        )  # fmt: skip
        self._curves[number] = {
            epoch: ReportRow(number, number, 1, epoch, 0.0, None, {"epoch": epoch, "val_accuracy": accuracy})
            for epoch, accuracy in enumerate(told, 1)
        }
        return number

    def snapshot(self) -> nullcontext[None]:
        return nullcontext()

    def definition(self) -> Definition:
        data = DatasetSummary(name="synthetic", classes=["a", "b"], test=self._samples)
        arms: Mapping[str, Any] = {arm: {} for arm in self._arms}
        searches = max(map(len, self._arms.values()))
        return Definition(
            name="synthetic",
            trials=16,
            searches=searches,
            until_sure=self._until_sure,
            order="fixed",
            arms=arms,
            data=data,
        )

    def trials(self) -> list[Trial]:
        return self._trials

    def curves(self) -> dict[int, dict[int, ReportRow]]:
        return self._curves

    def scores(self, _split: str) -> dict[int, dict[str, float]]:
        return self._scores

    def sample_scores(self, _metric: str) -> dict[int, tuple[int, bytes]]:
        return self._packed

    def superseded(self) -> set[int]:
        return set()

    def meta(self, key: str) -> Any:
        return {"value": self._worth, "given": True} if key == WORTH else None


@dataclass(frozen=True)
class Outcome:
    """What the answer to one record said."""

    verdict: Verdict
    covers: bool
    width: float


def outcome(setting: Setting, difference: float, seed: int) -> Outcome:
    """What is said of one synthetic sweep whose second arm is better by `difference`."""
    draw = np.random.default_rng((seed, setting.samples, setting.searches, round(1000 * setting.search_sd)))
    search_sd, seed_sd = (sd / 100 / slope() for sd in (setting.search_sd, SEED_SD))
    base = accuracy(0.0)
    split, arms = SyntheticSplit(setting.samples, draw), {}
    for arm, better in zip(ARMS, (0.0, difference), strict=True):
        shifts = shift_for(base + better) + draw.normal(0, search_sd, setting.searches)
        arms[arm] = [
            Search(
                [
                    (0.98 + draw.normal(0, 0.0005), split.right(arm, shift + draw.normal(0, seed_sd)))
                    for _ in range(SEEDS)
                ]
            )
            for shift in shifts
        ]
    record: Any = SyntheticRecord(setting.samples, setting.worth, arms)
    (comparison,) = answer(record).comparisons
    found_difference = comparison.difference
    assert found_difference is not None
    assert found_difference.low is not None
    assert found_difference.high is not None
    covers = found_difference.low <= difference <= found_difference.high
    return Outcome(comparison.verdict, covers, found_difference.high - found_difference.low)


@dataclass(frozen=True)
class Calibration:
    """Shares of records, each with how many were looked at."""

    identical: list[Outcome]  # of identical arms
    different: list[Outcome]  # of arms that differ by `worth`

    @property
    def false_verdicts(self) -> float:
        return _share([one.verdict in (Verdict.HELPS, Verdict.HURTS) for one in self.identical])

    @property
    def false_equivalences(self) -> float:
        return _share([one.verdict is Verdict.NO_DIFFERENCE for one in self.different])

    @property
    def coverage(self) -> float:
        return _share([one.covers for one in self.identical + self.different])

    def line(self) -> str:
        sees = _share([one.verdict is Verdict.HELPS for one in self.different])
        return (
            f"n={len(self.identical):5} + {len(self.different):5}  errs {self.false_verdicts:6.2%}  "
            f"calls worth nothing {self.false_equivalences:6.2%}  covers {self.coverage:6.2%}  sees worth {sees:6.2%}"
        )


def _share(some: list[bool]) -> float:
    return sum(some) / len(some)


def calibrate(settings: list[Setting], each: int, first_seed: int = 0) -> Iterator[tuple[Setting, Calibration]]:
    """So many records of identical arms and of different ones of each setting."""
    for setting in settings:
        seeds = range(first_seed, first_seed + each)
        identical = [outcome(setting, 0.0, seed) for seed in seeds]
        yield setting, Calibration(identical, [outcome(setting, setting.worth, seed) for seed in seeds])


def together(some: list[Calibration]) -> Calibration:
    return Calibration([o for one in some for o in one.identical], [o for one in some for o in one.different])


@dataclass(frozen=True)
class Options:
    records: int = 4000
    """Records of identical arms, and as many of arms that differ by what is worth having."""


def main() -> int:
    options = tyro.cli(Options, description=(__doc__ or "").split("\n\n", 1)[0])
    found = []
    for setting, one in calibrate(SETTINGS, max(1, options.records // len(SETTINGS))):
        found.append(one)
        print(
            f"sd {setting.search_sd:4.2f}  samples {setting.samples:6}  R {setting.searches:2}  {one.line()}",
            flush=True,
        )
    whole = together(found)
    print(f"all                               {whole.line()}")
    good = max(whole.false_verdicts, whole.false_equivalences) <= MOST_ERRORS and whole.coverage >= LEAST_COVERAGE
    print(f"at most {MOST_ERRORS:.1%} err and at least {LEAST_COVERAGE:.0%} cover: {'yes' if good else 'NO'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
