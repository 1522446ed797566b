"""Fill a virtual environment with this project, editable, and what its extra `dev` asks for (`make ready`).

    python3 scripts/install.py .venv

pip unpacks and compiles on one core, and PyTorch with its CUDA libraries is most of the 7 GB. So two run at once: one
for those, without asking what they need, and one for the other dependencies. The pip that comes last knows all
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
TORCH = re.compile(r"(?!.*cu12)(torch|triton|cuda|nvidia)")  # names in constraints.txt; cu12: of other packages


def torch_and_others(root: Path = ROOT) -> tuple[list[str], list[str]]:
    """Pinned requirements for PyTorch and what only PyTorch needs; the other ones of this project and of `dev`."""
    pins = (root / "constraints.txt").read_text().split()
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["dev"] + extras["cluster"]
    others = [one for one in wanted if not TORCH.match(one) and not one.startswith("rungwise")]
    return [pin for pin in pins if TORCH.match(pin)], others


def main() -> None:
    pip = [
        str(Path(sys.argv[1]).resolve() / "bin/python"),
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "-c",
        "constraints.txt",
    ]
    torch, others = torch_and_others()
    both = [subprocess.Popen([*pip, *words], cwd=ROOT) for words in (["--no-deps", *torch], others)]
    for process in both:
        process.wait()
    sys.exit(subprocess.run([*pip, "-e", ".[dev]"], cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
