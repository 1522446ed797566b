"""What cluster.yaml needs of an AWS account, once: a security group, and an IAM profile for head and workers.

    python clusters/aws.py --bucket BUCKET --ssh-from 203.0.113.7/32 [--region us-west-2]

The security group lets in SSH from the stated range, and its own members; Ray would make one that is open to the world.
The profile may use the bucket, and start and end instances (the head does); Ray would give one to the head alone. Run
again it changes nothing that is there, and prints the lines to be set in cluster.yaml.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys

import boto3
from botocore.exceptions import ClientError

NAME = "rungwise-node"
TRUST = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
LAUNCHING = [
    "ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags", "ec2:Describe*", "iam:GetInstanceProfile",
]  # fmt: skip


def policy(bucket: str, role: str) -> dict[str, object]:
    """What a node may do."""
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    statements: list[dict[str, object]] = [
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{bucket}"},
        {"Effect": "Allow", "Action": objects, "Resource": f"arn:aws:s3:::{bucket}/*"},
        {"Effect": "Allow", "Action": LAUNCHING, "Resource": "*"},
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": role},
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def profile(bucket: str) -> None:
    """The IAM role and its instance profile."""
    iam = boto3.client("iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": [TRUST]})
    try:
        role = iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    except iam.exceptions.EntityAlreadyExistsException:
        role = iam.get_role(RoleName=NAME)["Role"]["Arn"]
    iam.put_role_policy(RoleName=NAME, PolicyName=NAME, PolicyDocument=json.dumps(policy(bucket, role)))
    try:
        iam.create_instance_profile(InstanceProfileName=NAME)
        iam.add_role_to_instance_profile(InstanceProfileName=NAME, RoleName=NAME)
    except iam.exceptions.EntityAlreadyExistsException:
        pass


def security_group(region: str, ssh_from: str) -> str:
    """The group's id. Its rules are made with it, in the account's default VPC."""
    ec2 = boto3.client("ec2", region_name=region)
    found = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [NAME]}])["SecurityGroups"]
    if found:
        return str(found[0]["GroupId"])
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    group = str(ec2.create_security_group(GroupName=NAME, Description="rungwise nodes", VpcId=vpc)["GroupId"])
    ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": ssh_from}]},
            {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]},
        ],
    )
    return group


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bucket", required=True, help="an S3 bucket that exists")
    parser.add_argument("--ssh-from", required=True, metavar="CIDR", help="who may log in, such as 203.0.113.7/32")
    parser.add_argument("--region", default="us-west-2")
    given = parser.parse_args()
    try:
        allowed = ipaddress.ip_network(given.ssh_from)
    except ValueError as error:
        parser.error(f"--ssh-from takes a range such as 203.0.113.7/32: {error}")
    if allowed.prefixlen == 0:
        parser.error("--ssh-from must not be the whole world")
    try:
        profile(given.bucket)
        group = security_group(given.region, given.ssh_from)
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"SecurityGroupIds: [{group}]\nIamInstanceProfile: {{Name: {NAME}}}\ns3://{given.bucket}/runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
