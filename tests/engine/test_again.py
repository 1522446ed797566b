"""One process, several sweeps: the cells of a notebook, in a real kernel."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from rungwise.engine.execution.process_state import undisturbed


def test_levels_of_loggers_that_came_within_are_their_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ray.tune", "optuna"):
        monkeypatch.delitem(logging.root.manager.loggerDict, name, raising=False)
    with undisturbed():
        for name in ("ray.tune", "optuna"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    assert [logging.getLogger(name).level for name in ("ray.tune", "optuna")] == [logging.INFO, logging.INFO]


CELLS = (
    """
import gc, logging, os, signal, sys, threading
from rungwise import FloatDistribution, Sweep, main

def state():
    levels = {name: logging.getLogger(name).level for name in ("", "ray", "ray.tune", "optuna")}
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return gc.isenabled(), gc.get_freeze_count(), dict(os.environ), levels, handlers, list(sys.path)

def sweep(data):
    return Sweep(name=f"of-{data}", data=data, space={"lr": FloatDistribution(3e-3, 1e-1)}, trials=1, epochs=1,
                 confirm_configs=1, confirm_seeds=1)
""",
    """
import optuna, ray, ray.tune  # what they set when they are imported is theirs
before = state()
print(sys.argv)
main(sweep("digits"))
""",
    "main(sweep('iris'), ['--no-confirm'])",
    "main(sweep('digits'))",
    """
changed = [(old, new) for old, new in zip(before, state()) if old != new]
print(changed, ray.is_initialized(), [thread.name for thread in threading.enumerate() if thread.name == "watch"])
""",
    "main(sweep('no such data'))",
)


@pytest.mark.filterwarnings("default")  # of the kernel's own packages
def test_every_cell_of_a_notebook_runs_its_sweep_and_leaves_the_process_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS])
    client = NotebookClient(notebook, timeout=600, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    first, *sweeps, last, wrong = notebook.cells
    assert first.outputs == []
    assert "'-f', " in said(sweeps[0])  # the kernel's flag, which is not for us
    for cell, name in zip(sweeps, ("of-digits", "of-iris", "of-digits"), strict=True):
        assert re.search(f"{name}: (finished after|already finished)", said(cell))
        assert not [output for output in cell.outputs if output.output_type == "error"]
    assert said(last).strip() == "[] False []"
    assert [output.ename for output in wrong.outputs if output.output_type == "error"] == ["SystemExit"]
    assert "error: unknown dataset" in said(wrong)


def said(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)
