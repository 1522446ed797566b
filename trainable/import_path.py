"""Import paths of the user's functions: "package.module:function" or "file.py:function".

A path can be sent where a function cannot: into the record, a checkpoint, the probes of `--plan`, another host.
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

from rungwise.errors import RungwiseError
from rungwise.trainable.faults import Fault, ordinary, reason, refusing_exit

MAX_ARGUMENTS = 3  # arguments of a model's function: config, shape, classes


class ModelError(RungwiseError, ValueError):
    """An import path that names no usable function: the rule, the value, and why."""

    code = 2  # of a command: it is found before Ray starts


def import_path_of(function: Callable[..., Any]) -> str:
    """The import path of `function`: its file and name; its module and name when that lies in a package.

    Raises:
        ModelError: for a lambda, a nested function, or one that was typed at a prompt.
    """
    name = getattr(function, "__qualname__", f"a {type(function).__name__}")
    module = sys.modules.get(getattr(function, "__module__", ""))
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        file = None
    if not name.isidentifier() or module is None or file is None or not Path(file).is_file():
        raise ModelError(f"a model must be a function at the top level of a file, but got {name}")
    if not getattr(module, "__package__", ""):
        return f"{Path(file).resolve()}:{name}"
    spec = getattr(module, "__spec__", None)  # of what `python -m` runs, which is __main__ in this process alone
    return f"{spec.name if spec else module.__name__}:{name}"


@functools.cache
def import_function(name: str) -> Callable[..., Any]:
    """The function at an import path. Runs the module or file that defines it.

    Raises:
        ModelError: when there is no such function, its file raises, or it does not take a Config.
    """
    where, _, attribute = name.rpartition(":")
    try:
        with ordinary(), refusing_exit():
            imported = getattr(_module(Path(where)), attribute) if where.endswith(".py") else pkgutil.resolve_name(name)
    except Exception as error:  # whatever a user's module makes of being imported
        way = "; processes that train run the file from its top, without your flags" if isinstance(error, Fault) else ""
        raise ModelError(
            f"a model of your own is named module:function or file.py:function, but {name!r} could not be found: "
            f"{reason(error)}{way}"
        ) from error
    if wrong := _no_model(imported):
        raise ModelError(f"a model must be a function of a Config, but {name!r} is {wrong}")
    return imported  # type: ignore[no-any-return]


def arguments(function: Callable[..., Any]) -> int:
    """How many of (config, shape, classes) a model's function takes by position."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return MAX_ARGUMENTS
    return sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)


def _no_model(found: Any) -> str | None:
    """Describe an object that cannot be a model's function; None = it can."""
    if not callable(found):
        return type(found).__name__
    if inspect.isclass(found) and not any(base.__module__.startswith("torch.nn.") for base in found.__mro__):
        return f"the class {found.__name__}"
    if not (inspect.isfunction(inspect.unwrap(found)) or isinstance(found, type | functools.partial)):
        return f"a {type(found).__name__}"
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError) as error:
        return f"one of unknown parameters ({error})"
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if arguments(found) < 1:
        return "one that takes nothing"
    if len(needed) > MAX_ARGUMENTS or any(parameter.kind is parameter.KEYWORD_ONLY for parameter in needed):
        return f"one of {', '.join(parameter.name for parameter in needed)}"
    return None


def _module(path: Path) -> Any:
    """The module in `path`, executed once a process; the script that was started is imported already."""
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
