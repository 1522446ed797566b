"""report.html in headless Chromium: drawn, legible, sortable, silent, at both widths and in both colour schemes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import showcase
from support.browser import Show, Shown, look

from rungwise.results import open as open_run
from rungwise.results.report.report import write

LOOKS = [(width, scheme) for width in (1280, 400) for scheme in ("light", "dark")]
ODD = ("empty", "nameless", "one", "diverged", "failed", "constant", "running", "loss", "evil")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a finished, confirmed sweep of 32 trials."""
    return write(showcase.sweep(tmp_path_factory.mktemp("whole") / "run"))


@pytest.fixture(scope="module")
def shown(browser: Any, whole: Path) -> Iterator[Shown]:
    """That page, open: for tests that need nothing of its state."""
    opened = look(browser, whole)
    yield opened
    opened.page.context.close()


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_page_is_drawn_legible_fits_and_asks_nobody(whole: Path, show: Show, width: int, scheme: str) -> None:
    shown = show(whole, width, scheme)
    assert shown.problems == []
    assert shown.requests == [whole.as_uri()]
    plots = shown("[...document.querySelectorAll('[data-plot]')].map(e => [e.dataset.plot, marks(e)])" + MARKS)
    assert dict(plots).keys() >= {"arms", "history", "curves", "importances", "contour", "parallel", "confusion"}
    assert [name for name, marks in plots if marks == 0] == []
    assert shown("document.documentElement.scrollWidth") == width
    if width == 1280:
        assert shown("(e => e.scrollWidth - e.clientWidth)(document.querySelector('.figures').parentElement)") == 0
    else:
        assert shown("[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length") == 0
    assert shown("document.querySelectorAll('.waiting').length") == 0
    assert shown(CONTRAST) == []


MARKS = """; function marks(e) {
  const found = [...e.querySelectorAll('.plot path, .plot image, .plot rect')];
  return found.filter(p => p.getBoundingClientRect().width).length
}"""


CONTRAST = """(() => { // what has less contrast than WCAG 2.2, 1.4.3 asks of text: 4.5
  const light = c => { c = c / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4 };
  const read = s => { const n = (s.match(/[\\d.]+/g) || []).map(Number); return n.length === 3 ? [...n, 1] : n };
  const lum = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = read(getComputedStyle(e).backgroundColor);
      if (c.length === 4 && c[3] === 1) return c;
    }
    return [255, 255, 255, 1];
  };
  const poor = new Set();
  const texts = 'h1,h2,h3,p,dt,dd,th,td,li,summary,a,button,small,b,figcaption p,label,.state,svg text';
  for (const e of document.querySelectorAll(texts)) {
    if (!e.textContent.trim() || !e.getClientRects().length || e.closest('[data-plot=confusion]')) continue;
    const style = getComputedStyle(e);
    const ink = read(e.tagName === 'text' ? style.fill : style.color);
    const [a, b] = [lum(ink), lum(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.add(`${e.tagName}.${e.className.baseVal ?? e.className} ${ratio.toFixed(2)}`);
  }
  return [...poor];
})()"""


def column(shown: Shown, name: str) -> list[str]:
    """What the visible rows of the table of trials show in the column `name`, from top to bottom."""
    found: list[str] = shown.page.evaluate(COLUMN, name)
    return found


COLUMN = """name => {
  const table = document.querySelector('table.sortable');
  const index = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent.trim() === name);
  const cells = [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[index]);
  return cells.map(cell => cell.dataset.v ?? cell.textContent);
}"""


