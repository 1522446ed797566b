"""A clock that is set back a day while a sweep runs: nothing waits for it, and nothing is lost.

The driver's `time.time` is set back, not the machine's clock: libfaketime 0.9.10 makes every `time.sleep` of
Python 3.11 fail (EINVAL), and a container has no clock of its own.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from support.sweeping import SCRIPT, SESSION_SECONDS, Run, assert_nothing_lost

CLOCK = '''"""Does it survive?"""
import os
import time

_time = time.time
time.time = lambda: _time() - 86_400 * os.path.exists(%r)
'''


def test_a_clock_set_back_a_day_half_way_loses_nothing_and_the_sweep_ends(run: Run, tmp_path: Path) -> None:
    switch = tmp_path / "set back"
    run.script.write_text(CLOCK % str(switch) + SCRIPT % {"data": str(tmp_path / "data.npz")})
    flags = ("--trials", "6", "--epochs", "27", "--checkpoint-seconds", "0.2")
    run.allow(10)
    driver = run.start(*flags)
    assert run.await_pause(driver), run.said
    switch.touch()
    run.allow(None)
    assert driver.wait(SESSION_SECONDS) == 0, run.said
    times = [at for (at,) in run.query("SELECT at FROM reports ORDER BY seq")]
    assert min(later - earlier for earlier, later in pairwise(times)) < -80_000  # it was set back
    assert_nothing_lost(run.folder, 6, 27)
