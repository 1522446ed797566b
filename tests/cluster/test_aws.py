"""clusters/aws.py against a mock account: what it lets in, what a node may do, and that it mends what is not so."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import botocore.loaders
import pytest
import requests
import yaml
from moto import mock_aws
from support.cluster.policies import allows

pytestmark = pytest.mark.usefixtures("account")
ROOT = Path(__file__).resolve().parent.parent.parent
HOME, OFFICE = "203.0.113.7/32", "198.51.100.0/24"
LOADER = cache(botocore.loaders.create_loader)  # the services' descriptions are megabytes of JSON: read once
Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # 1,300 images a test, which nothing here starts
    monkeypatch.setattr(botocore.loaders, "create_loader", LOADER)
    with mock_aws():
        yield


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("clusters_aws", ROOT / "clusters/aws.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "clusters_aws", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*ssh_from: str, more: tuple[str, ...] = ()) -> tuple[int, list[str], list[str]]:
        """Exit status, and the lines of standard output and of standard error."""
        monkeypatch.setattr("sys.argv", ["aws.py", "--bucket", "mine", "--ssh-from", *ssh_from, *more])
        code = script.main()
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return call


def groups() -> list[dict[str, Any]]:
    found = boto3.client("ec2").describe_security_groups(Filters=[{"Name": "group-name", "Values": ["rungwise-node"]}])
    return list(found["SecurityGroups"])


def ssh() -> list[str]:
    """Who may log in."""
    (group,) = groups()
    (rule,) = [rule for rule in group["IpPermissions"] if rule.get("FromPort") == 22]
    return [one["CidrIp"] for one in rule["IpRanges"]] + [one["CidrIpv6"] for one in rule["Ipv6Ranges"]]


def policy(role: str) -> dict[str, Any]:
    """The one thing that says what a role may do."""
    iam = boto3.client("iam")
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == [role]
    document: dict[str, Any] = iam.get_role_policy(RoleName=role, PolicyName=role)["PolicyDocument"]
    return document


def state() -> dict[str, Any]:
    """All that the script makes, without dates and made-up ids."""
    iam = boto3.client("iam")
    roles = {
        role["RoleName"]: (role["AssumeRolePolicyDocument"], policy(role["RoleName"]))
        for role in iam.list_roles(PathPrefix="/")["Roles"]
        if role["RoleName"].startswith("rungwise")
    }
    profiles = {
        profile["InstanceProfileName"]: [role["RoleName"] for role in profile["Roles"]]
        for profile in iam.list_instance_profiles()["InstanceProfiles"]
    }
    spot = len(iam.list_roles(PathPrefix="/aws-service-role/")["Roles"])
    rules = [(group["IpPermissions"], group["Tags"]) for group in groups()]
    for group, (entries, _) in zip(groups(), rules, strict=True):
        for pair in (pair for entry in entries for pair in entry["UserIdGroupPairs"]):
            assert pair.pop("GroupId") == group["GroupId"]
    return {"roles": roles, "profiles": profiles, "spot": spot, "groups": json.loads(json.dumps(rules))}


def test_the_group_lets_in_ssh_from_the_range_and_its_own_members(run: Run) -> None:
    code, values, _ = run(HOME)
    assert code == 0
    (group,) = groups()
    assert values == [
        f"SecurityGroupIds: [{group['GroupId']}]",
        "IamInstanceProfile: {Name: rungwise-head}",
        "IamInstanceProfile: {Name: rungwise-worker}",
        "s3://mine/runs",
    ]
    assert ssh() == [HOME]
    rule, own = sorted(group["IpPermissions"], key=lambda rule: rule["IpProtocol"], reverse=True)
    assert (rule["FromPort"], rule["ToPort"], rule["UserIdGroupPairs"]) == (22, 22, [])
    assert [pair["GroupId"] for pair in own["UserIdGroupPairs"]] == [group["GroupId"]]
    assert own["IpRanges"] == own["Ipv6Ranges"] == []


def test_cluster_yaml_names_the_profiles_and_the_cluster_that_the_script_makes(run: Run) -> None:
    run(HOME)
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])["node_config"]
    assert config["cluster_name"] == "rungwise"
    assert head["IamInstanceProfile"] == {"Name": "rungwise-head"}
    assert [kind["node_config"]["IamInstanceProfile"] for kind in types.values()] == [{"Name": "rungwise-worker"}] * 2
    assert state()["profiles"] == {name: [name] for name in ("rungwise-head", "rungwise-worker")}


def test_a_second_run_changes_nothing_and_says_so(run: Run) -> None:
    code, values, changes = run(HOME)
    assert code == 0
    assert "security group rungwise-node: made" in changes
    before = state()
    assert run(HOME) == (0, values, ["nothing to change"])
    assert state() == before


def test_another_range_takes_the_place_of_the_first_and_is_said(run: Run) -> None:
    run(HOME)
    code, _, changes = run(OFFICE)
    assert code == 0
    assert ssh() == [OFFICE]
    assert changes == [
        f"security group rungwise-node: lets in SSH from {OFFICE}",
        f"security group rungwise-node: no longer lets in SSH from {HOME}",
    ]


def test_several_ranges_of_either_kind_may_log_in(run: Run) -> None:
    assert run(HOME, "2001:db8::/64")[0] == 0
    assert ssh() == [HOME, "2001:db8::/64"]
    assert run(HOME, "2001:db8::/64")[2] == ["nothing to change"]
    assert run("2001:db8::/64")[0] == 0
    assert ssh() == ["2001:db8::/64"]


def test_a_rule_that_somebody_added_goes_and_is_said(run: Run) -> None:
    run(HOME)
    (group,) = groups()
    world = {"IpProtocol": "tcp", "FromPort": 8265, "ToPort": 8265, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    before = state()
    boto3.client("ec2").authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[world])
    assert state() != before
    assert run(HOME)[2] == ["security group rungwise-node: no longer lets in tcp 8265-8265 from 0.0.0.0/0"]
    assert state() == before


def test_another_bucket_takes_the_place_of_the_first(run: Run) -> None:
    run(HOME)
    _, values, changes = run(HOME, more=("--bucket", "other"))
    assert values[-1] == "s3://other/runs"
    assert changes == ["role rungwise-worker: policy replaced", "role rungwise-head: policy replaced"]
    assert not allows(policy("rungwise-worker"), "s3:GetObject", "arn:aws:s3:::mine/x")


REQUESTS = {
    "iam": {
        "CreateRole", "PutRolePolicy", "CreateInstanceProfile", "AddRoleToInstanceProfile", "CreateServiceLinkedRole",
    },
    "ec2": {"CreateSecurityGroup", "CreateTags", "AuthorizeSecurityGroupIngress"},
}  # fmt: skip


def test_what_an_interruption_left_behind_is_made_whole_wherever_it_came(
    run: Run, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        pass

    made: list[str] = []
    last = [-1]  # of the requests that go through; -1: all

    @cache
    def client(service: str, **region: str) -> Any:
        def before(event_name: str, **_: object) -> None:
            operation = event_name.rpartition(".")[2]
            if operation in REQUESTS[service]:
                if len(made) == last[0]:
                    raise Interrupted
                made.append(operation)

        real = boto3.client(service, **region)  # type: ignore[call-overload]
        if service in REQUESTS:
            real.meta.events.register("before-call", before)
        return real

    monkeypatch.setattr(script, "boto3", type("boto3", (), {"client": staticmethod(client)}))
    assert run(HOME)[0] == 0
    whole, count = state(), len(made)
    assert set(made) == REQUESTS["iam"] | REQUESTS["ec2"]
    for last[0] in range(count):
        requests.post("http://motoapi.amazonaws.com/moto-api/reset", timeout=60).raise_for_status()  # an empty account
        made.clear()
        with pytest.raises(Interrupted):
            run(HOME)
        assert len(made) == last[0]
        made.clear()
        done, last[0] = last[0], -1
        assert run(HOME)[0] == 0
        assert state() == whole, f"interrupted after {done} of {count} requests"
        assert len(made) == count - done


def test_a_profile_that_holds_another_role_gets_its_own(run: Run) -> None:
    iam = boto3.client("iam")
    iam.create_role(RoleName="somebody", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="rungwise-worker")
    iam.add_role_to_instance_profile(InstanceProfileName="rungwise-worker", RoleName="somebody")
    changes = run(HOME)[2]
    assert "profile rungwise-worker: role somebody removed" in changes
    assert state()["profiles"]["rungwise-worker"] == ["rungwise-worker"]


def test_a_role_that_somebody_else_may_take_on_is_ec2s_again(run: Run) -> None:
    run(HOME)
    before = state()
    anybody = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}],
    }
    boto3.client("iam").update_assume_role_policy(RoleName="rungwise-head", PolicyDocument=json.dumps(anybody))
    assert run(HOME)[2] == ["role rungwise-head: EC2 alone may take it on"]
    assert state() == before


def test_whoever_has_the_profile_of_version_0_1_0_is_told_how_to_be_rid_of_it(run: Run) -> None:
    assert not any("rungwise-node, of" in line for line in run(HOME)[2])
    boto3.client("iam").create_role(RoleName="rungwise-node", AssumeRolePolicyDocument="{}")
    notes = run(HOME)[2]
    assert notes[0] == "nothing to change"
    assert "may start and end every instance of the account" in notes[1]
    assert [line.split()[2] for line in notes[2:]] == [
        "remove-role-from-instance-profile", "delete-instance-profile", "delete-role-policy", "delete-role",
    ]  # fmt: skip


def test_no_default_network_is_one_line(run: Run) -> None:
    ec2 = boto3.client("ec2")
    (network,) = ec2.describe_vpcs()["Vpcs"]
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.delete_vpc(VpcId=network["VpcId"])
    code, values, errors = run(HOME)
    assert (code, values) == (1, [])
    assert [line for line in errors if "default VPC" in line] == errors


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0", "nonsense", "203.0.113.7/24"])
def test_the_whole_world_and_what_is_no_range_are_refused(run: Run, everybody: str) -> None:
    with pytest.raises(SystemExit) as end:
        run(HOME, everybody)
    assert end.value.code == 2
    assert groups() == []


# -- what a node may do ----------------------------------------------------------------------------------------

EC2 = "arn:aws:ec2:us-west-2:123456789012"
OWN = {"ec2:ResourceTag/ray-cluster-name": "rungwise"}
STRANGE: list[dict[str, str]] = [{}, {"ec2:ResourceTag/ray-cluster-name": "other"}]
ASKED = {
    "aws:RequestTag/ray-cluster-name": "rungwise",
    "ec2:InstanceProfile": "arn:aws:iam::123456789012:instance-profile/rungwise-worker",
}


@pytest.mark.parametrize("role", ["rungwise-worker", "rungwise-head"])
def test_a_node_may_use_its_bucket_and_no_other(run: Run, role: str) -> None:
    run(HOME)
    document = policy(role)
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
        assert allows(document, action, "arn:aws:s3:::mine/runs/a")
        assert not allows(document, action, "arn:aws:s3:::mine2/runs/a")
    assert allows(document, "s3:ListBucket", "arn:aws:s3:::mine")
    assert not allows(document, "s3:ListBucket", "arn:aws:s3:::other")
    assert not allows(document, "s3:DeleteBucket", "arn:aws:s3:::mine")


def test_a_worker_may_do_nothing_but_use_the_bucket(run: Run) -> None:
    run(HOME)
    actions = {
        action
        for statement in policy("rungwise-worker")["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert {action.partition(":")[0] for action in actions} == {"s3"}
    for action in ("ec2:RunInstances", "ec2:TerminateInstances", "ec2:DescribeInstances", "iam:PassRole"):
        assert not allows(policy("rungwise-worker"), action, f"{EC2}:instance/i-1", OWN | ASKED)


def test_the_head_ends_and_tags_instances_of_its_own_cluster_only(run: Run) -> None:
    run(HOME)
    head = policy("rungwise-head")
    for action in ("ec2:TerminateInstances", "ec2:CreateTags"):
        assert allows(head, action, f"{EC2}:instance/i-1", OWN)
        for strange in STRANGE:
            assert not allows(head, action, f"{EC2}:instance/i-1", strange)
    claimed = {"aws:RequestTag/ray-cluster-name": "rungwise"}  # to be able to end it then
    assert not allows(head, "ec2:CreateTags", f"{EC2}:instance/i-1", claimed)
    assert not allows(head, "ec2:CreateTags", f"{EC2}:security-group/sg-1", claimed | OWN)


def test_the_head_starts_workers_of_its_own_cluster_in_its_own_group_only(run: Run) -> None:
    run(HOME)
    head = policy("rungwise-head")
    assert allows(head, "ec2:RunInstances", f"{EC2}:instance/*", ASKED)
    for missing in ASKED:
        without = {key: value for key, value in ASKED.items() if key != missing}
        assert not allows(head, "ec2:RunInstances", f"{EC2}:instance/*", without)
        assert not allows(head, "ec2:RunInstances", f"{EC2}:instance/*", ASKED | {missing: "other"})
    assert allows(head, "ec2:RunInstances", f"{EC2}:security-group/sg-1", OWN)
    for strange in STRANGE:
        assert not allows(head, "ec2:RunInstances", f"{EC2}:security-group/sg-1", strange)


def test_the_head_passes_the_workers_role_to_ec2_and_no_other(run: Run) -> None:
    run(HOME)
    head, to_ec2 = policy("rungwise-head"), {"iam:PassedToService": "ec2.amazonaws.com"}
    worker = "arn:aws:iam::123456789012:role/rungwise-worker"
    assert allows(head, "iam:PassRole", worker, to_ec2)
    assert not allows(head, "iam:PassRole", worker, {"iam:PassedToService": "lambda.amazonaws.com"})
    assert not allows(head, "iam:PassRole", worker)
    for other in ("rungwise-head", "admin", "rungwise-worker2"):
        assert not allows(head, "iam:PassRole", f"arn:aws:iam::123456789012:role/{other}", to_ec2)


def test_two_clusters_of_one_account_may_not_touch_each_others_instances(run: Run) -> None:
    run(HOME)
    run(HOME, more=("--cluster", "other"))
    for mine, theirs in (("rungwise", "other"), ("other", "rungwise")):
        head = policy(f"{mine}-head")
        tag = "ec2:ResourceTag/ray-cluster-name"
        assert allows(head, "ec2:TerminateInstances", f"{EC2}:instance/i-1", {tag: mine})
        assert not allows(head, "ec2:TerminateInstances", f"{EC2}:instance/i-1", {tag: theirs})


# -- and that it suffices for what Ray does ------------------------------------------------------------------------


def contexts(operation: str, asked: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """(action, resource, context) that EC2 would check for one request, as its authorisation reference has it."""
    ec2 = boto3.client("ec2")
    tags = {
        f"aws:RequestTag/{tag['Key']}": tag["Value"]
        for given in asked.get("TagSpecifications", [])
        if given["ResourceType"] == "instance"
        for tag in given["Tags"]
    }
    action = f"ec2:{operation}"
    if operation == "RunInstances":
        name = asked["IamInstanceProfile"]["Name"]
        profile = boto3.client("iam").get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        yield action, f"{EC2}:instance/*", tags | {"ec2:InstanceProfile": profile["Arn"]}
        yield "ec2:CreateTags", f"{EC2}:instance/*", tags | {"ec2:CreateAction": operation}
        yield "iam:PassRole", profile["Roles"][0]["Arn"], {"iam:PassedToService": "ec2.amazonaws.com"}
        yield action, f"arn:aws:ec2:us-west-2::image/{asked['ImageId']}", {}
        for part in (f"subnet/{asked['SubnetId']}", f"key-pair/{asked['KeyName']}", "volume/*", "network-interface/*"):
            yield action, f"{EC2}:{part}", {}
        for group in ec2.describe_security_groups(GroupIds=asked["SecurityGroupIds"])["SecurityGroups"]:
            yield action, f"{EC2}:security-group/{group['GroupId']}", resource_tags(group.get("Tags", []))
    elif re.match("Describe", operation):
        yield action, "*", {}
    else:
        names = asked.get("InstanceIds") or asked["Resources"]
        new = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in asked.get("Tags", [])}
        for reservation in ec2.describe_instances(InstanceIds=names)["Reservations"]:
            for instance in reservation["Instances"]:
                yield action, f"{EC2}:instance/{instance['InstanceId']}", new | resource_tags(instance["Tags"])


def resource_tags(tags: list[dict[str, str]]) -> dict[str, str]:
    return {f"ec2:ResourceTag/{tag['Key']}": tag["Value"] for tag in tags}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_all_that_rays_autoscaler_asks_of_ec2_is_allowed_to_the_head(run: Run) -> None:
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    group = run(HOME)[1][0].partition("[")[2].rstrip("]")
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    ec2 = boto3.client("ec2")
    ec2.create_key_pair(KeyName="ray")
    worker = config["available_node_types"]["gpu_t4"]["node_config"] | {
        "ImageId": ec2.register_image(Name="any")["ImageId"],
        "SecurityGroupIds": [group],
        "SubnetIds": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]],
        "KeyName": "ray",
    }
    provider = AWSNodeProvider({**config["provider"], "region": "us-west-2"}, config["cluster_name"])
    head, seen = policy("rungwise-head"), []

    def check(params: dict[str, Any], model: Any, **_: object) -> None:
        if seen[-1:] == ["looking"]:
            return  # we ask, not Ray
        seen.append("looking")
        asked = list(contexts(model.name, params))
        seen[-1] = model.name
        for action, resource, context in asked:
            assert allows(head, action, resource, context), (action, resource, context)

    for resource in (provider.ec2, provider.ec2_fail_fast):
        resource.meta.client.meta.events.register("before-parameter-build.ec2", check)
    tags = {"ray-node-type": "worker", "ray-user-node-type": "gpu_t4", "ray-node-name": "ray-rungwise-worker"}
    (node,) = provider.create_node(worker, tags, 1)
    assert provider.non_terminated_nodes({}) == [node]
    provider.set_node_tags(node, {"ray-node-status": "up-to-date"})
    provider.terminate_node(node)
    provider.terminate_nodes([node])
    assert set(seen) == {"RunInstances", "DescribeInstances", "CreateTags", "TerminateInstances"}
    with pytest.raises(AssertionError, match="RunInstances"):
        provider.create_node(worker | {"IamInstanceProfile": {"Name": "rungwise-head"}}, tags, 1)
