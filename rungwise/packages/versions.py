"""The versions of packages, for the provenance that a run and its model keep."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

_OURS = "rungwise"
_PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def package_version(package: str) -> str:
    """The version of a distribution such as 'torch'; 'unknown' where nothing says it.

    Our own need not be installed: on a machine of a cluster the checkout is on the path, and pyproject.toml says it.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return _checkout_version() if package == _OURS else "unknown"


def _checkout_version() -> str:
    try:
        project = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]
        return str(project["version"]) if project["name"] == _OURS else "unknown"
    except (OSError, ValueError, KeyError):
        return "unknown"
