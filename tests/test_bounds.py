"""Version bounds of pyproject.toml: constraints.txt, the tested versions, lies within them."""

import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from support.packages import closure

ROOT = Path(__file__).resolve().parent.parent


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


PINS = map(Requirement, (ROOT / "constraints.txt").read_text().split())
TESTED = {canonicalize_name(pin.name): Version(next(iter(pin.specifier)).version) for pin in PINS}


def bounds(lines: list[str]) -> Iterator[tuple[str, Version | None, Version | None]]:
    """(package, lower bound, upper bound) of each requirement, but for other extras of this project."""
    for requirement in map(Requirement, lines):
        by_operator = {each.operator: Version(each.version) for each in requirement.specifier}
        if requirement.name != "rungwise":
            yield canonicalize_name(requirement.name), by_operator.get(">="), by_operator.get("<")


def test_every_direct_dependency_has_a_lower_bound_that_is_not_above_the_tested_version() -> None:
    extras = PROJECT["optional-dependencies"]
    lines = PROJECT["dependencies"] + [
        line for name in ("samplers", "sql", "cluster", "docs", "dev") for line in extras[name]
    ]
    for package, lower, _ in bounds(lines):
        assert lower is not None, package
        assert lower <= TESTED[package], package


def test_the_upper_bound_of_a_dependency_is_the_minor_version_after_the_tested_one() -> None:
    for package, _, upper in bounds(PROJECT["dependencies"]):
        major, minor = TESTED[package].release[:2]
        assert upper == Version(f"{major}.{minor + 1}"), package


def test_requirements_at_either_end_name_every_dependency_once() -> None:
    """`make test-versions` installs these; whether they work is for it to show."""
    packages = {requirement.name for requirement in map(Requirement, PROJECT["dependencies"])}
    for end, operators in {"lowest": {"=="}, "newest": set()}.items():
        command = [sys.executable, str(ROOT / "scripts/versions.py"), end]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        requirements = [each for each in map(Requirement, done.stdout.split()) if each.name in packages]
        assert {each.name for each in requirements} == packages
        assert {each.operator for requirement in requirements for each in requirement.specifier} == operators


@pytest.mark.parametrize(
    ("what", "among_alone", "among_others"),
    [
        ("sweep", {"torch", "torchvision", "plotly"}, {"ray", "mlflow", "numpy"}),
        ("dev", {"torch", "ruff", "duckdb"}, {"ray", "mlflow", "numpy", "pytest"}),
    ],
)
def test_two_pips_that_fill_an_environment_at_once_write_no_package_both(
    what: str, among_alone: set[str], among_others: set[str]
) -> None:
    pins, others = runpy.run_path(str(ROOT / "scripts/install.py"))["in_two_parts"](what)
    alone = {canonicalize_name(Requirement(pin).name) for pin in pins}
    assert among_alone <= alone
    brought = closure(others)
    assert among_others <= brought
    assert alone & brought == set()
    assert alone <= closure(
        ["rungwise[dev]"] if what == "dev" else PROJECT["dependencies"]
    )  # nothing that nobody asks for


def test_what_a_sweep_needs_is_nothing_of_the_developers() -> None:
    lean = closure(PROJECT["dependencies"])
    assert {"torch", "ray", "optuna", "mlflow"} <= lean
    extras = {"duckdb", "tensorboard", "wandb", "optuna-dashboard", "boto3", "lightning", "transformers", "keras"}
    assert lean & (extras | {"pytest", "ruff", "mypy", "playwright", "moto", "mkdocs"}) == set()
