"""A LightGBM callback that reports after boosting rounds. LightGBM's callbacks are plain callables: no import of it."""

from __future__ import annotations

from typing import Any

from rungwise.trainable.own.trial import Trial

CHECKPOINT = "model.txt"


class ReportCallback:
    """Reports each evaluation, as "<name of the valid set>_<metric>".

        lightgbm.train(
            params, data, trial.epochs - trial.reported, valid_sets=[validation], valid_names=["val"],
            init_model=ReportCallback.checkpoint(trial), callbacks=[ReportCallback(trial)],
        )

    Args:
        every: Boosting rounds that make a report.
    """

    order = 20  # of LightGBM's callbacks: after those that measure

    def __init__(self, trial: Trial, every: int = 1) -> None:
        self._trial, self._every = trial, every

    @staticmethod
    def checkpoint(trial: Trial) -> str | None:
        """What `lightgbm.train` takes as `init_model`: the trial's checkpoint, when it continues from one."""
        return str(trial.checkpoint / CHECKPOINT) if trial.checkpoint else None

    def __call__(self, env: Any) -> None:
        if (env.iteration + 1 - env.begin_iteration) % self._every:
            return
        self._trial.report({f"{each[0]}_{each[1]}": each[2] for each in env.evaluation_result_list})
        if self._trial.save_due and hasattr(env.model, "save_model"):  # `lightgbm.cv` has several models
            with self._trial.save() as folder:
                env.model.save_model(folder / CHECKPOINT)
