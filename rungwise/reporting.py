"""`rungwise.report`: numbers of a training, from whatever process it runs in. Nothing of ours is imported here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

_sink: Callable[[Mapping[str, Any]], None] | None = None  # of the trial that this process trains


def report(metrics: Mapping[str, Any] | None = None, /, *, checkpoint: object = None, **named: Any) -> None:
    """Report numbers of a training.

        rungwise.report(val_f1=0.93, val_loss=0.21)
        rungwise.report(val_f1=0.94, checkpoint=folder)

    In a program that a sweep has started this writes a line to the file that RUNGWISE_REPORTS names, and returns at
    once; in a function that owns its loop it is `trial.report`. Without a sweep it prints the line. Under torchrun the
    process of rank 0 reports, and the others do nothing.

    Args:
        metrics: Numbers by name: Python's, NumPy's, or tensors of one number.
        checkpoint: Of a program: a file or folder that it has written below the folder RUNGWISE_SAVE. The trial
            continues from it after its process died, and its test is given it.
        **named: As `metrics`.

    Raises:
        TrialStopped: In a function: the trial ends here.
        RuntimeError: A function has no use for `checkpoint`; it has `trial.save`.
    """
    if _sink is not None:
        if checkpoint is not None:
            raise RuntimeError("a function saves a checkpoint with trial.save(); checkpoint=... is for programs")
        _sink({**(metrics or {}), **named})
        return
    if os.environ.get("RANK", "0") != "0":
        return
    values = {name: _plain(value) for name, value in {**(metrics or {}), **named}.items()}
    line = json.dumps(values | ({} if checkpoint is None else {"checkpoint": os.fspath(checkpoint)})) + "\n"  # type: ignore[call-overload]
    if place := os.environ.get("RUNGWISE_REPORTS"):
        with open(place, "ab", buffering=0) as file:
            file.write(line.encode())
    else:
        sys.stdout.write(line)


def report_to(sink: Callable[[Mapping[str, Any]], None] | None) -> None:
    """From now on `report` in this process hands over to `sink`; None: as in any other process."""
    global _sink
    _sink = sink


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
