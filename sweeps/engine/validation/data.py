"""Checks of hyperparameters against the data."""

from __future__ import annotations

from rungwise.engine.experiment import space
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.validation.ranges import problems as range_problems
from rungwise.trainable.protocol import SweepData


def unsuited(experiment: Experiment, data: SweepData) -> list[str]:
    """What of the arms' hyperparameters does not suit the data; the ranges of a dict included."""
    training, lines = experiment.trained_by, list[str]()
    for arm in experiment.arms:
        given, searched = experiment.given(arm), experiment.space_of(arm)
        ranges = {} if callable(searched) or range_problems(searched, given, training) else searched
        inner = [{**given, name: value} for name, kind in ranges.items() for value in space.values(kind)]
        for values in [given, *inner]:
            lines += [] if training.problems(values) else training.unfit(values, data)
    return list(dict.fromkeys(lines))
