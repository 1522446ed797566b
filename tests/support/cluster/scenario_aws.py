"""The cluster.yaml that we ship, against a mock AWS account: a worker comes and is interrupted, then the head is lost.

PYTHONPATH=tests python -m support.cluster.lab --aws -- python -m support.cluster.scenario_aws
"""

from __future__ import annotations

import math
import re
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from rungwise.results.record.reader import Reader
from support.cluster.lab import ACCOUNT
from support.cluster.steps import PATIENCE, Run, background, check, fail, no_ray, pace, run, say, token, until

YAML = Path("/tmp/cluster.yaml")
TRIALS, EPOCHS = 2, 60  # both on one spot worker
SLOW = 2.0  # s that a report of a trial takes until the head is lost
SWEEP = (
    f"ray submit {YAML} sweeps/mnist_l2.py -- --trials {TRIALS // 2} --searches 1 "
    f"--concurrency {TRIALS} --epochs {EPOCHS} "
    "--scheduler none --data digits --gpus-per-trial 0.5 --checkpoint-seconds 1 --no-confirm"
)
OFFICE = "172.31.0.0/20"  # where the laptop of the lab is


def instances() -> list[dict[str, Any]]:
    """Those that cost money."""
    states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    found = boto3.client("ec2").describe_instances(Filters=states)["Reservations"]
    return [instance for reservation in found for instance in reservation["Instances"]]


def spot() -> list[dict[str, Any]]:
    return [instance for instance in instances() if instance.get("InstanceLifecycle") == "spot"]


def filled_in() -> None:
    """What a user does before the first `ray up`; sizes and the idle time are the test's."""
    boto3.client("s3").create_bucket(
        Bucket="lab", CreateBucketConfiguration={"LocationConstraint": ACCOUNT["AWS_DEFAULT_REGION"]}
    )
    printed = run(f"python clusters/aws.py --bucket lab --ssh-from {OFFICE} 2>/tmp/changes")
    group, head, worker, where = printed.splitlines()
    text = Path("cluster.yaml").read_text()
    for before, after in (
        ("SecurityGroupIds: [sg-00000000000000000]", group),
        ("s3://rungwise-sweeps/runs", where),
        ("idle_timeout_minutes: 5", "idle_timeout_minutes: 0.3"),
    ):
        check(text.count(before) == 1, f"cluster.yaml says {before} {text.count(before)} times")
        text = text.replace(before, after)
    YAML.write_text(text.replace("max_workers: 8", "max_workers: 2"))
    check(head in text and text.count(worker) == 2, f"cluster.yaml says neither {head} nor {worker}")


def check_closed(instance: dict[str, Any]) -> None:
    """Who may reach it, and what it was given."""
    ec2 = boto3.client("ec2")
    name = instance["InstanceId"]
    groups = [group["GroupId"] for group in instance["SecurityGroups"]]
    for group in ec2.describe_security_groups(GroupIds=groups)["SecurityGroups"]:
        for rule in group["IpPermissions"]:
            ranges = [one["CidrIp"] for one in rule["IpRanges"]] + [one["CidrIpv6"] for one in rule["Ipv6Ranges"]]
            within = [pair["GroupId"] for pair in rule["UserIdGroupPairs"]]
            allowed = (ranges == [OFFICE] and rule["FromPort"] == rule["ToPort"] == 22) or (
                not ranges and within == groups
            )
            check(allowed, f"{name} lets in {rule}")
    profile = instance["IamInstanceProfile"]["Arn"].rpartition("/")[2]
    role = "worker" if instance.get("InstanceLifecycle") == "spot" else "head"
    check(profile == f"rungwise-{role}", f"{name} is the {role}, with the profile {profile}")
    data = ec2.describe_instance_attribute(InstanceId=name, Attribute="userData")
    check(not data.get("UserData", {}).get("Value"), f"{name} was started with user data: {data}")
    check(
        instance["ImageId"] in YAML.read_text(), f"{name} runs {instance['ImageId']}, which cluster.yaml does not say"
    )


def saved(mnist: Run) -> dict[str, Any] | None:
    """A spot instance whose trial has two checkpoints."""
    rows = mnist.ask("SELECT node FROM trials t WHERE (SELECT count(*) FROM checkpoints c WHERE c.trial = t.trial) > 1")
    names = {node.split(":")[0] for (node,) in rows if node}
    return next((instance for instance in spot() if instance["InstanceId"] in names), None)


def interrupt(mnist: Run) -> None:
    """Take a spot worker away; its trials go on elsewhere, and another worker comes."""
    count = len(spot())
    victim = until("two checkpoints of a trial", lambda: saved(mnist), PATIENCE)
    before, doomed = time.monotonic(), victim["InstanceId"]
    lost = {row[0] for row in mnist.ask(f"SELECT trial FROM trials WHERE node LIKE '{doomed}:%'")}
    boto3.client("ec2").terminate_instances(InstanceIds=[doomed])
    until("a worker in its place", lambda: [i["InstanceId"] != doomed for i in spot()] == [True] * count, PATIENCE)
    say(f"a spot worker was interrupted, and replaced after {time.monotonic() - before:.1f} s")
    query = "SELECT trial, json_extract(data, '$.step') FROM events WHERE kind = 'restored'"
    restored = until("a restoration", lambda: mnist.ask(query), PATIENCE)
    say(f"its trials {lost} go on after {time.monotonic() - before:.1f} s: {restored}")
    check({trial for trial, _ in restored} <= lost, f"{restored} were restored, and {lost} were lost")


