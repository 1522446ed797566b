"""Common parts of all contestants: the space, the network, the data, and a line for every report. Not a program.

    lr          log 1e-4..1e-1      weight_decay  log 1e-6..1e-1      dropout    0..0.5
    batch_size  64, 128 or 256 (peers.py --batch-sizes)
    optimizer   sgd, adam, adamw or rmsprop (momentum 0.9)

784-128-64-10 with BatchNorm, 50,000 MNIST digits to train and 10,000 to validate, rungs at 1 and 3 of 6 epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

GRACE, ETA = 1, 3
BATCH_SIZES = json.loads(os.environ.get("PEERS_BATCH_SIZES", "[64, 128, 256]"))
OPTIMIZERS = ["sgd", "adam", "adamw", "rmsprop"]


@dataclass(frozen=True)
class Task:
    """What the harness asks of a contestant, by command line."""

    trials: int
    epochs: int
    workers: int  # processes that train, one thread each
    seed: int
    data: Path  # folder with mnist.npz, and MNIST in torchvision's layout
    out: Path  # folder for whatever it writes; reports.jsonl among it

    @classmethod
    def parse(cls) -> Task:
        parser = argparse.ArgumentParser()
        for name in ("trials", "epochs", "workers", "seed"):
            parser.add_argument(f"--{name}", type=int, required=True)
        for name in ("data", "out"):
            parser.add_argument(f"--{name}", type=Path, required=True)
        return cls(**vars(parser.parse_args()))


def say(out: Path, trial: object, epoch: int, accuracy: float) -> None:
    """Append one report to `out`/reports.jsonl: what the harness counts and times."""
    line = json.dumps({"trial": str(trial), "epoch": epoch, "val_accuracy": accuracy, "at": time.time()})
    with (out / "reports.jsonl").open("a") as file:
        file.write(line + "\n")


def network(dropout: float) -> nn.Sequential:
    """(B, 784) or (B, 1, 28, 28) -> logits (B, 10)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in ((784, 128), (128, 64)):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def optimizer_of(model: nn.Module, name: str, lr: float, decay: float, *, fast: bool) -> torch.optim.Optimizer:
    """The named update rule; `fast` with torch's fused kernels, where there are any."""
    parameters = list(model.parameters())
    fused = True if fast else None
    if name == "sgd":
        return torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=decay, fused=fused)
    if name == "adam":
        return torch.optim.Adam(parameters, lr, weight_decay=decay, fused=fused)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr, weight_decay=decay, fused=fused)
    return torch.optim.RMSprop(parameters, lr, momentum=0.9, weight_decay=decay, foreach=True if fast else None)
