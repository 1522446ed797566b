"""The server of the mock account: moto's, with no other instance types than cluster.yaml's.

Ray reads all that there are at every command, and for 900 of them the mock takes two seconds.
"""

import re
from pathlib import Path

from moto.ec2.models.instance_types import InstanceTypeBackend
from moto.server import main

CLUSTER = Path(__file__).resolve().parents[3] / "cluster.yaml"


def keep_types(names: set[str]) -> None:
    """Forget all instance types but these."""
    types = InstanceTypeBackend.instance_types
    types[:] = [one for one in types if one.get("InstanceType") in names]


if __name__ == "__main__":
    keep_types(set(re.findall(r"InstanceType: (\S+)", CLUSTER.read_text())))
    main(["-H", "0.0.0.0", "-p", "5000"])
