"""Print pip requirements of an environment that tests one end of pyproject.toml's ranges (`make test-versions`).

    python scripts/versions.py lowest|newest

`lowest` pins each dependency to its lower bound. `newest` leaves out all bounds, so that pip takes the newest versions
of the registry, above our upper bounds too. The tools of the extra `dev` keep their ranges.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

REQUIREMENT = re.compile(r"(?P<package>[\w.-]+(\[[\w, -]+\])?)>=(?P<floor>[\w.]+)(,<[\w.]+)?")


def requirements(end: str) -> list[str]:
    """Requirement lines for one `end` of the ranges, "lowest" or "newest".

    Raises:
        ValueError: A requirement in pyproject.toml has another form than NAME>=LOWEST[,<LIMIT].
    """
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [line for line in extras["dev"] if not line.startswith("rungwise[")]
    optional = ("samplers", "sql", "cluster", "dashboard", "tensorboard", "wandb")
    for requirement in [*project["dependencies"], *(line for extra in optional for line in extras[extra])]:
        if not (match := REQUIREMENT.fullmatch(requirement)):
            raise ValueError(f"{requirement!r} in pyproject.toml must have the form NAME>=LOWEST[,<LIMIT]")
        lines.append(match["package"] + (f"=={match['floor']}" if end == "lowest" else ""))
    return lines


if __name__ == "__main__":
    print(*requirements(sys.argv[1]), sep="\n")
