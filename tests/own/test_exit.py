"""A user's code that ends the process that calls it, on the driver and in the probes of `--plan`: it is one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rungwise import FloatDistribution, Sweep, main


def ends(config, trial):
    os._exit(3)
    yield {"loss": 1.0}


def ends_in_its_thread(config, trial):
    os._exit(0)


def end() -> None:
    os._exit(0)


def forks() -> int:
    """The child's exit is its own affair."""
    if (pid := os.fork()) == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


CASES: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "a generator in a probe": ({"train": ends}, ["--plan"], "os._exit(3) was called, which ends a process without a"),
    "a call in a probe": ({"train": ends_in_its_thread}, ["--plan"], "the process ended with status 0"),
    "data": ({"data": end}, [], "data: end raised Fault: os._exit(0) was called"),
    "data of a probe": ({"data": end}, ["--plan"], "data: end raised Fault: os._exit(0) was called"),
    "data of one trial": ({"data": end}, ["--one", "{}"], "data: end raised Fault: os._exit(0) was called"),
    "data of one trial's process": (
        {"data": end, "data_per_worker": True},
        ["--one", "{}"],
        "data: end raised Fault: os._exit(0) was called",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_code_that_ends_its_process_on_the_driver_is_one_line(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed, flags, words = CASES[case]
    given: dict[str, Any] = {"train": ends, "space": {"lr": FloatDistribution(0.1, 1.0)}, **changed}
    with pytest.raises(SystemExit) as ended:
        main(Sweep(name="own", metric="loss", mode="min", **given), ["--out", str(tmp_path / "runs"), *flags])
    assert ended.value.code == (2 if changed.get("data") and not changed.get("data_per_worker") else 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_child_of_the_users_may_end_as_it_likes() -> None:
    from rungwise.trainable.own.worker_data import load

    assert load(forks) == 7
