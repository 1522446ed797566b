"""Checks of the dataset, and of models and objectives against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rungwise.engine.experiment import space
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.engine.validation.ranges import problems as range_problems
from rungwise.trainable import config as hyper

if TYPE_CHECKING:
    from rungwise.trainable.data.dataset import Dataset


def problems(experiment: Experiment, options: Options) -> list[str]:
    """What is wrong with the dataset; a user's own file is read to the end, as it has not been tested."""
    from rungwise.trainable.data import dataset as data

    found = data.problems(options.data, options.data_root)
    if not found and (options.data not in data.DATASETS or options.data in data.SMALL):
        try:
            loaded = data.load(options.data, options.data_root)
            found = _measurable(experiment, options, loaded)
            if loaded.target is not None and options.pack != "off":
                found.append("--pack trains classifications only, but the labels are real numbers; leave it off")
        except data.DataError as error:
            found = [str(error)]
    return found


def _measurable(experiment: Experiment, options: Options, data: Dataset) -> list[str]:
    """Objectives that the data does not have, and what does not suit its samples."""
    regression = data.target is not None
    wrong = ("val_accuracy",) if regression else ("val_mse", "val_mae", "val_r2")
    kind, way = ("real numbers", "metric='val_r2'") if regression else ("classes", "metric='val_accuracy'")
    found = [f"labels are {kind}, so there is no {name}; say {way}" for name in experiment.objectives if name in wrong]
    if not regression and data.test is not None and len(held := set(data.test.y.tolist())) < 2 and options.confirm:
        found.append(f"the test split must hold samples of two classes, but holds {_classes_text(held, data)}")
    return found + unsuited(experiment, data.shape)


def _classes_text(held: set[int], data: Dataset) -> str:
    return f"only {data.classes[held.pop()]!r}" if held else "none"


def unsuited(experiment: Experiment, shape: tuple[int, ...]) -> list[str]:
    """What of the arms' models and augmentation does not suit samples of `shape`; the ranges of a dict included."""
    found: list[str] = []
    for arm in experiment.arms:
        given, searched = experiment.given(arm), experiment.space_of(arm)
        ranges = {} if callable(searched) or range_problems(searched, given) else searched
        inner = [{**given, name: value} for name, kind in ranges.items() for value in space.values(kind)]
        for values in [given, *inner]:
            found += [] if hyper.problems(values) else hyper.unfit(hyper.parse_config(values), shape)
    return list(dict.fromkeys(found))
