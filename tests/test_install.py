"""What is installed: one import name, which nothing of the user's shadows, and the command `rungwise`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = '''
"""Does L2 help on digits?"""
from rungwise import FloatDistribution, Sweep, main

SWEEP = Sweep(
    name="mine", question=__doc__, data="digits", trials=1, searches=1, epochs=1,
    space={"lr": FloatDistribution(1e-3, 1e-1, log=True)},
    arms={"no L2": {"l2": 0.0}, "L2": {"l2": FloatDistribution(1e-6, 1e-2, log=True)}},
)

if __name__ == "__main__":
    main(SWEEP)
'''


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
        "rungwise/engine/driver.py",
        "rungwise/trainable/data/mnist.parquet",
        "rungwise/results/report/templates/page.html.jinja",
        "rungwise/results/report/templates/page.css",
    ):
        assert needed in names


def test_an_installed_wheel_runs_a_sweep_beside_files_with_the_names_of_our_folders(
    wheel: Path, tmp_path: Path
) -> None:
    """`results`, `sweeps` and `trainable` are names of the user's: installed packages of ours would be shadowed."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    (site,) = environment.glob("lib/python3.*/site-packages")
    install = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "--no-index", "--no-compile", str(wheel)], check=True)
    # The dependencies' folder; a path in a .pth file is added without the .pth files in it, so without our checkout.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name in ("results", "sweeps", "trainable", "engine"):
        (theirs / f"{name}.py").write_text('raise RuntimeError("this file is the user\'s")\n')
    (theirs / "mine.py").write_text(SCRIPT)
    command = [str(environment / "bin/python"), "mine.py", "--no-confirm", "--quiet", "--concurrency", "1"]
    done = subprocess.run(command, cwd=theirs, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (theirs / "runs/mine/report.html").exists()
    listed = subprocess.run(
        [environment / "bin/rungwise", "list"], cwd=theirs, capture_output=True, text=True, timeout=600
    )
    assert listed.returncode == 0, listed.stderr
    assert "mine" in listed.stdout
