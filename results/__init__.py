"""The results of a sweep: `rungwise.open_run("runs/mnist_l2")` in Python, `rungwise` on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rungwise.results.run import Run, open  # noqa: A004 (results.open)

__all__ = ["Run", "open"]


def __getattr__(name: str) -> Any:
    """`open` and `Run` load tables and statistics when they are first asked for: importing `results` is cheap."""
    if name in __all__:
        from rungwise.results import run

        return getattr(run, name)
    raise AttributeError(f"module 'results' has no attribute {name!r}")


if __name__ == "results":  # imported by its old name, from a checkout
    from rungwise.packages.old_names import redirect

    redirect(__name__, "rungwise.results")
