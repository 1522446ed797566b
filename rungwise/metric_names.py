"""What the name of a metric says: its split, and which way is better."""

from __future__ import annotations

import re
from typing import Literal

_VALIDATION = re.compile(r"(?i)^val(?:id(?:ation)?)?[ _./-]+(?=.)")
# Last words of names of metrics in general use: val_rmse, eval_loss, macro_f1.
_LESS = "loss nll error err mse rmse mae mape smape rmsle msle logloss mlogloss perplexity ppl wer cer brier fid"
_MORE = "accuracy acc f1 auc auroc auprc precision recall r2 iou miou dice map bleu ndcg mcc kappa psnr ssim"
_NEGATED = {"neg", "negative", "minus", "inverse"}  # neg_mean_squared_error of scikit-learn


def without_split(metric: str) -> str:
    """A metric's name without the validation split that it begins with, however that is spelt: 'val_', 'val/', ..."""
    return _VALIDATION.sub("", metric)


def usual_mode(metric: str) -> Literal["max", "min"] | None:
    """Which way is better of a metric with this name; None where the name does not tell."""
    words = re.split(r"[^a-z0-9]+", metric.lower())
    if not _NEGATED.isdisjoint(words):
        return None
    return "min" if words[-1] in _LESS.split() else "max" if words[-1] in _MORE.split() else None
