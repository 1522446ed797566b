"""TensorBoard: RUN/tensorboard/trial-0001, one folder a trial, with scalars and the HParams plugin's sessions.

Each trial has one event file, which only grows, and what a report adds to it depends on the record alone. So the file
itself says how much of the trial it holds: a logger that starts counts its reports, cuts off what a killed one left in
the middle of an event, and goes on behind. Of a step reported by several attempts TensorBoard shows the last one's
value. Scalars are float32 there.

The format of event files: https://github.com/tensorflow/tensorboard (record_writer.py); of the plugin:
tensorboard/plugins/hparams/summary.py, whose functions need TensorFlow.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rungwise.files import replacing
from rungwise.results.exporters.loggers.logger import Logged, LoggerError, RecordView, hyperparameters
from rungwise.results.record.types import NEVER_BEST, ReportRow, Trial

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

FOLDER = "tensorboard"
_HEADER = struct.Struct("<QI")  # length of the event, and its checksum
_CHECKSUM = struct.Struct("<I")  # of the event
_LONGEST = 2**24  # bytes of an event
_REPORT, _END = "rungwise report", "rungwise end"  # what the scalars of an event are


@dataclass(slots=True)
class _File:
    """A trial's event file, and what it holds."""

    path: Path
    size: int = 0  # bytes of whole events
    reports: int = 0
    is_described: bool = False  # whether the trial's hyperparameters are there
    is_ended: bool = False
    values: dict[str, float] = field(default_factory=dict)  # best value and test scores
    read: int = 0  # reports that this process has read from the record; those beyond `reports` are new
    last: ReportRow | None = None  # of those
    best: float | None = None  # the objective's best value in those


class TensorBoardLogger:
    """Writes event files."""

    def __init__(self, run: Path) -> None:
        self._folder = run / FOLDER
        self._files: dict[int, _File] = {}
        self._experiment = b""

    def log(self, view: RecordView) -> Logged:
        """Bring the event files up to `view`. Raises LoggerError."""
        try:
            self._folder.mkdir(exist_ok=True)
            self._write_experiment(view)
            count = sum(self._write_trial(view, trial) for trial in view.trials if trial.started is not None)
        except OSError as error:
            raise LoggerError(f"{self._folder} must take the event files, but {error}") from error
        return Logged(str(self._folder), len(self._files), count)

    def close(self) -> None:
        """Nothing is left open."""

    def _write_experiment(self, view: RecordView) -> None:
        """Which hyperparameters and metrics the plugin's table has."""
        content = _framed(_experiment_event(view).SerializeToString())
        if content != self._experiment:
            with replacing(self._folder / "events.out.tfevents.0.rungwise") as file:
                file.write(_framed(_version_event(0.0).SerializeToString()) + content)
            self._experiment = content

    def _write_trial(self, view: RecordView, trial: Trial) -> int:
        """Add what the trial's file lacks; returns how many numbers that were."""
        file = self._files.get(trial.trial)
        if file is None:
            folder = self._folder / f"trial-{trial.trial:04d}"
            file = _read(folder / f"events.out.tfevents.{int(trial.created)}.rungwise")
            self._files[trial.trial] = file
        events = [*_report_events(view, trial, file), *_end_events(view, trial, file)]
        if not events:
            return 0
        if not file.size:
            file.path.parent.mkdir(exist_ok=True)
            events.insert(0, _version_event(trial.created))
        with file.path.open("r+b" if file.path.exists() else "wb") as stream:
            stream.truncate(file.size)  # what a killed exporter left in the middle of an event
            stream.seek(file.size)
            stream.write(b"".join(_framed(event.SerializeToString()) for event in events))
            file.size = stream.tell()
        return sum(value.HasField("simple_value") for event in events for value in event.summary.value)


