"""What is known about a sweep's question, as data: arms, comparisons and notes. Sentences: `phrasing`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rungwise.results.analysis.best import BestReport
from rungwise.results.analysis.statistics import FEWEST, Difference, Estimate
from rungwise.results.io.metric_format import MetricFormat
from rungwise.results.record.types import State


class Replicate(StrEnum):
    """What was repeated independently within an arm: the unit over which intervals are made."""

    SEED = "seed"  # one search an arm; its configuration was trained on several seeds
    SEARCH = "search"  # several independent searches an arm


class Verdict(StrEnum):
    """What a comparison says about an arm against the control."""

    HELPS = "helps"
    HURTS = "hurts"
    NO_DIFFERENCE = "no difference worth having"
    CANNOT_TELL = "cannot tell"
    ONE_SEARCH = "one search"  # an interval about two configurations says nothing about two arms
    NO_TEST_SCORES = "no test scores"  # configurations were chosen by their validation scores
    ARM_FAILED = "arm failed"  # everywhere, so it lost
    CONTROL_FAILED = "control failed"
    BOTH_FAILED = "both failed"


_OF_ALTERNATIVES = {Verdict.HELPS: "is better", Verdict.HURTS: "is worse"}
_OFF: tuple[Any, ...] = (0, None, "", "none", "no", "off", (), [])  # what a control fixes in place of a treatment


def are_alternatives(control: Mapping[str, Any], arm: Mapping[str, Any]) -> bool:
    """Whether two arms, given as what they fix, choose between values of one hyperparameter that both of them need,
    such as two models: then neither is the other one's treatment."""
    return any(control[name] not in _OFF and arm[name] != control[name] for name in control.keys() & arm.keys())


def verdict_of(difference: Difference, replicate: Replicate, higher: bool, worth: float | None = None) -> Verdict:
    """HELPS or HURTS when the interval over searches leaves 0 out; the difference is arm minus control. NO_DIFFERENCE
    when it does not, and the difference is smaller than `worth` (two one-sided tests; Schuirmann 1987)."""
    if replicate is Replicate.SEED:
        return Verdict.ONE_SEARCH
    low, high = difference.low, difference.high
    if low is None or high is None or min(difference.n, difference.n_other) < FEWEST:
        return Verdict.CANNOT_TELL
    if not low <= 0 <= high:
        return Verdict.HELPS if (low > 0) is higher else Verdict.HURTS
    return Verdict.NO_DIFFERENCE if is_small(difference, worth) else Verdict.CANNOT_TELL


def is_small(difference: Difference, worth: float | None) -> bool:
    """Whether the difference is smaller than `worth`, in either direction."""
    low, high = difference.inner_low, difference.inner_high
    return worth is not None and low is not None and high is not None and -worth < low and high < worth


@dataclass(frozen=True, slots=True)
class Candidate:
    """One configuration of an arm, trained again on fresh seeds."""

    source: int  # the search trial that found it
    params: dict[str, Any]
    config: dict[str, Any]  # without the seed
    searched: float | None  # the search trial's last validation objective
    trials: dict[int, int]  # seed -> confirmation trial, of those that finished
    values: dict[int, float]  # seed -> last validation objective
    validation: Estimate | None  # of `values`
    test: dict[int, float]  # seed -> test score
    failed: dict[int, State]  # seed -> how its training ended without a score: an outcome, which counts
    missing: dict[int, State]  # seed -> LOST or RUNNING: no outcome yet
    superseded: int = 0  # confirmations of a network in whose place another one was accepted since
    breaches: dict[int, str] = field(default_factory=dict)  # seed -> the constraint that it breaks, in words
    search: int = 1  # of the arm, that found it

    @property
    def is_infeasible(self) -> bool:
        """Whether most of its seeds break a constraint."""
        return 2 * len(self.breaches) > len(self.values)


