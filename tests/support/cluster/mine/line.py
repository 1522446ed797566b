"""What a user has beside his script: a model and its data, without any library but numpy."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Samples:
    """Inputs and targets of a split; its class must be known where it is unpacked."""

    x: np.ndarray
    y: np.ndarray


def load():
    random = np.random.default_rng(0)
    x = random.normal(size=(600, 8))
    y = x @ np.arange(8) + random.normal(size=600)
    return {name: Samples(x[rows], y[rows]) for name, rows in (("train", slice(400)), ("val", slice(400, 500)),
            ("test", slice(500, 600)))}  # fmt: skip


def step(weights, samples, lr):
    from gradient import gradient  # imported when it is needed: it is no module of the driver

    return weights - lr * gradient(weights, samples.x, samples.y)


def loss(weights, samples):
    return float(np.mean((samples.x @ weights - samples.y) ** 2))
