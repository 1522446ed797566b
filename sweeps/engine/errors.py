"""The exception that ends a sweep, with its message for the user and its exit code."""

from __future__ import annotations

from rungwise.errors import RungwiseError


class CannotRun(RungwiseError, RuntimeError):
    """The sweep cannot start or continue; the message is for the user. `code` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def refuse(problems: list[str]) -> None:
    """Raise CannotRun with exit code 2, a line for each of the problems, if there are any."""
    if problems:
        raise CannotRun("\nerror: ".join(problems), code=2)
