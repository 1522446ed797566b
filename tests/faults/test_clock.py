"""A clock that is set back a day while a sweep runs: nothing waits for it, and nothing is lost."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from sweeping import SCRIPT, Run, assert_nothing_lost

LIBRARIES = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
# The driver's clock alone is set back: Ray's own servers do not start under libfaketime.
ALONE = '"""Does it survive?"""\nimport os\n\nos.environ.pop(\'LD_PRELOAD\', None)\n'


@pytest.mark.skipif(not LIBRARIES, reason="libfaketime sets the clock of one process; apt-get install faketime")
def test_a_clock_set_back_a_day_half_way_loses_nothing_and_the_sweep_ends(run: Run, tmp_path: Path) -> None:
    run.script.write_text(ALONE + SCRIPT % {"data": str(tmp_path / "data.npz")})
    clock = tmp_path / "clock"
    clock.write_text("+0d\n")
    run.environment |= {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as with a real clock
    }
    flags = ("--trials", "6", "--epochs", "27", "--checkpoint-seconds", "0.2")
    driver = run.start(*flags)
    assert run.await_reports(driver, 10), run.said
    clock.write_text("-1d\n")
    assert driver.wait(240) == 0, run.said
    times = [at for (at,) in run.query("SELECT at FROM reports ORDER BY seq")]
    assert min(later - earlier for earlier, later in pairwise(times)) < -80_000  # it was set back
    assert_nothing_lost(run.folder, 6, 27)
