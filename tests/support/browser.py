"""Pages in headless Chromium, and what they do besides being looked at."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/system-packages.sh"
NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium; a fresh profile each time."""
    playwright = pytest.importorskip("playwright.sync_api", reason="these tests need Playwright: install '.[dev]'")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        pytest.fail(f"these tests need Chromium, and root can install it: run {SCRIPT.name}, as `make test` does")
    if found is None:
        pytest.skip(f"these tests need Chromium, which takes root and apt to install ({SCRIPT.name})")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=list(SWITCHES), timeout=600_000)  # ms
        yield opened
        opened.close()


@dataclass
class Shown:
    """A page in the browser, and what it did besides being looked at."""

    page: Any
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __call__(self, script: str) -> Any:
        return self.page.evaluate(script)

    def until(self, script: str, seconds: float = 300) -> None:
        """Wait until `script` is true. Playwright's own wait would evaluate text in the page: its policy forbids it."""
        end = time.monotonic() + seconds
        while not self(script):
            assert time.monotonic() < end, f"still not true after {seconds} s: {script}"
            time.sleep(0.05)


Show = Callable[..., Shown]


def look(browser: Any, path: Path, width: int = 1280, scheme: str = "light", **more: Any) -> Shown:
    """Opens a page in a context of its own, and waits until it is drawn."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
    context.set_default_timeout(600_000)  # ms
    shown = Shown(context.new_page())
    shown.page.on("console", lambda said: shown.problems.append(f"{said.type}: {said.text}"))
    shown.page.on("pageerror", lambda error: shown.problems.append(str(error)))
    shown.page.on("dialog", lambda dialog: shown.problems.append(f"dialog: {dialog.message}"))
    shown.page.on("request", lambda request: shown.requests.append(request.url))
    shown.page.goto(path.as_uri())
    if more.get("java_script_enabled", True):
        shown.page.wait_for_selector("html[data-drawn]", timeout=600_000)
    return shown


@pytest.fixture
def show(browser: Any) -> Iterator[Show]:
    """Opens a run's report."""
    opened: list[Shown] = []

    def shown(path: Path, *look_of: Any, **more: Any) -> Shown:
        opened.append(look(browser, path, *look_of, **more))
        return opened[-1]

    yield shown
    for one in opened:
        one.page.context.close()
