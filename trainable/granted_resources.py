"""What this process is granted of its machine: a container, a job or a service has less than the hardware.

Limits of a control group are read where the kernel has them: in the group of this process and in every one above it,
of both versions (https://docs.kernel.org/admin-guide/cgroup-v2.html, "cpu.max" and "memory.max").
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

CGROUP = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")  # lines of "number:controllers:path"; version 2 has no controllers
UNLIMITED = 2**60  # bytes; version 1 says "no limit" by a number near 2**63
NVIDIA = Path("/proc/driver/nvidia/gpus")  # a folder for each GPU of the machine
# Of a GPU's driver: Nvidia's, that of its Tegra boards, WSL2's, AMD's. A container has them only with a GPU.
GPU_NODES = tuple(map(Path, ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")))


def cpus(environment: Mapping[str, str] | None = None) -> float:
    """Cores that this process may keep busy, at least 1; not always whole. `environment`: of a Slurm job."""
    environment = os.environ if environment is None else environment
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1.0, min([float(affinity), *_quotas(), *_slurm(environment)]))


def gpus() -> int:
    """GPUs that a process may use, as torch counts them: those of its container, and of CUDA_VISIBLE_DEVICES, which
    names them by number or identifier (also parts of one, MIG). Torch takes seconds to import, and is not without a
    driver."""
    if not any(node.exists() for node in GPU_NODES):
        return 0
    import torch

    if torch.version.cuda or torch.version.hip:
        return torch.cuda.device_count()
    return _gpus_without_torch(os.environ.get("CUDA_VISIBLE_DEVICES"))


def _gpus_without_torch(visible: str | None) -> int:
    """GPUs that CUDA_VISIBLE_DEVICES and Nvidia's driver name, for trainings that use them without torch."""
    present = len(list(NVIDIA.glob("*")))
    if visible is None:
        return present
    count = 0
    for device in map(str.strip, visible.split(",")):  # CUDA reads up to the first that it does not know
        if not (device.startswith(("GPU-", "MIG-")) or (device.isdigit() and int(device) < present)):
            break
        count += 1
    return count


def memory(environment: Mapping[str, str] | None = None) -> int | None:
    """Bytes that the control groups leave free, files that the kernel keeps in memory not counted; None = no limit.

    Of a Slurm job (`environment`) at most what it has on this node: not every site keeps jobs to their memory.
    """
    names = (("memory.max", "memory.current", "inactive_file"),
             ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))  # fmt: skip
    left = list(_slurm_memory(os.environ if environment is None else environment))
    for group in _groups("memory"):
        for limit, usage, cached in names:
            with suppress(OSError, ValueError):  # "max"
                most = int((group / limit).read_text())
                if most < UNLIMITED:
                    left.append(most - int((group / usage).read_text()) + _statistic(group, cached))
    return min(left, default=None)


def _quotas() -> Iterator[float]:
    """Cores, of each group that limits them."""
    for group in _groups("cpu"):
        with suppress(OSError, ValueError):  # no such file, or "max"
            quota, period = (group / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        with suppress(OSError, ValueError):
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if int(quota) > 0:  # -1: no limit
                yield int(quota) / int(period)


def _slurm(environment: Mapping[str, str]) -> Iterator[float]:
    """What the job has on this node, and a task of it: not every site keeps jobs to their cores."""
    names = ["SLURM_CPUS_ON_NODE"] if "SLURM_JOB_ID" in environment else []
    names += ["SLURM_CPUS_PER_TASK"] if "SLURM_STEP_ID" in environment else []
    for name in names:
        with suppress(KeyError, ValueError):
            yield float(environment[name])


def _slurm_memory(environment: Mapping[str, str]) -> Iterator[int]:
    """Bytes; Slurm says MiB, of the node or of each core, and 0 for all that the node has."""
    with suppress(KeyError, ValueError):
        if "SLURM_MEM_PER_NODE" in environment:
            mebibytes = int(environment["SLURM_MEM_PER_NODE"])
        else:
            mebibytes = int(environment["SLURM_MEM_PER_CPU"]) * int(environment["SLURM_CPUS_ON_NODE"])
        if mebibytes:
            yield mebibytes * 2**20


def _groups(controller: str) -> Iterator[Path]:
    """Folders of this process's group and of those above it. In a container without a namespace of its own the path is
    the host's, and what is mounted begins at the container's group: the last of them."""
    paths: dict[bool, str] = {}  # is it version 2?
    with suppress(OSError, ValueError):
        for line in OWN.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or controller in controllers.split(","):
                paths[not controllers] = path
    for root, second in ((CGROUP, True), (CGROUP / "unified", True), (CGROUP / controller, False)):
        own = PurePosixPath(paths.get(second, "/"))
        parts = () if ".." in own.parts else own.parts[1:]
        for depth in range(len(parts), -1, -1):
            yield root.joinpath(*parts[:depth])


def _statistic(group: Path, name: str) -> int:
    with suppress(OSError):
        for line in (group / "memory.stat").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
