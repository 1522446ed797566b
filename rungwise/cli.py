"""The command `rungwise`: the commands of `rungwise.results.cli`, which need no engine, and `demo`, which does."""

from __future__ import annotations

from rungwise.results.cli import main as results


def demo(flags: list[str]) -> int:
    """Run a sweep that ships with the package: does L2 help on MNIST?

    It takes the flags of any sweep.

    Raises:
        SystemExit: The exit code, as `rungwise.main` says.
    """
    from rungwise.demo import SWEEP  # sweeps/mnist_l2.py
    from rungwise.engine import main

    main(SWEEP, flags)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit status, as `rungwise.results.cli.main.main` says."""
    return results.main(arguments, {"demo": demo})
