"""What pyproject.toml allows: every dependency has a lowest version, and the tested one is not below it."""

import re
import subprocess
import sys
from pathlib import Path

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
