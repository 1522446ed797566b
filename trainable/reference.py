"""A function of the user's by name, "package.module:function" or "file.py:function", so that every process finds it.

A name travels where a function does not: into the record, a checkpoint, `--plan`'s probes, another host.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any


class ModelError(ValueError):
    """A name that leads to no function: the rule, the value, and why."""


def reference(function: Callable[..., Any]) -> str:
    """The name of `function`: its file and name; its module and name when that lies in a package.

    Raises ModelError for a lambda, a nested function, or one that was typed at a prompt.
    """
    name = getattr(function, "__qualname__", repr(function))
    module = sys.modules.get(getattr(function, "__module__", ""))
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        file = None
    if not name.isidentifier() or module is None or file is None or not Path(file).is_file():
        raise ModelError(f"a model must be a function at the top level of a file, but got {name}")
    return f"{module.__name__}:{name}" if getattr(module, "__package__", "") else f"{Path(file).resolve()}:{name}"


@functools.cache
def function(name: str) -> Callable[..., Any]:
    """The function called `name`. Runs the module or file that defines it. Raises ModelError."""
    where, _, attribute = name.rpartition(":")
    try:
        found = getattr(_module(Path(where)), attribute) if where.endswith(".py") else pkgutil.resolve_name(name)
    except Exception as error:  # whatever a user's module makes of being imported
        raise ModelError(
            f"a model of your own is named module:function or file.py:function, but {name!r} could not be found: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise ModelError(f"a model must be a function, but {name!r} is {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _module(path: Path) -> Any:
    """The module in `path`, run once a process; the script that was started is there already."""
    main = sys.modules["__main__"]
    if path.resolve() == Path(getattr(main, "__file__", None) or "/").resolve():
        return main
    alias = f"rungwise_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    if alias not in sys.modules:
        spec = spec_from_file_location(alias, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[alias] = module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[alias])
        except BaseException:
            del sys.modules[alias]
            raise
    return sys.modules[alias]