@dataclass(frozen=True, slots=True)
class Arm:
    """What is known of one arm; `candidates` are sorted, and the first one with a value is the chosen one."""

    arm: str
    candidates: tuple[Candidate, ...]
    winners: dict[int, Candidate]  # search -> its best candidate
    chosen: Candidate | None  # the best of them
    # On the split, failed seeds included: seed -> score of the chosen one, or search -> mean score of its winner.
    scores: dict[int, float]
    score: Estimate | None  # of `scores`
    best_seen: BestReport | None  # of its search
    optimism: float | None  # how much better the chosen one did in its search than on fresh seeds (winner's curse)
    failed: dict[State, int]  # of an arm of which nothing trained to a score: how its trials ended
    failed_searches: int = 0  # searches of which nothing trained to a score
    trials: int = 0  # of all its searches
    epochs: float = 0.0  # that these trained

    @property
    def seen(self) -> float | None:
        """The best validation objective that any of its search trials reported."""
        return self.best_seen.value if self.best_seen else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm against the control. `difference` is arm minus control, None where the verdict needs none."""

    arm: str
    against: str
    verdict: Verdict
    difference: Difference | None
    small: bool = False  # whether it is shown to be smaller than what is worth having
    won: int | None = None  # searches of the arm that scored better than the control's search of the same number
    pairs: int | None = None  # of such searches
    needed: int | None = None  # searches of each arm that would show a difference that is worth having
    alternatives: bool = False  # whether the arms are alternatives, as two models, and not a treatment and its control

    @property
    def verdict_text(self) -> str:
        """The verdict in words: only a treatment helps or hurts."""
        return _OF_ALTERNATIVES.get(self.verdict, str(self.verdict)) if self.alternatives else str(self.verdict)


@dataclass(frozen=True, slots=True)
class TuningGain:
    """The control arm against trainings with the defaults (the untuned control)."""

    arm: str  # the control
    score: Estimate | None  # of the defaults, on the test split
    difference: Difference | None  # the arm minus the defaults; None where nothing trained with these
    verdict: Verdict | None  # HELPS: the arm is better
    failed: dict[State, int]  # trainings with the defaults that ended without a score
    seeds: int  # all that have an outcome
    infeasible: str | None  # why none was trained


# -- notes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WinnersCurse:
    """The search flattered the configuration that was chosen."""

    arm: str
    source: int
    searched: float
    confirmed: float
    optimism: float


@dataclass(frozen=True, slots=True)
class FailedSeeds:
    """Confirmations that ended without a score; they count as what a constant prediction scores."""

    arm: str
    source: int
    chosen: bool
    states: dict[State, int]
    seeds: int  # all that have an outcome
    counted_as: float | None  # None: the record does not say what a constant prediction scores


@dataclass(frozen=True, slots=True)
class MissingSeeds:
    """Confirmations without an outcome: LOST, or still RUNNING."""

    arm: str
    source: int
    chosen: bool
    states: dict[State, int]
    seeds: int  # all that were started


@dataclass(frozen=True, slots=True)
class SupersededSeeds:
    """Confirmations that do not count: of a network in whose place another was accepted (`--accept-changed-model`)."""

    arm: str
    source: int
    count: int


@dataclass(frozen=True, slots=True)
class EdgeOfSpace:
    """A hyperparameter of the chosen configuration lies at an end of its range."""

    arm: str
    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AsGoodAsNone:
    """What the arm adds to the control, its configuration has next to nothing of."""

    arm: str
    name: str
    value: float
    low: float
    high: float
    control: str


@dataclass(frozen=True, slots=True)
class IntervalScope:
    """What the intervals are over."""

    replicate: Replicate
    comparisons: int
    crossed: bool = False  # with the samples: they hold for other samples, too
    ratio: float = 0.0  # test samples for each training sample, where each search has a test split of its own


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """A trial trained one model a fold; its validation score is the mean over its folds."""

    folds: int
    test_parts: int | None  # of the samples, of which each search is tested on one; None: all have one test split


@dataclass(frozen=True, slots=True)
class SampleError:
    """By how much another split of so many samples would move each arm's accuracy: 1.96 binomial standard errors."""

    samples: int
    margins: dict[str, float]  # arm -> margin


@dataclass(frozen=True, slots=True)
class OneSeed:
    """An arm has one score, hence no interval."""

    arm: str


@dataclass(frozen=True, slots=True)
class KeptModel:
    """The model in model/ is one seed's; the scores are means over seeds, or over searches."""

    trial: int
    arm: str
    seeds: int  # of its confirmation
    searches: int = 1
    refits: int = 0  # further seeds, of which no score enters an estimate