def _report_events(view: RecordView, trial: Trial, file: _File) -> Iterator[Event]:
    """The hyperparameters, before the first report, and an event for each report that is new."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    objective, sign = view.definition.metric, view.definition.sign
    for row in view.rows.get(trial.trial, ()):
        value = row.metrics.get(objective, math.nan)
        if math.isfinite(value) and (file.best is None or sign * (value - file.best) > 0):
            file.best = value
        file.read += 1
        before, file.last = file.last, row
        if file.read <= file.reports:
            continue
        if not file.is_described and not view.definition.suggests_while_running:
            yield _start_event(view, trial, file)
        if not before or row.step <= before.step:  # of another attempt: what was said of this step and later is void
            yield Event(wall_time=row.at, step=row.step, session_log=SessionLog(status=SessionLog.START))
        file.reports += 1
        yield _scalars(_REPORT, row.at, row.step, row.metrics)


def _end_events(view: RecordView, trial: Trial, file: _File) -> Iterator[Event]:
    """Of a trial that has ended: hyperparameters that are not there yet, best value and test scores, how it ended."""
    if not trial.state.ended:
        return
    if not file.is_described:
        yield _start_event(view, trial, file)
    values = {f"test_{name}": value for name, value in view.scores.get(trial.trial, {}).items()}
    if file.best is not None:
        values[f"best_{view.definition.metric}"] = file.best
    at, step = trial.ended or trial.created, file.last.step if file.last else 0
    new = {name: value for name, value in values.items() if not _is_same(file.values.get(name), value)}
    if new:  # scores may come later
        file.values |= new
        yield _scalars(_END, at, step, new)
    if not file.is_ended:
        file.is_ended = True
        yield _end_event(trial, at, step)


def _is_same(there: float | None, value: float) -> bool:
    """Whether a float32 in a file is `value`."""
    return there is not None and struct.pack("<f", there) == struct.pack("<f", value)


def _read(path: Path) -> _File:
    """What an event file holds, up to the first event that is not whole."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.metadata import SESSION_END_INFO_TAG, SESSION_START_INFO_TAG

    file = _File(path)
    if not path.exists():
        return file
    with path.open("rb") as stream:
        while (data := _next(stream)) is not None:
            event = Event.FromString(data)
            if event.HasField("session_log"):
                continue  # it belongs to the report that follows
            file.size = stream.tell()
            tags = {value.tag for value in event.summary.value}
            file.is_described |= SESSION_START_INFO_TAG in tags
            file.is_ended |= SESSION_END_INFO_TAG in tags
            file.reports += event.source_metadata.writer == _REPORT
            if event.source_metadata.writer == _END:
                file.values |= {value.tag: value.simple_value for value in event.summary.value}
    return file


def _next(stream: BinaryIO) -> bytes | None:
    """The bytes of the next event; None at the end, and of one that is not whole."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    length, checksum = _HEADER.unpack(header)
    if masked_crc32c(header[:8]) != checksum or length > _LONGEST:
        return None
    data, footer = stream.read(length), stream.read(_CHECKSUM.size)
    whole = len(data) == length and len(footer) == _CHECKSUM.size and _CHECKSUM.unpack(footer)[0] == masked_crc32c(data)
    return data if whole else None


def _framed(data: bytes) -> bytes:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    length = struct.pack("<Q", len(data))
    return length + _CHECKSUM.pack(masked_crc32c(length)) + data + _CHECKSUM.pack(masked_crc32c(data))


def _version_event(at: float) -> Event:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=at, file_version="brain.Event:2")


def _scalars(kind: str, at: float, step: int, values: Mapping[str, float]) -> Event:
    from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
    from tensorboard.compat.proto.summary_pb2 import Summary

    each = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
    return Event(wall_time=at, step=step, summary=Summary(value=each), source_metadata=SourceMetadata(writer=kind))


def _plugin_event(at: float, step: int, tag: str, content: Any) -> Event:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata

    about = metadata.create_summary_metadata(content)
    value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
    return Event(wall_time=at, step=step, summary=Summary(value=[value]))


def _experiment_event(view: RecordView) -> Event:
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    names = dict.fromkeys(name for trial in view.trials for name in hyperparameters(view, trial))
    scored = sorted({f"test_{name}" for scores in view.scores.values() for name in scores})
    metrics = [*view.definition.objectives, f"best_{view.definition.metric}", *scored]
    experiment = api_pb2.Experiment(
        description=view.definition.question,
        hparam_infos=[api_pb2.HParamInfo(name=name) for name in names],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=name)) for name in metrics],
    )
    content = plugin_data_pb2.HParamsPluginData(experiment=experiment)
    return _plugin_event(0.0, 0, metadata.EXPERIMENT_TAG, content)


def _start_event(view: RecordView, trial: Trial, file: _File) -> Event:
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    file.is_described = True
    repeats = "" if trial.source is None else f", {trial.phase}"  # on fresh seeds: the plugin shows their mean
    info = plugin_data_pb2.SessionStartInfo(
        group_name=f"trial {trial.source or trial.trial}{repeats}", start_time_secs=trial.started or trial.created
    )
    for name, value in hyperparameters(view, trial).items():
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, float | int):
            info.hparams[name].number_value = value
        else:
            info.hparams[name].string_value = str(value)
    content = plugin_data_pb2.HParamsPluginData(session_start_info=info)
    return _plugin_event(info.start_time_secs, 0, metadata.SESSION_START_INFO_TAG, content)


def _end_event(trial: Trial, at: float, step: int) -> Event:
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    status = api_pb2.STATUS_FAILURE if trial.state in NEVER_BEST else api_pb2.STATUS_SUCCESS
    info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=at)
    content = plugin_data_pb2.HParamsPluginData(session_end_info=info)
    return _plugin_event(at, step, metadata.SESSION_END_INFO_TAG, content)
