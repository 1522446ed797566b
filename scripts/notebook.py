"""Runs docs/notebook.ipynb, which starts a sweep of its own, and stores it with its outputs.

    python scripts/notebook.py            # takes about a minute
    python scripts/notebook.py --check    # only runs it, and leaves the file as it is

Needs nbclient, ipykernel, matplotlib and plotly (the extra `test`).
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
LONGEST = 200_000  # characters of one output: a page that holds a library of JavaScript does not belong in a repository


def execute() -> nbformat.NotebookNode:
    """The notebook with its outputs, run in an empty folder."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ["PATH"] = programs  # so that commands in outputs are names and no paths of this machine
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when, on which machine
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                _keep_short(output)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def _keep_short(output: nbformat.NotebookNode) -> None:
    """Without what is too long, and without addresses that an object has in this process."""
    data = output.get("data", {})
    for kind in [kind for kind, value in data.items() if len(str(value)) > LONGEST]:
        del data[kind]
    for kind, value in data.items():
        if isinstance(value, str):
            data[kind] = re.sub(r" at 0x[0-9a-f]+", "", value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="leave the file as it is")
    given = parser.parse_args()
    notebook = execute()
    if not given.check:
        nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
