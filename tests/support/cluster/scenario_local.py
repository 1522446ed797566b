"""Three machines that we have: `ray up`, a real sweep, one loses power, `ray down`.

    PYTHONPATH=tests python -m support.cluster.lab --machines 3 -- python -m support.cluster.scenario_local [--long]

`--long`: a larger sweep on all three, another one loses its cable for 20 s, and all that the doors refuse.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.cluster.doors import alive, check_doors, check_plan, check_refusals, check_token_files
from support.cluster.lab import cable, power_off
from support.cluster.steps import PATIENCE, Run, background, check, no_ray, pace, run, say, token, until

YAML = "clusters/onprem.yaml"
SLOW = 2.0  # s that a report of a trial takes in the small sweep, until the lost trials go on
IN_A_HURRY = (4, 60, f"--data digits --cpus-per-trial {max(1, (os.cpu_count() or 1) // 2)}")  # two on each machine
AT_LENGTH = (6, 12, "")  # on MNIST
IN_FLIGHT = (
    "SELECT trial, attempts, substr(node, 1, 2), (SELECT count(*) FROM checkpoints c WHERE c.trial = t.trial) "
    "FROM trials t WHERE state = 'RUNNING'"
)


def lost(mnist: Run, machine: str) -> set[int]:
    """Trials that run on `machine`, once one of them has two checkpoints: the second shows that the first is known."""
    here = [row for row in mnist.ask(IN_FLIGHT) if row[2] == machine]
    return {row[0] for row in here} if any(row[3] >= 2 for row in here) else set()


def gone_on(mnist: Run, trials: set[int]) -> list[tuple[int, int]]:
    """(trial, step) of restorations, once each of `trials` runs as a later attempt."""
    names = ", ".join(map(str, trials))
    again = mnist.ask(f"SELECT DISTINCT trial FROM reports WHERE attempt > 1 AND trial IN ({names})")
    restored = mnist.ask(
        f"SELECT trial, json_extract(data, '$.step') FROM events WHERE kind = 'restored' AND trial IN ({names})"
    )
    return restored if len(again) == len(trials) else []


def victim(mnist: Run, sweep: subprocess.Popen[bytes]) -> str:
    """A machine, other than the head, with a trial that would go on from a checkpoint; empty when there is none."""
    check(sweep.poll() is None, f"the sweep has ended with {sweep.returncode}")
    return next((machine for machine in ("h3", "h2") if lost(mnist, machine)), "")


def cut_power(mnist: Run, sweep: subprocess.Popen[bytes]) -> set[int]:
    """A machine loses power, and its trials go on elsewhere: their numbers."""
    machine = until("two checkpoints of a trial on a worker", lambda: victim(mnist, sweep), PATIENCE)
    trials = lost(mnist, machine)
    before = time.monotonic()
    power_off(machine)
    restored = until(f"trials of {machine} going on elsewhere", lambda: gone_on(mnist, trials), PATIENCE)
    say(f"{machine} lost power; its trials {trials} go on after {time.monotonic() - before:.1f} s, from {restored}")
    check(restored, "no trial was restored")
    return trials


def pull_cable(mnist: Run, sweep: subprocess.Popen[bytes]) -> set[int]:
    """The machine that is left besides the head is cut off for 20 s, and its trials go on there: their numbers."""
    machine = until("two checkpoints of a trial on the other worker", lambda: victim(mnist, sweep), PATIENCE)
    trials = lost(mnist, machine)
    before = time.monotonic()
    cable(machine, plugged=False)
    restored = until(f"trials of {machine} going on elsewhere", lambda: gone_on(mnist, trials), PATIENCE)
    say(f"{machine} was cut off; its trials {trials} go on after {time.monotonic() - before:.1f} s, from {restored}")
    check(restored, "no trial was restored")
    time.sleep(max(0.0, 20 - (time.monotonic() - before)))
    cable(machine, plugged=True)
    say(f"the cable of {machine} is in again")
    return trials


def check_record(mnist: Run, count: int, epochs: int, disturbed: set[int]) -> None:
    """All `count` trials and both confirmations are whole, and only the `disturbed` were begun again."""
    trials = mnist.ask("SELECT trial, phase, state, attempts FROM trials")
    check(all(state == "COMPLETED" for _, _, state, _ in trials), trials)
    check(len(trials) == count + 2, f"{count} trials and 2 confirmations, not {len(trials)}")
    for trial, phase, _, attempts in trials:
        steps = mnist.ask(f"SELECT DISTINCT step FROM reports WHERE trial = {trial} ORDER BY step")
        check([step for (step,) in steps] == list(range(1, epochs + 1)), f"trial {trial} reported {steps}")
        if phase == "search" and trial not in disturbed:
            check(attempts == 1, f"trial {trial} was disturbed: {attempts} attempts")
    late = mnist.ask(
        "SELECT * FROM reports a JOIN reports b ON a.trial = b.trial WHERE a.attempt < b.attempt AND a.seq > b.seq",
    )
    check(not late, f"reports of an attempt that was given up: {late}")
    files = mnist.files()
    check({"trials.parquet", "reports.parquet", "report.html", "model"} <= files, files)


def main() -> None:
    long = "--long" in sys.argv
    trials, epochs, flags = AT_LENGTH if long else IN_A_HURRY
    token()
    run(f"ray up -y --no-config-cache {YAML}")
    say("ray up has ended")
    with ThreadPoolExecutor(1) as beside:  # they mostly wait
        doors = beside.submit(check_doors)
        until("three machines", lambda: alive() == 3, PATIENCE)
        say("three machines are there")
        check_token_files()
        check_refusals(all_of_them=long)
        if long:
            check_plan(slots=6)
        doors.result()
    mnist = Run("h1", "/root/runs/mnist_l2")
    log = Path("/tmp/sweep.log")
    command = (
        f"ray submit {YAML} sweeps/mnist_l2.py -- --trials {trials // 2} --searches 1 "
        f"--concurrency {trials} --epochs {epochs} "
        f"--scheduler none --checkpoint-seconds 1 --confirm-configs 1 --confirm-seeds 1 {flags}"
    )
    pace(None if long else SLOW)
    with background(command, log) as sweep:
        if long:
            where = {"h1", "h2", "h3"}
            until("trials on all machines", lambda: {row[2] for row in mnist.ask(IN_FLIGHT)} == where, PATIENCE)
            say("trials run on all machines")
        disturbed = cut_power(mnist, sweep)
        if long:
            disturbed |= pull_cable(mnist, sweep)
        pace(None)
        check(sweep.wait(4 * PATIENCE) == 0, f"the sweep ended with {sweep.returncode}")
    text = log.read_text()
    say("the sweep has ended:", *[line for line in text.splitlines() if line.startswith("cluster:")])
    check_record(mnist, trials, epochs, disturbed)
    if long:
        until("the machine that was cut off to be back", lambda: alive() == 2, PATIENCE)
        say("the machine that was cut off is one of the cluster's again")
    run(f"ray down -y {YAML}")
    say("ray down has ended")
    no_ray(30)
    say("no process of Ray is left")


if __name__ == "__main__":
    main()
