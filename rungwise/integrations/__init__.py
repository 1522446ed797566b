"""Callbacks that report to a trial from inside other libraries' training loops; each file needs only its library.

    from rungwise.integrations.lightning import ReportCallback       # also: transformers, xgboost, lightgbm, keras

A callback reports what the library has measured, lets `TrialStopped` end the training, and saves a checkpoint when
one is due. Names are the library's own ("val_loss", "eval_accuracy", "val_logloss").
"""

from __future__ import annotations

from typing import NoReturn


def refuse(library: str, error: ImportError) -> NoReturn:
    """Raises ImportError, which says how to install the library."""
    raise ImportError(
        f"rungwise.integrations.{library} needs {library}, but {error}: pip install {library}, or 'rungwise[own]'"
    ) from error
