"""One process, several sweeps: the cells of a notebook, in a real kernel. Functions that are typed there are trained,
and the kernel's interrupt ends the sweep and not the kernel."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from support.sweeping import wait_until
from traitlets.config import Config

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
import gc, logging, os, signal, sys, threading, time
from pathlib import Path
from rungwise import FloatDistribution, Sweep, main, run

HERE = Path.cwd()

def state():
    levels = {name: logging.getLogger(name).level for name in ("", "ray", "ray.tune", "optuna")}
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return gc.isenabled(), gc.get_freeze_count(), dict(os.environ), levels, handlers, list(sys.path)

def sweep(data):
    return Sweep(name=f"of-{data}", data=data, space={"lr": FloatDistribution(3e-3, 1e-1)}, trials=1, epochs=1)

def train(config, trial):
    for epoch in range(trial.epochs):
        yield {"loss": (config.lr - 0.5) ** 2 + shift(trial) + 1 / (epoch + 1)}

def shift(trial):
    return trial.seed % 7 / 100

def waits(config, trial):
    yield {"loss": config.lr}
    (HERE / "begun").touch()
    while True:
        time.sleep(0.1)
        yield {"loss": config.lr}

SPACE = {"lr": FloatDistribution(0.1, 0.9)}
SETTINGS = {"metric": "loss", "mode": "min", "trials": 2, "confirm_configs": 1, "confirm_seeds": 2}
""",
    """
import optuna, ray, ray.tune  # what they set when they are imported is theirs
before = state()
print(sys.argv)
main(sweep("digits"), ["--no-confirm", "--loggers"])
""",
    """run(Sweep("endless", SPACE, train=waits, epochs=10**6, **SETTINGS), loggers=())""",
    """
found = run(Sweep("typed", SPACE, train=train, epochs=2, **SETTINGS), loggers=())
print(found.trials.column("state").to_pylist(), found.answer.sentence)
""",
    """
changed = [(old, new) for old, new in zip(before, state()) if old != new]
print(changed, ray.is_initialized(), [thread.name for thread in threading.enumerate() if thread.name == "watch"])
""",
    "main(sweep('no such data'))",
)


@pytest.mark.filterwarnings("default")  # of the kernel's own packages
def test_cells_train_typed_functions_obey_the_kernels_interrupt_and_leave_the_process_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    # A port is chosen long before the kernel takes it, and may be another process's by then. Sockets want short names.
    sockets = Config({"KernelManager": {"transport": "ipc", "ip": f"{os.environ['TMPDIR']}/cells"}})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS])
    client = NotebookClient(
        notebook, timeout=600, startup_timeout=600, iopub_timeout=600,  # without the last, late output is left out
        allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}, config=sockets,
    )  # fmt: skip
    ended = threading.Event()

    def press_interrupt() -> None:
        if wait_until(lambda: ended.is_set() or (tmp_path / "begun").exists()) and not ended.is_set():
            asyncio.run(client.km.interrupt_kernel())

    presser = threading.Thread(target=press_interrupt)
    presser.start()
    try:
        client.execute()
    finally:
        ended.set()
        presser.join()
    definitions, built_in, endless, typed, changed, wrong = notebook.cells
    assert definitions.outputs == []
    assert "of-digits: finished after" in said(built_in)
    assert [errors(cell) for cell in (built_in, typed, changed)] == [[]] * 3
    assert "['COMPLETED', " in said(typed), typed.outputs
    assert "95% interval" in " ".join(said(typed).split())
    assert errors(endless) == ["KeyboardInterrupt"]
    assert said(changed).strip() == "[] False []"
    assert errors(wrong) == ["SystemExit"]
    assert "error: unknown dataset" in said(wrong)


def said(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


def errors(cell: Any) -> list[str]:
    return [output.ename for output in cell.outputs if output.output_type == "error"]
