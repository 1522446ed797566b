"""Every code block of the pages in docs/ is run, in order, as a reader would: files saved, commands typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of a page's blocks. A block that no test could run has no place on these pages."""
    found = BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text())
    assert found
    assert {language for language, _ in found} <= {"python", "sh"}
    return found


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One place for all pages; short, because Ray's sockets lie below TMPDIR."""
    with tempfile.TemporaryDirectory(prefix="docs") as place:
        yield Path(place)


@pytest.mark.long
@pytest.mark.parametrize("page", ["sweep", "read", "model", "data"])
def test_every_block_of_the_page_runs(page: str, folder: Path) -> None:
    here = str(Path(sys.executable).parent)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    for index, (language, text) in enumerate(blocks(page)):
        name = re.match(r"# (\w+\.py)\n", text)
        if name:  # a file to be saved; a command below runs it
            (folder / name[1]).write_text(text)
            continue
        command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euc", text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, f"block {index} of {page}.md:\n{text}\n{done.stdout}\n{done.stderr}"


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert page.name in readme, f"README.md names no docs/{page.name}"
