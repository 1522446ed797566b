"""The test split, touched once: what confirmed models score on it, and where the chosen one errs.

Runs in one Ray task after the search; no other code reads `Dataset.test`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rungwise.trainable.config import Config, parse_config
from rungwise.trainable.data.dataset import Dataset, Split
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.export.sample_scores import pack_sample_scores
from rungwise.trainable.faults import ordinary
from rungwise.trainable.train import outputs_of, scores
from rungwise.trainable.training.state import State

PREDICTIONS = 1000  # of a regression that are kept for the report
File = tuple[str | Path, str]  # what `State.save` wrote, and its SHA-256


@ordinary()
def score(
    files: Mapping[int, File], configs: Mapping[int, Mapping[str, Any]], data: Dataset, device: torch.device | str
) -> dict[int, dict[str, float]]:
    """{trial: {"accuracy": 0..1, "loss": nats a sample}} on the test split of each trial's final model; of a
    regression loss, mse, mae and r2.

    Raises CheckpointError for a file that is not what its digest says, ValueError when `data` has no test split.
    """
    test = _test(data, device)
    found = {}
    for trial, file in files.items():
        config = parse_config(configs[trial])
        model = load(file, config, test)
        found[trial] = scores(model, test, config.precision)
    return found


@ordinary()
def score_samples(
    file: File, config: Mapping[str, Any], data: Dataset, device: torch.device | str
) -> dict[str, tuple[int, bytes]]:
    """{metric: number of test samples, what the model scores on each, packed (`sample_scores`)}. Raises as `score`."""
    test, checked = _test(data, device), parse_config(config)
    return pack_sample_scores(load(file, checked, test), test, checked.precision)


@ordinary()
def diagnose(
    file: File, config: Mapping[str, Any], data: Dataset, device: torch.device | str, worst: int = 24
) -> dict[str, Any]:
    """Where the model errs on the test split, as JSON: for the report's confusion matrix and gallery.

    confusion[i][j]: samples of class i that were called j; class_accuracy[i]: share of class i that was right, None
    without samples; mistakes: the `worst` most confident ones, first the most confident, with the raw uint8 image
    in base64 (None for data that is not images). A regression has instead, in the target's unit, true[i] and
    predicted[i] of `PREDICTIONS` test samples, evenly spaced, or of all if there are fewer. Raises as `score` does.
    """
    test = _test(data, device)
    checked = parse_config(config)
    if test.target is not None:
        predictions = _predictions(load(file, checked, test), test, checked.precision)
        return {"classes": [], "samples": len(test.y_validation)} | predictions
    probabilities = _probabilities(load(file, checked, test), test, checked.precision)  # (N, K)
    true, classes = test.y_validation.cpu(), test.classes
    confidence, predicted = probabilities.max(1)
    confusion = torch.bincount(true * classes + predicted, minlength=classes**2).view(classes, classes)
    wrong = (predicted != true).nonzero().flatten()
    first = wrong[torch.argsort(confidence[wrong], descending=True, stable=True)][:worst]
    return {
        "classes": list(data.classes),
        "samples": len(true),
        "confusion": confusion.tolist(),
        "class_accuracy": [
            int(row[index]) / int(row.sum()) if row.sum() else None for index, row in enumerate(confusion)
        ],
        "mistakes": [
            {
                "index": index,
                "true": int(true[index]),
                "predicted": int(predicted[index]),
                "probability": float(confidence[index]),
                "image": _image(data, index),
                "shape": list(data.shape),
            }
            for index in first.tolist()
        ],
    }


def load(file: File, config: Config, tensors: Tensors) -> nn.Module:
    """The trained model in eval mode on the tensors' device. Raises CheckpointError."""
    path, sha256 = file
    return State.load(path, config, tensors, sha256).model.eval()


def _test(data: Dataset, device: torch.device | str) -> Tensors:
    """The test split in the validation's place, and nothing else, on `device`."""
    if data.test is None:
        raise ValueError(f"the final step must be given the test split, but the dataset {data.name!r} has none")
    nothing = Split(data.train.x[:0], data.train.y[:0])
    return Tensors.of(replace(data, train=nothing, validation=data.test, test=None), device)


@torch.no_grad()
def _predictions(model: nn.Module, test: Tensors, precision: str) -> dict[str, list[float]]:
    assert test.target is not None
    mean, sd = test.target
    true = test.y_validation.double().cpu()
    outputs = outputs_of(model, test.x_validation, test.mean, test.std, precision)
    predicted = outputs[:, 0].double().cpu() * sd + mean
    chosen = torch.linspace(0, len(true) - 1, min(PREDICTIONS, len(true))).round().long()
    finite = chosen[predicted[chosen].isfinite()]
    return {"true": true[finite].tolist(), "predicted": predicted[finite].tolist()}


@torch.no_grad()
def _probabilities(model: nn.Module, test: Tensors, precision: str) -> Tensor:
    return outputs_of(model, test.x_validation, test.mean, test.std, precision).softmax(1).cpu()


def _image(data: Dataset, index: int) -> str | None:
    assert data.test is not None
    sample = data.test.x[index]
    return base64.b64encode(np.ascontiguousarray(sample).tobytes()).decode() if sample.dtype == np.uint8 else None
