"""Records for tests of the report: complete sweeps of any size, and sweeps that failed."""

from __future__ import annotations

import base64
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rungwise.results.record.types import Decision, State, SweepState
from rungwise.results.record.writer import Record
from rungwise.trainable.messages import Constraint, Failure, FailureKind, StudyKey
from support import demo

SPACE = {
    "lr": '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0003, "high": 0.03, "log": true}}',
    "dropout": '{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 0.5, "log": false}}',
    "width": '{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 32, "high": 512}}',
    "activation": '{"name": "CategoricalDistribution", "attributes": {"choices": ["relu", "gelu", "tanh"]}}',
}
L2 = {"l2": '{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-07, "high": 0.01, "log": true}}'}
EVIL = '</script><img src=x onerror="window.pwned=1"><b>\'&amp;'
Build = Callable[[Path], Path]


def sweep(
    folder: Path, trials: int = 32, epochs: int = 9, confirmed: bool = True, searches: int = 1, **changed: Any
) -> Path:
    """Searches of two arms under ASHA with a few accidents, its confirmation, test scores, mistakes and forecast."""
    luck = random.Random(7)
    told = {"trials": trials, "epochs": epochs, "space": SPACE | L2, "name": folder.name, **changed}
    record, session = demo.begin(folder, **told)
    record.set_meta("hyperparameters", {"lr": {"type": "float", "unit": "step size", "help": "peak learning rate"}})
    record.set_meta(
        "forecast", {"epochs": 150.0, "seconds": 60.0, "device_hours": 0.03, "bytes": 500_000, "money": None}
    )
    rungs: dict[tuple[str, int], list[float]] = {}
    best: dict[str, tuple[float, int]] = {}
    for number in range(1, trials + 1):
        arm = ("no L2", "L2")[number % 2]
        study = StudyKey(arm, 1 + number // 2 % searches)
        last = _search(record, number, study, epochs, luck, rungs, told.get("mode", "max"))
        if last is not None and last > best.get(arm, (0.0, 0))[0]:
            best[arm] = (last, number)
    if confirmed:
        _confirm(record, trials, best, epochs, luck)
    record.end_session(session, SweepState.FINISHED)
    record.close()
    return folder


def _search(
    record: Record,
    number: int,
    study: StudyKey,
    epochs: int,
    luck: random.Random,
    rungs: dict[Any, list[float]],
    mode: str,
) -> float | None:
    arm = study.arm
    params: dict[str, Any] = {
        "lr": 10 ** luck.uniform(-3.5, -1.53),
        "dropout": luck.uniform(0, 0.5),
        "width": round(32 * 16 ** luck.random()),
        "activation": luck.choice(["relu", "gelu", "tanh"]),
    }
    if arm == "L2":
        params["l2"] = 10 ** luck.uniform(-7, -2)
    space = SPACE | (L2 if arm == "L2" else {})
    record.add_trial(
        number,
        arm=arm,
        phase="search",
        config=demo.config(number, **params),
        params=params,
        distributions=space,
        search=study.search,
    )
    attempt = record.start_attempt(number)
    record.place(number, "node-a", "cpu")
    accident = luck.random()
    if accident < 0.03:
        record.end_trial(
            number,
            State.FAILED,
            failure=Failure(FailureKind.EXCEPTION, "RuntimeError: out of memory", error="Traceback\nRuntimeError: out"),
        )
        return None
    top = 0.985 - 0.03 * (math.log10(params["lr"]) + 2.5) ** 2 - 0.02 * (params["dropout"] - 0.2) ** 2
    value = 0.0
    for epoch in range(1, epochs + 1):
        value = top - 0.3 * math.exp(-0.9 * epoch) + luck.gauss(0, 0.002)
        if accident > 0.97 and epoch == 3:
            record.add_report(number, attempt, epoch, demo.metrics(float(epoch), math.nan, val_loss=math.inf))
            record.end_trial(
                number, State.DIVERGED, failure=Failure(FailureKind.DIVERGED, "val_loss is inf at epoch 3")
            )
            return None
        decision = _judge(rungs.setdefault((arm, epoch), []), value, epoch) if epoch in (1, 3) else None
        told = value if mode == "max" else 1 - value
        record.add_report(number, attempt, epoch, demo.metrics(float(epoch), told), decision)
        if decision and decision.stopped:
            reason = f"val_accuracy {value:.4f} at epoch {epoch}: the cutoff was {decision.cutoff:.4f}"
            record.end_trial(number, State.STOPPED, reason=reason, decision=decision)
            return None
    record.end_trial(number, State.COMPLETED, reason=f"reached {epochs} epochs")
    return value


def _judge(seen: list[float], value: float, epoch: int) -> Decision:
    cutoff = sorted(seen)[-max(1, len(seen) // 3)] if len(seen) >= 3 else None
    seen.append(value)
    return Decision(float(epoch), cutoff, cutoff is not None and value < cutoff)


def _confirm(record: Record, trials: int, best: dict[str, tuple[float, int]], epochs: int, luck: random.Random) -> None:
    number = trials
    for arm, (value, source) in best.items():
        for seed in range(5):
            number += 1
            record.add_trial(
                number,
                arm=arm,
                phase="confirm",
                source=source,
                config=demo.config(1000 + seed),
                params={},
                distributions={},
            )
            attempt = record.start_attempt(number)
            for epoch in range(1, epochs + 1):
                told = value - 0.003 - 0.3 * math.exp(-0.9 * epoch) + luck.gauss(0, 0.001)
                record.add_report(number, attempt, epoch, demo.metrics(float(epoch), told))
            record.end_trial(number, State.COMPLETED)
            record.add_score(number, "test", "accuracy", value - 0.004 + luck.gauss(0, 0.001))
    record.set_meta("test", scored("L2", number, luck))


def scored(arm: str, trial: int, luck: random.Random) -> dict[str, Any]:
    """What the final step keeps of the confirmed model: ten classes, 12 mistakes with grey 12 x 12 images."""
    confusion = [
        [970 + luck.randrange(20) if i == j else luck.choice((0, 0, 1, 2, 6)) for j in range(10)] for i in range(10)
    ]
    mistakes = []
    for index in range(12):
        pixels = bytes(max(0, 255 - 6 * ((x - 6) ** 2 + (y - index % 12) ** 2)) for y in range(12) for x in range(12))
        mistakes.append(
            {
                "index": 17 * index,
                "true": index % 10,
                "predicted": (index + 3) % 10,
                "probability": 0.999 - 0.01 * index,
            }
            | {"image": base64.b64encode(pixels).decode(), "shape": [1, 12, 12]}
        )
    return {"arm": arm, "trial": trial, "confusion": confusion, "classes": list("0123456789"), "mistakes": mistakes}


# -- records that end badly, or have not ended -----------------------------------------------------------------


def empty(folder: Path) -> Path:
    record, _ = demo.begin(folder)
    record.close()
    return folder


def nameless(folder: Path) -> Path:
    """A record without a definition or a session."""
    folder.mkdir(parents=True)
    Record(folder).close()
    return folder


def one(folder: Path) -> Path:
    return _ended(folder, 1, State.COMPLETED, 0.5, 0.7, 0.9, 0.8)


def diverged(folder: Path) -> Path:
    return _ended(folder, 6, State.DIVERGED, 0.4, math.nan)


def failed(folder: Path) -> Path:
    return _ended(folder, 6, State.FAILED)


def constant(folder: Path) -> Path:
    """Trials with one and the same score: nothing explains a difference that is not there."""
    return _ended(folder, 48, State.COMPLETED, 0.5, 0.5, 0.5, 0.5)


def running(folder: Path) -> Path:
    """A trial in every state, and the driver at work."""
    record, _ = demo.begin(folder)
    demo.fill(record)
    record.close()
    return folder


def loss(folder: Path) -> Path:
    """Less is better, unconfirmed."""
    return sweep(folder, 40, confirmed=False, metric="val_loss", mode="min")


def evil(folder: Path) -> Path:
    """Every text of the record tries to become HTML."""
    arms = {EVIL: {"l2": 0.0}, "L2": {}}
    record, session = demo.begin(folder, question=EVIL + "?" + EVIL, arms=arms, fixed={EVIL: EVIL}, sweep=EVIL)
    record.set_meta("hyperparameters", {"lr": {"unit": EVIL, "help": EVIL}})
    record.set_meta("forecast", {"epochs": EVIL, EVIL: EVIL})
    record.set_meta("audit", {EVIL: [{EVIL: EVIL}]})
    test = scored(EVIL, 1, random.Random(0))
    test["classes"] = [EVIL] * 10
    test["mistakes"][0]["image"] = EVIL
    test["mistakes"][1]["index"] = EVIL
    record.set_meta("test", test)
    choices = json.dumps({"name": "CategoricalDistribution", "attributes": {"choices": [EVIL, "b"]}})
    for number in range(1, 15):
        value = 0.5 + number / 100
        record.add_trial(
            number,
            arm=EVIL if number % 2 else "L2",
            phase="search",
            config=demo.config(number),
            params={EVIL: EVIL if number % 3 else "b", "lr": 0.001 * number},
            distributions={EVIL: choices, "lr": demo.DISTRIBUTIONS["lr"]},
        )
        for step in range(1, 5):
            record.start_attempt(number)
            record.add_report(number, step, step, demo.metrics(float(step), value + step / 50))
        evil = Failure(FailureKind.EXCEPTION, EVIL, Constraint(EVIL, 1, 2), EVIL)
        record.end_trial(number, State.FAILED if number == 14 else State.COMPLETED, failure=evil)
    record.end_session(session, SweepState.FINISHED)
    record.start_session({"host": EVIL, "command": [EVIL], "versions": {EVIL: EVIL}, EVIL: EVIL})
    record.close()
    return folder


def _ended(folder: Path, trials: int, state: State, *told: float) -> Path:
    record, session = demo.begin(folder)
    for number in range(1, trials + 1):
        demo.add(record, number, arm=("no L2", "L2")[number % 2])
        demo.attempt(record, number, *told)
        record.end_trial(number, state, reason=f"it {state.lower()}")
    record.end_session(session, SweepState.FINISHED)
    record.close()
    return folder
