"""docs/promises.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_test_that_a_promise_names_exists_in_the_file_that_it_names() -> None:
    page = (ROOT / "docs/promises.md").read_text()
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = re.findall(r"\b(test_\w+)(\.\.\.|\.py)?", page)
    tests = [(name, dots) for name, dots in named if dots != ".py"]
    assert len(tests) > 25
    for name, dots in tests:
        assert name in defined or (dots == "..." and any(one.startswith(name) for one in defined)), name
    for path, name in re.findall(r"`(\w+/\w+\.py)(?:::(test_\w+))?", page):
        assert name in (ROOT / "tests" / path).read_text(), f"{path}::{name}"
