"""What a machine of the lab has when it boots: a home in which clusters/node.sh has run, and nothing else.

    PYTHONPATH=tests python -m support.cluster.image        make it, and print where it is

`node.sh` itself runs, in a home of its own and with the system's python alone: it makes ~/python, and its pip installs
there what its requirement lines ask for. The one thing that is not real is where pip finds packages: not in a registry,
but in wheels that hold the metadata of this environment's packages and not their files, which takes seconds instead of
minutes and 7 GB. So pip decides what is there, and takes nothing that node.sh does not ask for; then the files of those
packages come from this environment as hard links, by each one's RECORD. A long test of test_machine.py installs for
real, and compares.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from importlib import metadata
from pathlib import Path

from filelock import FileLock

CHECKOUT = Path(__file__).resolve().parents[3]
ENVIRONMENT = Path(sys.prefix)
PYTHON_HOME = Path(sys.base_prefix).resolve()
SHIPPED = ("rungwise", "sweeps", "trainable", "results", "clusters", "pyproject.toml", "constraints.txt")  # file_mounts
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DECIDING = ("clusters/node.sh", "pyproject.toml", "constraints.txt", "tests/support/cluster/image.py")


@cache
def machine_home() -> Path:
    """The home, made when there is none for these requirements and this environment; to be changed by nobody."""
    key = hashlib.sha256(repr(sorted(_packages(ENVIRONMENT))).encode())
    for name in _DECIDING:
        key.update((CHECKOUT / name).read_bytes())
    home = ENVIRONMENT / "machines" / key.hexdigest()[:16]
    with FileLock(f"{ENVIRONMENT}/machines.lock"):
        if not home.is_dir():
            shutil.rmtree(home.parent, ignore_errors=True)  # of other requirements
            home.mkdir(parents=True)
            try:
                _furnish(home)
            except BaseException:
                shutil.rmtree(home)
                raise
    return home


def run_node_script(home: Path, *, offline_wheels: Path | None = None) -> None:
    """Run clusters/node.sh as a user whose home is `home`: what `ray up` brings there, then its own lines.

    `offline_wheels`: where its pip finds packages instead of the registry. Raises RuntimeError with what it said.
    """
    shutil.copytree("/etc/skel", home, dirs_exist_ok=True)
    checkout = home / "rungwise"
    for name in SHIPPED:
        if (source := CHECKOUT / name).is_dir():
            shutil.copytree(source, checkout / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, checkout)
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").touch()
    with tempfile.TemporaryDirectory() as programs:
        system_python(Path(programs))
        environment = {
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
            "PATH": f"{programs}:{SYSTEM_PATH}",
            "HOME": str(home),
            "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(Path("~/.config").expanduser())),  # pip's
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path("~/.cache").expanduser())),
        }
        if offline_wheels is not None:
            environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(offline_wheels), "PIP_NO_CACHE_DIR": "1"}
        done = subprocess.run(
            ["sh", str(checkout / "clusters/node.sh")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"clusters/node.sh: exit status {done.returncode}\n{done.stdout[-4000:]}")
    shutil.rmtree(home / ".ray")
    for name in SHIPPED:  # `ray up` brings these
        path = checkout / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def system_python(folder: Path) -> None:
    """`python3` of a machine without any package, as a distribution has it; there is no `python`."""
    wrapper = folder / "python3"
    wrapper.write_text(f'#!/bin/sh\nexec {PYTHON_HOME}/bin/python3 "$@"\n')
    wrapper.chmod(0o755)


def _packages(environment: Path) -> dict[tuple[str, str], metadata.Distribution]:
    """The distributions of an environment by name and version, without our own."""
    found = {}
    for package in metadata.distributions(path=[str(_site(environment))]):
        about = package.metadata  # parsed anew each time
        found[about["Name"], about["Version"]] = package
    return {key: package for key, package in found.items() if key[0] != "rungwise"}


def _site(environment: Path) -> Path:
    (site,) = environment.glob("lib/python3.*/site-packages")
    return site


def _furnish(home: Path) -> None:
    ours = _packages(ENVIRONMENT)
    with tempfile.TemporaryDirectory() as wheels:
        for (name, version), package in ours.items():
            _describe(name, version, package, Path(wheels))
        run_node_script(home, offline_wheels=Path(wheels))
    python = home / "python"
    for name, version in _packages(python):
        if (name, version) in ours or name not in ("pip", "setuptools"):  # which Python itself may bring
            _link(ours[name, version], python)
    check = subprocess.run([python / "bin/python", "-m", "pip", "check"], capture_output=True, text=True, check=False)
    if check.returncode:
        raise RuntimeError(f"pip check: {check.stdout}")


def _describe(name: str, version: str, package: metadata.Distribution, folder: Path) -> None:
    """Write a wheel that holds the package's metadata and entry points only."""
    name = re.sub(r"[-_.]+", "_", name)
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{about}/METADATA", package.read_text("METADATA") or "")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        if points := package.read_text("entry_points.txt"):
            wheel.writestr(f"{about}/entry_points.txt", points)
        wheel.writestr(f"{about}/RECORD", "")


def _link(package: metadata.Distribution, python: Path) -> None:
    """Bring the files of a package into the environment `python`, by its RECORD; programs name the other Python."""
    site, programs = str(package.locate_file("")), f"{python}/bin"
    made = set()
    for name, *_ in csv.reader((package.read_text("RECORD") or "").splitlines()):
        source = os.path.normpath(os.path.join(site, name))
        target = f"{python}{source.removeprefix(str(ENVIRONMENT))}"
        folder = os.path.dirname(target)
        if folder not in made:
            os.makedirs(folder, exist_ok=True)
            made.add(folder)
        if folder == programs:
            if not os.path.exists(target):  # else pip made it, from the entry points
                text = Path(source).read_bytes().replace(f"{ENVIRONMENT}/bin".encode(), programs.encode(), 1)
                Path(target).write_bytes(text)
                os.chmod(target, 0o755)
            continue
        try:
            os.link(source, target)
        except FileExistsError:
            os.unlink(target)
            os.link(source, target)


if __name__ == "__main__":
    print(machine_home())
