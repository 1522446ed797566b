"""What a container, a service or a job is granted, from files as the kernel shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from rungwise.engine.cluster.local_ray import local_resources
from rungwise.trainable import granted_resources as granted
from rungwise.trainable.data import memory
from rungwise.trainable.resources import Resources, TrialResources


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /sys/fs/cgroup and a /proc/self/cgroup of our own, on a machine of 64 cores."""
    monkeypatch.setattr(granted, "CGROUP", tmp_path)
    monkeypatch.setattr(granted, "OWN", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    return tmp_path


def write(folder: Path, **content: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_without_limits_the_machine_is_what_is_granted(kernel: Path) -> None:
    assert (granted.cpus(), granted.memory()) == (64.0, None)
    write(kernel, self="0::/", cpu__max="max 100000", memory__max="max", memory__current="5")
    assert (granted.cpus(), granted.memory()) == (64.0, None)


def test_version_2_limits_a_group_and_all_above_it(kernel: Path) -> None:
    write(kernel, self="0::/jobs.slice/job-7/step")
    write(kernel / "jobs.slice" / "job-7" / "step", cpu__max="max 100000", memory__max="max", memory__current="1")
    write(kernel / "jobs.slice" / "job-7", cpu__max="250000 100000", memory__max="9000", memory__current="1000")
    write(kernel / "jobs.slice", cpu__max="800000 100000", memory__max="5000", memory__current="2000")
    assert granted.cpus() == 2.5
    assert granted.memory() == 3000
    assert TrialResources(1.0, 0.0).fits(local_resources()) == 2


def test_files_that_the_kernel_keeps_in_memory_are_free_memory(kernel: Path) -> None:
    write(kernel, self="0::/", memory__max="9000", memory__current="8000", memory__stat="anon 1\ninactive_file 6000")
    assert granted.memory() == 7000
    assert memory.free() == 7000


def test_version_1_has_a_path_for_each_controller(kernel: Path) -> None:
    write(kernel, self="4:cpu,cpuacct:/docker/a\n3:memory:/docker/b\n0::/elsewhere")
    write(kernel / "cpu" / "docker" / "a", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    write(kernel / "memory" / "docker" / "b", memory__limit_in_bytes="4000", memory__usage_in_bytes="1000")
    write(kernel / "memory", memory__limit_in_bytes=str(2**63 - 4096), memory__usage_in_bytes="9000")  # no limit
    assert (granted.cpus(), granted.memory()) == (3.0, 3000)


def test_a_container_whose_path_is_the_hosts_finds_its_own_limits_at_the_top(kernel: Path) -> None:
    write(kernel, self="4:cpu:/kubepods/pod1/c1\n0::/../../c1", cpu__max="50000 100000")
    assert granted.cpus() == 1.0  # half a core is one trial at a time, more slowly
    write(kernel / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    write(kernel, cpu__max="400000 100000")
    assert granted.cpus() == 4.0


def test_a_slurm_job_has_the_cores_of_its_node_and_a_task_its_own(kernel: Path) -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "16", "SLURM_CPUS_PER_TASK": "4"}
    assert granted.cpus({}) == 64.0
    assert granted.cpus(job) == 16.0
    assert granted.cpus({**job, "SLURM_STEP_ID": "0"}) == 4.0
    write(kernel, self="0::/", cpu__max="200000 100000")
    assert granted.cpus(job) == 2.0


@pytest.mark.parametrize(
    ("job", "mebibytes"),
    [
        ({"SLURM_MEM_PER_NODE": "3000", "SLURM_MEM_PER_CPU": "7"}, 3000),
        ({"SLURM_MEM_PER_CPU": "500", "SLURM_CPUS_ON_NODE": "4"}, 2000),
        ({"SLURM_MEM_PER_NODE": "0", "SLURM_CPUS_ON_NODE": "4"}, None), ({"SLURM_CPUS_ON_NODE": "4"}, None),
    ],
)  # fmt: skip
def test_a_slurm_job_has_the_memory_that_it_asked_for(kernel: Path, job: dict[str, str], mebibytes: int | None) -> None:
    assert granted.memory(job) == (None if mebibytes is None else mebibytes * 2**20)
    write(kernel, self="0::/", memory__max="9000", memory__current="1000")
    assert granted.memory(job) == 8000


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The nodes and the folder of a GPU's driver, whose four GPUs no torch here would find."""
    for gpu in range(4):
        (tmp_path / "gpus" / f"0000:0{gpu}:00.0").mkdir(parents=True)
    monkeypatch.setattr(granted, "GPU_NODES", (tmp_path / "dxg", tmp_path / "nvidiactl"))
    monkeypatch.setattr(granted, "NVIDIA", tmp_path / "gpus")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


@pytest.mark.usefixtures("driver")
def test_without_a_drivers_node_there_is_no_gpu() -> None:
    """A container without GPUs may see its host's list of them."""
    assert local_resources().gpus == 0


@pytest.mark.parametrize("node", ["dxg", "nvidiactl"])
def test_gpus_are_counted_by_torch(driver: Path, monkeypatch: pytest.MonkeyPatch, node: str) -> None:
    """No GPU is here, so torch's count is replaced, and whether it was built for one."""
    (driver / node).touch()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert local_resources().gpus == 2
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert local_resources().gpus == 4  # for programs, and libraries other than torch
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert local_resources().gpus == 2


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("visible", "count"),
    [
        (None, 4), ("", 0), ("-1", 0), ("0", 1), ("0,1,2,3", 4), ("1,-1,2", 1), ("GPU-5a,GPU-6b", 2),
        ("MIG-1,MIG-2,MIG-3", 3), ("9", 0), (" 0 , 1 ", 2), ("NoDevFiles", 0), ("none", 0), ("0,7,1", 1),
    ],
)  # fmt: skip
def test_gpus_are_those_that_cuda_reads_from_its_variable(visible: str | None, count: int) -> None:
    """Slurm says NoDevFiles to a job without GPUs."""
    assert granted._gpus_without_torch(visible) == count


def test_a_macs_gpu_trains_one_trial_at_a_time() -> None:
    resources = TrialResources(1.0, 0.0, "mps")
    assert (resources.fits(Resources(8.0, 0.0)), resources.fits(Resources(0.5, 0.0)), resources.device) == (1, 0, "mps")
