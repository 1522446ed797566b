"""Two runs' answers side by side: what each arm scores, and by how much the second run differs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from rungwise.results.analysis.answer import Answer, answer
from rungwise.results.analysis.comparisons import Family, find_difference
from rungwise.results.analysis.findings import Arm, Replicate
from rungwise.results.analysis.statistics import Difference, Estimate
from rungwise.results.io.metric_format import MetricFormat
from rungwise.results.record.reader import Reader
from rungwise.text import one_line

PRODUCTS = "products"  # key of the record's meta: what computed matrix products where models were scored
_ARITHMETIC = ("processor", "instruction sets", "build of torch", "library of matrix products")


@dataclass(frozen=True, slots=True)
class Row:
    """One arm; None where a run lacks it or it is not confirmed."""

    arm: str
    first: Arm | None
    second: Arm | None
    difference: Difference | None  # second minus first


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs' arms, by name. `problems` say why differences are missing."""

    first: tuple[str, Answer]  # the run's name, or its folder when both have one name
    second: tuple[str, Answer]
    rows: tuple[Row, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what may make the same command score otherwise


def compare(first: Reader, second: Reader) -> Comparison:
    """Compare arms of the same name by their chosen configurations, with intervals that hold for all arms together.

    No difference is taken between scores of different measures or different data: `problems` then says so.
    """
    answers = answer(first), answer(second)
    definitions = [reader.definition() for reader in (first, second)]
    names = [definition.name for definition in definitions]
    if names[0] == names[1]:
        names = [str(reader.folder) for reader in (first, second)]
    data = [definition.data for definition in definitions]
    problems = []
    if answers[0].measure != answers[1].measure:
        problems.append(
            f"{names[0]} has {answers[0].measure}, {names[1]} has {answers[1].measure}: they do not compare"
        )
    if data[0].digest != data[1].digest:
        data_texts = [f"{one.name or 'data'} {one.digest[:8]}" for one in data]
        problems.append(
            f"scores compare on the same samples only, but the runs have {data_texts[0]} and {data_texts[1]}"
        )
    elif data[0].test_parts and answers[0].replicate is not answers[1].replicate:
        problems.append(
            "one search is tested on a part of the samples only, and several on others: they do not compare"
        )
    arms = [{arm.arm: arm for arm in one.arms if arm.score} for one in answers]
    if not arms[0].keys() & arms[1].keys():
        problems.append(
            f"an arm must be confirmed in both runs to be compared, but {names[0]} and {names[1]} share none"
        )
    rows = []
    for name in dict.fromkeys([*arms[0], *arms[1]]):
        one, other = arms[0].get(name), arms[1].get(name)
        found = None
        if not problems and one and other and one.scores and other.scores:
            family = Family(
                answers[0].format,
                answers[0].replicate,
                data[0].samples(answers[0].split),
                worth=None,
                comparisons=len(arms[0].keys() & arms[1].keys()),
                ratio=(data[0].test_ratio or 0.0) if answers[0].replicate is Replicate.SEARCH else 0.0,
            )
            found = find_difference(other, one, family, {name: None})
        rows.append(Row(name, one, other, found))
    notes = _hardware_notes(first, second)
    return Comparison((names[0], answers[0]), (names[1], answers[1]), tuple(rows), tuple(problems), tuple(notes))


def _hardware_notes(first: Reader, second: Reader) -> list[str]:
    """In what the runs' last drivers, or the workers that scored, differ of that which decides how numbers are summed.
    What an earlier version did not record is left out."""
    differing = []
    for name, ours, others in zip(_ARITHMETIC, _arithmetic(first), _arithmetic(second), strict=True):
        if ours and others and ours != others:
            differing.append(f"{name} ({ours} against {others})")
    if not differing:
        return []
    return [f"the runs differ in {', '.join(differing)}: there the same command may give other scores"]


def _arithmetic(reader: Reader) -> tuple[str, str, str, str]:
    """What each of _ARITHMETIC was, as text; "" where it is not known."""
    sessions = reader.sessions()
    info = sessions[-1].info if sessions else {}
    processor = info.get("processor")
    processor = processor if isinstance(processor, dict) else {}
    known = processor.get("model"), processor.get("instructions"), info.get("torch build"), reader.meta(PRODUCTS)
    model, instructions, build, products = (one_line(str(text)) if text else "" for text in known)
    return model, instructions, build, products


def compare_folders(first: Path, second: Path) -> Comparison:
    """`compare` of two runs' folders. Raises RecordError."""
    with Reader(first) as one, Reader(second) as other:
        return compare(one, other)


def table(found: Comparison) -> Table:
    """One line an arm."""
    formats = [one.format for _, one in (found.first, found.second)]
    shown = Table("arm", box=None, header_style="bold")
    for name, one in (found.first, found.second):
        shown.add_column(f"{name}: {one.measure}")
    shown.add_column(f"difference, {formats[0].unit}" if formats[0].unit else "difference")
    for row in found.rows:
        scores = [
            _score(one, arm.score) if arm and arm.score else ""
            for one, arm in zip(formats, (row.first, row.second), strict=True)
        ]
        shown.add_row(row.arm, *scores, _difference(formats[0], row.difference))
    return shown


def _score(score_format: MetricFormat, score: Estimate) -> str:
    interval = "" if score.low is None or score.high is None else f"{score_format.interval(score.low, score.high)}, "
    return f"{score_format.value(score.mean)} ({interval}n={score.n})"


def _difference(score_format: MetricFormat, found: Difference | None) -> str:
    if found is None:
        return ""
    text = score_format.change(found.mean)
    if found.low is None or found.high is None:
        return text
    unsure = ", contains 0" if found.low <= 0 <= found.high else ""
    return f"{text} ({' to '.join(score_format.bounds(found.low, found.high))}{unsure})"
