"""Which hyperparameters matter, and where they are good: importances, slices, a contour, parallel coordinates.

Everything here compares trials at equal epochs: at a rung, by what each trial that got there reported there. The last
values of trials that were stopped at different times cannot be compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rungwise.results.io.formatting import epochs, named, percent, short, shown
from rungwise.results.report.figures import SYMBOLS, Figure, Json, View, arm_colour, axis, brief, category, colour, safe
from rungwise.results.report.snapshot import Entry, Snapshot

if TYPE_CHECKING:
    import optuna

ARM = "arm"  # as a hyperparameter of its own, where arms are pooled
FANOVA_MOST = 64  # trials; beyond, fANOVA's trees take seconds, and PED-ANOVA has enough trials to count
FANOVA_LEAST = 10
PED_LEAST = 30
QUANTILE = 0.25  # PED-ANOVA: what decides whether a trial is among the best quarter
TREES = 16
SLICES = 6
AXES = 8  # of the parallel coordinates
TITLE = 26  # characters that fit below the narrowest plot
_GRID = 36
_LINES = ("q-1", "q-2", "q-3", "q-4", "q-5")  # worst fifth to best fifth


@dataclass(frozen=True)
class Importance:
    """Shares of one rung in one view. `shares` is empty when `why` says why not."""

    view: str  # an arm, or "all arms"
    rung: float
    n: int
    shares: Mapping[str, float]
    why: str = ""


@dataclass(frozen=True)
class Landscape:
    """What the rungs know about the space: importances, and the level at which everything else is drawn."""

    method: str
    importances: Sequence[Importance]
    names: Sequence[str]  # hyperparameters that were searched, the most important first
    rung: float | None  # the highest rung that enough trials reached
    level: Sequence[tuple[Entry, float]]  # the trials that reached it, with their objective there


def survey(now: Snapshot) -> Landscape:
    """Importances of every rung, and the order of hyperparameters that follows from them."""
    use_fanova = len(now.search) <= FANOVA_MOST
    least = FANOVA_LEAST if use_fanova else PED_LEAST
    views = {arm: [entry for entry in now.search if entry.trial.arm == arm] for arm in now.arms}
    views = {arm: entries for arm, entries in views.items() if entries}
    if len(views) > 1:
        views = {"all arms": list(now.search), **views}
    found = [
        _importance(view, entries, rung, least, use_fanova, now)
        for view, entries in views.items()
        for rung in now.rungs
    ]
    names = list(dict.fromkeys(name for entry in now.search for name in entry.trial.params))
    score: dict[str, float] = {}
    for view in views:
        told = [one for one in found if one.view == view and one.shares]
        for name, share in (told[-1].shares if told else {}).items():
            score.setdefault(name, share)  # an arm's own word counts only for what is not in all arms
    names.sort(key=lambda name: -score.get(name, 0.0))  # stable: the space's order where nothing is known
    rung: float | None = None
    level: list[tuple[Entry, float]] = []
    for candidate in reversed(now.rungs):
        reached = [(entry, value) for entry in now.search if (value := entry.at(candidate)) is not None]
        if len(reached) > len(level) and len(level) < least:
            rung, level = candidate, reached
    return Landscape("fANOVA" if use_fanova else "PED-ANOVA", found, names, rung, level)


def _importance(
    view: str, entries: Sequence[Entry], rung: float, least: int, use_fanova: bool, now: Snapshot
) -> Importance:
    level = [(entry, value) for entry in entries if (value := entry.at(rung)) is not None]
    if len(level) < least:
        return Importance(view, rung, len(level), {}, f"n={len(level)} is too few, {least} are needed")
    if len({value for _, value in level}) < 2:
        return Importance(view, rung, len(level), {}, "all trials have the same value")
    pooled = len({entry.trial.arm for entry, _ in level}) > 1
    common = _common(entry for entry, _ in level)
    if not common:
        return Importance(view, rung, len(level), {}, "the trials share no searched hyperparameter")
    study = _study(level, common, pooled, now)
    return Importance(view, rung, len(level), _shares(study, use_fanova))


def _common(entries: Iterator[Entry]) -> dict[str, str]:
    """Hyperparameters with one and the same distribution in every trial; of one that was widened, the last."""
    first, *others = entries
    found = dict(first.trial.distributions)
    for entry in others:
        theirs = entry.trial.distributions
        found = {name: theirs[name] for name in found if name in theirs}
    return found


def _study(
    level: Sequence[tuple[Entry, float]], common: Mapping[str, str], pooled: bool, now: Snapshot
) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {name: optuna.distributions.json_to_distribution(text) for name, text in common.items()}
    if pooled:
        distributions[ARM] = optuna.distributions.CategoricalDistribution(
            tuple(sorted({entry.trial.arm for entry, _ in level}))
        )
    study = optuna.create_study(direction="maximize" if now.sign > 0 else "minimize")
    for entry, value in level:
        params = {name: entry.trial.params[name] for name in common} | ({ARM: entry.trial.arm} if pooled else {})
        if not all(_contains(distributions[name], value) for name, value in params.items()):
            continue
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    return study


def _contains(distribution: optuna.distributions.BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False


def _shares(study: optuna.Study, use_fanova: bool) -> dict[str, float]:
    """Hyperparameter -> share of what all of them explain, summing to 1."""
    import warnings

    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's word that an evaluator is experimental
        if use_fanova:
            raw = FanovaImportanceEvaluator(n_trees=TREES, seed=0).evaluate(study)
        else:
            raw = PedAnovaImportanceEvaluator(target_quantile=QUANTILE).evaluate(study)
    total = sum(value for value in raw.values() if math.isfinite(value) and value > 0)
    return {name: max(0.0, value) / total for name, value in raw.items()} if total > 0 else {}


# -- figures ---------------------------------------------------------------------------------------------------


def importances(land: Landscape) -> Figure | None:
    """Bars per hyperparameter, one a rung; a view an arm."""
    views = []
    for name in dict.fromkeys(one.view for one in land.importances):
        told = [one for one in land.importances if one.view == name and one.shares]
        if not told:
            continue
        order = sorted(told[-1].shares, key=lambda each: -told[-1].shares[each])
        data: list[Json] = [
            {
                "type": "bar",
                "orientation": "h",
                "x": [one.shares.get(each, 0.0) for each in order],
                "y": [safe(each) for each in order],
                "name": f"{epochs(one.rung)} (n={one.n})",
                "legendgroup": str(index),
                "marker": {"color": colour(f"step-{min(4, 4 - len(told) + index + 1)}")},
                "hovertemplate": f"%{{y}}: %{{x:.0%}} at {epochs(one.rung)}, n={one.n}<extra></extra>",
            }
            for index, one in enumerate(told)
        ]
        layout = {
            "xaxis": {"title": {"text": "share of importance"}, "tickformat": ".0%", "rangemode": "tozero"},
            "yaxis": category(order, showgrid=False, autorange="reversed"),
            "barmode": "group",
            "bargap": 0.25,
        }
        views.append(View(name, data, layout))
    if not views:
        return None
    how = (
        "how much of the differences between trials each explains (fANOVA)"
        if land.method == "fANOVA"
        else f"how much each decides whether a trial is among the best {percent(QUANTILE)} (PED-ANOVA)"
    )
    words = []
    for view in views:
        last = [one for one in land.importances if one.view == view.label and one.shares][-1]
        ranked = sorted(last.shares.items(), key=lambda item: -item[1])[:3]
        words.append(
            f"{view.label}, at {epochs(last.rung)} (n={last.n}): "
            + ", ".join(f"{name} {percent(share)}" for name, share in ranked)
        )
    most = max(len(view.data[0]["y"]) * len(view.data) for view in views)
    return Figure(
        "importances",
        "; ".join(words) + ".",
        views,
        f"At each rung: {how}, from the scores at that rung's epoch of all trials that got there. With few trials this "
        "is a hint. Later rungs know only trials that were good earlier.",
        height=min(760, 150 + 22 * most),
    )


def missing(land: Landscape) -> list[str]:
    """Words for the rungs without importances."""
    return [
        f"{one.view if one.view != 'all' else 'All trials'}, {epochs(one.rung)}: {one.why}"
        for one in land.importances
        if not one.shares and one.why
    ]


def slices(land: Landscape, now: Snapshot) -> list[Figure]:
    """The objective over each hyperparameter, the most important first."""
    if land.rung is None:
        return []
    found: list[Figure] = []
    for name in land.names[:SLICES]:
        points = [(entry, entry.trial.params[name], value) for entry, value in land.level if name in entry.trial.params]
        if len(points) < 2:
            continue
        scale = _scale([entry for entry, _, _ in points], name)
        data: list[Json] = []
        for index, arm in enumerate(now.arms):
            mine = [point for point in points if point[0].trial.arm == arm]
            if mine:
                data.append(
                    {
                        "mode": "markers",
                        "name": safe(arm),
                        "legendgroup": str(index),
                        "x": [scale.tick(value) for _, value, _ in mine],
                        "y": [value for _, _, value in mine],
                        "marker": {"color": arm_colour(index), "symbol": SYMBOLS[index % 8], "size": 8, "opacity": 0.7},
                        "meta": {"trials": [entry.number for entry, _, _ in mine]},
                    }
                )
        best = max(points, key=lambda point: now.sign * point[2])
        layout = {
            "xaxis": scale.axis(_with_unit(name, now)),
            "yaxis": axis(now.metric, range=_robust([value for _, _, value in points], now.sign)),
        }
        alt = f"{named(now.metric).capitalize()} over {name} at {epochs(land.rung)}, n={len(points)}. "
        alt += f"Best: {shown(best[2], now.metric)} at {name} = {short(best[1])}."
        found.append(Figure(f"slice-{len(found)}", alt, [View(name, data, layout)], height=300))
    return found


def contour(land: Landscape, now: Snapshot) -> Figure | None:
    """The objective over the two most important numeric hyperparameters, smoothed between the trials."""
    if land.rung is None:
        return None
    numeric = [name for name in land.names if _scale([entry for entry, _ in land.level], name).numeric]
    pairs = [(a, b) for i, a in enumerate(numeric[:3]) for b in numeric[i + 1 : 3]]
    views = []
    for a, b in pairs:
        points = [(entry, value) for entry, value in land.level if {a, b} <= entry.trial.params.keys()]
        if len(points) >= FANOVA_LEAST:
            views.append(_contour(points, (a, b), now))
    if not views:
        return None
    return Figure(
        "contour",
        f"{named(now.metric).capitalize()} over pairs of hyperparameters at {epochs(land.rung)}: "
        + ", ".join(v.label for v in views),
        views,
        "Dots are trials, coloured by their score; the surface is the mean of its neighbours' scores, weighted by "
        "nearness, and is left blank where no trial is near. The other hyperparameters vary, too.",
        height=440,
    )


def _contour(points: Sequence[tuple[Entry, float]], pair: tuple[str, str], now: Snapshot) -> View:
    entries = [entry for entry, _ in points]
    a, b = (_scale(entries, name) for name in pair)
    x, y = (np.array([s.place(e.trial.params[s.name]) for e in entries]) for s in (a, b))
    z = np.array([value for _, value in points])
    wide = 0.9 * len(points) ** (-1 / 6) * 0.29  # Scott's rule for a uniform sample in the unit square
    grid = np.linspace(0, 1, _GRID)
    weights = np.exp(
        -((grid[None, :, None] - x) ** 2 + (grid[:, None, None] - y) ** 2) / (2 * wide**2)
    )  # (GRID y, GRID x, n)
    mass = weights.sum(axis=2)
    surface = np.where(mass > 0.3, (weights @ z) / np.maximum(mass, 1e-12), np.nan)
    low, high = _robust(z.tolist(), now.sign)
    scale: list[list[Any]] = [[i / 4, colour(f"map-{i if now.sign > 0 else 4 - i}")] for i in range(5)]
    look = {"colorscale": scale, "zmin": low, "zmax": high}
    bar = {"title": {"text": safe(named(now.metric)), "side": "right"}, "thickness": 12}
    bar |= {"tickformat": ".4~%"} if "accuracy" in now.metric else {}
    return View(
        f"{pair[0]} × {pair[1]}",  # noqa: RUF001
        [
            look
            | {
                "type": "contour",
                "x": [a.at(u) for u in grid],
                "y": [b.at(u) for u in grid],
                "z": surface.tolist(),
                "connectgaps": False,
                "contours": {"coloring": "heatmap", "showlines": True},
                "line": {"width": 0.5, "color": colour("panel")},
                "colorbar": bar,
                "hoverinfo": "skip",
            },
            {
                "mode": "markers",
                "showlegend": False,
                "hoverinfo": "skip",
                "x": [a.tick(e.trial.params[pair[0]]) for e in entries],
                "y": [b.tick(e.trial.params[pair[1]]) for e in entries],
                "marker": {"color": "#ffffff", "size": 13},
            },
            {
                "mode": "markers",
                "showlegend": False,
                "x": [a.tick(e.trial.params[pair[0]]) for e in entries],
                "y": [b.tick(e.trial.params[pair[1]]) for e in entries],
                "marker": {
                    "color": z.tolist(),
                    "colorscale": scale,
                    "cmin": low,
                    "cmax": high,
                    "size": 10,
                    "line": {"width": 1, "color": "#000000"},
                },
                "meta": {"trials": [e.number for e in entries]},
            },
        ],
        {"xaxis": a.axis(_with_unit(pair[0], now)), "yaxis": b.axis(_with_unit(pair[1], now)), "hovermode": "closest"},
    )


def parallel(land: Landscape, now: Snapshot) -> Figure | None:
    """Every trial as a line over its hyperparameters, coloured by the fifth its score falls into."""
    if land.rung is None or len(land.level) < 2:
        return None
    names = [*([ARM] if len(now.arms) > 1 else []), *land.names[: AXES - 1]]
    entries = [entry for entry, _ in land.level]
    scales = [_Names(ARM, now.arms) if name == ARM else _scale(entries, name) for name in names]
    values = [value for _, value in land.level]
    low, high = min(values), max(values)
    order = sorted(land.level, key=lambda item: now.sign * item[1])
    classes = min(5, len(order))
    data: list[Json] = []
    for group in range(classes):
        mine = order[group * len(order) // classes : (group + 1) * len(order) // classes]
        x: list[float | None] = []
        y: list[float | None] = []
        trials: list[int | None] = []
        for entry, value in mine:
            for i, scale in enumerate(scales):
                told = entry.trial.arm if scale.name == ARM else entry.trial.params.get(scale.name)
                x.append(i)
                y.append(-0.12 if told is None else scale.place(told))
            x += [len(scales), None]
            y += [(value - low) / (high - low) if high > low else 0.5, None]
            trials += [entry.number] * (len(scales) + 1) + [None]
        best = group == classes - 1
        tone = _LINES[5 - classes + group]
        data.append(
            {
                "mode": "lines+markers",
                "x": x,
                "y": y,
                "name": _fifth(group, classes),
                "legendgroup": str(group),
                "line": {"color": colour(tone), "width": 2.4 if best else 1.2},
                "marker": {"size": 5 if best else 3, "color": colour(tone)},
                "opacity": 0.95 if best else 0.7 if len(order) < 100 else 0.4,
                "meta": {"trials": trials},
            }
        )
    notes: list[Json] = []
    for i, scale in enumerate(scales):
        for place, text in scale.labels():
            notes.append(_label(i, place, text))
    for place, told in ((0.0, low), (1.0, high)):
        notes.append(_label(len(scales), place, shown(told, now.metric)))
    for i, scale in enumerate(scales):
        if scale.name != ARM and any(scale.name not in entry.trial.params for entry in entries):
            notes.append(_label(i, -0.12, "not searched"))
    titles = [brief(name) for name in names] + [safe(named(now.metric))]
    layout = {
        "xaxis": {
            "tickvals": list(range(len(titles))),
            "ticktext": titles,
            "range": [-0.35, len(titles) - 0.55],
            "side": "top",
            "showgrid": True,
            "gridcolor": colour("faint"),
            "gridwidth": 1.5,
            "zeroline": False,
        },
        "yaxis": {"visible": False, "range": [-0.18, 1.08]},
        "annotations": notes,
        "hovermode": "closest",
    }
    return Figure(
        "parallel",
        f"{len(order)} trials that reached {epochs(land.rung)} as lines over "
        f"{', '.join(names)} and {named(now.metric)}.",
        [View("parallel", data, layout)],
        "One line a trial, from hyperparameter to hyperparameter, to its score at the right. The legend's "
        "buttons hide and show a part of the trials.",
        height=440,
        min_width=96 * len(titles),
    )


def _label(x: float, y: float, text: str) -> Json:
    return {"x": x, "y": y, "text": brief(text), "showarrow": False, "xanchor": "left", "xshift": 4} | {
        "font": {"size": 11, "color": colour("ink")},
        "bgcolor": colour("veil"),
        "borderpad": 1,
    }


def _fifth(group: int, classes: int) -> str:
    if group == classes - 1:
        return "best fifth" if classes == 5 else "best"
    if group == 0:
        return "worst fifth" if classes == 5 else "worst"
    return f"{classes - group}{ {2: 'nd', 3: 'rd'}.get(classes - group, 'th') } best"


# -- scales ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Numbers:
    """A numeric hyperparameter between its bounds."""

    name: str
    low: float
    high: float
    log: bool
    numeric = True

    def place(self, value: Any) -> float:
        """Where on the axis, 0 to 1."""
        low, high, told = (self._in(v) for v in (self.low, self.high, float(value)))
        return (told - low) / (high - low) if high > low else 0.5

    def at(self, place: float) -> float:
        """The value at a place on the axis."""
        low, high = self._in(self.low), self._in(self.high)
        told = low + place * (high - low)
        return math.exp(told) if self.log else told

    def tick(self, value: Any) -> float:
        return float(value)

    def labels(self) -> list[tuple[float, str]]:
        return [(place, _rounded(self.at(place))) for place in (0.0, 0.5, 1.0)]

    def axis(self, title: str) -> Json:
        low, high = self._in(self.low), self._in(self.high)
        room = 0.03 * (high - low) or 0.5
        told: Json = {"title": {"text": title}, "zeroline": False}
        if self.log:
            ends = [(low - room) / math.log(10), (high + room) / math.log(10)]
            return told | {"type": "log", "range": ends, "exponentformat": "e", "dtick": _decades(ends)}
        return told | {"type": "linear", "range": [low - room, high + room]}

    def _in(self, value: float) -> float:
        return math.log(value) if self.log and value > 0 else value


@dataclass(frozen=True)
class _Names:
    """A hyperparameter with choices."""

    name: str
    choices: Sequence[str]
    numeric = False

    def place(self, value: Any) -> float:
        return self.choices.index(short(value)) / max(1, len(self.choices) - 1) if len(self.choices) > 1 else 0.5

    def at(self, place: float) -> float:
        raise NotImplementedError("a name lies at no place between two names")

    def tick(self, value: Any) -> str:
        return safe(short(value))

    def labels(self) -> list[tuple[float, str]]:
        return [(self.place(choice), choice) for choice in self.choices[:12]]

    def axis(self, title: str) -> Json:
        return category(self.choices, title={"text": title})


def _scale(entries: Sequence[Entry], name: str) -> _Numbers | _Names:
    """The scale that holds everything that was tried, from the distributions and the values."""
    import json

    told = [json.loads(text) for e in entries if (text := e.trial.distributions.get(name))]
    values = [e.trial.params[name] for e in entries if name in e.trial.params]
    bounds = [one["attributes"] for one in told if "low" in one["attributes"]]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) == len(values) and values and len(bounds) == len(told):
        low = min([float(v) for v in numbers] + [float(b["low"]) for b in bounds])
        high = max([float(v) for v in numbers] + [float(b["high"]) for b in bounds])
        return _Numbers(name, low, high, low > 0 and any(b.get("log") for b in bounds))
    choices = [choice for one in told for choice in one["attributes"].get("choices", [])]
    return _Names(name, list(dict.fromkeys(short(v) for v in [*choices, *values])))


def _rounded(value: float) -> str:
    return f"{value:.3g}" if 1 <= abs(value) < 1e6 else f"{value:.2g}"


def _decades(ends: Sequence[float]) -> float | str:
    """plotly.js' distance of ticks on a logarithmic axis; "D2" is 1, 2, 5, 10, 20, ..."""
    span = ends[1] - ends[0]
    return "D2" if span < 1.6 else max(1, math.ceil(span / 5))


def _robust(values: Sequence[float], sign: float) -> list[float]:
    """An axis' ends that a few very bad trials do not stretch."""
    ranked = sorted(values)
    low, high = ranked[0], ranked[-1]
    tenth, ninth = ranked[len(ranked) // 10], ranked[-1 - len(ranked) // 10]
    if sign > 0:
        low = max(low, tenth - 0.5 * (high - tenth))
    else:
        high = min(high, ninth + 0.5 * (ninth - low))
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return [low - room, high + room]


def _with_unit(name: str, now: Snapshot) -> str:
    unit = now.about.get(name, {}).get("unit", "")
    return brief(f"{name} ({unit})" if unit else name, TITLE)
