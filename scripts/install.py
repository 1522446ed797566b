"""Install this project, editable, and its extra `dev` into a virtual environment (`make ready`).

    python3 scripts/install.py .venv

pip unpacks on one core, and PyTorch with its CUDA libraries is most of the 7 GB. So two pips run at once:
one installs those and some others without resolving dependencies, the other installs the rest. A last pip resolves all
requirements, finds nearly all of them installed, and installs what the first two could not.

constraints.txt holds the versions that were tested; pyproject.toml the ranges that should work.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Packages of constraints.txt on which none of the other dependencies depends. cu12 belongs to the benchmarks' packages.
ALONE = re.compile(
    r"(?!.*cu12)(torch|triton|cuda|nvidia|sympy|mpmath|networkx|plotly|duckdb|playwright|ruff"
    r"|accelerate|keras|lightgbm|lightning|pytorch-lightning|tokenizers|transformers|xgboost-cpu)"
)

EXTRAS = ("dev", "docs", "cluster", "tensorboard", "wandb", "dashboard")  # `own` is in ALONE


def in_two_parts(root: Path = ROOT) -> tuple[list[str], list[str]]:
    """(pins to install without their dependencies, the other requirements of this project and of `dev`)."""
    pins = (root / "constraints.txt").read_text().split()
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for name in EXTRAS for line in extras[name])]
    others = [line for line in wanted if not ALONE.match(line) and not line.startswith("rungwise")]
    return [pin for pin in pins if ALONE.match(pin)], others


def main() -> None:
    pip = [
        str(Path(sys.argv[1]).resolve() / "bin/python"),
        "-m",
        "pip",
        "install",
        "-qq",
        "--disable-pip-version-check",
        "--no-compile",  # half of pip's time; what is used, Python compiles when it is first imported
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
