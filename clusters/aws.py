"""What cluster.yaml needs of an AWS account: a security group, and IAM profiles for the head and for the workers.

    python clusters/aws.py --bucket BUCKET --ssh-from 203.0.113.7/32 [--cluster rungwise] [--region us-west-2]

The security group lets in SSH from the stated ranges, and its own members; Ray would make one open to the world.
Workers may use the bucket and nothing else. The head may also start workers, tag and end instances, those of its own
cluster only. Ray would give the head all rights on EC2 and S3, and the workers none.

Run it again, with other values or after it was interrupted: it makes what is missing, changes what differs, and says
what that was. The lines to be set in cluster.yaml go to standard output, all else to standard error.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

TAG = "ray-cluster-name"  # on every instance that Ray starts
OBJECTS = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
# What instances are started with, besides their profile and security group: cluster.yaml decides that.
PARTS = ["subnet/*", "network-interface/*", "volume/*", "key-pair/*", "spot-instances-request/*"]
SPOT = "spot.amazonaws.com"
FORMER = "rungwise-node"  # the one role and profile of version 0.1.0

Statement = dict[str, Any]
_SOURCES = {
    "IpRanges": "CidrIp",
    "Ipv6Ranges": "CidrIpv6",
    "PrefixListIds": "PrefixListId",
    "UserIdGroupPairs": "GroupId",
}  # of EC2's rules, and what names one


@dataclass(frozen=True, order=True)
class Rule:
    """One source that a security group lets in, to some ports."""

    protocol: str  # "-1": all
    ports: tuple[int, ...]  # first and last; () for all
    kind: str  # a key of _SOURCES
    source: str

    @classmethod
    def ssh(cls, source: str) -> Rule:
        return cls("tcp", (22, 22), "Ipv6Ranges" if ":" in source else "IpRanges", source)

    @classmethod
    def all_of(cls, group: dict[str, Any]) -> set[Rule]:
        """The rules of a security group as EC2 describes it."""
        return {
            cls(
                entry["IpProtocol"],
                tuple(entry[key] for key in ("FromPort", "ToPort") if key in entry),
                kind,
                one[name],
            )
            for entry in group["IpPermissions"]
            for kind, name in _SOURCES.items()
            for one in entry.get(kind, [])
        }

    def permission(self) -> dict[str, Any]:
        ports = dict(zip(("FromPort", "ToPort"), self.ports, strict=False))
        return {"IpProtocol": self.protocol, **ports, self.kind: [{_SOURCES[self.kind]: self.source}]}

    def __str__(self) -> str:
        what = "everything" if self.protocol == "-1" else f"{self.protocol} {'-'.join(map(str, self.ports))}"
        return f"{'SSH' if what == 'tcp 22-22' else what} from {self.source}"


class Refused(Exception):
    """The account has not got what is needed; the text says what."""


@dataclass(frozen=True)
class Account:
    """Whose resources: the parts of their ARNs, and the cluster that they belong to."""

    partition: str
    number: str
    cluster: str

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{'*' if service == 'ec2' else ''}:{self.number}:{resource}"


def trust() -> Statement:
    return _document([{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}])


def worker_policy(account: Account, bucket: str) -> Statement:
    """What a worker may do: read and write the bucket."""
    return _document(_storage(account, bucket))


def head_policy(account: Account, bucket: str) -> Statement:
    """What the head may do: the same, and start workers, tag and end instances of its own cluster."""
    instances = account.arn("ec2", "instance/*")
    ours = {"StringEquals": {f"ec2:ResourceTag/{TAG}": account.cluster}}
    worker = f"{account.cluster}-worker"
    asked = {
        "StringEquals": {f"aws:RequestTag/{TAG}": account.cluster},
        "ArnEquals": {"ec2:InstanceProfile": account.arn("iam", f"instance-profile/{worker}")},
    }
    created = {"StringEquals": {f"aws:RequestTag/{TAG}": account.cluster, "ec2:CreateAction": "RunInstances"}}
    images = f"arn:{account.partition}:ec2:*::image/*"
    parts = [images, *(account.arn("ec2", part) for part in PARTS)]
    passed = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    return _document(
        [
            *_storage(account, bucket),
            _allow("ec2:Describe*", "*"),
            _allow("ec2:RunInstances", instances, asked),
            _allow("ec2:RunInstances", account.arn("ec2", "security-group/*"), ours),
            _allow("ec2:RunInstances", parts),
            _allow("ec2:CreateTags", instances, created),
            _allow(["ec2:CreateTags", "ec2:TerminateInstances"], instances, ours),
            _allow("iam:PassRole", account.arn("iam", f"role/{worker}"), passed),
        ]
    )


def _storage(account: Account, bucket: str) -> list[Statement]:
    where = f"arn:{account.partition}:s3:::{bucket}"
    return [_allow("s3:ListBucket", where), _allow(OBJECTS, f"{where}/*")]


def _allow(action: str | list[str], resource: str | list[str], condition: Statement | None = None) -> Statement:
    allowed: Statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return {**allowed, "Condition": condition} if condition else allowed


def _document(statements: list[Statement]) -> Statement:
    return {"Version": "2012-10-17", "Statement": statements}


def ensure_role(name: str, policy: Statement) -> list[str]:
    """Make the role, its policy and its instance profile what they are to be; what was changed, a line each."""
    iam, changes = boto3.client("iam"), []
    try:
        role = iam.get_role(RoleName=name)["Role"]
    except iam.exceptions.NoSuchEntityException:
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust()))["Role"]
        changes.append(f"role {name}: made")
    if role["AssumeRolePolicyDocument"] != trust():
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust()))
        changes.append(f"role {name}: EC2 alone may take it on")
    try:
        before = iam.get_role_policy(RoleName=name, PolicyName=name)["PolicyDocument"]
    except iam.exceptions.NoSuchEntityException:
        before = None
    if before != policy:
        iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=json.dumps(policy))
        changes.append(f"role {name}: policy {'made' if before is None else 'replaced'}")
    return changes + _ensure_profile(name)


def _ensure_profile(name: str) -> list[str]:
    """The instance profile holds the role of its name, and no other: it can hold but one."""
    iam, changes = boto3.client("iam"), []
    try:
        profile = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    except iam.exceptions.NoSuchEntityException:
        profile = iam.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        changes.append(f"profile {name}: made")
    roles = [role["RoleName"] for role in profile["Roles"]]
    for other in roles:
        if other != name:
            iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=other)
            changes.append(f"profile {name}: role {other} removed")
    if name not in roles:
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        changes.append(f"profile {name}: role {name} added")
    return changes


def ensure_spot() -> list[str]:
    """The role by which EC2 itself serves spot requests: every account needs it once, and the head may not make it."""
    iam = boto3.client("iam")
    if iam.list_roles(PathPrefix=f"/aws-service-role/{SPOT}/")["Roles"]:
        return []
    name = iam.create_service_linked_role(AWSServiceName=SPOT)["Role"]["RoleName"]
    return [f"role {name}: made"]


def ensure_group(region: str, cluster: str, ssh_from: Iterable[str]) -> tuple[str, list[str]]:
    """Make the security group of the default VPC what it is to be: its id, and what was changed.

    Raises Refused when the region has no default VPC.
    """
    ec2, name, changes = boto3.client("ec2", region_name=region), f"{cluster}-node", []
    vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not vpcs:
        raise Refused(f"{region} has no default VPC: `aws ec2 create-default-vpc --region {region}` makes one")
    within = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [vpcs[0]["VpcId"]]}]
    groups = ec2.describe_security_groups(Filters=within)["SecurityGroups"]
    if not groups:
        ec2.create_security_group(GroupName=name, Description="rungwise nodes", VpcId=vpcs[0]["VpcId"])
        groups = ec2.describe_security_groups(Filters=within)["SecurityGroups"]
        changes.append(f"security group {name}: made")
    (group,) = groups
    identity: str = group["GroupId"]
    tag = {"Key": TAG, "Value": cluster}
    if tag not in group.get("Tags", []):
        ec2.create_tags(Resources=[identity], Tags=[tag])
        changes.append(f"security group {name}: tag {TAG}={cluster} set")
    own = Rule("-1", (), "UserIdGroupPairs", identity)
    before, now = Rule.all_of(group), {own, *map(Rule.ssh, ssh_from)}
    for rule in sorted(now - before):  # first: nobody is locked out when this is interrupted
        ec2.authorize_security_group_ingress(GroupId=identity, IpPermissions=[rule.permission()])
        changes.append(f"security group {name}: lets in {rule}")
    for rule in sorted(before - now):
        ec2.revoke_security_group_ingress(GroupId=identity, IpPermissions=[rule.permission()])
        changes.append(f"security group {name}: no longer lets in {rule}")
    return identity, changes


def former() -> list[str]:
    """What to do about the profile of version 0.1.0, where there is one."""
    iam = boto3.client("iam")
    try:
        iam.get_role(RoleName=FORMER)
    except iam.exceptions.NoSuchEntityException:
        return []
    return [
        f"role {FORMER}, of version 0.1.0, may start and end every instance of the account. Once no instance has it:",
        f"    aws iam remove-role-from-instance-profile --instance-profile-name {FORMER} --role-name {FORMER}",
        f"    aws iam delete-instance-profile --instance-profile-name {FORMER}",
        f"    aws iam delete-role-policy --role-name {FORMER} --policy-name {FORMER}",
        f"    aws iam delete-role --role-name {FORMER}",
    ]


def ssh_range(text: str) -> str:
    """A range that may log in. Raises ArgumentTypeError for the whole world and for what is no range."""
    try:
        allowed = ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a range such as 203.0.113.7/32: {error}") from None
    if allowed.prefixlen == 0:
        raise argparse.ArgumentTypeError("must not be the whole world")
    return str(allowed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bucket", required=True, help="an S3 bucket that exists")
    parser.add_argument(
        "--ssh-from", required=True, metavar="CIDR", type=ssh_range, nargs="+",
        help="who may log in, such as 203.0.113.7/32; nobody else may from then on",
    )  # fmt: skip
    parser.add_argument("--cluster", default="rungwise", help="cluster_name in cluster.yaml (default: rungwise)")
    parser.add_argument("--region", default="us-west-2")
    given = parser.parse_args()
    head, worker = f"{given.cluster}-head", f"{given.cluster}-worker"
    try:
        partition, number = boto3.client("sts").get_caller_identity()["Arn"].split(":")[1:5:3]
        account = Account(partition, number, given.cluster)
        changes = ensure_role(worker, worker_policy(account, given.bucket))
        changes += ensure_role(head, head_policy(account, given.bucket))
        changes += ensure_spot()
        group, in_group = ensure_group(given.region, given.cluster, given.ssh_from)
        notes = former()
    except (Refused, BotoCoreError, ClientError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(*(changes + in_group or ["nothing to change"]), *notes, sep="\n", file=sys.stderr)
    print(
        f"SecurityGroupIds: [{group}]",
        f"IamInstanceProfile: {{Name: {head}}}",
        f"IamInstanceProfile: {{Name: {worker}}}",
        f"s3://{given.bucket}/runs",
        sep="\n",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
