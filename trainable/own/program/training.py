"""A training that is a program of the user's: started with the hyperparameters, it reports a line of JSON at a time."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rungwise.storage import Folder, is_uri
from rungwise.trainable.own.function import function_problems
from rungwise.trainable.own.program.command import command, environment, missing_files, template_problems
from rungwise.trainable.own.program.process import GRACE_SECONDS, Process, ProgramError
from rungwise.trainable.own.program.sources import BROUGHT, brought, digests, folder_here, plain_words, words_here
from rungwise.trainable.own.report_numbers import ReportError
from rungwise.trainable.own.run import OwnRun
from rungwise.trainable.own.training import OwnTraining
from rungwise.trainable.own.trial import Trial
from rungwise.trainable.resources import TrialResources

CHECKPOINT = "checkpoint"  # the key of a report that names what to keep, below RUNGWISE_SAVE
WAY_OUT = 'write a line such as {"val_loss": 0.3} to the file that $RUNGWISE_REPORTS names, or call rungwise.report()'
LONGEST_SHOWN = 80  # characters of a line that a message quotes


@dataclass(frozen=True)
class ProgramTraining(OwnTraining):
    """`Sweep(program=["python", "train.py"])`."""

    program: Sequence[str]
    template: str | None  # see `command.command`
    folder: str  # its working directory: the driver's
    grace: float = GRACE_SECONDS

    kind = "program"
    one_line_errors = (*OwnTraining.one_line_errors, ProgramError)

    @property
    def name(self) -> str:
        return program_name(self.program)

    def definition(self) -> dict[str, Any]:
        found = {**super().definition(), "program": plain_words(self.program, self.folder), "arguments": self.template}
        if isinstance(self.test, Sequence):
            found["test_program"] = plain_words(self.test, self.folder)
        digests = zip(plain_words(list(self._digests), self.folder), self._digests.values(), strict=True)
        return found | {"files": dict(digests)}

    @cached_property
    def _commands(self) -> list[str]:
        """The words of both commands."""
        return [*self.program, *(self.test if isinstance(self.test, Sequence) else ())]

    @cached_property
    def _digests(self) -> dict[str, str]:
        return digests(self._commands, self.folder)

    def files(self) -> dict[str, Path]:
        return {f"{BROUGHT}/{place}": file for place, file in brought(self._commands, self.folder).items()}

    def own_problems(self) -> list[str]:
        found = missing_files("program", self.program, self.folder) + template_problems(self.template)
        if self.data.load is not None or self.data.source is not None:
            found.append("data: a program reads its data itself; leave `data` out")
        if isinstance(self.test, Sequence):
            return found + missing_files("test", self.test, self.folder)
        return found + function_problems(test=self.test)

    def prepare(self, data: Any, resources: TrialResources) -> tuple[Any, str]:
        return None, "cuda" if resources.gpus > 0 else "cpu"

    def reports(self, config: Mapping[str, Any], trial: Trial, run: OwnRun) -> Iterator[Mapping[str, Any]]:
        logs, name = run.logs, f"{trial.number}-{trial.attempt}.log"
        log = None if logs is None else run.place / name if is_uri(logs) else Path(logs, name)
        if log is not None:
            with suppress(OSError):  # a full disk ends no trial
                log.parent.mkdir(parents=True, exist_ok=True)
        try:
            run.program = Process(run.place)
            for metrics, saved in self._lines(run.program, self.program, config, trial, log):
                folder = None if saved is None else _taken(saved, run.new_folder())
                if metrics:
                    yield metrics
                if folder is not None:
                    run.hold(folder)
        finally:
            if logs is not None and log is not None and is_uri(logs):
                with suppress(OSError):
                    Folder(logs).write(name, log)

    def tested(self, config: Mapping[str, Any], trial: Trial) -> Any:
        if not isinstance(self.test, Sequence):
            return super().tested(config, trial)
        with tempfile.TemporaryDirectory() as place:
            lines = self._lines(Process(Path(place)), self.test, config, trial, Path(place, "log"))
            scores: dict[str, Any] = {}
            for metrics, saved in lines:
                scores |= metrics
                if saved is not None and trial.process is not None:
                    trial.process.keep(_taken(saved, trial.process.new_folder()))
        return scores

    def _lines(
        self, process: Process, words: Sequence[str], config: Mapping[str, Any], trial: Trial, log: Path | None
    ) -> Iterator[tuple[dict[str, Any], Path | None]]:
        """What a program reports: numbers, and the file or folder that it wants to be kept as a checkpoint.

        Raises:
            ProgramError: It cannot be started, fails, or reports what is no report.
        """
        save, said = process.reports.with_name("save"), False
        names: set[str] = set()  # of checkpoints so far
        try:
            with process:
                save.mkdir(exist_ok=True)
                variables = environment(trial, config, process.reports, save)
                here = folder_here(self._commands, self.folder, self._digests)
                filled = command(words_here(words, self.folder, here), self.template, config)
                process.start(filled, here, variables, log, self.grace)
                for line in process.lines():
                    said = True
                    yield _parsed(line, save, names)
                process.check()
        except ProgramError as error:
            error.args = (f"{program_name(words)} {error}",)
            raise
        if not said and trial.checkpoint is None:
            raise ReportError(f"{program_name(words)} ended and reported nothing: {WAY_OUT}")


def program_name(words: Sequence[str]) -> str:
    """What messages call a program: its script."""
    return os.path.basename(next((word for word in words if word.endswith(".py")), words[0]))


def _parsed(line: bytes, save: Path, names: set[str]) -> tuple[dict[str, Any], Path | None]:
    """The report in a line; `names`: of the checkpoints so far. Raises ProgramError."""
    try:
        report = json.loads(line)
    except (ValueError, RecursionError):  # no JSON, or too deeply nested
        report = None
    if not isinstance(report, dict):
        shown = line.decode(errors="replace")[:LONGEST_SHOWN]
        raise ProgramError(f"must report one JSON object a line, but wrote {shown!r}: {WAY_OUT}")
    named = report.pop(CHECKPOINT, None)
    if named is None:
        return report, None
    try:
        path = (save / str(named)).resolve()
        is_there = save.resolve() in path.parents and path.exists()
    except (OSError, ValueError):  # too long, or not the text of a path
        path, is_there = save, False
    if str(path) in names:  # what lies there now may be of a later report, or be written at this moment
        raise ProgramError(
            f"must give each checkpoint a name of its own, such as one with the epoch, as it is moved away, but named "
            f"{named!r} twice"
        )
    names.add(str(path))
    if not is_there:
        shown = repr(named)[:LONGEST_SHOWN]
        raise ProgramError(f"must name a file or folder below $RUNGWISE_SAVE as its checkpoint, but named {shown}")
    return report, path


def _taken(saved: Path, folder: Path) -> Path:
    """`folder` with what was saved, which the program cannot change any more."""
    if saved.is_dir():
        folder.rmdir()
        saved.rename(folder)
    else:
        saved.rename(folder / saved.name)
    return folder
