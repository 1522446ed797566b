"""Command lines, read by tyro; errors are one line."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from rungwise.errors import RungwiseError

T = TypeVar("T")
_KINDS = {"invalid literal for int": "a whole number", "could not convert string to float": "a number"}
_STYLE = re.compile(r"\x1b\[[0-9;]*m")  # tyro colours what it prints where standard output is a terminal
_OPTIONAL = {"INT": "a whole number", "FLOAT": "a number"}  # types that a flag may also leave out


class CommandLineError(RungwiseError, ValueError):
    """A command line that cannot be read; one line."""

    code = 2


def is_rungwise(program: str) -> bool:
    """Whether a command line's first word is the command `rungwise`, and not a script of the user's."""
    path = Path(program)
    return path.name == "rungwise" or path.parts[-2:] == ("rungwise", "__main__.py")


def parse(
    target: Callable[..., T],
    arguments: Sequence[str],
    prog: str = "",
    *,
    flags: Mapping[str, Any],
    hints: Mapping[str, str] | None = None,
    **options: Any,
) -> T:
    """Read a command line.

    Args:
        target: A dataclass, or a function. A function is called with what was read, once all of it has been read.
        arguments: The words of the command line.
        prog: The command as the user types it; "" for the running script.
        flags: {name of a flag, as a Python name: its default}.
        hints: {name of something that is no flag, as a Python name: what to do instead}.
        **options: Further arguments of `tyro.cli`.

    Returns:
        The instance of the dataclass, or what the function returned.

    Raises:
        CommandLineError: For an unknown flag, a bad value, or a missing argument.
        SystemExit: For --help, with code 0.
    """
    see = f"(see {prog} --help)" if prog else "(see --help)"
    if problem := _unknown_flags(arguments, flags, hints or {}):
        raise CommandLineError(f"{problem} {see}")
    is_function = inspect.isfunction(target)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            value: Any = tyro.cli(
                _deferred(target) if is_function else target,
                prog=prog or None,
                args=_joined(arguments, flags),
                config=(tyro.conf.FlagCreatePairsOff,),
                **options,
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise CommandLineError(f"{_problem(_STYLE.sub('', printed.getvalue()))} {see}") from None
    result: T = value() if is_function else value
    return result


def _deferred(function: Callable[..., T]) -> Callable[..., Callable[[], T]]:
    """A function with the same signature and docstring that calls `function` later."""

    @functools.wraps(function)
    def read(*args: Any, **kwargs: Any) -> Callable[[], T]:
        return functools.partial(function, *args, **kwargs)

    return read


def _joined(words: Sequence[str], flags: Mapping[str, Any]) -> list[str]:
    """The words, of which a flag of several values that is given twice (--drop A --drop B) is one: --drop A B.

    tyro would take the last one, and lose the others in silence.
    """
    several = {f"--{name.replace('_', '-')}" for name, default in flags.items() if isinstance(default, tuple)}
    rest: list[str] = []
    values: dict[str, list[str]] = {}
    times, current = 0, None
    words = _with_signs(words, flags)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in several:
            times += flag in values
            values.setdefault(flag, []).extend([value] if equals else [])
            current = flag
        elif current and not word.startswith("--"):
            values[current].append(word)
        else:
            current = None
            rest.append(word)
    return [*rest, *(word for flag, named in values.items() for word in (flag, *named))] if times else list(words)


def _with_signs(words: Sequence[str], flags: Mapping[str, Any]) -> list[str]:
    """The words, in which -lr of `--sort -lr` is joined to its flag: tyro would take it for one."""
    valued = {
        f"--{name.replace('_', '-')}" for name, default in flags.items() if not isinstance(default, (bool, tuple))
    }
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in valued and re.match(r"-[^\W\d]\w", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _unknown_flags(words: Sequence[str], flags: Mapping[str, Any], hints: Mapping[str, str]) -> str | None:
    """The flags that do not exist, each with its hint, or with the nearest flag that does exist.

    What is on by default has --no-FLAG.
    """
    known = [f"{'no-' if default is True else ''}{name.replace('_', '-')}" for name, default in flags.items()]
    problems = []
    for word in words:
        flag = word.partition("=")[0]
        name = flag.removeprefix("--").replace("_", "-")
        if word.startswith("--") and name not in (*known, "help", ""):
            nearest = difflib.get_close_matches(name, known, 1, cutoff=0.5)
            hint = hints.get(name.replace("-", "_")) or (f"did you mean --{nearest[0]}?" if nearest else "")
            problems.append(f"unknown flag {flag}" + (f"; {hint}" if hint else ""))
    return " ".join(problems) or None


def _problem(box: str) -> str:
    """The problem in what tyro prints: a box with a title, the problem, a rule, and help."""
    rows = [line.strip("│|").rstrip() for line in box.splitlines()]
    parts: list[list[str]] = [[]]
    for row in rows[1:]:
        if row.strip(" ─-╰╯"):
            parts[-1].append(row)
        else:  # a rule
            parts.append([])
    problem = next(filter(None, parts), [])
    text = " ".join(row.strip() for row in problem)
    if text.startswith("Missing from"):
        indents = [len(row) - len(row.lstrip()) for row in problem[1:]]  # of names, and more of their help
        names = [row.strip() for row, indent in zip(problem[1:], indents, strict=True) if indent == min(indents)]
        return f"{' and '.join(names)} must be given"
    if extra := re.match(r"Unrecognized options: (\S+)", text):
        return f"unexpected argument {extra[1].rstrip(',')!r}"
    if alone := re.match(r"Missing value for argument '?(?:\(')?(--?[\w-]+)", text):  # tyro 1.0.0 shows a tuple
        return f"{alone[1]} needs a value"
    if bad := re.match(r"Error parsing (\S+): (.*)", text):
        if none := re.match(r"no type matching \{None\}\|(\w+) could be instantiated from \['(.*)'\]", bad[2]):
            return f"{bad[1]} must be {_OPTIONAL.get(none[1], none[1])} (got {none[2]!r})"
        kind = next((kind for start, kind in _KINDS.items() if bad[2].startswith(start)), None)
        return f"{bad[1]} must be {kind} (got {bad[2].rpartition(': ')[2]})" if kind else f"{bad[1]}: {bad[2]}"
    return text
