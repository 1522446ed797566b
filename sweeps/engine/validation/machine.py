"""Checks of the machine: a trial's CPUs and GPUs, and the run's folder."""

from __future__ import annotations

import os
from pathlib import Path

from rungwise.engine.cluster.local_ray import local_resources
from rungwise.engine.experiment.experiment import Experiment
from rungwise.engine.experiment.flags import Options
from rungwise.results.record.reader import Reader
from rungwise.results.record.sessions import LOCK
from rungwise.results.record.types import FILE, HALF, RecordError
from rungwise.text import unknown
from rungwise.trainable.resources import DEVICES, MPS


def resource_problems(experiment: Experiment, options: Options) -> list[str]:
    have, takes, lines = local_resources(), options.resources, []
    for kind, asked, exist in (("CPUs", takes.cpus, have.cpus), ("GPUs", takes.gpus, have.gpus)):
        flag = f"--{kind.lower()}-per-trial"
        if not asked >= 0:
            lines.append(f"{flag} must be at least 0 (got {asked:g})")
        elif kind == "GPUs" and asked > 1 and not experiment.trained_by.is_own:
            way = "more trials at once use more GPUs"
            lines.append(f"{flag}: the built-in training uses one GPU, or a share of it, but got {asked:g}; {way}")
        elif asked > exist and options.address is None:
            lines.append(f"{flag}: this machine has {exist:g} {kind}, but got {asked:g}; use fewer, or --address")
    lines += _device_problems(options)
    if takes.cpus == takes.gpus == 0:
        lines.append("a trial needs a CPU or a GPU, but --cpus-per-trial and --gpus-per-trial are both 0")
    return lines


def _device_problems(options: Options) -> list[str]:
    """Why a Mac's GPU cannot be used; [] where none is asked for."""
    if options.device not in DEVICES:
        return [unknown("--device", options.device, list(DEVICES))]
    if options.device != MPS:
        return []
    others = {
        "--gpus-per-trial": options.gpus_per_trial > 0,
        "--address": options.address is not None,
        "--pack": options.pack != "off",
        "--concurrency": options.concurrency > 1,
    }
    lines = [
        f"--device mps trains one trial at a time, on this machine: leave out {flag}" for flag in others if others[flag]
    ]
    import torch

    if not torch.backends.mps.is_available():
        lacks = "macOS or Apple's GPU" if torch.backends.mps.is_built() else "a torch that was built for it"
        lines.append(
            f"--device mps needs Metal, but this machine lacks {lacks}; without the flag trials train on the CPU"
        )
    return lines


def folder_problems(experiment: Experiment, options: Options) -> list[str]:
    folder = options.folder
    try:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    except OSError as error:
        return [f"--out must be a folder that can be written, but {folder}: {error.strerror}"]
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return [f"--out must be a folder that can be written, but {folder} cannot, because of {there}"]
    if not folder.exists():
        return []
    if not (folder / FILE).exists():
        if (folder / HALF).is_dir():  # its head was killed while it brought the run home
            again = f"{folder} contains half of a run, and --mirror brings all of it; or choose another --name"
            return [] if options.mirror else [again]
        # A killed driver may leave the lock, and a record that was never finished: neither is anybody's work.
        foreign = sorted(child.name for child in folder.iterdir() if child.name not in (LOCK, f".{FILE}.tmp"))
        return [f"{folder} contains {foreign[0]} but no {FILE}; choose another --name"] if foreign else []
    try:
        with Reader(folder) as reader:
            owner = reader.definition().sweep or experiment.sweep
    except RecordError:
        return []  # no bad input: opening it for writing names the file and the damage
    if owner != experiment.sweep:
        return [f"--name {options.name!r} is taken by a run of sweep {owner!r} in {options.out}; choose another"]
    return []


def creation_problems(folder: Path) -> list[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return [f"--out must be a folder that can be written, but {folder}: {error.strerror}"]
    return []
