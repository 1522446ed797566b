"""The machines of a cluster: which there are, which may come, whether a trial fits on one, and what they all reach."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rungwise.engine.cluster import compat
from rungwise.engine.cluster.attach import Unusable
from rungwise.storage import Folder
from rungwise.trainable.resources import Resources, TrialResources

CONFIGURATION = Path("~/ray_bootstrap_config.yaml")  # where `ray up` leaves the cluster's configuration, on its head
JOIN_SECONDS = 10.0  # for a machine on which a trial fits, when the configuration does not say whether one may come
PROBE_SECONDS = 60.0  # for all machines to start a process, and to look at the storage
POLL_SECONDS = 2.0  # between two looks at the cluster


@dataclass(frozen=True)
class Kind:
    """A node type: what `ray up` or KubeRay may start."""

    name: str
    resources: Resources
    least: int
    most: int

    def __str__(self) -> str:
        holds = str(self.resources) if self.known else "what the machine has"
        return f"{self.name} ({holds}; {self.least} to {self.most} of them)"

    @property
    def known(self) -> bool:
        """Whether the configuration says what such a machine holds."""
        return self.resources != Resources(0, 0)


class Machines:
    """The cluster that this driver is attached to, as a sweep of trials of one size sees it."""

    def __init__(self, each: TrialResources) -> None:
        """`each`: what a trial takes."""
        self._each = each
        self._kinds, self._addresses = configured()
        self._alive = _alive()
        self._looked = time.monotonic()

    def slots(self) -> int:
        """Trials that fit on the machines there are, or on all that may come: only waiting trials make them come."""
        now = sum(self._each.fits(there) for _, there in self._alive.values())
        may = sum(kind.most * self._each.fits(kind.resources) for kind in self._kinds)
        return max(now, may)

    def changed(self) -> str | None:
        """What changed since the last look, in words. Looks every `POLL_SECONDS`."""
        if time.monotonic() - self._looked < POLL_SECONDS:
            return None
        before, self._alive, self._looked = self._alive, _alive(), time.monotonic()
        joined = [f"{address} joined" for node, (address, _) in self._alive.items() if node not in before]
        left = [f"{address} left" for node, (address, _) in before.items() if node not in self._alive]
        return f"{', '.join(left + joined)}: {self.words()}" if left or joined else None

    def words(self) -> str:
        """How many machines there are, what they hold, and which are missing."""
        held = [there for _, there in self._alive.values()]
        total = Resources(sum(there.cpus for there in held), sum(there.gpus for there in held))
        count, least = len(self._alive), sum(kind.least for kind in self._kinds)
        words = f"{count} machine{'s' * (count != 1)}, {total}"
        if missing := self._missing():
            words += f"; missing: {', '.join(missing)}"
        elif count < least:
            words += f"; {least - count} of at least {least} missing"
        return words

    def _missing(self) -> list[str]:
        """Machines that the configuration names and that are not there."""
        here = {address for address, _ in self._alive.values()}
        return [address for address in self._addresses if address not in here]

    def require_room(self) -> None:
        """Raises Unusable when no machine there is, nor any that may come, can hold one trial."""
        known = bool(self._kinds) and all(kind.known or kind.most == 0 for kind in self._kinds)
        known |= bool(self._addresses) and not self._missing()  # all that there are
        deadline = time.monotonic() + (0 if known else JOIN_SECONDS)
        while not self.slots():
            if time.monotonic() >= deadline:
                kinds = "; ".join(map(str, self._kinds)) or "no node types known"
                raise Unusable(
                    f"a trial takes {self._each}, which no machine of this cluster can give. "
                    f"There are {self.words()}. Node types: {kinds}"
                )
            time.sleep(0.5)
            self._alive = _alive()

    def require_storage(self, root: str, mark: str) -> None:
        """Put the file `mark` into the folder `root`. Raises Unusable when a machine does not see it there."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        try:
            Folder(root).write(mark, b"")
        except OSError as error:
            raise Unusable(f"checkpoints must be writable, but {root}: {error}") from None
        nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        if len(nodes) == 1:
            return  # machines that join later look for the mark when their first trial begins
        look = ray.remote(num_cpus=0, max_retries=0)(_sees)
        asked = {}
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[look.options(scheduling_strategy=there).remote(root, mark)] = node["NodeManagerAddress"]
        answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
        problems = [f"{asked[ref]} gave no answer within {PROBE_SECONDS:g} s" for ref in silent]
        for ref in answered:
            try:
                wrong = ray.get(ref)
            except Exception as error:  # among others: the package is not there
                wrong = str(error).strip().splitlines()[-1]
            problems += [f"{asked[ref]}: {wrong}"] if wrong else []
        if problems:
            raise Unusable(
                f"all machines must reach the checkpoints in {root}; name a shared folder or an s3:// URI with "
                f"--mirror. {'; '.join(sorted(problems))}"
            )


def _sees(root: str, mark: str) -> str | None:
    """On a worker: what is wrong with the storage there."""
    try:
        return None if mark in Folder(root).names() else "does not see what the driver wrote there"
    except OSError as error:
        return str(error)


def _alive() -> dict[str, tuple[str, Resources]]:
    """{node: (address, what it holds)}"""
    import ray

    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return {
        node["NodeID"]: (node["NodeManagerAddress"], _resources(node["Resources"])) for node in nodes if node["Alive"]
    }


def configured() -> tuple[list[Kind], list[str]]:
    """Node types, and the addresses of machines that are known beforehand (provider local)."""
    if kinds := _reported():
        return kinds, []
    text = _of_ray_up() or _of_kuberay() or {}
    head, most_in_all = text.get("head_node_type"), text.get("max_workers", 0)
    kinds = []
    for name, kind in text.get("available_node_types", {}).items():
        one = int(name == head)
        least = kind.get("min_workers", 0) + one
        most = min(kind.get("max_workers", 0), most_in_all) + one
        kinds.append(Kind(name, _resources(kind.get("resources", {})), least, max(least, most)))
    return kinds, [*text.get("provider", {}).get("worker_ips", [])]


def _reported() -> list[Kind]:
    """What an autoscaler has reported to Ray's head; Ray's own do not (2.60), those of its vendors may."""
    groups = compat.reported_node_groups()
    return [Kind(name, _resources(resources), least, most) for name, resources, least, most in groups]


def _of_ray_up() -> dict[str, Any] | None:
    """The configuration that `ray up` leaves on its head."""
    import yaml

    try:
        text: dict[str, Any] = yaml.safe_load(CONFIGURATION.expanduser().read_text())
    except OSError:
        return None
    return text


def _of_kuberay() -> dict[str, Any] | None:
    """What KubeRay's autoscaler derives from the RayCluster whose head runs in this pod."""
    name, namespace = os.environ.get("RAY_CLUSTER_NAME"), os.environ.get("RAY_CLUSTER_NAMESPACE")
    if not name or not namespace:
        return None
    return compat.kuberay_configuration(name, namespace)


def _resources(amounts: Mapping[str, float]) -> Resources:
    return Resources(float(amounts.get("CPU", 0)), float(amounts.get("GPU", 0)))
