"""The table `answer`: one row for each score that the answer's means and intervals are made of."""

from __future__ import annotations

import pyarrow as pa

from rungwise.results.analysis.answer import Answer
from rungwise.results.analysis.findings import Replicate
from rungwise.results.tables.schema import schema_field

ANSWER_FIELDS: dict[str, tuple[pa.DataType, str, str]] = {
    "arm": (pa.string(), "", "which of the compared alternatives it belongs to"),
    "control": (pa.bool_(), "", "whether the arm is the one that the others are compared with"),
    "search": (pa.int64(), "", "which independent search of the arm; NULL where each arm was searched once"),
    "seed": (pa.int64(), "", "seed of the retrained model; NULL where each arm was searched several times"),
    "source": (
        pa.int64(),
        "",
        "the search trial that found the configuration; NULL where the whole search failed",
    ),
    "measure": (pa.string(), "", "what the score is, such as test accuracy"),
    "score": (pa.float64(), "", "of a seed, or the mean over a search's seeds; a failed one counts as guessing"),
    "models": (pa.int64(), "models", "how many retrained models the score is the mean of"),
}


def answer_table(found: Answer) -> pa.Table:
    """Rows by arm, in the sweep's order, then by search or seed. Without a confirmation it has none."""
    by_search = found.replicate is Replicate.SEARCH
    rows = []
    for arm in found.arms:
        for number, score in sorted(arm.scores.items()):
            candidate = arm.winners.get(number) if by_search else arm.chosen
            rows.append(
                {
                    "arm": arm.arm,
                    "control": arm.arm == found.control,
                    "search": number if by_search else None,
                    "seed": None if by_search else number,
                    "source": candidate.source if candidate else None,
                    "measure": found.measure,
                    "score": score,
                    "models": len(candidate.values) + len(candidate.failed) if by_search and candidate else 1,
                }
            )
    return pa.Table.from_pylist(rows, pa.schema([schema_field(name, *spec) for name, spec in ANSWER_FIELDS.items()]))
