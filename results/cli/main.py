"""The command `rungwise`: its help, the choice of a command, and the exit status of errors.

A command is a function of `results.cli.commands` or `results.cli.maintenance`; tyro makes its flags from its signature
and its help from its docstring.
"""

from __future__ import annotations

import difflib
import inspect
import signal
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from rungwise.errors import RungwiseError
from rungwise.results.cli import commands, maintenance, running
from rungwise.results.io.command_line import CommandLineError, parse
from rungwise.results.io.text import drop_unread_output, print_anything, say, say_prose
from rungwise.results.record.types import FILE

Further = Mapping[str, Callable[[list[str]], int]]  # commands that read their own flags and help

COMMANDS = commands.COMMANDS | running.COMMANDS | maintenance.COMMANDS
RENAMED = {"--mend": "--fix"}  # flags of version 0.1 -> now; understood until version 0.3


def main(arguments: list[str] | None = None, further: Further = MappingProxyType({})) -> int:
    """Exit status: 0; 1 when a view could not be made; 2 when the command or the run's folder is wrong.

    Args:
        arguments: Words in place of those of the command line.
        further: Commands besides `COMMANDS`, which need what `rungwise.results` may not import.
    """
    print_anything()
    name, *words = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        _print_help(further)
        return 0
    if name == "--version":
        from rungwise import __version__

        say(f"rungwise {__version__}")
        return 0
    try:
        if name in further:
            return further[name](words)
        if name not in COMMANDS:
            raise CommandLineError(_unknown_command(name, (*further, *COMMANDS)))
        parameters = inspect.signature(COMMANDS[name]).parameters.values()
        flags = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
        return parse(COMMANDS[name], [_current_flag(word) for word in words], f"rungwise {name}", flags=flags)
    except RungwiseError as error:
        say_prose(f"error: {error}")
        return 2
    except sqlite3.DatabaseError as error:
        say_prose(f"error: a record must be whole, but {FILE} is not ({error}); restore it from a copy")
        return 2
    except OSError as error:  # a full disk, a folder of another user: the message names the file
        if isinstance(error, BrokenPipeError) and drop_unread_output():  # | head
            return 0
        say_prose(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _print_help(further: Further) -> None:
    """Each command once, with the first line of its docstring, in tyro's look."""
    from rich.panel import Panel
    from rich.table import Table

    from rungwise.results.io.terminal import Terminal

    say("usage: rungwise [-h] [--version] COMMAND ...\n\nInspect runs, and rebuild their views from the record.\n")
    listed = Table.grid(padding=(0, 2, 0, 0))
    for name, command in (*further.items(), *COMMANDS.items()):
        listed.add_row(name, (command.__doc__ or "").partition("\n")[0])
    Terminal().print(Panel.fit(listed, title="commands", title_align="left", border_style="dim"))
    say("\nFlags of a command: rungwise COMMAND --help. Where RUN is left out, it is the newest run in runs/.")


def _unknown_command(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"unknown command {name!r}{f'; did you mean {near[0]}?' if near else ''} (see rungwise --help)"


def _current_flag(word: str) -> str:
    if word in RENAMED:
        say(f"note: {word} is now {RENAMED[word]}; the old name will be removed in version 0.3", sys.stderr)
    return RENAMED.get(word, word)


if __name__ == "__main__":
    sys.exit(main())
