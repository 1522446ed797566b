"""Validation of what a record holds: every row that is read passes through here, so views see valid values only.

A record is a file that may come from anybody and may have been altered by anything. Checksums show that it was
altered by accident (`results.record.integrity`); this shows that it makes sense.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rungwise.errors import RungwiseError
from rungwise.text import DEEPEST, one_line, printable, printable_json, size_problem, tail
from rungwise.trainable.messages import FailureKind

if TYPE_CHECKING:
    from pydantic import TypeAdapter

LATEST = 200_000_000_000.0  # seconds since the epoch: a year that every calendar still knows
_LONG = re.compile(r"\d{19}")  # a whole number that may not fit 64 bits
# The columns that the tables have had since the record's first version.
COLUMNS: Mapping[str, frozenset[str]] = {
    "meta": frozenset({"key", "value"}),
    "sessions": frozenset({"session", "state", "started", "ended", "info"}),
    "trials": frozenset(
        {"trial", "arm", "phase", "source", "state", "params", "distributions", "config", "attempts", "stop_rung"}
        | {"cutoff", "reason", "error", "node", "device", "created", "started", "ended"}
    ),
    "reports": frozenset({"seq", "trial", "attempt", "step", "at", "rung", "cutoff", "stopped"}),
    "scores": frozenset({"trial", "split", "metric", "value"}),
    "checkpoints": frozenset({"trial", "step", "sha256"}),
    "events": frozenset({"seq", "at", "kind", "trial", "data"}),
}


class Invalid(RungwiseError, ValueError):
    """Something in a record is not what it may be; the message says what and where, but not in which file."""


def require_tables(db: sqlite3.Connection) -> None:
    """Raises Invalid when a table or a column is missing, or when there is something that is no table."""
    kinds = dict(db.execute("SELECT name, type FROM main.sqlite_master WHERE type <> 'index'"))
    for name, kind in kinds.items():
        if kind != "table":
            raise Invalid(f"it must contain tables only, but {printable(name)!r} is a {kind}")
    for table, columns in COLUMNS.items():
        has = {row[1] for row in db.execute(f"PRAGMA main.table_info({table})")}
        if missing := columns - has:
            what = f"its table {table} lacks {', '.join(sorted(missing))}" if has else f"it has no table {table}"
            raise Invalid(what)


def require_reports(db: sqlite3.Connection, metrics: Sequence[str], after: int) -> None:
    """Raises Invalid unless all reports with seq > `after` hold numbers and belong to a trial."""
    for name in metrics:
        if printable(name) != name or "\n" in name:
            raise Invalid(f"the name of the metric {printable(name)!r} is not printable")
    number = "typeof({0}) NOT IN ('real', 'integer', 'null')"
    quoted = ['"' + name.replace('"', '""') + '"' for name in metrics]
    wrong = {
        "trial": "typeof(trial) <> 'integer' OR trial NOT IN (SELECT trial FROM trials)",
        "attempt": "typeof(attempt) <> 'integer' OR attempt NOT BETWEEN 0 AND 1e9",
        "step": "typeof(step) <> 'integer' OR step NOT BETWEEN 1 AND 1e12",
        "at": f"typeof(at) NOT IN ('real', 'integer') OR at NOT BETWEEN 0 AND {LATEST}",
        "rung": number.format("rung"),
        "cutoff": number.format("cutoff"),
        "stopped": "stopped NOT IN (0, 1)",
        **{
            name: f"{column} NOT BETWEEN 0 AND 1e12"
            if name in ("epoch", "seconds")
            else f"{number.format(column)} AND {column} <> 'nan'"
            for name, column in zip(metrics, quoted, strict=True)
        },
    }
    bad = " ".join(f"WHEN {test} THEN {index}" for index, test in enumerate(wrong.values()))
    invalid = db.execute(
        f"SELECT seq, CASE {bad} END AS bad FROM main.reports WHERE seq > ? AND bad IS NOT NULL LIMIT 1", (after,)
    ).fetchone()
    if invalid:
        raise Invalid(f"report {invalid[0]} has no valid value of {list(wrong)[invalid[1]]}")


def row_of(kind: str, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A row of `kind` (trial, session, score, checkpoint or event) with its JSON read and its text printable.

    Raises Invalid; `where` names the row there.
    """
    read = {name: _value_of(name, value, where) for name, value in values.items()}
    _checked(kind, read, where)
    if kind == "trial":
        _require_drawn(read["params"], read["distributions"], where)
    return read


