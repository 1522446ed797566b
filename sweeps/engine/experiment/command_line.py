"""The command line of a sweep script, read by tyro: its flags in groups, and two pages of help."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import field, fields, make_dataclass
from itertools import pairwise
from types import NoneType
from typing import Annotated, Any, get_args, get_type_hints

import tyro

from rungwise.engine.experiment.flags import RENAMED, UNTIL_SURE, Options, current_name, default_options
from rungwise.engine.experiment.sweep import Sweep
from rungwise.results.io import command_line

COMMON = {"most_used": "trials searches epochs name out data target model gpus_per_trial plan"}  # what --help shows
GROUPS = {  # what --help-all shows: every option, once
    "budget": "trials searches epochs budget until_sure time_budget",
    "search": "sampler sampler_options seed order enqueue warm_start",
    "early_stopping": "scheduler grace eta patience audit",
    "confirmation": "worth confirm confirm_configs confirm_seeds refit_seeds untuned_seeds",
    "data_and_model": "data folds preprocess data_root model max_parameters precision",
    "columns_of_a_table": "target drop categorical embed numeric group time task",
    "resources": "concurrency cpus_per_trial gpus_per_trial device pack address",
    "storage_and_tracking": "name out mirror loggers tracking_uri experiment tags checkpoint_seconds",
    "resume_and_retry": "fresh widen accept_changed_model retries trial_timeout",
    "other": "plan price_per_hour one quiet",
}
HELP_ALL = "--help-all"
IN_MINUTES = ("--time-budget", "--trial-timeout")


def parse(sweep: Sweep, arguments: list[str] | None = None) -> Options:
    """Options from the command line, or from `arguments`.

    `--help` and `--help-all` print the flags and exit with 0. Raises CommandLineError for a wrong flag or value.
    """
    given = [_current_flag(argument) for argument in (sys.argv[1:] if arguments is None else arguments)]
    every = HELP_ALL in given
    short = not every and not {"-h", "--help"}.isdisjoint(given)
    default = default_options(sweep)
    filled: Any = command_line.parse(
        _form(default, COMMON if short else GROUPS),
        ["--help"] if every else _in_minutes(_with_number(given, "--until-sure", UNTIL_SURE)),
        _command(),
        flags={each.name: getattr(default, each.name) for each in fields(Options)},
        hints=_hints(sweep),
        description=_description(sweep) + (f"\n\n{HELP_ALL} shows all flags." if short else ""),
    )
    groups = [getattr(filled, group.name) for group in fields(filled)]
    return Options(**{each.name: getattr(group, each.name) for group in groups for each in fields(group)})


def _command() -> str:
    """`rungwise demo`, where the sweep is that of a command of `rungwise`; "" of a script."""
    program, *words = sys.argv
    return f"rungwise {words[0]}" if words and command_line.is_rungwise(program) else ""


def _description(sweep: Sweep) -> str:
    """The script's question, and what only the script can change."""
    arms, names = [str(arm) for arm in sweep.arms], list(sweep.space) if isinstance(sweep.space, Mapping) else []
    if len(arms) > 1:
        arms[0] += " (control)"
    parts = [
        f"metric {sweep.metric} ({sweep.mode})",
        *([f"arms {', '.join(arms)}"] if len(arms) > 1 else []),
        *([f"space {', '.join(map(str, names))}"] if names else []),
    ]
    question = " ".join(str(sweep.question or "").split()) or f"Sweep {sweep.name}."
    return f"{question}\n\nSet in the script: {'; '.join(parts)}."


def _hints(sweep: Sweep) -> dict[str, str]:
    """{what is no flag, although one may expect it: where it is set}."""
    searched = map(str, sweep.space) if isinstance(sweep.space, Mapping) else ()
    return {
        **{each.name: "it is set in the script." for each in fields(Sweep)},
        **{name: f"{name} is searched as the script says; --enqueue names a value to try first." for name in searched},
        "resume": "a run that exists resumes without a flag.",
    }


def _current_flag(argument: str) -> str:
    """`argument` of a command line, with the current name of a flag in it."""
    flag, equals, value = argument.partition("=")
    name = flag.removeprefix("--").replace("-", "_")
    if not flag.startswith("--") or name not in RENAMED:
        return argument
    return f"--{current_name(name).replace('_', '-')}{equals}{value}"


def _with_number(arguments: list[str], flag: str, default: int) -> list[str]:
    """`arguments`, in which `flag` has its default where no value follows it."""
    followed = zip(arguments, [*arguments, "--"][1:], strict=True)
    return [
        f"{argument}={default}" if argument == flag and following.startswith("--") else argument
        for argument, following in followed
    ]


def _in_minutes(arguments: list[str]) -> list[str]:
    """`arguments`, in which a time such as `90s`, `20m` or `1.5h` is the number of minutes that its flag takes."""
    changed = list(arguments)
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag not in IN_MINUTES:
            continue
        at = place if equals else place + 1
        written = value if equals else "".join(arguments[at : at + 1])
        if found := re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|m|min|h)", written):
            minutes = float(found[1]) * {"s": 1 / 60, "h": 60.0}.get(found[2], 1.0)
            changed[at] = f"{flag}={minutes:.12g}" if equals else f"{minutes:.12g}"
    return changed


def _form(default: Options, grouped: Mapping[str, str]) -> type:
    """A dataclass of dataclasses, one for each group of flags, whose fields are those of `Options`."""
    hints, helps = get_type_hints(Options, include_extras=True), _docstrings(Options)

    def flag(name: str) -> tuple[str, Any, Any]:
        hint = hints[name]
        if NoneType in get_args(hint):  # else the help would say {None}|FLOAT
            hint = Annotated[hint, tyro.conf.arg(metavar=get_args(hint)[0].__name__.upper())]
        about = tyro.conf.arg(help=helps[name], help_behavior_hint=_default_hint)
        return name, Annotated[hint, about], field(default=getattr(default, name))

    groups: list[Any] = []
    for title, names in grouped.items():
        group = make_dataclass(title, [flag(name) for name in names.split()])
        groups.append((title, Annotated[group, tyro.conf.OmitArgPrefixes], field(default_factory=group)))
    return make_dataclass("Form", groups)


def _default_hint(default: str) -> str:
    """What the help says of a default: nothing of one that its words explain, or of a switch."""
    return "" if default in ("None", "", "False", "True", "'{}'") else f"(default: {default.removesuffix('.0')})"


def _docstrings(kind: type) -> dict[str, str]:
    """{field: the docstring below it, on one line}."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for first, second in pairwise(tree.body):
        if isinstance(first, ast.AnnAssign) and isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant):
            found[ast.unparse(first.target)] = " ".join(str(second.value.value).split())
    return found
