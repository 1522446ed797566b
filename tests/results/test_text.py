"""Text from outside, on its way into the record, the terminal, the tables and the page."""

from __future__ import annotations

import ast
import io
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from support.demo import add, begin

from rungwise.results.cli.main import main
from rungwise.results.io.terminal import Terminal
from rungwise.results.io.text import print_anything
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import FILE, State
from rungwise.results.report import report
from rungwise.results.tables import parquet
from rungwise.text import REASON, one_line, printable, printable_json, tail
from rungwise.trainable.messages import Failure, FailureKind

ROOT = Path(__file__).parents[2]
LATIN = os.fsdecode(b"weights-caf\xe9.bin")  # a file name of an old disk


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe λ = 10⁻³ 🙂\tand\na line", "größe λ = 10⁻³ 🙂\tand\na line"),
        (LATIN, r"weights-caf\xe9.bin"),
        ("a\ud800b", r"a\ud800b"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("zero\x00 bell\x07 back\x08 csi\x9b", r"zero\x00 bell\x07 back\x08 csi\x9b"),
        ("user\u202etxt.exe\u2066", r"user\u202etxt.exe\u2066"),
        ("a\r\nb\rc", "a\nb\\x0dc"),
        (None, "None"),
    ],
)
def test_text_keeps_what_is_for_reading_and_escapes_the_rest(text: object, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown  # through the door twice changes nothing
    shown.encode()


def test_a_reason_is_one_line_of_bounded_length_and_a_traceback_keeps_its_end() -> None:
    assert one_line("  no memory\n  for this \n\n model\x00 ") == "no memory for this model\\x00"
    assert one_line("x" * 5000) == "x" * (REASON - 1) + "…"
    assert tail("begin" + "x" * 50 + "end", 10) == "xxxxxxxend"


def test_json_is_printable_in_its_keys_and_values() -> None:
    told = {LATIN: ["\x1b", {"deep": ("\ud800", 1, None, True)}]}
    assert printable_json(told) == {r"weights-caf\xe9.bin": [r"\x1b", {"deep": [r"\ud800", 1, None, True]}]}


@pytest.fixture
def odd(out: Path) -> Path:
    """A run in which every text that somebody else wrote holds what no file, terminal or page can take."""
    record, session = begin(
        out / "odd", question=f"Does {LATIN} \x1b]0;owned\x07 help?", arms={"L2 [weights]": {}, "[/L2]": {}}
    )
    with record:
        for number, arm in enumerate(("L2 [weights]", "[/L2]"), 1):
            add(record, number, arm=arm)
            record.start_attempt(number)
            record.place(number, f"node-{LATIN}", "cpu\x1b[2J")
        record.end_trial(
            1,
            State.FAILED,
            failure=Failure(FailureKind.EXCEPTION, f"no {LATIN}\nhere", error=f"Traceback\n{LATIN}\x1b[31m\ud800"),
        )
        record.end_trial(2, State.FAILED, reason="[enforce fail] :bug: \x1b[31mred")
        record.event("note", 1, words=LATIN)
        record.set_meta("forecast", {LATIN: "\x1b[31m"})
        record.end_session(session, "FAILED")  # type: ignore[arg-type]
    return out / "odd"


def test_the_record_takes_any_text_and_gives_it_back_printable(odd: Path) -> None:
    with Reader(odd) as reader:
        first, second = reader.trials()
        assert first.reason == r"no weights-caf\xe9.bin here"
        assert first.error == "Traceback\nweights-caf\\xe9.bin\\x1b[31m\\ud800"
        assert (first.node, first.device) == (r"node-weights-caf\xe9.bin", r"cpu\x1b[2J")
        assert second.reason == r"[enforce fail] :bug: \x1b[31mred"
        assert reader.events()[0][3] == {"words": r"weights-caf\xe9.bin"}
        assert reader.meta("forecast") == {r"weights-caf\xe9.bin": r"\x1b[31m"}


@pytest.mark.parametrize("command", ["show", "list", "sql", "compare"])
def test_commands_show_users_text_as_it_is(odd: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = {
        "show": ["show", odd],
        "list": ["list", odd.parent],
        "sql": ["sql", odd, "SELECT arm, reason FROM trials"],
        "compare": ["compare", odd, odd],
    }[command]
    main([str(word) for word in words])
    shown, errors = capsys.readouterr()
    assert "\x1b" not in shown + errors
    if command in ("show", "sql"):
        assert "L2 [weights]" in shown
        assert "[/L2]" in shown
        assert "[enforce fail" in shown
        assert ":bug:" in shown


def test_the_page_the_tables_and_mlflow_take_any_text(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(odd)]) == 0, capsys.readouterr().err
    assert parquet.read(odd / parquet.TRIALS)["reason"][0].as_py() == r"no weights-caf\xe9.bin here"
    page = report.write(odd).read_text("utf-8")
    assert "\x1b" not in page
    assert r"weights-caf\xe9.bin" in page


def test_a_terminal_that_knows_ascii_only_shows_a_question_mark(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(told, "ascii"))
    print_anything()
    assert main(["show", str(odd)]) == 0
    assert b"L2 [weights]" in told.getvalue()


def test_rich_is_reached_through_the_terminal_alone() -> None:
    """Every `Console` of rich reads markup; ours does not, and escapes what a terminal obeys."""
    for room in ("results", "sweeps", "trainable"):
        for file in (ROOT / room).rglob("*.py"):
            if file.name == "terminal.py":
                continue
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                named = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
                if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "rich":
                    assert not {"Console", "Text", "print", "escape", "render"} & set(named), f"{file}:{node.lineno}"
                assert not isinstance(node, ast.Call) or getattr(node.func, "attr", "") != "from_markup"


def test_a_terminal_shows_cells_heads_and_lines_as_text() -> None:
    from rich.table import Table

    shown = io.StringIO()
    console = Terminal(file=shown, width=80)
    table = Table("head [bold]x", title="[/title]", box=None)
    table.add_row("cell [red]y\x1b[0m", style="red")
    console.print(table)
    console.print("line [/] :bug: \x1b")
    for text in ("head [bold]x", "[/title]", r"cell [red]y\x1b[0m", r"line [/] :bug: \x1b"):
        assert text in shown.getvalue()


@pytest.mark.parametrize("width", [20, 34, 500])
def test_a_row_is_one_line_and_no_value_is_broken(width: int) -> None:
    from rich.table import Table

    shown = io.StringIO()
    table = Table("trial", "prompt", "score", "lr", box=None)
    table.add_row("1", "Answer:\n", "98.6412%", "0.00552512")
    table.add_row("2", "Say\nit", "97.5%", "0.1")
    Terminal(file=shown, width=width).print_whole(table)
    words = shown.getvalue().replace("=", " ").split()
    first, second = words.index("1"), words.index("2")
    assert first < words.index("Answer:\\n") < words.index("98.6412%") < words.index("0.00552512") < second
    assert second < words.index("Say\\nit") < words.index("97.5%") < words.index("0.1")


def test_a_record_that_holds_raw_control_characters_is_shown_without_them(
    odd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record of an earlier version, or of somebody who wrote it by hand."""
    with closing(sqlite3.connect(odd / FILE)) as database, database:
        database.execute("UPDATE trials SET reason = ?, arm = ?", ("\x1b[31mred", "a\x1b]0;x\x07"))
    assert main(["show", str(odd)]) == 0
    assert main(["sql", str(odd), "SELECT arm, reason FROM trials"]) == 0
    assert report.write(odd).read_text("utf-8").count("\x1b") == 0
    assert "\x1b" not in capsys.readouterr().out


def test_messages_that_standard_error_cannot_take_are_dropped() -> None:
    code = (
        "import sys, warnings; from rungwise.results.io.text import print_anything, say; print_anything();"
        "print_anything(); say('note: é', sys.stderr); print('x' * 100_000, file=sys.stderr, flush=True);"
        "warnings.warn('seen'); say('done')"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.startswith("note: é\nxxx")
    assert done.stderr.endswith("UserWarning: seen\n")


def test_no_file_takes_the_place_of_a_standard_stream_that_is_closed(tmp_path: Path) -> None:
    code = (
        "import sys; from rungwise.results.io.text import print_anything, say; print_anything();"
        "file = open(sys.argv[1], 'w'); say('to nobody'); say('to nobody', sys.stderr); sys.stdin.read();"
        "print(file.fileno() > 2, file=file)"
    )
    path = tmp_path / "file"
    closed = 'exec "$@" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", closed, "sh", sys.executable, "-c", code, path], check=False).returncode == 0
    assert path.read_text() == "True\n"
