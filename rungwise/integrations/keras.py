"""A Keras callback that reports after each epoch."""

from __future__ import annotations

from typing import Any

from rungwise.integrations import refuse
from rungwise.trainable.own.trial import Trial

try:
    from keras.callbacks import Callback
except ImportError as error:
    refuse("keras", error)

CHECKPOINT = "model.keras"


class ReportCallback(Callback):  # type: ignore[misc]
    """Reports the logs of each epoch ("loss", "val_loss", ...).

    path = ReportCallback.checkpoint(trial)
    model = keras.saving.load_model(path) if path else make(config)
    model.fit(x, y, validation_data=..., initial_epoch=trial.reported, epochs=trial.epochs,
              callbacks=[ReportCallback(trial)])
    """

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self._trial = trial

    @staticmethod
    def checkpoint(trial: Trial) -> str | None:
        """The file of the trial's checkpoint, when it continues from one."""
        return str(trial.checkpoint / CHECKPOINT) if trial.checkpoint else None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._trial.report(logs or {})
        if self._trial.save_due:
            with self._trial.save() as folder:
                self.model.save(folder / CHECKPOINT)
