"""What is installed: one import name, which nothing of the user's shadows, and the command `rungwise`."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tomllib
import venv
import zipfile
from contextlib import closing
from importlib import metadata
from pathlib import Path

import pytest
from support.packages import closure

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"  # setuptools writes build/ beside the sources
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in (name.decode() for name in names if name):
        if (ROOT / name).exists() and name.split("/")[0] not in ("tests", "docs", "benchmarks"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(out), str(source)], check=True)
    (made,) = out.glob("*.whl")
    return made


def test_a_wheel_holds_the_package_and_nothing_else_at_its_top(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"rungwise"}
    for needed in (
        "rungwise/py.typed",
        "rungwise/demo.py",
        "rungwise/engine/driver.py",
        "rungwise/trainable/data/mnist.parquet",
        "rungwise/results/report/templates/page.html.jinja",
        "rungwise/results/report/templates/page.css",
    ):
        assert needed in names


@pytest.fixture
def environment(wheel: Path, tmp_path: Path) -> Path:
    """A virtual environment with the wheel and what it depends on, but no extra, no developer's tool, no checkout."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    (site,) = environment.glob("lib/python3.*/site-packages")
    install = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "--no-index", "--no-compile", str(wheel)], check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in closure(project["dependencies"]):
        installed = metadata.distribution(name)
        for top in {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(str(installed.locate_file(top)))
    return environment


def test_an_installed_wheel_runs_the_main_job_beside_files_with_the_names_of_our_folders(
    environment: Path, tmp_path: Path
) -> None:
    """Without a clone, and although `results`, `sweeps` and `trainable` are modules of the user's, found first."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name in ("results", "sweeps", "trainable", "engine"):
        (theirs / f"{name}.py").write_text('raise RuntimeError("this file is the user\'s")\n')

    def rungwise(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [environment / "bin/rungwise", *words], cwd=theirs, env=os.environ | {"PYTHONPATH": str(theirs)},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip

    budget = ("--data", "digits", "--trials", "1", "--searches", "1", "--epochs", "1", "--concurrency", "1")
    confirmation = ("--confirm-configs", "1", "--confirm-seeds", "2", "--untuned-seeds", "0", "--worth", "0.01")
    done = rungwise("demo", *budget, *confirmation)
    assert done.returncode == 0, done.stdout + done.stderr
    with closing(sqlite3.connect(theirs / "runs/mnist_l2/sweep.sqlite")) as record:
        assert record.execute("SELECT count(*) FROM trials WHERE phase = 'search'").fetchone() == (2,)
    assert {path.name for path in (theirs / "runs/mnist_l2").iterdir()} >= {"report.html", "trials.parquet", "model"}
    assert (theirs / "runs/mlflow.db").exists()
    listed = rungwise("list")
    assert listed.returncode == 0, listed.stderr
    assert "mnist_l2" in listed.stdout
    asked = rungwise("sql", "select 1")  # of an extra
    assert (asked.returncode, asked.stderr) == (2, "error: DuckDB must be installed: pip install 'rungwise[sql]'\n")
