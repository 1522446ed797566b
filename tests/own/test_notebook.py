"""Functions typed in a notebook's cell: `run` trains them, returns the run, and obeys the kernel's interrupt."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from support.sweeping import wait_until

CELLS = (
    """
import time
from pathlib import Path
from rungwise import FloatDistribution, Sweep, run

HERE = Path.cwd()

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
""",
    """
SETTINGS = {"metric": "loss", "mode": "min", "trials": 2, "confirm_configs": 1, "confirm_seeds": 2}
found = run(Sweep("typed", SPACE, train=train, epochs=2, **SETTINGS))
print(found.trials.column("state").to_pylist(), found.answer.sentence)
""",
    """run(Sweep("endless", SPACE, train=waits, epochs=10**6, **SETTINGS))""",
    """
import ray
print(ray.is_initialized(), 6 * 7)
""",
)


def said(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.filterwarnings("default")  # of the kernel's own packages
def test_functions_of_a_cell_are_trained_and_the_kernels_interrupt_ends_the_sweep_and_not_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS])
    client = NotebookClient(notebook, timeout=600, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}})

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
    _, whole, endless, after = notebook.cells
    assert "['COMPLETED', " in said(whole), whole.outputs
    assert "95% interval" in " ".join(said(whole).split())
    assert [output.ename for output in endless.outputs if output.output_type == "error"] == ["KeyboardInterrupt"]
    assert said(after).strip() == "False 42"
