"""The user's own modules and program files, gathered in a folder that Ray brings to every machine of a cluster."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

import rungwise
from rungwise.engine.cluster.attach import Unusable
from rungwise.trainable.faults import users_own
from rungwise.trainable.protocol import Training

MOST_BYTES = 100 * 2**20  # Ray keeps the copy in the head's memory
_IGNORED = shutil.ignore_patterns("__pycache__", ".*")
_INSTALLED = {"site-packages", "dist-packages"}  # folders of what each machine installs for itself
_STARTUP = {"sitecustomize", "usercustomize"}  # modules of the interpreter's own start


def gather(training: Training, folder: Path) -> Path | None:
    """Copy what a training needs of the user's code into `folder`; returns it, or None when there is nothing to bring.

    That is every module that is imported and not installed, and, as a function may import when it is called, all
    modules beside the script. What an installed package holds is for the machines' own setup.

    Raises:
        Unusable: It is too large.
    """
    if _is_brought_by_ray():
        return None
    sources = _imported()
    if training.is_own:
        sources = {**_beside(_script_folder()), **sources}
    sources |= training.files()
    if not sources:
        return None
    left = MOST_BYTES
    for place, source in sources.items():
        left -= sum(file.stat().st_size for file in ([source] if source.is_file() else source.rglob("*.*")))
        if left < 0:
            raise Unusable(
                f"the user's code is brought to all machines, and must take at most {MOST_BYTES >> 20} MiB, but takes "
                f"more with {source}: install it there (setup_commands), or keep data elsewhere"
            )
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_IGNORED, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)
    return folder


def _is_brought_by_ray() -> bool:
    """Whether this driver is a job of Ray's that was given a working directory, which Ray lets nobody replace."""
    return "working_dir" in os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "")


def _imported() -> dict[str, Path]:
    """{path below the folder: file or package} of the imported modules that are the user's."""
    found: dict[str, Path] = {}
    for name, module in list(sys.modules.items()):
        parts = name.split(".")
        if parts[0] in (*_STARTUP, "__main__", "__mp_main__", "rungwise") or not (file := _file_of(module)):
            continue
        package = _file_of(sys.modules.get(parts[0]))
        if package is not None and package.name == "__init__.py":  # the whole, with what it imports later
            found[parts[0]] = package.parent
        elif file.name == "__init__.py":  # a package in a folder that is none
            found["/".join(parts)] = file.parent
        else:
            found["/".join([*parts[:-1], file.name])] = file
    return found


def _file_of(module: ModuleType | None) -> Path | None:
    """The file of a module of the user's."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not os.path.isfile(file) or not users_own(file):
        return None
    path = Path(file).resolve()
    ours = {Path(room).resolve() for room in _rooms()}
    return None if _INSTALLED & set(path.parts) or ours & set(path.parents) else path


def _rooms() -> Iterable[Path]:
    """Folders of this project's code, which the machines have."""
    here = Path(rungwise.__file__).parent
    return here, here / "engine", here / "trainable", here / "results"


def _script_folder() -> Path:
    """The folder of the script; at a prompt the working directory."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return Path(file).resolve().parent if file else Path.cwd()


def _beside(folder: Path) -> Mapping[str, Path]:
    """The modules and packages in a folder."""
    ours = {Path(room).resolve() for room in _rooms()}
    files = {path.name: path for path in sorted(folder.glob("*.py"))}
    packages = {path.parent.name: path.parent for path in sorted(folder.glob("*/__init__.py"))}
    return files | {name: path for name, path in packages.items() if path.resolve() not in ours}
