"""Tune and the processes of trials: one that dies while it waits for its next trial, and one that is still starting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.sweeping import ROOT

TUNE = """
import os
import sys
import time

from rungwise.engine.cluster import dead_actors, starting_actors
from rungwise.engine.cluster.local_ray import Ray

connection = Ray(None)
connection.start({processes}, 0)
from ray import tune

FOLDER = sys.argv[1]


def first(name):
    try:
        os.close(os.open(os.path.join(FOLDER, name), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def exists(name):
    return os.path.exists(os.path.join(FOLDER, name))

{worker}

run = tune.RunConfig(
    storage_path=os.path.join(FOLDER, "tune"),
    verbose=0,
    failure_config=tune.FailureConfig(max_failures=1),
    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
)
settings = tune.TuneConfig(reuse_actors=True, max_concurrent_trials={concurrent})
space = {{"place": tune.grid_search(list(range({trials})))}}
with connection.lighten_tune(), dead_actors.counted_once(), starting_actors.kept():
    results = tune.Tuner(Worker, param_space=space, tune_config=settings, run_config=run).fit()
connection.stop()
assert [result.metrics["score"] for result in results] == [1] * {trials}
"""
# The first process that is given a second trial dies as it takes it over: that is how Tune notices an earlier death.
DYING = """
class Worker(tune.Trainable):
    def step(self):
        return {"score": 1, "done": True}

    def reset_config(self, config):
        if first("died"):
            os._exit(1)
        return True
"""
# The second process starts when the first has trained three trials. The fourth ends when the second has trained one, or
# will not do so any more.
SLOW_START = """
class Worker(tune.Trainable):
    def setup(self, config):
        self.second = not first("process 1") and first("process 2")
        if self.second:
            with open(os.path.join(FOLDER, "pid"), "w") as file:
                file.write(str(os.getpid()))
            first("starting")
            while not exists("trial 3"):
                time.sleep(0.01)

    def step(self):
        if self.second:
            first("second trained")
        while not exists("starting"):
            time.sleep(0.01)
        number = next(number for number in range(1, 99) if first(f"trial {number}"))
        while number == 4 and not exists("second trained"):
            time.sleep(0.01)
            pid = open(os.path.join(FOLDER, "pid")).read()
            if not os.path.exists(f"/proc/{pid}"):
                break
        return {"score": 1, "done": True}

    def reset_config(self, config):
        return True
"""


def tune(folder: Path, worker: str, *, processes: int, concurrent: int, trials: int) -> list[str]:
    """The names of the empty files that the trials left, without those of single trials."""
    script = folder / "tuning.py"
    script.write_text(TUNE.format(worker=worker, processes=processes, concurrent=concurrent, trials=trials))
    command = [sys.executable, str(script), str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".py" and not path.name.startswith("trial"))


def test_the_trial_that_a_dead_process_was_given_is_retried_and_the_death_counts_once(tmp_path: Path) -> None:
    assert "died" in tune(tmp_path, DYING, processes=1, concurrent=1, trials=3)


@pytest.mark.parametrize("concurrent", [3, 2])
def test_a_process_that_is_starting_is_not_removed_because_another_has_become_free(
    tmp_path: Path, concurrent: int
) -> None:
    """With two trials, the next one comes when the process is free: Tune has not made its folder yet."""
    assert "second trained" in tune(tmp_path, SLOW_START, processes=2, concurrent=concurrent, trials=12)
