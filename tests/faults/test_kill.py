"""A killed driver, a killed worker, Ctrl-C: the same command goes on, and nothing is lost or doubled."""

from __future__ import annotations

import random
import time

from sweeping import AGENTS, Run, assert_nothing_lost

from sweeps.engine.cluster import OWNER

TRIALS, EPOCHS = 8, 9


def kill_and_go_on(run: Run, kills: int, seed: int) -> int:
    """Kill the driver `kills` times at moments drawn over the whole sweep, then let it finish; kills that struck."""
    draw = random.Random(seed)
    flags = ("--checkpoint-seconds", "0.1", "--trials", str(TRIALS))
    struck = 0
    for moment in sorted(draw.uniform(0, TRIALS * EPOCHS * 0.6) for _ in range(kills)):
        driver = run.start(*flags)
        if run.await_reports(driver, int(moment)):
            time.sleep(draw.uniform(0, 1.5))  # the record is committed once a second: hit what lies between, too
        struck += driver.poll() is None
        driver.kill()
        driver.wait()
    assert run.finish(*flags) == 0, run.said
    return struck


def test_a_driver_killed_at_random_moments_goes_on_and_loses_and_doubles_nothing(run: Run) -> None:
    assert kill_and_go_on(run, kills=4, seed=1) >= 3
    assert_nothing_lost(run.folder, TRIALS, EPOCHS)
    run.await_silence(except_for=AGENTS)
    # Of the Rays that were killed, at most what their last processes held on to is left, for the next driver to clear.
    assert len(list(run.temporary.glob("rw-*"))) <= 1
    assert all((folder / OWNER).exists() for folder in run.temporary.glob("rw-*"))
