"""Slots that sleep, for Tune's real controller: see sleeping.py, which imports this once Ray's environment is set."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.air.execution.resources import AcquiredResources, ResourceManager, ResourceRequest

from rungwise.trainable.messages import TrialAssignment, TrialEnd, TrialResult
from rungwise.trainable.report import Report

HOSTS = 4  # processes that share the slots


class Sleeper(tune.Trainable):
    """One slot: its result is as large as a real trial's, and due `seconds` after it was asked for."""

    seconds = 0.0  # of a slot that is a process of its own

    def setup(self, config: dict[str, Any], **_: Any) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        self._step = 0
        self._best = 0.9 + 0.08 * random.Random(new_config["trial"]).random()
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(self.seconds)
        self._step += 1
        accuracy = self._best * (1 - math.exp(-self._step))
        loss = -math.log(accuracy)
        report = Report(self._step, float(self._step), loss, 0.0, loss, accuracy, 1e-3, self.seconds * self._step)
        metrics = report.asdict()
        del metrics["step"]
        assignment = TrialAssignment.from_tune(self.config)
        state = TrialEnd.COMPLETED if self._step == assignment.config["epochs"] else None
        return TrialResult(
            assignment.trial, step=self._step, objective=accuracy, metrics=metrics, device="cpu", state=state
        ).to_tune()


class Host:
    """Many slots in one process."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._slots: dict[int, Sleeper] = {}

    async def call(self, slot: int, method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "begin":
            self._slots[slot] = Sleeper(*args, **kwargs)
        if method in ("begin", "__ray_ready__"):
            return None
        if method == "train":
            await asyncio.sleep(self._seconds)
        return getattr(self._slots[slot], method)(*args, **kwargs)


class Slot:
    """Stands for the handle of an actor of its own: `slot.train.remote()`."""

    def __init__(self, host: Any, number: int) -> None:
        self._host, self._number = host, number

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=partial(self._host.call.remote, self._number, method))


@dataclass
class Acquired(AcquiredResources):
    """Tune starts a trial's actor with what this makes of the actor's class."""

    pool: Pool

    def _annotate_remote_entity(self, entity: Any, bundle: dict[str, float], bundle_index: int) -> Any:
        return SimpleNamespace(remote=self.pool.start)


class Pool(ResourceManager):
    """`slots` of them, dealt to actors in the order in which Tune asks."""

    def __init__(self, slots: int, seconds: float) -> None:
        host = ray.remote(Host).options(num_cpus=0, max_concurrency=slots + 8)
        self._hosts = [host.remote(seconds) for _ in range(min(HOSTS, slots))]
        self._free = slots
        self._numbers = itertools.count()

    def start(self, **kwargs: Any) -> Slot:
        number = next(self._numbers)
        slot = Slot(self._hosts[number % len(self._hosts)], number)
        slot.begin.remote(**kwargs)
        return slot

    def request_resources(self, resource_request: ResourceRequest) -> None: ...
    def cancel_resource_request(self, resource_request: ResourceRequest) -> None: ...

    def has_resources_ready(self, resource_request: ResourceRequest) -> bool:
        return self._free > 0

    def acquire_resources(self, resource_request: ResourceRequest) -> AcquiredResources | None:
        self._free -= 1
        return Acquired(resource_request, self)

    def free_resources(self, acquired_resource: AcquiredResources) -> None:
        self._free += 1

    def clear(self) -> None: ...
