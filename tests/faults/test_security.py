"""No room of the project reads what could be code."""

from __future__ import annotations

import ast

from support.sweeping import ROOT


def test_no_room_reads_a_pickle() -> None:
    """`torch.load`, `pickle` and their kin run what a file says; runs hold SQLite, Parquet, JSON and safetensors."""
    offenders = []
    files = [path for room in ("sweeps", "trainable", "results") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 30
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            if {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"} & {n.split(".")[0] for n in names}:
                offenders.append(f"{path}:{node.lineno}")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                owner = node.func.value
                weights_only = any(k.arg == "weights_only" for k in node.keywords)
                no_pickle = any(k.arg == "allow_pickle" and not k.value.value for k in node.keywords)  # type: ignore[attr-defined]
                if isinstance(owner, ast.Name) and owner.id == "torch" and not weights_only:
                    offenders.append(f"{path}:{node.lineno}")
                if isinstance(owner, ast.Name) and owner.id == "np" and not no_pickle:
                    offenders.append(f"{path}:{node.lineno}")
    assert offenders == []
