"""The command `rungwise`: its parser, and the exit status of what goes wrong.

A command is one entry of `results.cli.commands` or `results.cli.maintenance`.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
from typing import Any, NoReturn

from rungwise.results.cli import commands, maintenance
from rungwise.results.io.text import print_anything, say
from rungwise.results.record.types import FILE, RecordError


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0; 1 when a view could not be made; 2 when the command or the run's folder is wrong."""
    print_anything()
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.call(parsed))
    except RecordError as error:
        say(error, sys.stderr)
        return 2
    except sqlite3.DatabaseError as error:
        say(f"a record must be whole, but {FILE} is not ({error}); restore it from a copy", sys.stderr)
        return 2
    except BrokenPipeError:  # | head
        sys.stderr.close()
        return 0


class CommandParser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong with a command."""

    def error(self, message: str) -> NoReturn:
        say(f"{self.prog}: {message} (see {self.prog} --help)", sys.stderr)
        raise SystemExit(2)


class _Version(argparse.Action):
    """Print the installed version; it is looked up when it is asked for."""

    def __call__(self, *_: Any) -> NoReturn:
        from rungwise import __version__

        say(f"rungwise {__version__}")
        raise SystemExit(0)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="rungwise", description="Look at runs, and make their views again from the record.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the installed version")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    commands.add(subparsers)
    maintenance.add(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
