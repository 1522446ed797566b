"""What clusters/node.sh makes of a machine, and that the project runs there: it is on the path and not installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from support.cluster.image import (
    CHECKOUT,
    ENVIRONMENT,
    PYTHON_HOME,
    SYSTEM_PATH,
    machine_home,
    run_node_script,
    system_python,
)

VERSION = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]


def packages(python: Path) -> dict[str, str]:
    """Name and version of what an environment holds."""
    (site,) = python.glob("lib/python3.*/site-packages")
    return {one.name: one.version for one in metadata.distributions(path=[str(site)])}


# -- the project is not installed ----------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine: the dependencies and not the project, which is a copy on PYTHONPATH."""
    site = tmp_path / "site"
    site.mkdir()
    for entry in (ENVIRONMENT / "lib").glob("python3.*/site-packages/*"):
        if "rungwise" not in entry.name:
            (site / entry.name).symlink_to(entry)
    for name in ("rungwise", "sweeps", "trainable", "results", "pyproject.toml"):
        if (CHECKOUT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(CHECKOUT / name, tmp_path / "rungwise" / name, symlinks=True, ignore=unwanted)
        else:
            shutil.copy(CHECKOUT / name, tmp_path / "rungwise")
    return {"PATH": SYSTEM_PATH, "HOME": str(tmp_path), "PYTHONPATH": f"{tmp_path}/rungwise:{site}"}


def python(code: str, environment: dict[str, str]) -> str:
    """Run it with an interpreter that has no packages of its own; what it printed."""
    command = [f"{PYTHON_HOME}/bin/python3", "-S", "-c", code]
    return subprocess.run(
        command, env=environment, cwd=environment["HOME"], capture_output=True, text=True, check=True
    ).stdout


def test_a_session_on_a_machine_where_the_project_is_not_installed_knows_all_versions(bare: dict[str, str]) -> None:
    code = """
import json
from importlib import metadata
try:
    metadata.version("rungwise")
except metadata.PackageNotFoundError:
    from rungwise.engine.experiment.environment import session_info
    print(json.dumps(session_info()["versions"]))
"""
    versions = json.loads(python(code, bare))
    assert versions == {name: metadata.version(name) for name in versions.keys() - {"rungwise"}} | {"rungwise": VERSION}
    assert {"rungwise", "ray", "torch"} <= versions.keys()


def test_without_a_checkout_around_it_the_version_is_unknown(bare: dict[str, str]) -> None:
    project = Path(bare["HOME"], "rungwise/pyproject.toml")
    for text in ('[project]\nname = "other"\nversion = "3"\n', "[", None):
        if text is None:
            project.unlink()
        else:
            project.write_text(text)
        said = python(
            "from rungwise.packages.versions import package_version; print(package_version('rungwise'))", bare
        )
        assert said == "unknown\n"


# -- node.sh, on a project without dependencies ---------------------------------------------------------------------

TINY = """
[project]
dependencies = []
[project.optional-dependencies]
cluster = []
"""


def node(home: Path, *words: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(CHECKOUT / "clusters/node.sh"), *words],
        env={"PATH": f"{home}/python/bin:{path}", "HOME": str(home), "PIP_NO_INDEX": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray/auth_token").touch()
    (home / "rungwise").mkdir()
    (home / "rungwise/pyproject.toml").write_text(TINY)
    (home / "rungwise/constraints.txt").write_text("")
    return home


@pytest.fixture
def system(tmp_path: Path) -> str:
    """PATH of a machine that has python3 and no python."""
    programs = tmp_path / "programs"
    programs.mkdir()
    system_python(programs)
    return f"{programs}:{SYSTEM_PATH}"


def mirror(home: Path) -> str:
    """What a shell that has read ~/.bashrc holds."""
    command = ["bash", "-c", '. ~/.bashrc; printf %s "${RUNGWISE_MIRROR-}"']
    return subprocess.run(command, env={"HOME": str(home)}, capture_output=True, text=True, check=True).stdout


def test_the_last_storage_counts_whatever_its_name_and_a_second_run_changes_nothing(home: Path, system: str) -> None:
    for where in ("s3://a/runs", "/srv/it's here; $HOME", "s3://a/runs", ""):
        done = node(home, *filter(None, [where]), path=system)
        assert done.returncode == 0, done.stderr
        assert mirror(home) == where
        before = (home / ".bashrc").read_text()
        assert node(home, *filter(None, [where]), path=system).returncode == 0
        assert (home / ".bashrc").read_text() == before
    assert (home / "python/bin/python").exists()
    assert (home / ".ray").stat().st_mode & 0o777 == 0o700
    assert (home / ".ray/auth_token").stat().st_mode & 0o777 == 0o600


def test_an_extra_that_there_is_not_is_refused(home: Path, system: str) -> None:
    assert node(home, "/srv/shared", "gpc", path=system).returncode != 0
    (home / "rungwise/pyproject.toml").write_text(TINY + "gcp = ['pip']\n")
    assert node(home, "/srv/shared", "gcp", path=system).returncode == 0
    assert (home / "rungwise/requirements.txt").read_text().splitlines()[1:] == ["pip"]


def test_a_python_into_which_the_system_lets_nobody_install_gets_an_environment(home: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    system_python(programs)
    library = tmp_path / "lib"
    library.mkdir()
    (library / "EXTERNALLY-MANAGED").touch()
    spoof = f"import sysconfig; get = sysconfig.get_path; sysconfig.get_path = lambda *a: {str(library)!r}"
    (library / "usercustomize.py").write_text(spoof)
    (programs / "python").write_text(f'#!/bin/sh\nPYTHONPATH={library} exec {PYTHON_HOME}/bin/python3 "$@"\n')
    (programs / "python").chmod(0o755)
    assert node(home, path=f"{programs}:{SYSTEM_PATH}").returncode == 0
    assert (home / "rungwise/requirements.txt").read_text().startswith(f"# {home}/python/bin/python")


def test_google_s_machines_get_what_rays_launcher_imports_there() -> None:
    text = (CHECKOUT / "clusters/gcp.yaml").read_text()
    assert re.search(r"clusters/node\.sh gs://\S+ gcp\s", text)
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(requirement.startswith("google-api-python-client") for requirement in extras["gcp"])


# -- a machine of the lab -------------------------------------------------------------------------------------------


@pytest.mark.cluster
def test_a_machine_of_the_lab_holds_what_node_sh_asks_for_and_nothing_of_the_laptops() -> None:
    home = machine_home()
    there, here = packages(home / "python"), packages(ENVIRONMENT)
    assert {"ray", "torch", "mlflow", "optuna", "boto3"} <= there.keys()
    assert not {"rungwise", "moto", "pytest", "mypy", "ruff", "playwright"} & there.keys()
    assert {name: here[name] for name in there.keys() - {"pip", "setuptools"}} == {
        name: version for name, version in there.items() if name not in ("pip", "setuptools")
    }
    imported = "import boto3, mlflow, optuna, pyarrow, ray, sklearn, torch, torchvision; print(torch.ones(2).sum())"
    done = subprocess.run(
        [home / "python/bin/python", "-c", imported], env={}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "tensor(2.)\n"


@pytest.mark.cluster
@pytest.mark.long  # two minutes and 7 GB
def test_a_machine_of_the_lab_holds_the_files_that_a_real_installation_brings(tmp_path: Path) -> None:
    run_node_script(tmp_path / "home")
    real, ours = tmp_path / "home/python", machine_home() / "python"
    assert packages(real) == packages(ours)

    def files(python: Path) -> set[str]:
        return {
            os.path.relpath(Path(folder, name), python)
            for folder, _, names in os.walk(python)
            for name in names
            if "__pycache__" not in folder and ".dist-info" not in folder
        }

    assert files(real) == files(ours)
