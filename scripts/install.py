"""Fill a virtual environment with this project, editable, and what its extra `dev` asks for (`make ready`).

    python3 scripts/install.py .venv

pip unpacks and compiles on one core, and PyTorch with its CUDA libraries is most of the 7 GB. So two run at once: one
for those and some others, without asking what they need, and one for what remains. The pip that comes last knows all
requirements, finds nearly all of them there, and alone decides; what the first two could not do, it does.

constraints.txt holds the versions that were tested; pyproject.toml the ranges that should work.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Names in constraints.txt that none of the other dependencies needs. cu12: of the benchmarks' packages.
ALONE = re.compile(r"(?!.*cu12)(torch|triton|cuda|nvidia|sympy|mpmath|networkx|plotly|duckdb|playwright|ruff)")


def in_two_parts(root: Path = ROOT) -> tuple[list[str], list[str]]:
    """Pins that can be installed without asking what they need; the other requirements of this project and of `dev`."""
    pins = (root / "constraints.txt").read_text().split()
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["dev"] + extras["cluster"]
    others = [one for one in wanted if not ALONE.match(one) and not one.startswith("rungwise")]
    return [pin for pin in pins if ALONE.match(pin)], others


def main() -> None:
    pip = [
        str(Path(sys.argv[1]).resolve() / "bin/python"),
        "-m",
        "pip",
        "install",
        "-qq",
        "--disable-pip-version-check",
        "-c",
        "constraints.txt",
    ]
    pins, others = in_two_parts()
    both = [
        subprocess.Popen([*pip, *words], cwd=ROOT, stderr=subprocess.DEVNULL)
        for words in (["--no-deps", *pins], others)
    ]
    for process in both:
        process.wait()
    sys.exit(subprocess.run([*pip, "-e", ".[dev]"], cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
