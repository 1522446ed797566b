"""A record that makes no sense is one line to every command and to the driver, never a traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.confirmed import two_arms
from support.demo import DEFINITION
from support.hostile import MUTATIONS, mutate

from rungwise import results
from rungwise.results.cli.main import main
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import RecordError
from rungwise.results.record.writer import Record

ODD_BUT_HARMLESS = "an arm that nobody defined"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_arms(tmp_path_factory.mktemp("hostile") / "two")


@pytest.fixture
def altered(two: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    run = Path(shutil.copytree(two, tmp_path / "runs" / "altered"))
    mutate(run, MUTATIONS[request.param])
    return run


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> int:
    """The exit status; whatever is not 0 has one line that says why."""
    code = main(words)
    shown, complained = capsys.readouterr()
    assert "\x1b" not in shown + complained
    assert "Traceback" not in shown + complained
    if code:
        assert code in (1, 2)
        assert 1 <= len(complained.splitlines()) <= 3, complained
        assert len(complained) < 2000
    return code


@pytest.mark.parametrize("altered", MUTATIONS, indirect=True)
def test_a_hostile_record_is_shown_or_refused_in_a_line(altered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(["show", str(altered)], capsys)


@pytest.mark.long
@pytest.mark.parametrize("altered", MUTATIONS, indirect=True)
def test_every_command_takes_a_hostile_record_or_refuses_it_in_a_line(
    altered: Path, two: Path, empty_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(empty_store, altered.parent / "mlflow.db")
    run = str(altered)
    assert said(["list", str(altered.parent)], capsys) == 0
    for words in (
        ["sql", run, "SELECT * FROM trials JOIN reports USING (trial)"],
        ["compare", str(two), run],
        ["study", run, "--storage", f"sqlite:///{tmp_path}/study.db"],
        ["report", run],
        ["export", run],
        ["copy", run, str(tmp_path / "copy")],
    ):
        said(words, capsys)
    assert main(["doctor", str(altered)]) in (0, 1, 2)  # a finding a line, on standard output
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize("altered", MUTATIONS, indirect=True)
def test_a_driver_and_a_notebook_refuse_a_hostile_record_by_its_file(altered: Path) -> None:
    """Whatever they read of it; the engine's `main` prints a RecordError as a line and exits with 1."""
    try:
        Record(altered).close()
        with Reader(altered) as reader:
            for read in (reader.scores, reader.checkpoints, reader.events):
                read()
        run = results.open(altered)
        assert run.state
        for arm in run.arms:
            run.study(arm)
        assert run.answer.sentence
    except RecordError as error:
        line = str(error)
    else:
        return
    assert str(altered / "sweep.sqlite") in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("altered", [ODD_BUT_HARMLESS], indirect=True)
def test_a_mutation_that_makes_sense_is_shown(altered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(altered)]) == 0
    assert "nobody" in capsys.readouterr().out


def test_list_shows_the_others_beside_a_damaged_run(
    two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        shutil.copytree(two, tmp_path / name)
    mutate(tmp_path / "b", MUTATIONS["an unknown state"])
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "sweep.sqlite").write_bytes(b"nothing")
    assert main(["list", str(tmp_path)]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["a", "b", "c", "d"]
    assert ["DAMAGED" in line for line in lines] == [False, True, False, True]
    assert "'ASLEEP' is not a valid State" in lines[1]
    assert str(DEFINITION["sweep"]) in lines[0]
