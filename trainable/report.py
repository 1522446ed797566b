"""What a trial says while it trains. No torch here: the driver reads reports, and never trains."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Report:
    """One row a trial sends. Losses are nats a sample, `seconds` wall time of training and validation."""

    step: int
    epoch: float
    train_loss: float
    penalty: float
    val_loss: float
    val_accuracy: float
    lr: float
    seconds: float

    @property
    def finite(self) -> bool:
        """False when the trial has diverged."""
        return all(math.isfinite(value) for value in (self.train_loss, self.penalty, self.val_loss, self.val_accuracy))

    def asdict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
