"""Print `name==version` for the lower bound of each direct dependency: constraints for pip (`make test-lowest`).

python scripts/lowest.py [extra ...]
"""

import re
import sys
import tomllib
from pathlib import Path

FLOOR = re.compile(r"([\w.-]+)(?:\[[\w, -]+\])?>=([\w.]+)")


def floors(extras: list[str]) -> dict[str, str]:
    """{package: its lowest version} of the dependencies and of those of `extras`; ValueError for one without."""
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [one for extra in extras for one in project["optional-dependencies"][extra]]
    found = {}
    for requirement in wanted:
        if requirement.startswith("rungwise["):
            continue  # other extras of ours
        if not (match := FLOOR.match(requirement)):
            raise ValueError(f"{requirement!r} in pyproject.toml must have a lower bound")
        found[match[1]] = match[2]
    return found


if __name__ == "__main__":
    for name, version in floors(sys.argv[1:]).items():
        print(f"{name}=={version}")
