"""Restores the state of the process after a sweep, so that a notebook or a script can run another one."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

FIRST = {"optuna": logging.INFO, "ray.tune": logging.INFO}  # levels, as the libraries set them


@contextmanager
def undisturbed() -> Iterator[None]:
    """When the block ends, garbage collection, the environment, torch's threads and the levels of all loggers are what
    they were when it began; of a logger that came within, whose level the sweep sets, what its library makes it."""
    collecting, environment = gc.isenabled(), dict(os.environ)
    before = {name: logger.level for name, logger in _loggers().items()}
    threads = torch.get_num_threads() if (torch := sys.modules.get("torch")) else None
    try:
        yield
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        for name, logger in _loggers().items():
            logger.setLevel(before.get(name, FIRST.get(name, logger.level)))
        if threads is not None:
            sys.modules["torch"].set_num_threads(threads)


def _loggers() -> dict[str, logging.Logger]:
    known = logging.root.manager.loggerDict.items()
    return {"": logging.root} | {name: logger for name, logger in known if isinstance(logger, logging.Logger)}
