"""What pyproject.toml allows: every dependency has a lowest version, and the tested one is not below it."""

import re
import runpy
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent


def pinned(lines: str) -> dict[str, Version]:
    """{package, spelled as pip compares names: version} of lines `name==version`."""
    pairs = (line.partition("==") for line in lines.splitlines() if "==" in line)
    return {re.sub(r"[-_.]+", "-", name).lower(): Version(version) for name, _, version in pairs}


def test_every_direct_dependency_has_a_lowest_version_and_is_tested_at_it_or_above() -> None:
    """`make test-lowest` installs these; that they work is for it to show."""
    command = [sys.executable, str(ROOT / "scripts/lowest.py"), "samplers", "cluster", "dev"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lowest, tested = pinned(done.stdout), pinned((ROOT / "constraints.txt").read_text())
    assert len(lowest) > 20
    assert {name: (low, tested[name]) for name, low in lowest.items() if low > tested[name]} == {}


def closure(requirements: list[str]) -> set[str]:
    """Names of all packages that these requirements bring here."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        one = waiting.pop()
        for extra in ("", *one.extras):
            if (key := (canonicalize_name(one.name), extra)) in found:
                continue
            found.add(key)
            needs = [Requirement(line) for line in metadata.requires(one.name) or []]
            waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def test_two_pips_that_fill_an_environment_at_once_write_no_package_both() -> None:
    pins, others = runpy.run_path(str(ROOT / "scripts/install.py"))["in_two_parts"]()
    alone = {canonicalize_name(Requirement(pin).name) for pin in pins}
    assert {"torch", "plotly", "ruff"} <= alone
    brought = closure(others)
    assert {"ray", "mlflow", "numpy", "pytest"} <= brought
    assert alone & brought == set()
    assert alone <= closure(["rungwise[dev]"])  # nothing that nobody asks for