def mirrored() -> int:
    """How many reports the copy in the bucket holds."""
    copy = Path("/tmp/copy.sqlite")
    with suppress(ClientError, sqlite3.Error):  # there is none yet
        boto3.client("s3").download_file("lab", "runs/mnist_l2/sweep.sqlite", str(copy))
        with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM reports").fetchone()[0])
    return 0


def head_dies(head: dict[str, Any], mnist: Run) -> int:
    """The head is gone, and its disk with it, when the bucket holds all that it knew: how many reports."""
    pace(math.inf)
    before = time.monotonic()
    until("a copy of all reports", lambda: mirrored() == len(mnist.ask("SELECT 1 FROM reports")), PATIENCE)
    say(f"the copy in the bucket was renewed after {time.monotonic() - before:.1f} s")
    running = mnist.ask("SELECT 1 FROM trials WHERE state = 'RUNNING'")
    check(len(running) == TRIALS, f"{len(running)} of {TRIALS} trials are in flight")
    reports = mirrored()
    boto3.client("ec2").terminate_instances(InstanceIds=[head["InstanceId"]])
    return reports


def check_every_epoch(mnist: Run, epochs: int) -> None:
    """No report of a trial is missing in the record."""
    steps = mnist.ask("SELECT trial, group_concat(DISTINCT step) FROM reports GROUP BY trial")
    check(all(len(seen.split(",")) == epochs for _, seen in steps), steps)


def down() -> None:
    """The cluster ends, and nothing stays that costs money."""
    run(f"ray down -y {YAML}")
    check(not instances(), instances())
    no_ray(10)
    say("ray down has ended: no instance, no process of Ray")


def main() -> None:
    token()
    filled_in()
    run(f"ray up -y --no-config-cache {YAML}")
    say("ray up has ended:", [instance["InstanceType"] for instance in instances()])
    (head,) = instances()
    check("InstanceLifecycle" not in head, "the head must not be spot")
    mnist = Run(head["InstanceId"], "/home/ubuntu/runs/mnist_l2")
    pace(SLOW)
    with background(SWEEP, Path("/tmp/sweep.log")):
        until("a spot worker", spot, PATIENCE)
        say("trials wait, so this came:", [instance["InstanceType"] for instance in spot()])
        for instance in instances():
            check_closed(instance)
        until("reports", lambda: mnist.ask("SELECT 1 FROM reports"), PATIENCE)
        say("first report")
        interrupt(mnist)
        before = head_dies(head, mnist)
        say(f"the head was lost, after {before} reports")
    pace(None)

    run(f"ray up -y --no-config-cache {YAML}")
    (head,) = [instance for instance in instances() if instance not in spot()]
    say("ray up has ended, on another head")
    mnist = Run(head["InstanceId"], mnist.folder)
    text = run(SWEEP)
    say("the same command has ended:", *re.findall("^cluster: .*", text, re.M))
    check("was not here: going on from its copy in s3://lab/runs" in text, text[-3000:])
    trials = mnist.ask("SELECT state, attempts FROM trials")
    check([state for state, _ in trials] == ["COMPLETED"] * TRIALS, trials)
    check_every_epoch(mnist, EPOCHS)
    restored = mnist.ask("SELECT trial, json_extract(data, '$.step') FROM events WHERE kind = 'restored'")
    say("restored, on either head:", restored)
    keys = boto3.client("s3").list_objects_v2(Bucket="lab", Prefix="runs/mnist_l2/")["Contents"]
    names = {entry["Key"].removeprefix("runs/mnist_l2/") for entry in keys}
    check({"sweep.sqlite", "mirror.json", "trials.parquet", "report.html"} <= names, names)
    run(f"rungwise pull {YAML} mnist_l2 --out /tmp/runs && rungwise doctor /tmp/runs/mnist_l2", code=1)
    run("rungwise pull s3://lab/runs mnist_l2 --out /tmp/mirrored")
    for home in ("/tmp/runs", "/tmp/mirrored"):
        with Reader(Path(home, "mnist_l2")) as reader:
            reader.verify()
            check(len(reader.trials()) == TRIALS, f"{home} holds {reader.trials()}")
            check(len(reader.sessions()) == 2, f"{home} holds {reader.sessions()}")
    say("the run has come home")
    until("no worker is left", lambda: not spot(), PATIENCE)
    say("idle workers are gone")
    down()


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(Path("/run/lab/events").read_text()[-2000:])
        fail(repr(error))
