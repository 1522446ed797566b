"""No room of the project reads what could be code."""

from __future__ import annotations

import ast

from support.sweeping import ROOT

PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
# A probe of --plan gets the user's functions through a pipe of the process that has started it.
FROM_THEIR_DRIVER = {ROOT / "trainable/worker/timing.py", ROOT / "trainable/own/training.py"}  # or from themselves


def test_no_room_reads_a_pickle() -> None:
    """`torch.load`, `pickle` and their kin run what a file says; runs hold SQLite, Parquet, JSON and safetensors."""
    offenders = []
    files = [path for room in ("sweeps", "trainable", "results") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 30
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLES:
                offenders.append(f"{path}:{node.lineno}")
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in PICKLES:
                reads = node.attr in ("load", "loads", "Unpickler", "open") and path not in FROM_THEIR_DRIVER
                offenders += [f"{path}:{node.lineno}"] * reads
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                owner = node.func.value
                weights_only = any(k.arg == "weights_only" for k in node.keywords)
                no_pickle = any(k.arg == "allow_pickle" and not k.value.value for k in node.keywords)  # type: ignore[attr-defined]
                if isinstance(owner, ast.Name) and owner.id == "torch" and not weights_only:
                    offenders.append(f"{path}:{node.lineno}")
                if isinstance(owner, ast.Name) and owner.id == "np" and not no_pickle:
                    offenders.append(f"{path}:{node.lineno}")
    assert offenders == []
