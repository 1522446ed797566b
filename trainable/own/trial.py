"""The class `Trial`: what a user's training function is given, and what it may ask for."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol


class TrialStopped(BaseException):
    """Raised by `Trial.report` when the trial is over: a rung stopped it, or its budget is used up.

    No `Exception`, so that an `except Exception` around a training step does not catch it. Clean up in `finally`, and
    let it pass.
    """


class Process(Protocol):
    """What a `Trial` needs of the process that trains it; `trainable.own.run` has the real one."""

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Send a report and wait for the verdict. Raises TrialStopped."""

    def save_is_due(self) -> bool:
        """Whether a checkpoint would be worth its time now."""

    def new_folder(self) -> Path:
        """An empty folder of this machine, for the files of a checkpoint."""

    def keep(self, folder: Path) -> None:
        """Make a checkpoint of the folder, whole or not at all, and remove the folder."""

    def drop(self, folder: Path, error: BaseException) -> bool:
        """Remove a folder that `error` left incomplete. Returns whether training goes on: a full disk ends no trial."""


class TestProcess:
    """The process of a trial in `test`: what it saves is the model."""

    __test__ = False  # no test of pytest's

    def __init__(self, place: Path) -> None:
        """`place`: a folder of this machine."""
        self._place, self._number = place, 0
        self.saved: Path | None = None  # the last folder

    def report(self, metrics: Mapping[str, Any]) -> None:
        raise RuntimeError("test returns its scores; trial.report is for training")

    def save_is_due(self) -> bool:
        return True

    def new_folder(self) -> Path:
        self._number += 1
        folder = self._place / f"saved-{self._number}"
        folder.mkdir(parents=True)
        return folder

    def keep(self, folder: Path) -> None:
        self.saved = folder

    def drop(self, folder: Path, error: BaseException) -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return is_disk_full(error)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or a user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Trial:
    """One trial, as a training function sees it: `def train(config, trial)`.

    `random`, `numpy.random` and `torch.manual_seed` have been given `seed` before the function is called.
    """

    number: int
    """Number of the trial in the record, from 1."""
    arm: str
    """The alternative that it belongs to."""
    phase: str
    """"search"; "confirm", "refit" or "audit": a repetition after the search; "untuned": the defaults; "test": in
    `test`; "one": for `--one`."""
    attempt: int
    """1; more when an earlier process of this trial died."""
    seed: int
    """The seed of all randomness of this trial."""
    epochs: int
    """Budget: the function is to report `epochs` * `reports_per_epoch` times; it may return earlier."""
    reports_per_epoch: int
    """Reports that make an epoch."""
    device: str
    """"cuda" when the trial holds a GPU, else "cpu"."""
    data: Any = None
    """What the sweep's `data` returned. Arrays are mapped from shared memory: copy before writing into them."""
    checkpoint: Path | None = None
    """Folder of the last checkpoint when the trial continues after its process died, and in `test`; else None."""
    reported: int = 0
    """Reports that led to `checkpoint`. A loop continues after them, `for epoch in range(trial.reported, trial.epochs)`
    where a report is an epoch."""
    process: Process | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, config: Mapping[str, Any], **about: Any) -> Trial:
        """The trial of a configuration, which has its seed and budget; `about`: the other fields."""
        given: dict[str, Any] = {name: int(config[name]) for name in ("seed", "epochs", "reports_per_epoch")}
        return cls(**given, **about)

    @property
    def save_due(self) -> bool:
        """Whether to save a checkpoint now: `--checkpoint-seconds` have passed, or a confirmed trial has sent its last
        report, and what is saved is the model that `test` is given. True in `test`: what that saves is the model."""
        return self.process is not None and self.process.save_is_due()

    @contextmanager
    def save(self) -> Iterator[Path]:
        """Save a checkpoint: write files into the folder that this yields.

            with trial.save() as folder:
                torch.save(model.state_dict(), folder / "model.pt")

        When the block ends without an error, the folder replaces the trial's last checkpoint, whole or not at all; in
        `test` it becomes the model. A disk that is full costs the checkpoint and not the trial.
        """
        if self.process is None:
            raise RuntimeError("this trial has no process that could keep a checkpoint")
        folder = self.process.new_folder()
        try:
            yield folder
        except BaseException as error:
            if not self.process.drop(folder, error):
                raise
            return
        self.process.keep(folder)

    def report(self, metrics: Mapping[str, Any] = MappingProxyType({}), /, **named: Any) -> None:
        """Report numbers, and wait until the scheduler has judged them.

            trial.report(val_f1=0.93, val_loss=0.21)

        For code that owns its loop. A generator function yields its reports instead.

        Args:
            metrics: Numbers by name: Python's, NumPy's, or tensors of one number.
            **named: The same.

        Raises:
            TrialStopped: The trial ends here.
        """
        if self.process is None:
            raise RuntimeError("this trial has no process that could take its reports")
        self.process.report({**metrics, **named} if isinstance(metrics, Mapping) else metrics)
