"""clusters/aws.py against a mock account: what it lets in, what a node may do, and that it changes nothing twice."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws

pytestmark = pytest.mark.usefixtures("account")
SCRIPT = Path(__file__).resolve().parent.parent.parent / "clusters/aws.py"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    with mock_aws():
        yield


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clusters_aws", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    monkeypatch.setattr("sys.argv", ["aws.py", "--bucket", "mine", *flags])
    code: int = script.main()
    return code


def groups() -> list[dict[str, Any]]:
    found = boto3.client("ec2").describe_security_groups(Filters=[{"Name": "group-name", "Values": ["rungwise-node"]}])
    return list(found["SecurityGroups"])


def test_the_group_lets_in_ssh_from_the_range_and_its_own_members(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(script, monkeypatch, "--ssh-from", "203.0.113.7/32") == 0
    (group,) = groups()
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f"SecurityGroupIds: [{group['GroupId']}]",
        "IamInstanceProfile: {Name: rungwise-node}",
        "s3://mine/runs",
    ]
    ssh, own = sorted(group["IpPermissions"], key=lambda rule: rule["IpProtocol"], reverse=True)
    assert [entry["CidrIp"] for entry in ssh["IpRanges"]] == ["203.0.113.7/32"]
    assert (ssh["FromPort"], ssh["ToPort"], ssh["UserIdGroupPairs"]) == (22, 22, [])
    assert [pair["GroupId"] for pair in own["UserIdGroupPairs"]] == [group["GroupId"]]
    assert own["IpRanges"] == own["Ipv6Ranges"] == []


def test_a_second_run_changes_nothing(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(script, monkeypatch, "--ssh-from", "203.0.113.7/32")
    before, told = groups(), capsys.readouterr().out
    assert run(script, monkeypatch, "--ssh-from", "203.0.113.7/32") == 0
    assert groups() == before
    assert capsys.readouterr().out == told


def test_a_node_may_use_its_bucket_and_no_other(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    run(script, monkeypatch, "--ssh-from", "203.0.113.7/32")
    iam = boto3.client("iam")
    policy = iam.get_role_policy(RoleName="rungwise-node", PolicyName="rungwise-node")["PolicyDocument"]
    policy = json.loads(policy) if isinstance(policy, str) else policy
    stored = [rule for rule in policy["Statement"] if "s3:" in str(rule["Action"])]
    assert {rule["Resource"] for rule in stored} == {"arn:aws:s3:::mine", "arn:aws:s3:::mine/*"}
    profile = iam.get_instance_profile(InstanceProfileName="rungwise-node")["InstanceProfile"]
    assert [role["RoleName"] for role in profile["Roles"]] == ["rungwise-node"]


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0", "nonsense", "203.0.113.7/24"])
def test_the_whole_world_and_what_is_no_range_are_refused(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, everybody: str
) -> None:
    with pytest.raises(SystemExit) as end:
        run(script, monkeypatch, "--ssh-from", everybody)
    assert end.value.code == 2
    assert groups() == []