def _value_of(name: str, value: Any, where: str) -> Any:
    if name in _JSON and (value is not None or name != "failure"):
        return json_of(value, f"{where}: {name}")
    if not isinstance(value, str):
        return value
    return one_line(value) if name == "reason" else tail(value) if name == "error" else printable(value)


def meta(key: str, text: str) -> Any:
    """The JSON value kept under `key`. Raises Invalid when it is not of the form that views expect of that key."""
    value = json_of(text, key)
    if key in ("definition", "test", "earlier", "enqueued", "constant_scores", "worth", "looks") and value is not None:
        _checked(key, value, key)
    if key == "hyperparameters" and value is not None:
        for name, about in _checked("mapping", value, key).items():
            _checked(key, about, f"{key}: {name}")
    for mistake in (value or {}).get("mistakes") or () if key == "test" else ():
        _checked("mistakes", mistake, key)
    return value


def sample_scores(metric: str, samples: int, data: bytes, trial: int) -> tuple[int, bytes]:
    """Number of samples and packed scores. Raises Invalid unless there are as many as samples."""
    size = (samples + 7) // 8 if metric == "accuracy" else 4 * samples
    if samples < 1 or len(data) != size:
        raise Invalid(
            f"the sample scores of trial {trial} must be {size} bytes for {samples} samples, but are {len(data)}"
        )
    return samples, data


def json_of(text: Any, where: str) -> Any:
    """A JSON value, its text printable. Raises Invalid."""
    if not isinstance(text, str):
        raise Invalid(f"{where} must be JSON, but is {type(text).__name__}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{where} must be JSON, but {error}") from None
    may_be_large = text.count("[") + text.count("{") > DEEPEST or _LONG.search(text)
    if may_be_large and (problem := size_problem(value)):
        raise Invalid(f"{where} {problem}")
    # json.dumps writes what is not ASCII as \u....; a file made by others may hold the characters themselves
    return value if "\\" not in text and text.isprintable() else printable_json(value)


_JSON = frozenset({"params", "distributions", "config", "info", "data", "failure"})


def _require_drawn(params: Mapping[str, Any], distributions: Mapping[str, str], where: str) -> None:
    """Raises Invalid unless each distribution is one of Optuna's, and the trial has a value of its kind.

    One that lies outside is left to Optuna: it warns of it, or takes no such trial.
    """
    for name, text in distributions.items():
        kind, _ = _distribution(text)
        value = params.get(name)
        if name in params and kind == "CategoricalDistribution":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Invalid(f"{where}: {name} must have a value of its distribution, but has {value!r:.80}")


@lru_cache(maxsize=1024)
def _distribution(text: str) -> tuple[str, Mapping[str, Any]]:
    """(name, attributes) of a distribution as Optuna writes it. Raises Invalid."""
    where = f"the distribution {text:.200}"
    value = _checked("distribution", json_of(text, where), where)
    kind, attributes = value["name"], value["attributes"]
    if kind == "CategoricalDistribution" and "choices" in attributes:
        return kind, _checked("choices", attributes, where)
    return kind, _checked("range", attributes, where)


