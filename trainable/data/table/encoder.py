"""The features of a table: how each column becomes numbers, fitted on the training rows and stored with the model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self, get_args

import numpy as np

from rungwise.trainable.data.raw import Array, DataError, text_of_number

Kind = Literal["number", "category", "embedding", "date"]
Table = Mapping[str, Array]  # column -> float64 (NaN), datetime64[us] (NaT) or objects (None), each (N,)

MOST_CATEGORIES = 50  # columns that one categorical column becomes; rarer categories share one
FEWEST_ROWS = 10  # of a category that has a column of its own, where there are more than MOST_CATEGORIES
DAY = np.timedelta64(86_400_000_000, "us")


@dataclass(frozen=True)
class Feature:
    """One column of the table, and the columns of numbers that it becomes."""

    name: str
    kind: Kind
    missing: bool  # whether a value is missing in a training row: then one column says where
    fill: float = 0.0  # of a number or a date: the median of the training rows, in place of a missing value
    categories: tuple[str, ...] = ()  # those that have a column, or a vector, of their own; sorted
    other: bool = False  # whether rarer ones share one
    parts: tuple[str, ...] = ()  # of a date
    form: str = ""  # how the text was written: its unit, or the order of its dates (`TextColumn.form`)

    @property
    def is_categorical(self) -> bool:
        return self.kind in ("category", "embedding")

    @property
    def columns(self) -> list[str]:
        """Names of the columns of numbers."""
        own = {
            "number": [self.name],
            "embedding": [f"{self.name}: number of the category"],
            "date": [f"{self.name}: {part}" for part in self.parts],
            "category": [f"{self.name} = {c}" for c in self.categories] + [f"{self.name}: rarer"] * self.other,
        }[self.kind]
        return own + [f"{self.name}: missing"] * self.missing

    def encode(self, values: Array) -> Array:
        """(N, len(columns)) float64."""
        gone = is_missing(values)
        if self.kind == "category":
            texts = as_text(values)
            parts = [texts == category for category in self.categories]
            if self.other:
                parts.append(~gone & ~np.isin(texts, list(self.categories)))
        elif self.kind == "embedding":
            number = {category: place for place, category in enumerate(self.categories, 1)}
            parts = [np.array([number.get(text, 0) for text in as_text(values)], np.float64)]
        elif self.kind == "date":
            parts = [_date_part(values, part) for part in self.parts]
            parts[0] = np.where(gone, self.fill, parts[0])
            parts[1:] = [np.where(gone, -1.0, part) for part in parts[1:]]
        else:
            parts = [np.where(gone, self.fill, values)]
        return np.column_stack([*parts, gone] if self.missing else parts).astype(np.float64)


@dataclass(frozen=True)
class TableEncoder:
    """All features of a table, in order, and the columns that are none."""

    features: tuple[Feature, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)  # column -> why
    decimal: str = "."  # the sign of decimals in the text file from which the table was read

    @classmethod
    def fit(
        cls,
        table: Table,
        rows: Array,
        left_out: Mapping[str, str],
        decimal: str,
        forms: Mapping[str, str],
        embed: Collection[str] = (),
    ) -> Self:
        """Fit on the training `rows` (indices). A column that says nothing there is left out.

        Args:
            table: All rows.
            rows: Indices of those that are fitted to.
            left_out: Columns that are no features, and why.
            decimal: The sign of decimals in the file.
            forms: {column: how its text is written}.
            embed: Categorical columns that become the number of a category.
        """
        features, without = [], dict(left_out)
        for name, values in table.items():
            feature = _fit(name, values[rows], name in embed)
            if isinstance(feature, str):
                without[name] = feature
            else:
                features.append(replace(feature, form=forms.get(name, "")))
        return cls(tuple(features), without, decimal)

    @property
    def names(self) -> list[str]:
        """Names of the columns of numbers."""
        return [column for feature in self.features for column in feature.columns]

    @property
    def scaled(self) -> Array:
        """Which columns of numbers are standardised, (len(names),) bool.

        Those of categories and of missing values stay 0 and 1: standardised, a rare one weighs as much as a number, and
        a network learns its few rows by heart (benchmarks/preprocessing.py: up to 1.7 points of accuracy).
        """
        found = [[not f.is_categorical] * (len(f.columns) - f.missing) + [False] * f.missing for f in self.features]
        return np.array([each for feature in found for each in feature], bool)

    @property
    def embedded(self) -> tuple[tuple[int, int], ...]:
        """(column of numbers, how many vectors) of each embedded feature; number 0 stands for no value, and for all
        categories without a vector of their own."""
        found, column = [], 0
        for feature in self.features:
            if feature.kind == "embedding":
                found.append((column, len(feature.categories) + 1))
            column += len(feature.columns)
        return tuple(found)

    def encode(self, table: Table) -> Array:
        """The table's rows as numbers, (N, len(names)) float64. The table has the columns of all features."""
        return np.concatenate([feature.encode(table[feature.name]) for feature in self.features], axis=1)

    def unseen(self, table: Table) -> dict[str, int]:
        """{categorical column: its rows whose category is in no training row}."""
        counts: dict[str, int] = {}
        for feature in self.features:
            if feature.is_categorical and not feature.other:
                values = table[feature.name]
                unseen = ~is_missing(values) & ~np.isin(as_text(values), list(feature.categories))
                counts |= {feature.name: int(unseen.sum())} if unseen.any() else {}
        return counts

    def described(self) -> list[tuple[str, str]]:
        """(column, what was done to it), for people."""
        done = [(feature.name, _words(feature)) for feature in self.features]
        return [*done, *((name, f"left out: {why}") for name, why in self.left_out.items())]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, text: Mapping[str, Any]) -> Self:
        """Raises DataError for what `to_json` never says."""
        try:
            features = tuple(
                Feature(**{**each, "categories": tuple(each["categories"]), "parts": tuple(each["parts"])})
                for each in text["features"]
            )
            kinds = {feature.kind for feature in features}
            if not kinds <= {*get_args(Kind)} or text["decimal"] not in (".", ","):
                raise ValueError(f"kinds {sorted(kinds)}")
            return cls(features, dict(text["left_out"]), text["decimal"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the model does not say how a table becomes numbers: {error}") from error


def as_text(values: Array) -> Array:
    """Categories as objects of text; whole numbers without decimals, "" where they are missing."""
    if values.dtype == object:
        return np.where(is_missing(values), "", values)
    if values.dtype.kind == "M":
        return values.astype(str).astype(object)
    return np.array(["" if np.isnan(v) else text_of_number(v) for v in values.tolist()], object)


def _fit(name: str, values: Array, embed: bool) -> Feature | str:
    """The feature that these training values make; or why they make none. `embed`: categories become numbers."""
    gone = is_missing(values)
    if gone.all():
        return "it has no value in a training row"
    missing = bool(gone.any())
    if values.dtype == object:
        texts, counts = np.unique(values[~gone], return_counts=True)
        if len(texts) == 1 and not missing:
            return f"it is {str(texts[0])!r} in all training rows"
        common = texts
        if len(texts) > MOST_CATEGORIES:
            order = np.argsort(-counts, kind="stable")
            most = None if embed else MOST_CATEGORIES
            common = np.sort([texts[index] for index in order[:most] if counts[index] >= FEWEST_ROWS])
            if not len(common) and not missing:
                return f"has {len(texts)} different values, none of them in {FEWEST_ROWS} training rows"
        kind: Kind = "embedding" if embed else "category"
        return Feature(name, kind, missing, categories=tuple(map(str, common)), other=len(common) < len(texts))
    if values.dtype.kind == "M":
        if (values[~gone] == values[~gone][0]).all() and not missing:
            return f"it is {values[~gone][0]} in all training rows"
        days = ["days since 1970", "month", "weekday"]
        whole_days = (values[~gone].astype("datetime64[D]") == values[~gone]).all()
        parts = tuple(days if whole_days else [*days, "hour"])
        return Feature(name, "date", missing, float(np.median(_date_part(values[~gone], days[0]))), parts=parts)
    there = values[~gone]
    if (there == there[0]).all() and not missing:
        return f"it is {there[0]:g} in all training rows"
    return Feature(name, "number", missing, float(np.median(there)))


def is_missing(values: Array) -> Array:
    """Where there is no value: None, NaN or NaT, (N,)."""
    if values.dtype == object:
        return np.array([value is None for value in values], bool)
    gone: Array = np.isnat(values) if values.dtype.kind == "M" else np.isnan(values)
    return gone


def _date_part(values: Array, part: str) -> Array:
    """A part of dates as float64, NaN where there is none."""
    days = values.astype("datetime64[D]")
    since = days.astype(np.int64).astype(np.float64)
    found: Array
    if part == "days since 1970":
        found = np.asarray((values - np.datetime64(0, "us")) / DAY, np.float64)
    elif part == "month":
        found = days.astype("datetime64[M]").astype(np.int64) % 12 + 1.0
    elif part == "weekday":
        found = (since + 3) % 7  # 1970-01-01 was a Thursday, Monday is 0
    else:
        found = (values - days.astype(values.dtype)) / (DAY / 24)
    return np.where(np.isnat(values), np.nan, found)


def _words(feature: Feature) -> str:
    words = {
        "number": "number, standardised",
        "date": f"date, as {', '.join(feature.parts)}",
        "embedding": f"category, a vector for each of {len(feature.categories)}"
        + (", one for all rarer ones" if feature.other else ""),
        "category": f"category, one column of 0 and 1 for each of {len(feature.categories)}"
        + (", one for all rarer ones" if feature.other else ""),
    }[feature.kind]
    if not feature.is_categorical and feature.form:
        words += f" ({feature.form})"
    if not feature.missing:
        return words
    filled = "" if feature.is_categorical else " filled with the training median,"
    return f"{words}; missing values{filled} marked by a column"
