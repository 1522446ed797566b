"""`python -m results`: export, follow, list and show runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m results", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("export", help="bring Parquet and MLflow up to the record")
    one.add_argument("run", type=Path)
    one.add_argument("--tracking-uri", default=None)
    one = commands.add_parser("follow", help="export while a sweep runs, until standard input closes")
    one.add_argument("run", type=Path)
    one.add_argument("--every", type=float, default=2.0)
    given = parser.parse_args(arguments)
    if given.command == "follow":
        from results.follow import follow

        return follow(given.run, given.every)
    from results import mlflow, parquet

    parquet.export(given.run)
    print(mlflow.export(given.run, given.tracking_uri))
    return 0


if __name__ == "__main__":
    sys.exit(main())
