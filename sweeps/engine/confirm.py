"""The last step of a sweep: each arm's confirmed configuration is scored on the test split, once.

Everything before works with `Dataset.without_test()`. Here, and only here, a worker is given the test split.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from results.answer import Answer, answer
from results.record import Reader, Record
from trainable.checkpoints import FOLDER, Checkpoints

if TYPE_CHECKING:  # Ray reads its environment when it is imported: not before `sweeps.engine.cluster` has set it
    from sweeps.engine.stop import Stop
    from trainable.data import Dataset

MODEL = "model"
Models = dict[int, tuple[str, str]]  # trial -> file of its final state, SHA-256


def confirm(record: Record, data: Dataset, resources: Mapping[str, float], stop: Stop) -> None:
    """Score what is chosen and not scored yet, and keep the best model; nothing when we are told to stop."""
    folder = record.path.parent
    record.commit()
    with Reader(folder) as reader:
        found, known = answer(reader), reader.checkpoints()
        configs = {trial.trial: trial.config for trial in reader.trials("confirm")}
        models = _models(reader, found)
        if found.model is None or not unscored(reader):
            return
    import ray

    task = ray.remote(num_cpus=resources["cpu"], num_gpus=resources["gpu"])(_on_worker)
    about = {"arm": found.best, "trial": found.model}
    pending = task.remote(models, configs, found.model, about, str(folder / MODEL), data, max(1, int(resources["cpu"])))
    while not (done := ray.wait([pending], timeout=0.2)[0]):
        if stop.stop_all():
            ray.cancel(pending, force=True)
            return
    scores, diagnosis = ray.get(done[0])
    for trial, metrics in scores.items():
        for metric, value in metrics.items():
            record.add_score(trial, "test", metric, value)
    record.set_meta("test", {"arm": found.best, "trial": found.model, **diagnosis})
    for trial in known.keys() & configs.keys() - models.keys():
        Checkpoints(folder / FOLDER, trial).remove()
        record.forget_checkpoints(trial)
    record.commit()


def unscored(reader: Reader) -> bool:
    """Whether a confirmed model waits to be scored on the test split, or the best one to be kept."""
    found = answer(reader)
    models = _models(reader, found)
    return found.model in models and not (models.keys() <= reader.scores().keys() and (reader.folder / MODEL).exists())


def _models(reader: Reader, found: Answer) -> Models:
    """Final states of what each arm is represented by: those that are there."""
    known = reader.checkpoints()
    models = {}
    for trial in (trial for arm in found.arms if arm.chosen for trial in arm.chosen.trials.values()):
        if steps := known.get(trial):
            file = Checkpoints((reader.folder / FOLDER).absolute(), trial).file(max(steps))
            if file.exists():
                models[trial] = (str(file), steps[max(steps)])
    return models


def _on_worker(
    models: Models,
    configs: Mapping[int, Mapping[str, Any]],
    best: int,
    about: Mapping[str, Any],
    folder: str,
    data: Dataset,
    threads: int,
) -> tuple[dict[int, dict[str, float]], dict[str, Any]]:
    """Scores of all models, and where the best one errs; writes the best one to `folder`."""
    from trainable.export import export
    from trainable.final import diagnose, score
    from trainable.train import pick_device, set_threads

    set_threads(threads)
    device = pick_device()
    scores = score(models, configs, data, device)
    export(models[best], configs[best], data, folder, {**about, "test": scores[best]})
    return scores, diagnose(models[best], configs[best], data, device)
