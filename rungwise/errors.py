"""The base class of all exceptions that Rungwise raises for its callers. It imports nothing: every package uses it."""

from __future__ import annotations


class RungwiseError(Exception):
    """An error that the caller can act on; the message names the problem and, where there is one, the remedy.

    Attributes:
        code: Exit code of a command that ends with this error. 2: bad input, before Ray starts; otherwise 1.
    """

    code = 1
