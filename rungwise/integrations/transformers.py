"""A callback of Hugging Face's Trainer that reports after each evaluation."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rungwise.integrations import refuse
from rungwise.trainable.own.trial import Trial

try:
    from transformers import TrainerCallback
except ImportError as error:
    refuse("transformers", error)


TIMES = ("_runtime", "_per_second")  # ends of the names of what says nothing about the model


class ReportCallback(TrainerCallback):  # type: ignore[misc]
    """Reports all that `evaluate` measured, but for times, and keeps the Trainer's own checkpoint when one is due.

        trainer = Trainer(model, arguments, ..., callbacks=[ReportCallback(trial)])
        trainer.train(resume_from_checkpoint=ReportCallback.checkpoint(trial))

    Set `eval_strategy="epoch"`, and `save_strategy="no"`: the callback asks for checkpoints.
    """

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    @staticmethod
    def checkpoint(trial: Trial) -> str | None:
        """What `Trainer.train` takes as `resume_from_checkpoint`: the trial's checkpoint, if it continues from one."""
        return str(trial.checkpoint) if trial.checkpoint else None

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        metrics: Mapping[str, float] = kwargs["metrics"]
        self._trial.report({name: value for name, value in metrics.items() if not name.endswith((*TIMES, "epoch"))})
        control.should_save = control.should_save or self._trial.save_due

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._trial.save_due:
            with self._trial.save() as folder:
                saved = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                shutil.copytree(saved, folder, dirs_exist_ok=True)