def test_the_table_is_sorted_by_click_and_by_keyboard(whole: Path, show: Show) -> None:
    shown = show(whole)
    ranks = column(shown, "rank")
    assert ranks[:3] == ["1", "2", "3"]  # best first
    head = shown.page.locator("table.sortable th", has_text="lr").first
    head.locator("button").click()
    values = [float(value) for value in column(shown, "lr")]
    assert values == sorted(values)
    assert head.get_attribute("aria-sort") == "ascending"
    assert shown("document.querySelectorAll('th[aria-sort=none]').length") == len(
        shown("[...document.querySelectorAll('table.sortable th')].map(String)")
    ) - 1  # fmt: skip
    head.locator("button").focus()
    shown.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(value) for value in column(shown, "lr")] == values[::-1]
    shown.page.keyboard.press("Tab")
    shown.page.keyboard.press("Space")
    assert shown("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"


def test_what_has_no_value_comes_last_both_ways(shown: Shown) -> None:
    without = column(shown, "rank").count("")
    assert without > 0  # a diverged trial has no rank
    for _ in range(2):
        shown.page.locator("table.sortable th button").first.click()
        ranks = column(shown, "rank")
        assert ranks[-without:] == [""] * without
        assert "" not in ranks[:-without]


def test_the_head_of_the_table_stays_in_sight(shown: Shown) -> None:
    top = shown(
        """(() => { const f = document.querySelector('.tall'); f.scrollTop = 400; f.scrollIntoView();
        return f.querySelector('th').getBoundingClientRect().top - f.getBoundingClientRect().top })()"""
    )
    assert 0 <= top <= 2


def test_rows_are_found_by_words(shown: Shown) -> None:
    shown.page.locator(".find").fill("diverged")
    assert set(column(shown, "state")) == {"diverged"}
    assert "1 of 42 trials contains this." in shown.page.locator(".count").inner_text()
    shown.page.locator(".find").fill("")
    assert len(column(shown, "state")) == 42


def test_views_and_legend_work_by_keyboard(shown: Shown) -> None:
    figure = shown.page.locator("figure", has=shown.page.locator("[data-plot=history]"))
    figure.get_by_role("button", name="by time").focus()
    shown.page.keyboard.press("Enter")
    assert figure.get_by_role("button", name="by time").get_attribute("aria-pressed") == "true"
    assert "of work" in figure.locator(".xtitle").text_content()
    drawn = figure.locator(".trace").count()
    button = figure.locator(".legend button").first
    button.focus()
    shown.page.keyboard.press("Enter")
    shown.until(
        f"document.querySelectorAll('[data-plot=history] .trace').length === {drawn - 2}"  # line and dots
    )
    assert figure.locator(".legend button").first.get_attribute("aria-pressed") == "false"
    assert shown("document.activeElement.closest('.legend') !== null")  # the focus is where it was
    assert shown.problems == []


def test_a_point_tells_its_trial_and_hyperparameters(shown: Shown) -> None:
    shown("Plotly.Fx.hover(document.querySelector('[data-plot=curves]'), [{curveNumber: 1, pointNumber: 0}])")
    told = shown.page.locator("[data-plot=curves] .hovertext").first.text_content()
    assert "trial " in told
    assert "stopped" in told
    assert "lr = " in told


def test_plots_follow_the_page_into_the_dark_and_onto_paper(whole: Path, show: Show) -> None:
    shown = show(whole)
    ink = "getComputedStyle(document.querySelector('[data-plot=history] .xtitle')).fill"
    light = shown(ink)
    shown.page.emulate_media(color_scheme="dark")
    shown.until(f"{ink} !== {light!r}")
    shown("dispatchEvent(new Event('beforeprint'))")
    shown.until(f"{ink} === {light!r}")
    shown("dispatchEvent(new Event('afterprint'))")
    shown.until(f"{ink} !== {light!r}")
    assert shown.page.pdf().startswith(b"%PDF")
    assert shown.problems == []


def test_printed_as_soon_as_it_is_loaded_it_has_all_plots(whole: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto(whole.as_uri())
    at_once = page.pdf()
    page.wait_for_selector("html[data-drawn]", timeout=600_000)
    assert len(at_once) == pytest.approx(len(page.pdf()), rel=0.01)  # an identifier may be a byte longer
    page.close()


def test_titles_of_axes_stay_within_a_plot_of_a_narrow_page(whole: Path, show: Show) -> None:
    shown = show(whole, 320)
    beyond = shown(
        """[...document.querySelectorAll('[data-plot]')].flatMap(plot => {
          const frame = plot.getBoundingClientRect();
          const out = box => box.left < frame.left - 1 || box.right > frame.right + 1
            || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
          const titles = [...plot.querySelectorAll('.xtitle, .ytitle')];
          return titles.filter(title => out(title.getBoundingClientRect())).map(title => title.textContent);
        })"""
    )
    assert beyond == []
    assert shown("document.documentElement.scrollWidth") == 320
    rungs = shown("[...document.querySelectorAll('[data-plot=curves] .annotation-text')].map(e => e.textContent)")
    assert rungs == ["1", "2"]  # 'rung 1' would lie over 'rung 2' where rungs are close


@pytest.mark.parametrize("name", ["sweep", "evil"])
def test_on_paper_no_text_lies_over_other_text_and_none_is_cut(name: str, tmp_path: Path, show: Show) -> None:
    shown = show(write(getattr(showcase, name)(tmp_path / name)), 690)  # CSS pixels between the margins of an A4 page
    shown("dispatchEvent(new Event('beforeprint'))")
    shown.page.emulate_media(media="print")
    shown.until("getComputedStyle(document.querySelector('nav')).display === 'none'")
    texts, clashes = shown(CLASHES)
    assert texts > 200
    assert clashes == []
    lines = shown("Math.max(...[...document.querySelectorAll('.sortable .state')].map(e => e.getClientRects().length))")
    assert lines == 1  # a state and its dot
    drawn = "Math.max(...[...document.querySelectorAll('.main-svg')].map(e => e.getBoundingClientRect().height))"
    assert shown(drawn) == 300  # two plots on a page
    if name == "sweep":  # a browser makes a wider page smaller
        assert shown("document.documentElement.scrollWidth") == 690


CLASHES = """(() => { // texts that overlap or are cut; what lies inside one plot is the plot's own business
  const texts = [];
  const seen = e => e.checkVisibility({visibilityProperty: true}) && !e.closest('.modebar, .unseen, .skip, noscript');
  for (const e of document.querySelectorAll('svg text')) {
    if (e.textContent.trim() && seen(e)) texts.push([e.closest('.plot'), e.textContent, e.getBoundingClientRect()]);
  }
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const [node, range] = [walk.currentNode, document.createRange()];
    if (!node.data.trim() || node.parentElement.closest('svg, script, style') || !seen(node.parentElement)) continue;
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) if (box.width > 1) texts.push([node, node.data, box]);
  }
  const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  const found = [];
  texts.forEach(([owner, text, box], index) => {
    if (owner.closest) {
      const frame = owner.getBoundingClientRect();
      const across = box.left < frame.left - 1 || box.right > frame.right + 1;
      if (across || box.top < frame.top - 1 || box.bottom > frame.bottom + 1) found.push(`cut: ${text}`);
    }
    for (const [other, words, place] of texts.slice(index + 1)) {
      if (other !== owner && over(box, place)) found.push(`${text} / ${words}`);
    }
  });
  return [texts.length, found];
})()"""


def test_everything_has_a_name_for_those_who_cannot_see_it(shown: Shown) -> None:
    assert shown("document.querySelectorAll('h1').length") == 1
    assert shown("[...document.querySelectorAll('[role=img], img, [role=region], nav')].every("
                 "e => (e.getAttribute('aria-label') || e.alt || '').length > 3)")  # fmt: skip
    levels = shown("[...document.querySelectorAll('h1,h2,h3')].map(e => Number(e.tagName[1]))")
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert shown("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.getAttribute('href')))")
    assert shown("[...document.querySelectorAll('[id]')].length === new Set([...document.querySelectorAll('[id]')]"
                 ".map(e => e.id)).size")  # fmt: skip


def test_without_javascript_the_words_and_tables_are_there(whole: Path, show: Show) -> None:
    shown = show(whole, java_script_enabled=False)
    assert "need JavaScript" in shown.page.locator("noscript").inner_text()
    assert shown.page.locator("table.sortable tbody tr").count() == 42
    assert "test accuracy" in shown.page.locator(".sentence").inner_text()


@pytest.mark.parametrize("name", ODD)
def test_odd_records_are_drawn_without_an_error(name: str, tmp_path: Path, show: Show) -> None:
    path = write(getattr(showcase, name)(tmp_path / name))
    shown = show(path, 400)
    assert shown.problems == []
    assert shown.requests == [path.as_uri()]
    assert shown("document.documentElement.dataset.drawn") != "failed"
    assert shown("document.documentElement.scrollWidth") == 400
    assert shown("window.pwned") is None
    assert shown("document.querySelectorAll('img[src=x], [onerror]').length") == 0


def test_200_trials_are_drawn(tmp_path: Path, show: Show) -> None:
    shown = show(write(showcase.sweep(tmp_path / "run", 200)))
    assert shown.problems == []
    assert shown.page.locator("table.sortable tbody tr").count() == 210
    assert shown("document.querySelectorAll('[data-plot=curves] .lines path').length") > 3


def test_below_a_notebooks_cell_the_page_is_drawn_and_has_no_access_to_the_notebook(browser: Any, whole: Path) -> None:
    page = browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.set_content(f"<p id=secret>{open_run(whole.parent).report(height=900)._repr_html_()}")
    (frame,) = page.frames[1:]
    frame.wait_for_selector("html[data-drawn]", timeout=600_000)
    assert frame.locator("[data-plot=curves] .trace").count()
    assert frame.evaluate("(() => { try { return parent.document.title } catch { return 'refused' } })()") == "refused"
    assert problems == []
    page.close()
