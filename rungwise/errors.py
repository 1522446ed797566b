"""The one base of all errors that Rungwise raises for its callers. No imports here: every package may use it."""

from __future__ import annotations


class RungwiseError(Exception):
    """Something that a caller can do something about; the message is for people, and says what.

    `code` is the exit code of a command that ends with it: 2 for bad input, found before Ray starts, else 1.
    """

    code = 1
