"""Text from outside made safe to store, print and show: users' names, libraries' messages, other people's records.

Python's strings hold what a terminal obeys (escape sequences), what no file can store (the lone surrogates that
stand for the bytes of a Latin-1 file name) and what turns a line around (bidirectional overrides). Text that went
through here holds none of it. Used by every package, so nothing of ours is imported here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

REASON = 1000  # characters of a reason that are kept, from its start
DEEPEST = 64  # levels of a JSON value
TRACEBACK = 20_000  # characters of a traceback that are kept, from its end

# C0 and C1 without tab and newline, DEL, line and paragraph separators, bidirectional controls, lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BREAK = re.compile(r"[ \t]*\n\s*")


def printable(text: object) -> str:
    """`text` with every character that is not for reading written as an escape: \\x1b, \\u202e.

    Tabs and newlines stay. A byte of a file name that is not UTF-8, which Python holds as a surrogate, reads as that
    byte: \\xe9.
    """
    return _UNPRINTABLE.sub(_escape, str(text).replace("\r\n", "\n"))


def printable_name(name: object) -> str:
    """`printable(name)` with tabs and newlines as escapes, too: a name takes one line."""
    return printable(name).replace("\t", "\\t").replace("\n", "\\n")


def one_line(text: object, most: int = REASON) -> str:
    """`printable(text)` in one line of at most `most` characters; what is cut at the end leaves an ellipsis."""
    line = _BREAK.sub(" ", printable(text).strip())
    return line if len(line) <= most else line[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def tail(text: object, most: int = TRACEBACK) -> str:
    """The last `most` characters of `printable(text)`: a traceback says at its end what happened."""
    return printable(text)[-most:]


def printable_json(value: Any) -> Any:
    """A JSON value in which every text, keys included, is printable; tuples become lists, as in JSON."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(key) if isinstance(key, str) else key: printable_json(part) for key, part in value.items()}
    return [printable_json(part) for part in value] if isinstance(value, list | tuple) else value


def size_problem(value: Any, levels: int = DEEPEST) -> str | None:
    """Why a JSON value is too large for a record, whose readers have whole numbers of 64 bits; None when it is not.

    `levels`: how deeply it may be nested.
    """
    if levels == 0:
        return f"must be nested at most {DEEPEST} levels deep"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "must contain integers of 64 bits, but one is larger"
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next(filter(None, (size_problem(part, levels - 1) for part in parts)), None)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
    return f"\\x{byte:02x}" if byte < 0x100 else f"\\u{code:04x}"


def significant(value: float, digits: int) -> str:
    """A number with this many significant digits, without an exponent below ten millions: 32420, not 3.242e+04."""
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e+" in text and abs(value) < 1e7 else text


def plural(count: int, noun: str, nouns: str = "") -> str:
    """A count with what is counted: '1 trial', '1,234 trials', '2 categories'. `nouns`: a plural without -s."""
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"


def some_of(names: Sequence[str], most: int = 5, longest: int = 60) -> str:
    """The first names in one line, each of at most `longest` characters, and how many more there are."""
    more = [f"and {len(names) - most:,} more"] if len(names) > most else []
    return ", ".join([*(one_line(name, longest) for name in names[:most]), *more])


MOST_KNOWN = 100  # choices in a message


def unknown(kind: str, name: str, choices: list[str]) -> str:
    """One line that refuses `name`, with the nearest valid choice and all of them, as far as one can look them over."""
    same = [choice for choice in choices if choice.casefold() == name.casefold()]
    near = same or difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    more = f" and {len(choices) - MOST_KNOWN:,} more" if len(choices) > MOST_KNOWN else ""
    return f"unknown {kind} {name!r}{hint} Known: {', '.join(sorted(choices)[:MOST_KNOWN])}{more}"
