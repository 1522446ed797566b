"""A Lightning callback that reports after each validation."""

from __future__ import annotations

from typing import Any

from rungwise.integrations import refuse
from rungwise.trainable.own.trial import Trial

try:
    from lightning.pytorch.callbacks import Callback
except ImportError as error:
    refuse("lightning", error)

CHECKPOINT = "lightning.ckpt"


class ReportCallback(Callback):  # type: ignore[misc]
    """Reports all that was logged (`self.log`), once a validation.

    trainer = Trainer(max_epochs=trial.epochs, callbacks=[ReportCallback(trial)])
    trainer.fit(model, data, ckpt_path=ReportCallback.checkpoint(trial))
    """

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    @staticmethod
    def checkpoint(trial: Trial) -> str | None:
        """What `Trainer.fit` takes as `ckpt_path`: the trial's checkpoint, when it continues from one."""
        return str(trial.checkpoint / CHECKPOINT) if trial.checkpoint else None

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self._trial.report(trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self._trial.save_due:
            with self._trial.save() as folder:
                trainer.save_checkpoint(folder / CHECKPOINT)
