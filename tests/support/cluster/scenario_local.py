"""Three machines that we have: `ray up`, a real sweep on all of them, one loses power, one its cable, `ray down`.

PYTHONPATH=tests python -m support.cluster.lab --machines 3 -- python -m support.cluster.scenario_local
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.cluster.doors import alive, check_doors, check_refusals, check_token_files
from support.cluster.lab import cable, power_off
from support.cluster.steps import PATIENCE, Run, background, check, no_ray, run, say, token, until

YAML = "clusters/onprem.yaml"
EPOCHS = 12
SWEEP = (
    f"ray submit {YAML} sweeps/mnist_l2.py -- --trials 6 --concurrency 6 --epochs {EPOCHS} --scheduler none "
    "--checkpoint-seconds 1 --confirm-configs 1 --confirm-seeds 1"
)
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


def main() -> None:
    token()
    run(f"ray up -y --no-config-cache {YAML}")
    say("ray up has ended")
    with ThreadPoolExecutor(1) as beside:  # they mostly wait
        doors = beside.submit(check_doors)
        until("three machines", lambda: alive() == 3, PATIENCE)
        say("three machines are there")
        check_token_files()
        check_refusals()
        doors.result()
    mnist = Run("h1", "/root/runs/mnist_l2")
    log = Path("/tmp/sweep.log")
    with background(SWEEP, log) as sweep:
        until("reports", lambda: mnist.ask("SELECT 1 FROM reports"), PATIENCE)
        say("first report")
        until(
            "trials on all three machines",
            lambda: {row[2] for row in mnist.ask(IN_FLIGHT)} == {"h1", "h2", "h3"},
            PATIENCE,
        )
        say("trials run on all three machines")

        victims = until("two checkpoints of a trial on h3", lambda: lost(mnist, "h3"), PATIENCE)
        before = time.monotonic()
        power_off("h3")
        restored = until("trials of h3 going on elsewhere", lambda: gone_on(mnist, victims), PATIENCE)
        say(f"h3 lost power; its trials {victims} go on after {time.monotonic() - before:.1f} s, from {restored}")
        check(restored, "no trial was restored")

        cut_off = until("two checkpoints of a trial on h2", lambda: lost(mnist, "h2"), PATIENCE)
        before = time.monotonic()
        cable("h2", plugged=False)
        restored = until("trials of h2 going on elsewhere", lambda: gone_on(mnist, cut_off), PATIENCE)
        say(f"h2 was cut off; its trials {cut_off} go on after {time.monotonic() - before:.1f} s, from {restored}")
        check(restored, "no trial was restored")
        time.sleep(max(0.0, 20 - (time.monotonic() - before)))
        cable("h2", plugged=True)
        say("the cable of h2 is in again")

        check(sweep.wait(4 * PATIENCE) == 0, f"the sweep ended with {sweep.returncode}")
    text = log.read_text()
    say("the sweep has ended:", *[line for line in text.splitlines() if line.startswith("cluster:")])

    trials = mnist.ask("SELECT trial, phase, state, attempts FROM trials")
    check(all(state == "COMPLETED" for _, _, state, _ in trials), trials)
    check(len(trials) == 8, f"6 trials and 2 confirmations, not {len(trials)}")
    for trial, phase, _, attempts in trials:
        steps = mnist.ask(f"SELECT DISTINCT step FROM reports WHERE trial = {trial} ORDER BY step")
        check([step for (step,) in steps] == list(range(1, EPOCHS + 1)), f"trial {trial} reported {steps}")
        if phase == "search" and trial not in victims | cut_off:
            check(attempts == 1, f"trial {trial} was disturbed: {attempts} attempts")
    late = mnist.ask(
        "SELECT * FROM reports a JOIN reports b ON a.trial = b.trial WHERE a.attempt < b.attempt AND a.seq > b.seq",
    )
    check(not late, f"reports of an attempt that was given up: {late}")
    files = mnist.files()
    check({"trials.parquet", "reports.parquet", "report.html", "model"} <= files, files)

    until("h2 among the machines again", lambda: alive() == 2, PATIENCE)
    say("h2 is one of the cluster's machines again")
    run(f"ray down -y {YAML}")
    say("ray down has ended")
    no_ray(30)
    say("no process of Ray is left")


if __name__ == "__main__":
    main()
