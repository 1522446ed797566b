"""Answers trials that ask for hyperparameters while they run: an Optuna objective (`trainable.own.objective`).

The study suggests a value, the record keeps it, and only then is it sent to the process. A second attempt that asks
again, or a trial that resumes under another driver, gets the recorded value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rungwise.engine.search.arm_study import ArmStudy
from rungwise.results.io.redaction import Verbatim
from rungwise.results.record.writer import Record
from rungwise.trainable.faults import ordinary, reason
from rungwise.trainable.messages import SuggestionAnswer, TrialResult

Send = Callable[[SuggestionAnswer], object]


class LiveSuggestions:
    """The driver's side of a question."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def answer(self, trial_id: str, result: TrialResult, study: ArmStudy, send: Send) -> None:
        """Suggest what `result` asks for, enter it in the record, and `send` it to the process that asks.

        Whatever the sampler or the range raises ends the trial that asked, and not the sweep.
        """
        assert result.asks is not None
        name = result.asks.name
        try:
            with ordinary():
                is_new = not study.is_suggested(trial_id, name)
                suggestion = study.suggest_one(trial_id, result.asks)
        except Exception as error:
            send(SuggestionAnswer(result.trial, name, problem=f"{name} could not be suggested: {reason(error)}"))
            return
        if is_new:
            self._record.set_params(result.trial, suggestion.params, suggestion.distributions)
            if suggestion.trial_attributes or suggestion.study_attributes:
                kept, shared = Verbatim(suggestion.trial_attributes), Verbatim(suggestion.study_attributes)
                self._record.event("sampler", result.trial, kept=kept, shared=shared)
            self._record.commit()  # a checkpoint may be taken of what is trained with it
        send(SuggestionAnswer(result.trial, name, suggestion.params[name]))


def sender(actor: Any) -> Send:
    """Sends through the handle of a process."""
    return lambda answer: actor.answer.remote(answer)
