"""On the mock of AWS, with packs: lanes that wait bring machines, and one that is lost loses no trial."""

from __future__ import annotations

from pathlib import Path

from support.cluster.scenario_aws import YAML, check_every_epoch, down, filled_in, instances, interrupt, spot
from support.cluster.steps import PATIENCE, Run, background, fail, run, say, token, until

EPOCHS, TRIALS = 20, 16
SWEEP = (
    f"ray submit {YAML} sweeps/mnist_l2.py -- --trials {TRIALS // 2} --searches 1 "
    f"--concurrency {TRIALS} --epochs {EPOCHS} "
    "--scheduler none --gpus-per-trial 1 --pack auto --checkpoint-seconds 1 --no-confirm"
)


def main() -> None:
    token()
    filled_in()
    run(f"ray up -y --no-config-cache {YAML}")
    (head,) = instances()
    mnist = Run(head["InstanceId"], "/home/ubuntu/runs/mnist_l2")
    with background(SWEEP, Path("/tmp/sweep.log")):
        until("two spot workers", lambda: len(spot()) == 2, PATIENCE)
        say("lanes wait, so these came:", [instance["InstanceType"] for instance in spot()])
        nodes = "SELECT DISTINCT node FROM trials WHERE node IS NOT NULL"
        until("reports of two lanes", lambda: len(mnist.ask(nodes)) >= 2, PATIENCE)
        say("trials of each lane:", mnist.ask("SELECT node, count(*) FROM trials WHERE node IS NOT NULL GROUP BY node"))
        interrupt(mnist)
        ended = "SELECT 1 FROM trials WHERE state = 'COMPLETED'"
        until("all trials to be complete", lambda: len(mnist.ask(ended)) == TRIALS, PATIENCE)
    say("states and attempts:", mnist.ask("SELECT state, attempts, count(*) FROM trials GROUP BY state, attempts"))
    check_every_epoch(mnist, EPOCHS)
    down()


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(Path("/tmp/sweep.log").read_text()[-2000:])
        fail(repr(error))
