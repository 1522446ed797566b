"""Records of sweeps with a confirmation, with numbers that can be checked by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rungwise.results.analysis.answer import CONSTANT_SCORES, WORTH, Answer, answer
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import State, SweepState
from rungwise.results.record.writer import Record
from support import demo

SEEDS = (11, 12, 13, 14, 15)  # of the confirmation
NO_L2 = (0.980, 0.981, 0.982, 0.981, 0.981)  # mean 0.9810
L2 = (0.983, 0.983, 0.985, 0.984, 0.985)  # mean 0.9840
ARMS: dict[str, Any] = {"no L2": {"l2": 0.0}, "L2": {}}
DATA = demo.DEFINITION["data"] | {"classes": list("0123456789")}
LOW = (0.9800, 0.9802, 0.9804, 0.9806, 0.9808)
HIGH = tuple(score + 0.002 for score in LOW)


class Sweep:
    """Adds one thing after another to a record; trials are numbered as they come."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.trials = 0

    def search(
        self, arm: str, *told: float, state: State = State.COMPLETED, metric: str = "", search: int = 1, **params: Any
    ) -> int:
        """A search trial with one report per value; returns its number."""
        params = params or {"lr": 0.01}
        return self._trial(arm, "search", None, self.trials + 1, told, state, metric, params, search)

    def confirm(
        self,
        arm: str,
        source: int,
        seed: int,
        *told: float,
        state: State = State.COMPLETED,
        metric: str = "",
        search: int = 1,
    ) -> int:
        """A trial on a fresh seed; returns its number."""
        return self._trial(arm, "confirm", source, seed, told, state, metric, {}, search)

    def confirmed(self, arm: str, source: int, values: Sequence[float], seeds: Sequence[int] = SEEDS) -> list[int]:
        """One completed trial a value, whose last report it is."""
        return [self.confirm(arm, source, seed, value - 0.1, value) for seed, value in zip(seeds, values, strict=False)]

    def score(self, trials: Sequence[int], values: Sequence[float], metric: str = "accuracy") -> None:
        for trial, value in zip(trials, values, strict=True):
            self.record.add_score(trial, "test", metric, value)
        self.record.commit()

    def _trial(
        self,
        arm: str,
        phase: str,
        source: int | None,
        seed: int,
        told: Sequence[float],
        state: State,
        metric: str,
        params: Mapping[str, Any],
        search_number: int = 1,
    ) -> int:
        self.trials += 1
        number = self.trials
        self.record.add_trial(
            number,
            arm=arm,
            phase=phase,
            source=source,
            search=search_number,
            config=demo.config(seed, **params),
            params=params,
            distributions={name: demo.MORE_DISTRIBUTIONS[name] for name in params if name in demo.MORE_DISTRIBUTIONS},
        )
        attempt = self.record.start_attempt(number)
        for step, value in enumerate(told, 1):
            changed = {metric: value} if metric else {}
            self.record.add_report(number, attempt, step, demo.metrics(float(step), value, **changed))
        if state.ended:
            self.record.end_trial(number, state)
        self.record.commit()
        return number


def sweep(folder: Path, **definition: Any) -> Sweep:
    """A new run, to be filled."""
    return Sweep(demo.begin(folder, **definition)[0])


def keep_model(run: Path, exported: Path, **changed: Any) -> Path:
    """The network in `exported` as the model of the answer to `run`; `changed`: in config.json. Returns its folder."""
    with Reader(run) as reader:
        found = answer(reader)
        (trial,) = (trial for trial in reader.trials() if trial.trial == found.model)
    folder = Path(shutil.copytree(exported, run / "model"))
    content = json.loads((folder / "config.json").read_text())
    content["about"] |= {"arm": found.best, "trial": trial.trial}
    content["config"]["seed"] = trial.config["seed"]
    (folder / "config.json").write_text(json.dumps(content | changed))
    with Record(run) as record:
        config = json.dumps(trial.config | content["config"])
        record._write("UPDATE trials SET config = ? WHERE trial = ?", (config, trial.trial))
    return folder


def two_arms(folder: Path, **definition: Any) -> Path:
    """Both arms of `demo.DEFINITION`, searched, confirmed on five seeds and scored: L2 is 0.3 points better."""
    made = sweep(folder, **definition)
    plain = made.search("no L2", 0.97, 0.985, lr=0.01)
    best = made.search("L2", 0.97, 0.99, lr=0.003)
    other = made.search("L2", 0.97, 0.988, lr=0.001)
    scored = made.confirmed("no L2", plain, [value + 0.001 for value in NO_L2])
    made.score(scored, NO_L2)
    made.confirmed("L2", other, [value - 0.01 for value in L2])
    scored = made.confirmed("L2", best, [value + 0.001 for value in L2])
    made.score(scored, L2)
    made.record.end_session(1, SweepState.FINISHED)
    made.record.close()
    return folder


def begun(folder: Path, searches: int = 5, worth: float | None = 0.001, **changed: Any) -> Sweep:
    """Two arms with so many searches each, of nothing yet."""
    told = {"arms": ARMS, "trials": 16, "searches": searches, "order": "fixed", "data": DATA, **changed}
    made = sweep(folder, **told)
    made.record.set_meta(CONSTANT_SCORES, {"accuracy": 0.1135, "loss": 2.3})
    if worth is not None:
        made.record.set_meta(WORTH, {"value": worth, "given": True})
    return made


def searched(made: Sweep, arm: str, scores: Sequence[float]) -> None:
    """A search for each score, whose winner has that score on the mean of two fresh seeds."""
    for search, score in enumerate(scores, 1):
        source = made.search(arm, 0.97, 0.98, lr=0.01, search=search)
        confirmed = [made.confirm(arm, source, 10 * search + seed, 0.981, search=search) for seed in (1, 2)]
        made.score(confirmed, [score - 0.0001, score + 0.0001])


def asked(folder: Path) -> Answer:
    """The answer of its record now."""
    with Reader(folder) as reader:
        return answer(reader)
