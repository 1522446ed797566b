"""Seconds an epoch: Rungwise's loop against the loop that tutorials teach, on the same machine and model.

    python benchmarks/epoch.py --data-root DATA [--repeats 5] [--threads 1] [--batch-size 128]

An epoch is 50,000 MNIST digits in whole batches through 784-128-64-10 with BatchNorm, dropout 0.2 and AdamW, then
the validation loss and accuracy of 10,000 more. The tutorial reads them with torchvision's dataset, ToTensor,
Normalize and a DataLoader. Both run in this process, in turn, so that a busy neighbour slows both; the first
epoch of each warms up and is not counted. CPU seconds are this process's own, which a neighbour changes less.
DATA holds MNIST in torchvision's layout.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from rungwise.trainable.config import Config
from rungwise.trainable.data.dataset import load
from rungwise.trainable.data.tensors import Tensors
from rungwise.trainable.train import prepare_process, train


def rungwise(config: Config) -> Iterator[float]:
    """Train an epoch a turn; yields the validation accuracy."""
    for report in train(config, Tensors.of(load("mnist"), "cpu")):
        yield report.val_accuracy


def tutorial(config: Config, data_root: str) -> Iterator[float]:
    """The same, as most examples are written."""
    scale = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    digits = datasets.MNIST(data_root, train=True, download=False, transform=scale)
    training, validation = Subset(digits, range(50_000)), Subset(digits, range(50_000, 60_000))
    training_loader = DataLoader(training, config.batch_size, shuffle=True, drop_last=True)
    validation_loader = DataLoader(validation, 1000)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in ((784, 128), (128, 64)):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(config.dropout)]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    while True:
        model.train()
        for x, y in training_loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        model.eval()
        total, right = 0.0, 0
        with torch.no_grad():
            for x, y in validation_loader:
                logits = model(x)
                total += F.cross_entropy(logits, y, reduction="sum").item()
                right += int((logits.argmax(1) == y).sum().item())
        yield right / 10_000


def timed(epochs: Iterator[float]) -> tuple[float, float, float]:
    """One epoch's wall seconds, CPU seconds and validation accuracy."""
    wall, cpu = time.perf_counter(), time.process_time()
    accuracy = next(epochs)
    return time.perf_counter() - wall, time.process_time() - cpu, accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, help="folder with MNIST in torchvision's layout")
    parser.add_argument("--repeats", type=int, default=5, help="counted epochs of each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=128)
    args = parser.parse_args()
    prepare_process(args.threads)
    config = Config(
        dropout=0.2, optimizer="adamw", weight_decay=0.01, batch_size=args.batch_size, epochs=args.repeats + 1
    )
    ours, theirs = rungwise(config), tutorial(config, args.data_root)
    pairs = [(timed(ours), timed(theirs)) for _ in range(args.repeats + 1)][1:]
    print(
        f"torch {torch.__version__}, {args.threads} thread(s), batch {args.batch_size}, n = {args.repeats} epochs each"
    )
    for index, kind in enumerate(("wall", "CPU")):
        columns = {
            f"rungwise, {kind} s": [a[index] for a, _ in pairs],
            f"tutorial, {kind} s": [b[index] for _, b in pairs],
            f"ratio, {kind}": [b[index] / a[index] for a, b in pairs],
        }
        for name, values in columns.items():
            print(f"{name:16s} median {statistics.median(values):6.2f}   from {min(values):6.2f} to {max(values):6.2f}")
    print(f"accuracy of the last epoch: rungwise {pairs[-1][0][2]:.4f}, tutorial {pairs[-1][1][2]:.4f}")


if __name__ == "__main__":
    main()