def _checked(kind: str, value: Any, where: str) -> Any:
    from pydantic import ValidationError

    try:
        _adapters()[kind].validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Invalid(printable(f"{where}{': ' if place else ''}{place}: {first['msg']}")) from None
    return value


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    """Kind -> what checks it. Imported and built when the first row is read: it takes 0.1 s."""
    from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, create_model

    count = Annotated[int, Field(ge=1, lt=2**53)]
    amount = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e12)]
    when = Annotated[float, Field(allow_inf_nan=False, ge=0, le=LATEST)]
    finite = Annotated[float, Field(allow_inf_nan=False)]
    number = float | None
    words = str | None
    mode = Literal["max", "min"]
    anything = dict[str, Any]
    strict = ConfigDict(strict=True)  # no text passes for a number

    nothing_else = ConfigDict(strict=True, extra="forbid")
    constraint: Any = create_model(
        "Constraint", __config__=nothing_else, name=(str, ...), limit=(finite, ...), value=(finite, ...)
    )
    kind = Annotated[str, AfterValidator(FailureKind)]
    failure: Any = create_model(
        "Failure", __config__=nothing_else, kind=(kind, ...), constraint=(constraint | None, None)
    )

    def form(name: str, need: Mapping[str, Any], may: Mapping[str, Any] | None = None) -> TypeAdapter[Any]:
        """Fields that must be there and fields that may be; others are not looked at."""
        fields: dict[str, Any] = {field: (kind, ...) for field, kind in need.items()}
        fields |= {field: (kind | None, None) for field, kind in (may or {}).items()}
        return TypeAdapter(create_model(name, __config__=strict, **fields))

    info = {"host": str, "pid": int, "command": list[str], "versions": dict[str, words]}
    samples = Annotated[int, Field(ge=0)]
    data = {
        "train": samples,
        "validation": samples,
        "test": samples,
        "test_parts": Annotated[int, Field(ge=2, le=10**6)],
        "name": str,
        "digest": str,
        "source": str,
        "classes": list[str],
        "shape": list[samples],
    }
    return {
        "trial": form(
            "Trial",
            {"trial": count, "arm": str, "phase": str, "source": count | None, "state": str, "params": anything}
            | {"distributions": dict[str, str], "config": anything, "attempts": Annotated[int, Field(ge=0, le=10**9)]}
            | {"stop_rung": amount | None, "cutoff": number, "reason": words, "error": words, "node": words}
            | {"device": words, "created": when, "started": when | None, "ended": when | None, "search": count},
            {"failure": failure},
        ),
        "session": form(
            "Session",
            {"session": count, "state": str, "started": when, "ended": when | None}
            | {"info": create_model("Info", __config__=strict, **_optional(info))},
        ),
        "mapping": TypeAdapter(anything, config=strict),
        "distribution": form(
            "Distribution",
            {
                "name": Literal["FloatDistribution", "IntDistribution", "CategoricalDistribution"],
                "attributes": anything,
            },
        ),
        "choices": form("Choices", {"choices": Annotated[list[str | bool | int | float | None], Field(min_length=1)]}),
        "range": form("Range", {"low": finite, "high": finite, "log": bool}, {"step": finite}),
        "score": form("Score", {"trial": int, "metric": str, "value": float}),
        "checkpoint": form("Checkpoint", {"trial": int, "step": int, "sha256": str}),
        "event": form("Event", {"at": when, "kind": str, "trial": int | None, "data": anything}),
        "definition": form(
            "Definition",
            {},
            {"name": str, "sweep": str, "question": str, "metric": str, "mode": mode, "objectives": dict[str, mode]}
            | {
                "trials": Annotated[int, Field(ge=0, le=10**9)],
                "searches": count,
                "order": str,
                "worth": amount,
                "until_sure": Annotated[int, Field(ge=0, le=16)],
                "epochs": amount,
                "reports_per_epoch": amount,
                "folds": Annotated[int, Field(ge=0, le=10**6)],
            }
            | {"grace": amount, "eta": amount, "scheduler": str, "sampler": str, "seed": int, "fixed": anything}
            | {"arms": dict[str, anything], "space": dict[str, str] | str, "model": str | dict[str, str]}
            | {"samplers": dict[str, str], "sampler_options": anything, "patience": amount, "max_parameters": int}
            | {"data": create_model("Data", __config__=strict, **_optional(data))},
        ),
        "hyperparameters": form("Hyperparameters", {}, {"type": str, "unit": str, "help": str}),
        "test": form(
            "Test",
            {},
            {"arm": str, "trial": int, "confusion": list[list[Annotated[int, Field(ge=0)]]], "classes": list[str]}
            | {"mistakes": list[anything], "true": list[finite], "predicted": list[finite], "samples": samples},
        ),
        "mistakes": form("Mistake", {}, {"probability": finite}),
        "earlier": TypeAdapter(dict[str, list[anything]], config=strict),
        "constant_scores": TypeAdapter(dict[str, finite], config=strict),
        "worth": form("Worth", {"value": Annotated[float, Field(allow_inf_nan=False, gt=0)], "given": bool}),
        "looks": TypeAdapter(list[count], config=strict),
        "enqueued": TypeAdapter(dict[str, list[anything]], config=strict),
    }


def _optional(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: (kind | None, None) for name, kind in fields.items()}