@dataclass(frozen=True, slots=True)
class FailedSearches:
    """Searches of which nothing trained to a score; they count as what a constant prediction scores."""

    arm: str
    count: int
    searches: int
    counted_as: float | None


@dataclass(frozen=True, slots=True)
class RepeatedLooks:
    """Test scores were looked at more than once, after so many searches each time."""

    looks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UntilSure:
    """Searches are added until the answer is sure, up to so many of each arm: intervals hold for all these looks."""

    most: int


@dataclass(frozen=True, slots=True)
class ArmBudgets:
    """What the searches of each arm had: equally many trials are not equally many epochs."""

    trials: dict[str, int]
    epochs: dict[str, float]


@dataclass(frozen=True, slots=True)
class ArrivalOrder:
    """Suggestions depended on the order in which trials ended: the same command may suggest others."""


@dataclass(frozen=True, slots=True)
class BudgetDecides:
    """Which of two arms is ahead, by its best validation score, depends on the number of trials of a search."""

    first: str  # the arm that is ahead with few trials
    until: int
    later: str  # the one that is ahead with many
    start: int


@dataclass(frozen=True, slots=True)
class BrokenConstraint:
    """A configuration that kept all constraints in its search breaks one on fresh seeds."""

    arm: str
    source: int
    count: int  # of seeds
    seeds: int
    example: str


@dataclass(frozen=True, slots=True)
class SeedIgnored:
    """All seeds of the chosen configuration gave the very same number: the user's training does not use its seed."""

    arm: str
    seeds: int


Note = (
    BrokenConstraint
    | BudgetDecides
    | SeedIgnored
    | WinnersCurse
    | FailedSeeds
    | MissingSeeds
    | SupersededSeeds
    | EdgeOfSpace
    | AsGoodAsNone
    | IntervalScope
    | SampleError
    | OneSeed
    | KeptModel
    | FailedSearches
    | RepeatedLooks
    | UntilSure
    | ArmBudgets
    | ArrivalOrder
    | CrossValidation
)


@dataclass(frozen=True, slots=True)
class Findings:
    """All that the record says about the question. Scores are fractions, nats or the target's unit."""

    metric: str  # the validation objective
    mode: str  # max or min
    split: str  # test, or validation while there are no test scores
    format: MetricFormat  # of scores on the split
    objective_format: MetricFormat  # of the objective in the search
    budget: str  # of each search of each arm: '16 trials', '96 epochs'; "" where the record does not say
    worth: float | None  # the smallest difference that is worth having, as a difference of scores
    until_sure: int  # the most searches of each arm that may be added until the answer is sure; 0: none are added
    control: str | None  # the first arm
    replicate: Replicate
    constant_score: float | None  # on the split, of a prediction that does not depend on the sample
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]  # every arm against the control
    best: str | None  # the arm with the fewest failed seeds, and of these with the best mean validation objective
    model: (
        int | None
    )  # of the trials of that arm's best configuration on fresh seeds the best by validation: it is kept
    model_source: int | None  # the search trial that found the configuration
    model_score: float | None  # of the model, on the test split; it enters no estimate
    notes: tuple[Note, ...]  # what a careful reader wants to know before believing it
    gain: TuningGain | None = None  # over the defaults, where these were trained, too
    has_test: bool = True  # whether the sweep can score a test split at all
    folds: int = 0  # models of a trial, one a fold
    test_parts: int | None = None  # of the samples, of which each search is tested on one

    def arm(self, name: str) -> Arm:
        """The arm of that name. Raises KeyError."""
        return {arm.arm: arm for arm in self.arms}[name]

    @property
    def confirmed(self) -> bool:
        """Whether any arm has a score on fresh seeds."""
        return any(arm.score is not None for arm in self.arms)

    @property
    def measure(self) -> str:
        """Such as 'test accuracy'."""
        return self.format.measure

    @property
    def unit(self) -> str:
        """Of a difference, for people."""
        return self.format.unit

    @property
    def scale(self) -> float:
        """From a score to its unit: 100 for accuracies."""
        return self.format.scale


def seeds_by_state(seeds: Mapping[int, State]) -> dict[State, int]:
    """How many seeds ended how, in the order of `State`."""
    ended = list(seeds.values())
    return {state: ended.count(state) for state in State if state in ended}
