"""The smallest difference worth having, fixed before the test split is scored; and the repeated looks at that split."""

from __future__ import annotations

import math
from dataclasses import replace

from rungwise.engine.experiment.experiment import Experiment
from rungwise.results.analysis.answer import LOOKS, WORTH, Answer, answer
from rungwise.results.analysis.findings import Verdict
from rungwise.results.io.metric_format import MetricFormat
from rungwise.results.record.reader import Reader
from rungwise.results.record.writer import Record

SHARE = 0.05  # of the control's error, by default


def fix_worth(record: Record, experiment: Experiment) -> None:
    """Record it, unless there are test scores already: then it must not change."""
    record.commit()
    with Reader(record.path.parent) as reader:
        if reader.scores():
            return
        result, samples = answer(reader), reader.definition().tested_samples
    given = experiment.worth
    value = _default(result, samples) if given is None else given / result.format.scale
    if value is not None:
        record.set_meta(WORTH, {"value": value, "given": given is not None})
        record.commit()


def _default(result: Answer, samples: int | None) -> float | None:
    """SHARE of the control's error on the validation split (of a score above 1, and of a loss: of the score), to one
    digit, and of an accuracy at least one test sample; None when the control has no score."""
    control = next((arm for arm in result.arms if arm.arm == result.control), None)
    if control is None or control.score is None or not math.isfinite(control.score.mean):
        return None
    score = control.score.mean
    error = 1 - score if result.format.higher and 0 <= score <= 1 else abs(score)
    least = 1 / samples if result.format.share and samples else 0.0
    value = max(float(f"{SHARE * error * result.format.scale:.1g}") / result.format.scale, least)
    return value or None


def record_look(record: Record, searches: int) -> None:
    """Enter that the test split has been scored, after so many searches of each arm."""
    with Reader(record.path.parent) as reader:
        looks, scored = reader.meta(LOOKS) or [], bool(reader.scores())
    if scored and (not looks or looks[-1] < searches):
        record.set_meta(LOOKS, [*looks, searches])
        record.commit()


def with_added_searches(record: Record, experiment: Experiment) -> Experiment:
    """The experiment with the searches that --until-sure has added so far."""
    with Reader(record.path.parent) as reader:
        before = reader.definition()
    added = before.searches if experiment.until_sure and before.until_sure else 0
    return replace(experiment, searches=max(added, experiment.searches))


def add_search(record: Record, experiment: Experiment) -> Experiment | None:
    """The experiment with another search of each arm, which the record then asks for, too; None when the answer is
    sure, or no more may be added."""
    record.commit()
    with Reader(record.path.parent) as reader:
        if not experiment.confirmations or experiment.searches >= experiment.until_sure:
            return None
        if all(one.verdict is not Verdict.CANNOT_TELL for one in answer(reader).comparisons):
            return None
        definition = reader.definition()
    more = replace(experiment, searches=experiment.searches + 1)
    searches = max(more.searches, definition.searches)
    record.set_meta("definition", replace(definition, searches=searches).to_json())
    record.commit()
    return more


def worth_change(reader: Reader, experiment: Experiment) -> list[str]:
    """A line if the requested difference is not the one that was fixed before the first test score."""
    fixed = reader.meta(WORTH)
    if experiment.worth is None or not fixed or not reader.scores():
        return []
    metric = experiment.metric.removeprefix("val_")
    before = fixed["value"] * MetricFormat(metric, "test", experiment.mode == "max").scale
    same = math.isclose(before, experiment.worth, rel_tol=1e-9)
    return [] if same else [f"worth: {before:g} -> {experiment.worth:g}, after the test split was scored"]
