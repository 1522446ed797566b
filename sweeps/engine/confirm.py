"""The last step of a sweep: each arm's confirmed configuration is scored on the test split, once.

Everything before works with `Dataset.without_test()`. Here, and only here, a worker is given the test split.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.answer import Answer, answer
from results.record import Reader, Record
from sweeps.engine.models import trusted
from trainable.checkpoints import Checkpoints
from trainable.storage import install

if TYPE_CHECKING:  # Ray reads its environment when it is imported: not before `sweeps.engine.cluster` has set it
    from sweeps.engine.options import Options
    from sweeps.engine.stop import Stop
    from trainable.data import Dataset

MODEL = "model"
Models = dict[int, tuple[str, str]]  # trial -> file of its final state, SHA-256


def confirm(
    record: Record, data: Dataset, options: Options, stop: Stop, checkpoints: str, own: Mapping[str, str]
) -> None:
    """Score what is chosen and not scored yet, and keep the best model; nothing when we are told to stop.

    `checkpoints`: path or URI below which the trials' final states lie. `own`: the user's own models
    that the sweep names, by function.
    """
    folder = record.path.parent
    record.commit()
    with Reader(folder) as reader:
        found, known = answer(reader), reader.checkpoints()
        confirmed = [trial for trial in reader.trials("confirm") if trial.state.ended]
        configs = {trial.trial: trusted(trial.config, own) for trial in confirmed}
        models = _models(reader, found, checkpoints)
        if found.model is None or not unscored(reader, checkpoints):
            return
    import ray

    task = ray.remote(num_cpus=options.cpus_per_trial, num_gpus=options.gpus_per_trial)(_on_worker)
    about = {"arm": found.best, "trial": found.model}
    pending = task.remote(models, configs, found.model, about, data, options.process)
    while not (done := ray.wait([pending], timeout=0.2)[0]):
        if stop.stop_all():
            ray.cancel(pending, force=True)
            return
    scores, diagnosis, content = ray.get(done[0])
    install(content, folder / MODEL)
    for trial, metrics in scores.items():
        for metric, value in metrics.items():
            record.add_score(trial, "test", metric, value)
    record.set_meta("test", {"arm": found.best, "trial": found.model, **diagnosis})
    for trial in known.keys() & configs.keys() - models.keys():
        Checkpoints(checkpoints, trial).remove()
        record.forget_checkpoints(trial)
    record.commit()


def unscored(reader: Reader, checkpoints: str) -> bool:
    """Whether a confirmed model waits to be scored on the test split, or the best one to be kept."""
    found = answer(reader)
    models = _models(reader, found, checkpoints)
    return found.model in models and not (models.keys() <= reader.scores().keys() and (reader.folder / MODEL).exists())


def _models(reader: Reader, found: Answer, checkpoints: str) -> Models:
    """Final states of what each arm is represented by: those that are there."""
    known = reader.checkpoints()
    models = {}
    for trial in (trial for arm in found.arms if arm.chosen for trial in arm.chosen.trials.values()):
        if (steps := known.get(trial)) and (file := Checkpoints(checkpoints, trial).file(max(steps))):
            models[trial] = (file, steps[max(steps)])
    return models


def _on_worker(
    models: Models,
    configs: Mapping[int, Mapping[str, Any]],
    best: int,
    about: Mapping[str, Any],
    data: Dataset,
    process: tuple[int, str],
) -> tuple[dict[int, dict[str, float]], dict[str, Any], dict[str, bytes]]:
    """Scores of all models, where the best one errs, and its folder's files: the driver may be on another machine."""
    from trainable.export import export
    from trainable.final import diagnose, score
    from trainable.train import prepare_process

    device = prepare_process(*process)
    scores = score(models, configs, data, device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / MODEL
        export(models[best], configs[best], data, folder, {**about, "test": scores[best]})
        content = {file.name: file.read_bytes() for file in folder.iterdir()}
    return scores, diagnose(models[best], configs[best], data, device), content
