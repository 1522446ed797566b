"""An XGBoost callback that reports after boosting rounds."""

from __future__ import annotations

from typing import Any

from rungwise.integrations import refuse
from rungwise.trainable.own.trial import Trial

try:
    from xgboost.callback import TrainingCallback
except ImportError as error:
    refuse("xgboost", error)

CHECKPOINT = "model.json"


class ReportCallback(TrainingCallback):  # type: ignore[misc]
    """Reports the last value of each evaluation, as "<name in evals>_<metric>".

        first = ReportCallback.checkpoint(trial)
        xgboost.train(
            params, data, trial.epochs - trial.reported, evals=[(validation, "val")], xgb_model=first,
            callbacks=[ReportCallback(trial)],
        )

    Args:
        every: Boosting rounds that make a report.
    """

    def __init__(self, trial: Trial, every: int = 1) -> None:
        super().__init__()
        self._trial, self._every = trial, every

    @staticmethod
    def checkpoint(trial: Trial) -> str | None:
        """What `xgboost.train` takes as `xgb_model`: the trial's checkpoint, when it continues from one."""
        return str(trial.checkpoint / CHECKPOINT) if trial.checkpoint else None

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        if (epoch + 1) % self._every:
            return False
        last = {f"{data}_{name}": values[-1] for data, log in evals_log.items() for name, values in log.items()}
        self._trial.report({name: value[0] if isinstance(value, tuple) else value for name, value in last.items()})
        if self._trial.save_due and hasattr(model, "save_model"):  # `xgboost.cv` has several models
            with self._trial.save() as folder:
                model.save_model(folder / CHECKPOINT)
        return False
