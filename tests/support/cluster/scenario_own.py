"""Trainings of a user's own on three machines: a function, an objective and a program, and one machine loses power.

    PYTHONPATH=tests python -m support.cluster.lab --machines 3 -- python -m support.cluster.scenario_own

Nothing of the user's is on the machines but on the head, where he starts the sweeps: what his script imports from
beside it, and the files of his program, must be brought to the others.
"""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path

from support.cluster.doors import alive
from support.cluster.scenario_local import YAML, cut_power
from support.cluster.steps import PATIENCE, Run, background, check, on_machine, pace, run, say, token, until

MINE = Path(__file__).with_name("mine")
SLOW = 2.0  # s that a report takes until the lost trials go on
CPUS = max(1, (os.cpu_count() or 1) // 2)  # two trials on each machine
NODES = (
    "SELECT DISTINCT substr(node, 1, 2) FROM trials t WHERE EXISTS (SELECT 1 FROM reports r WHERE r.trial = t.trial)"
)


def start(script: str, *flags: str) -> str:
    """The command that starts a sweep on the head, as a user does who has brought his folder there."""
    words = f"python {script}.py --cpus-per-trial {CPUS} --order arrival --concurrency 6 {' '.join(flags)}"
    return f"ray exec {YAML} 'cd ~/mine && {words}'"


def reports_from_both(there: Run, sweep: subprocess.Popen[bytes]) -> bool:
    """Whether trials of both machines that are left have reported."""
    check(sweep.poll() is None, f"the sweep has ended with {sweep.returncode}")
    return len(there.ask(NODES)) == 2


def check_home(mine: Run, *, model: set[str]) -> None:
    """The run has an answer, its tables and the model's files."""
    states = mine.ask("SELECT phase, state, count(*) FROM trials GROUP BY phase, state ORDER BY phase")
    check({state for _, state, _ in states} == {"COMPLETED"}, states)
    files = mine.files()
    check({"trials.parquet", "reports.parquet", "report.html", "model"} <= files, files)
    kept = set(on_machine("h1", "ls", f"{mine.folder}/model").split())
    check(model <= kept, f"model/ holds {kept}, not {model}")
    scores = mine.ask("SELECT DISTINCT metric FROM scores")
    say(f"{mine.folder}: {states}; model: {sorted(kept)}; scores: {scores}")


def main() -> None:
    token()
    run(f"ray up -y --no-config-cache {YAML}")
    until("three machines", lambda: alive() == 3, PATIENCE)
    run(f"ray rsync-up {YAML} {MINE}/ '~/mine/'")
    say("three machines are there, and the user's folder is on the head")
    mine, log = Run("h1", "/root/mine/runs/function"), Path("/tmp/sweep.log")
    pace(SLOW)
    with background(start("function", "--checkpoint-seconds 1"), log) as sweep:
        disturbed = cut_power(mine, sweep)
        pace(None)
        check(sweep.wait(4 * PATIENCE) == 0, f"the sweep ended with {sweep.returncode}")
    for trial in sorted(disturbed):
        steps = [step for (step,) in mine.ask(f"SELECT DISTINCT step FROM reports WHERE trial = {trial} ORDER BY step")]
        check(steps == list(range(1, 7)), f"trial {trial} reported {steps}")
    check_home(mine, model={"config.json", "weights.npy"})
    for name, model in (("objective", {"config.json"}), ("program", {"config.json", "2.npy"})):
        there = Run("h1", f"/root/mine/runs/{name}")
        pace(SLOW)
        with background(start(name), log) as sweep:
            until(f"reports of the {name} from both machines", partial(reports_from_both, there, sweep), PATIENCE)
            pace(None)
            check(sweep.wait(4 * PATIENCE) == 0, f"the sweep ended with {sweep.returncode}")
        check_home(there, model=model)
    run(f"ray down -y {YAML}")
    say("ray down has ended")


if __name__ == "__main__":
    main()
