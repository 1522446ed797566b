"""Imported at the start of every process of a whole sweep in a test: it depends on no machine's speed.

What trains waits where the test wants it to: while the folder $PACE holds `limit`, "<reports> <seconds>", each report
takes a ticket, numbered over all processes, and one beyond `reports` is sent only after so many seconds, or as soon as
`limit` says otherwise. $JITTER is the longest of pauses (s) that are drawn at random before reports. A sweep that ends
gives its exporter, a process of low priority, time on a busy machine. And every machine has as many cores.
"""

import contextlib
import os
import random
import sys
import time
from functools import wraps
from importlib.util import find_spec
from itertools import count
from pathlib import Path

numbers = count(1)  # those that others took before are passed over once


def wait_turn(folder):
    limit = folder / "limit"
    if not limit.exists():
        return
    for ticket in numbers:
        with contextlib.suppress(FileExistsError):
            (folder / str(ticket)).touch(exist_ok=False)
            break
    began = time.monotonic()
    with contextlib.suppress(FileNotFoundError):  # the limit is gone
        while ticket > int((words := limit.read_text().split())[0]) and time.monotonic() - began < float(words[1]):
            time.sleep(0.02)


def pace_reports(course):
    result = course.StateRun.result

    @wraps(result)
    def paced(self, report):
        wait_turn(Path(os.environ["PACE"]))
        time.sleep(random.random() * float(os.environ.get("JITTER", "0")))
        return result(self, report)

    course.StateRun.result = paced


def pace_folds(run):
    result = run.FoldRun._result_of

    @wraps(result)
    def paced(self, *given):
        wait_turn(Path(os.environ["PACE"]))
        return result(self, *given)

    run.FoldRun._result_of = paced


def pace_own_reports(run):
    finalize = run.OwnRun.finalize_result

    @wraps(finalize)
    def paced(self, result):
        wait_turn(Path(os.environ["PACE"]))
        return finalize(self, result)

    run.OwnRun.finalize_result = paced


def wait_for_exports(session):
    session.EXPORT_SECONDS = 600.0


def have_two_cores(granted):
    granted.cpus = lambda: 2.0


CHANGES = {
    "rungwise.engine.execution.session": wait_for_exports,
    "rungwise.trainable.granted_resources": have_two_cores,
}
if "PACE" in os.environ:
    CHANGES["rungwise.trainable.worker.state_run"] = pace_reports
    CHANGES["rungwise.trainable.own.run"] = pace_own_reports
    CHANGES["rungwise.trainable.folds.fold_run"] = pace_folds


class Finder:
    """Changes a module as soon as it is imported."""

    def find_spec(self, name, path=None, target=None):
        change = CHANGES.pop(name, None)
        if change is None:
            return None
        spec = find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
