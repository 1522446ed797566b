"""A process that dies while it waits for its next trial."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from support.sweeping import ROOT

# The first process that is given a second trial dies as it takes it over: that is how Tune notices an earlier death.
SWEEP = """
import os
import sys

import ray
from ray import tune
from rungwise.engine.cluster import dead_actors

MARK = os.path.join(sys.argv[1], "died")


class Worker(tune.Trainable):
    def step(self):
        return {"score": 1, "done": True}

    def reset_config(self, config):
        try:
            os.close(os.open(MARK, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return True
        os._exit(1)


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv[1])
run = tune.RunConfig(
    storage_path=os.path.join(sys.argv[1], "tune"),
    verbose=0,
    failure_config=tune.FailureConfig(max_failures=1),
    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
)
settings = tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1)
space = {"place": tune.grid_search([1, 2, 3])}
with dead_actors.counted_once():
    results = tune.Tuner(Worker, param_space=space, tune_config=settings, run_config=run).fit()
print(os.path.exists(MARK), len(results.errors), [result.metrics["score"] for result in results])
"""


def test_the_trial_that_it_was_given_is_retried_and_the_death_counts_once(tmp_path: Path) -> None:
    (tmp_path / "tuning.py").write_text(SWEEP)
    with tempfile.TemporaryDirectory(prefix="rw-", dir="/tmp") as short:  # Ray's sockets have short paths only
        ended = subprocess.run(
            [sys.executable, str(tmp_path / "tuning.py"), short],
            cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert ended.stdout.splitlines()[-1:] == ["True 0 [1, 1, 1]"], ended.stderr
