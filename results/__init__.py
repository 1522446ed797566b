"""What comes out of a sweep: `results.open("runs/mnist_l2")` in Python, `python -m results` on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from results.run import Run, open  # noqa: A004 (results.open)

__all__ = ["Run", "open"]


def __getattr__(name: str) -> Any:
    """`open` and `Run` load tables and statistics when they are first asked for: importing `results` is cheap."""
    if name in __all__:
        from results import run

        return getattr(run, name)
    raise AttributeError(f"module 'results' has no attribute {name!r}")
