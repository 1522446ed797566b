"""Draws docs/report.png, the picture in the README: the top of a run's report.html, in Chromium.

.venv/bin/python scripts/report_picture.py runs/mnist_l2
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from rungwise.results.report.report import write

SIZE = {"width": 1280, "height": 1000}
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "report.png"


def draw(run: Path, picture: Path) -> None:
    page = write(run)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = opened.new_page(viewport=SIZE)
        tab.goto(page.absolute().as_uri())
        tab.screenshot(path=picture)
        opened.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]), PICTURE)
    print(PICTURE)
