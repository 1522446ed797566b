"""A process that dies while it waits for its next trial."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.sweeping import ROOT

# The first process that is given a second trial dies as it takes it over: that is how Tune notices an earlier death.
SWEEP = """
import os
import sys

from rungwise.engine.cluster import dead_actors
from rungwise.engine.cluster.local_ray import Ray

connection = Ray(None)
connection.start(1, 0)
from ray import tune

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


run = tune.RunConfig(
    storage_path=os.path.join(sys.argv[1], "tune"),
    verbose=0,
    failure_config=tune.FailureConfig(max_failures=1),
    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
)
settings = tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1)
space = {"place": tune.grid_search([1, 2, 3])}
with connection.lighten_tune(), dead_actors.counted_once():
    results = tune.Tuner(Worker, param_space=space, tune_config=settings, run_config=run).fit()
connection.stop()
print(os.path.exists(MARK), len(results.errors), [result.metrics["score"] for result in results])
"""


def test_the_trial_that_it_was_given_is_retried_and_the_death_counts_once(tmp_path: Path) -> None:
    (tmp_path / "tuning.py").write_text(SWEEP)
    command = [sys.executable, str(tmp_path / "tuning.py"), str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ended.stdout.splitlines()[-1:] == ["True 0 [1, 1, 1]"], ended.stderr
