"""Fits a line: a program that imports a module beside it."""

import argparse
import os
from pathlib import Path

import line
import numpy as np

import rungwise

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--epochs", type=int)
    args = parser.parse_args()
    samples, weights = line.load(), np.zeros(8)
    for epoch in range(args.epochs):
        weights = line.step(weights, samples["train"], args.lr)
        saved = Path(os.environ["RUNGWISE_SAVE"], f"{epoch}.npy")
        np.save(saved, weights)
        rungwise.report(val_loss=line.loss(weights, samples["val"]), checkpoint=saved)
