"""Make a virtual environment, and install this project into it, editable.

    python3 scripts/install.py .venv sweep    # what a sweep needs (`make sweep`)
    python3 scripts/install.py .venv dev      # and what tests, lint and documentation need (`make ready`)

pip unpacks and compiles on one core, and PyTorch with its CUDA libraries is most of the 7 GB. So two pips run at once:
one installs those and some others without resolving dependencies, the other installs the rest. A last pip resolves all
requirements, finds nearly all of them installed, and installs what the first two could not.

constraints.txt holds the versions that were tested; pyproject.toml the ranges that should work.

Installations into one environment, as of `make -j2 sweep test`, wait for each other.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Packages of constraints.txt on which none of the other dependencies depends. cu12 belongs to the benchmarks' packages.
ALONE = {"sweep": r"(?!.*cu12)(torch=|torchvision|triton|cuda|nvidia|sympy|mpmath|networkx|plotly)"}
ALONE["dev"] = (
    rf"{ALONE['sweep']}|(duckdb|playwright|ruff"
    r"|accelerate|keras|lightgbm|lightning|pytorch-lightning|tokenizers|torchmetrics|transformers|xgboost-cpu)"
)
EXTRAS = {"sweep": (), "dev": ("dev", "docs", "cluster", "tensorboard", "wandb", "dashboard")}  # `own` is in ALONE


def in_two_parts(what: str, root: Path = ROOT) -> tuple[list[str], list[str]]:
    """(pins to install without their dependencies, the other requirements), for a sweep or for developers."""
    pins = (root / "constraints.txt").read_text().split()
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for name in EXTRAS[what] for line in extras[name])]
    alone = [pin for pin in pins if re.match(ALONE[what], pin)]
    names = {pin.partition("==")[0] for pin in alone}
    return alone, [line for line in wanted if re.split(r"[\[<>=]", line)[0] not in {"rungwise", *names}]


def main(environment: str, what: str) -> int:
    folder = Path(environment).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".installing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        venv.create(folder, with_pip=True, symlinks=True)
        return install(folder / "bin/python", what)


def install(python: Path, what: str) -> int:
    """Returns pip's exit code."""
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-c", "constraints.txt"]
    pins, others = in_two_parts(what)
    both = [
        subprocess.Popen([*pip, *words], cwd=ROOT, stderr=subprocess.DEVNULL)
        for words in (["--no-deps", *pins], others)
    ]
    for process in both:
        process.wait()
    project = ".[dev]" if what == "dev" else "."
    return subprocess.run([*pip, "-e", project], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
