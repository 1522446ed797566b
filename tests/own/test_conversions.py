"""What people have becomes a sweep by changing at most ten lines, and docs/own-training.md shows which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import conversions
import pytest

NAMES = conversions.names()


def test_there_are_scripts_of_every_kind() -> None:
    kinds = {"torch", "sklearn", "xgboost", "lightning", "transformers", "ray_tune", "optuna", "torchrun"}
    assert kinds <= {kind for kind in kinds for name in NAMES if name.startswith(kind)}
    assert sorted(path.name for path in (conversions.SCRIPTS / "after").glob("*.py")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_conversion_writes_at_most_ten_lines(name: str) -> None:
    assert 0 < conversions.written(name) <= 10


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_the_script_before_is_one_that_works(name: str, tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"] if "torchrun" in name else []
    command = [sys.executable, *torchrun, str(conversions.SCRIPTS / "before" / name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_shows_these_differences() -> None:
    text = conversions.PAGE.read_text()
    shown = text.split(conversions.BEGIN)[1].split(conversions.END)[0]
    assert shown == conversions.section(), "run scripts/conversions.py"
