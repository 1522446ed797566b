"""Every code block of the pages in docs/ is run, in order, as a reader would: files saved, commands typed.

That takes minutes, and is in the long set. What each sweep and command of the pages asks for is checked always.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import nbformat
import pytest

import rungwise
from rungwise import Sweep
from rungwise.engine.experiment.command_line import parse
from rungwise.engine.experiment.experiment import resolve
from rungwise.engine.validation.check import one_problems, problems
from rungwise.trainable.config import Config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "tutorial",
    "sweep",
    "read",
    "model",
    "data",
    "small-tables",
    "own-training",
    "own-program",
    "coming-from-optuna",
    "coming-from-ray-tune",
    "coming-from-wandb",
    "loggers",
    "earlier-trials",
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of a page's blocks. A block that no test could run has no place on these pages, but for the
    differences that tests/own/test_conversions.py checks."""
    found = BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text())
    assert found
    assert {language for language, _ in found} <= {"python", "sh", "diff"}
    return [(language, text) for language, text in found if language != "diff"]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One place for all pages; short, because Ray's sockets lie below TMPDIR."""
    with tempfile.TemporaryDirectory(prefix="docs") as place:
        yield Path(place)


def sweep_in(script: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep | None:
    """SWEEP of a script that is imported and not run."""
    spec = spec_from_file_location(f"page_{script.stem}", script.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return getattr(module, "SWEEP", None)


def test_the_readmes_sweep_could_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (text,) = [text for language, text in BLOCK.findall((ROOT / "README.md").read_text()) if language == "python"]
    Path("own.py").write_text(text)
    sweep = sweep_in(Path("own.py"), monkeypatch)
    assert sweep is not None
    assert problems(resolve(sweep), parse(sweep, [])) == []


def test_every_sweep_and_command_of_the_pages_could_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts are imported, and each command is checked as before a sweep; only runs that it names are not there."""
    monkeypatch.chdir(tmp_path)
    sweeps, commands = {}, 0
    for page in PAGES:
        for language, text in blocks(page):
            if name := re.match(r"# (\w+)\.py\n", text):
                Path(f"{name[1]}.py").write_text(text)
                sweeps[name[1]] = sweep_in(Path(f"{name[1]}.py"), monkeypatch)
            for script, flags in re.findall(r"^python (\w+)\.py(.*)$", text if language == "sh" else "", re.MULTILINE):
                commands += 1
                if sweeps[script] is not None:
                    options = parse(sweeps[script], shlex.split(flags, comments=True))
                    found = (one_problems if options.one else problems)(resolve(sweeps[script], options), options)
                    absent = ("sweep.sqlite", "is none that exists")
                    assert [line for line in found if not any(word in line for word in absent)] == [], (
                        f"{page}.md: {script} {flags}"
                    )
    assert commands == 31


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_runs(page: str, folder: Path) -> None:
    here = str(Path(sys.executable).parent)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    for index, (language, text) in enumerate(blocks(page)):
        name = re.match(r"# (\w+\.py)\n", text)
        if name:  # a file to be saved; a command below runs it
            (folder / name[1]).write_text(text)
            continue
        command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euc", text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=3600)
        assert done.returncode == 0, f"block {index} of {page}.md:\n{text}\n{done.stdout}\n{done.stderr}"


def test_the_notebook_is_stored_with_its_outputs_and_without_traces_of_a_machine() -> None:
    text = (ROOT / "docs" / "notebook.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.source for cell in cells if not cell.outputs] == []
    assert {output.output_type for cell in cells for output in cell.outputs} == {
        "stream", "execute_result", "display_data"
    }  # fmt: skip
    pictures = [cell for cell in cells if any("image/png" in output.get("data", {}) for output in cell.outputs)]
    assert len(pictures) == 2
    assert re.findall(r"/(?:tmp|home|root|work|Users)/| at 0x[0-9a-f]{6}", text) == []


def test_the_readme_links_the_index_and_the_index_every_page() -> None:
    assert "](docs/index.md)" in (ROOT / "README.md").read_text()
    index = (ROOT / "docs/index.md").read_text()
    docs = ROOT / "docs"
    pages = {str(page.relative_to(docs)) for page in docs.rglob("*.*") if page.suffix in (".md", ".ipynb")}
    assert pages - {"index.md"} == set(re.findall(r"\]\(([\w./-]+)\)", index))


def test_the_site_builds_without_a_warning_and_its_api_reference_is_complete(tmp_path: Path) -> None:
    """`make docs`. mkdocs.yml is strict: a broken link, or a page that the navigation lacks, ends the build."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = (tmp_path / "site/api/index.html").read_text()
    assert [name for name in rungwise.__all__ if f'id="rungwise.{name}"' not in page] == ["__version__"]
    assert [name for name in Config.model_fields if f"<code>{name}</code>" not in page] == []
    assert [each.name for each in fields(Sweep) if f"<code>{each.name}</code>" not in page] == []
