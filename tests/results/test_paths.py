"""Names from outside: below the folder, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from rungwise.engine.execution.run_lock import locked
from rungwise.files import replacing
from rungwise.results.io.paths import UnsafeName, resolve_below
from rungwise.results.record.sessions import LOCK
from rungwise.results.record.types import FILE, RecordError
from rungwise.results.record.writer import Record
from rungwise.trainable.storage import install


@pytest.mark.parametrize(
    "name", ["config.json", "model/config.json", "a b/ü'\"#?%41", "..a/b..", ".hidden", "ab:c", "0:1" * 50, "x" * 255]
)
def test_a_name_below_the_folder_is_the_path_below_it(tmp_path: Path, name: str) -> None:
    assert resolve_below(tmp_path, name) == tmp_path / name
    assert not list(tmp_path.iterdir())  # nothing is made


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../x", "a/../../x", "a/../b", "a/..", "/dev/zero", "//server/x", "a//b", "a/", "./a",
        "C:/x", "c:x", "..\\x", "a\\b", "a\0b", "a\nb", "\x1b[2J", "a\x85b",
        "x" * 256, "ü" * 128, "a/" + "x" * 300, "\ud800",
    ],
)  # fmt: skip
def test_a_name_that_could_lead_elsewhere_is_refused_in_one_printable_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafeName) as refused:
        resolve_below(tmp_path, name)
    assert "must" in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


def test_a_link_may_stay_below_the_folder_and_may_not_leave_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "model").mkdir(parents=True)
    (root / "inside").symlink_to("model")
    (root / "outside").symlink_to(tmp_path)
    (root / "gone").symlink_to("/nowhere/at/all")
    (root / "circle").symlink_to("circle")
    assert resolve_below(root, "inside/config.json") == root / "inside/config.json"
    for name in ("outside", "outside/x", "gone", "circle", "circle/x"):
        with pytest.raises(UnsafeName, match="must lead below"):
            resolve_below(root, name)


def test_a_folder_may_be_a_link_itself_or_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to("there")
    assert resolve_below(tmp_path / "here", "a/b") == tmp_path / "here/a/b"
    monkeypatch.chdir(tmp_path)
    assert resolve_below(Path("here"), "a") == Path("here/a")


@pytest.mark.parametrize("name", [LOCK, f"{FILE}-mark", ".report.html.tmp"])
def test_a_link_in_a_runs_folder_makes_nobody_write_into_another_file(tmp_path: Path, name: str) -> None:
    run, theirs = tmp_path / "run", tmp_path / "theirs"
    run.mkdir()
    Record(run).close()
    theirs.write_text("precious")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(theirs)
    with pytest.raises((OSError, RecordError), match=name):
        write_into(run)
    assert theirs.read_text() == "precious"


def write_into(run: Path) -> None:
    with locked(run), Record(run) as record, replacing(run / "report.html") as page:
        record.add_trial(1, arm="all", phase="search", config={}, params={}, distributions={})
        page.write(b"a page")


def test_a_folder_takes_the_place_of_a_link_and_not_of_what_it_leads_to(tmp_path: Path) -> None:
    theirs, model = tmp_path / "theirs", tmp_path / "run" / "model"
    theirs.mkdir()
    (theirs / "kept").touch()
    model.parent.mkdir()
    for link in (model, model.with_name(".model.tmp"), model.with_name(".model.old")):
        link.symlink_to(theirs)
    for content in (b"1", b"2"):
        install({"config.json": content}, model)
    assert (model / "config.json").read_bytes() == b"2"
    assert [path.name for path in model.parent.iterdir()] == ["model"]
    assert [path.name for path in theirs.iterdir()] == ["kept"]
