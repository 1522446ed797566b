"""CPU cores and GPUs: what a machine has, and what a process that trains takes."""

from __future__ import annotations

from dataclasses import dataclass

AUTO, MPS = DEVICES = ("auto", "mps")  # of --device


@dataclass(frozen=True)
class Resources:
    """What there is to train on: CPU cores and GPUs, in fractions too."""

    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs and {self.gpus:g} GPUs"


@dataclass(frozen=True)
class TrialResources(Resources):
    """What a process that trains takes, from the flags to Ray and to the process itself."""

    chosen: str = AUTO  # --device

    def fits(self, available: Resources) -> int:
        """How many such processes fit into `available` at once; of those that share a Mac's GPU one."""
        counts = [available.cpus / self.cpus] if self.cpus else []
        counts += [available.gpus / self.gpus] if self.gpus else []
        counts += [1.0] if self.chosen == MPS else []
        return int(min(counts) + 1e-9)

    def for_tune(self) -> dict[str, float]:
        """As `ray.tune.with_resources` takes it."""
        return {"cpu": self.cpus, "gpu": self.gpus}

    @property
    def threads(self) -> int:
        """Threads of a matrix product, for `trainable.train.prepare_process`."""
        return max(1, int(self.cpus))

    @property
    def device(self) -> str:
        """The device, for `trainable.train.prepare_process`: no GPU that was not asked for, though it may be seen."""
        return MPS if self.chosen == MPS else "auto" if self.gpus > 0 else "cpu"


ONE_CORE = TrialResources(1.0, 0.0)
