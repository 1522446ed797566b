"""report.html in headless Chromium: what clicks, choices and brushes do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import showcase
from support.browser import Show, Shown, look

from rungwise.results.report.report import write

TRIALS = 120
LOOKS = [(width, scheme) for width in (1280, 400) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a search with enough trials for importances, one of which has a log."""
    run = showcase.sweep(tmp_path_factory.mktemp("interaction") / "run", TRIALS)
    (run / "logs").mkdir()
    (run / "logs" / "1-1.log").write_text("first line\n<b>last</b> line\n")
    return write(run)


@pytest.fixture(scope="module")
def shown(browser: Any, page: Path) -> Iterator[Shown]:
    opened = look(browser, page)
    yield opened
    opened.page.context.close()


@pytest.fixture(autouse=True)
def closed(request: pytest.FixtureRequest) -> Iterator[None]:
    """No panel stays open for the next test."""
    yield
    if "shown" in request.fixturenames:
        request.getfixturevalue("shown")("document.getElementById('trial-panel').close()")


def panel(shown: Shown) -> str:
    assert shown("document.getElementById('trial-panel').open")
    text: str = shown.page.locator("#trial-panel").inner_text()
    return text


def test_a_number_in_the_table_opens_the_trial_by_keyboard_and_escape_leads_back(shown: Shown) -> None:
    button = shown.page.locator("button.open[data-trial='1']").first
    button.focus()
    shown.page.keyboard.press("Enter")
    told = panel(shown)
    assert "Trial 1" in told
    assert "first line\n<b>last</b> line" in told  # its log, as text
    assert "why it ended" in told
    assert "dropout" in told
    shown.until("document.querySelectorAll('#trial-panel .scatterlayer .trace').length === 1")
    shown.page.keyboard.press("Escape")
    assert not shown("document.getElementById('trial-panel').open")
    assert shown("document.activeElement.dataset.trial") == "1"
    assert shown.problems == []


@pytest.mark.parametrize("key", ["curves", "history", "timeline", "pairs", "parallel"])
def test_a_click_on_a_point_opens_its_trial(shown: Shown, key: str) -> None:
    number = shown(
        f"""(() => {{
          const at = document.querySelector('[data-plot={key}]');
          const trace = at._fullData.findIndex(trace => trace.meta && trace.meta.trials.some(t => t !== null));
          const point = at._fullData[trace].meta.trials.findIndex(t => t !== null);
          at.emit('plotly_click', {{points: [{{fullData: at._fullData[trace], pointNumber: point}}]}});
          return at._fullData[trace].meta.trials[point];
        }})()"""
    )
    assert f"Trial {number}\n" in panel(shown)


def test_a_real_click_on_a_bar_of_the_timeline_opens_its_trial(shown: Shown) -> None:
    bar = shown.page.locator("[data-plot=timeline] .point path").first
    bar.scroll_into_view_if_needed()
    box = max(
        (one.bounding_box() for one in shown.page.locator("[data-plot=timeline] .point path").all()),
        key=lambda box: box["width"],
    )
    shown.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.until("document.querySelector('[data-plot=timeline] .hovertext') !== null")
    shown.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.until("document.getElementById('trial-panel').open")
    assert "Trial " in panel(shown)


def test_two_selects_choose_the_axes(shown: Shown) -> None:
    figure = shown.page.locator("figure", has=shown.page.locator("[data-plot=pairs]"))
    figure.locator("select[data-axis=x]").select_option("lr")
    figure.locator("select[data-axis=y]").select_option("activation")
    shown.until("document.querySelector('[data-plot=pairs] .xtitle').textContent.startsWith('lr')")
    layout = "document.querySelector('[data-plot=pairs]')._fullLayout"
    assert shown(f"[{layout}.xaxis.type, {layout}.yaxis.type]") == ["log", "category"]
    assert f"Shown: {TRIALS} of {TRIALS} trials." in figure.inner_text()
    figure.locator("select[data-axis=x]").select_option("l2")
    shown.until("document.querySelector('[data-plot=pairs] .xtitle').textContent === 'l2'")
    told = figure.inner_text()
    assert f"Shown: {TRIALS // 2} of {TRIALS} trials; the others did not search l2 and activation." in told
    assert shown.problems == []


def test_brushing_an_axis_keeps_the_trials_that_pass_there(shown: Shown) -> None:
    plot = shown.page.locator("[data-plot=parallel]")
    plot.scroll_into_view_if_needed()
    kept = shown(
        """(() => {
          const at = document.querySelector('[data-plot=parallel]');
          const last = Math.max(...at._fullData.flatMap(t => t.x.filter(x => x !== null)));
          const traces = at._fullData;
          const [axis, low] = [last, 0.8]; // the best scores
          const trials = new Set();
          for (const t of traces) t.x.forEach((x, i) => x === axis && t.y[i] >= low && trials.add(t.meta.trials[i]));
          const {xaxis, yaxis} = at._fullLayout, box = at.getBoundingClientRect();
          const place = (x, y) => [box.x + xaxis._offset + xaxis.l2p(x), box.y + yaxis._offset + yaxis.l2p(y)];
          return {trials: [...trials].sort((a, b) => a - b), from: place(axis - 0.2, low), to: place(axis + 0.2, 1.05)};
        })()"""
    )
    assert 0 < len(kept["trials"]) < 20
    shown.page.mouse.move(*kept["from"])
    shown.page.mouse.down()
    shown.page.mouse.move(*kept["to"], steps=8)
    shown.page.mouse.up()
    shown.until("document.querySelector('.brushed').textContent.includes('trials pass')")
    told = shown("[...document.querySelectorAll('.brushed button.open')].map(b => Number(b.dataset.trial))")
    assert sorted(told) == kept["trials"]
    shapes = "document.querySelector('[data-plot=parallel]')._fullLayout.shapes.length"
    assert shown(shapes) == 2  # the box of "not searched", and the brush
    shown.page.locator(".brushed button.open").first.click()
    assert f"Trial {told[0]}\n" in panel(shown)
    shown.page.keyboard.press("Escape")
    shown.page.get_by_role("button", name="keep all").click()
    shown.until("document.querySelector('.brushed').textContent === ''")
    assert shown(shapes) == 1
    assert shown.problems == []


def test_a_page_that_renews_itself_keeps_what_the_reader_chose(tmp_path: Path, show: Show) -> None:
    run = showcase.sweep(tmp_path / "run", 40)
    shown = show(write(run, renewed=3600))
    click = "document.querySelector(`{}`).click()".format
    shown(click("figure:has([data-plot=history]) .switch button:last-child"))
    shown(click("figure:has([data-plot=arms]) .legend button, figure:has([data-plot=curves]) .legend button"))
    shown.page.locator("select[data-axis=x]").select_option("activation")
    shown(click("table.sortable th:nth-child(2) button"))
    shown(click("table.sortable th:nth-child(2) button"))
    shown.page.locator(".find").fill("completed")
    shown("document.querySelector('#trials').scrollIntoView({behavior: 'instant'})")
    shown(click("button.open[data-trial='7']"))
    state = """(() => [
      document.querySelector('#trial-panel').open && document.querySelector('#trial-panel h2').textContent,
      [...document.querySelectorAll('[aria-pressed]')].map(button => button.getAttribute('aria-pressed')),
      document.querySelector('select[data-axis=x]').value,
      document.querySelector('th[aria-sort=descending]').textContent,
      document.querySelector('.find').value,
      document.querySelectorAll('.sortable tbody tr[hidden]').length,
      Math.round(document.querySelector('#trials').getBoundingClientRect().top / 10),
    ])()"""
    before = shown(state)
    assert before[0] == "Trial 7"
    write(run, renewed=3600)
    with shown.page.expect_navigation():
        shown("location.reload()")
    shown.page.wait_for_selector("html[data-drawn]", timeout=600_000)
    assert shown(state) == before
    assert shown.problems == []


def test_a_page_that_renews_itself_waits_while_text_is_selected(tmp_path: Path, browser: Any) -> None:
    path = write(showcase.one(tmp_path / "run"), renewed=60)
    page = browser.new_page()
    page.clock.install()
    page.goto(path.as_uri())
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1')), window.kept = true")
    page.clock.fast_forward(120_000)  # ms
    assert page.evaluate("window.kept")
    page.evaluate("getSelection().removeAllRanges()")
    with page.expect_navigation():
        page.clock.fast_forward(1_000)
    page.close()


def test_a_term_leads_to_its_explanation(shown: Shown) -> None:
    link = shown.page.locator("a.term").first
    target = link.get_attribute("href")
    link.click()
    assert shown("document.querySelector(':target').id") == (target or "")[1:]


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_figures_fit_in_every_look_and_the_panel_too(page: Path, show: Show, width: int, scheme: str) -> None:
    shown = show(page, width, scheme)
    assert shown.problems == []
    keys = set(shown("[...document.querySelectorAll('[data-plot]')].map(e => e.dataset.plot)"))
    assert keys >= {"importances", "rungs", "pairs", "parallel", "timeline"}
    cut = shown(
        """['importances', 'rungs', 'pairs', 'timeline'].map(key => document.querySelector(`[data-plot=${key}]`))
        .flatMap(e => [...e.querySelectorAll('text')].filter(text => {
          const [a, b] = [text.getBoundingClientRect(), e.getBoundingClientRect()];
          return a.width && (a.left < b.left - 1 || a.right > b.right + 1);
        }).map(text => `${e.dataset.plot}: ${text.textContent}`))"""
    )
    assert cut == []
    assert shown("document.documentElement.scrollWidth") == width
    shown.page.locator("button.open").first.click()
    shown.until("document.querySelectorAll('#trial-panel .scatterlayer .trace').length === 1")
    box = "document.getElementById('trial-panel')"
    wide = shown(f"[{box}.getBoundingClientRect().right, {box}.scrollWidth - {box}.clientWidth]")
    assert wide[0] <= width
    assert wide[1] <= 0


def test_on_paper_there_are_no_controls_and_no_open_panel(page: Path, show: Show) -> None:
    shown = show(page, 690)
    shown.page.locator("button.open").first.click()
    shown("dispatchEvent(new Event('beforeprint'))")
    shown.page.emulate_media(media="print")
    shown.until("getComputedStyle(document.querySelector('nav')).display === 'none'")
    controls = "select, dialog, input, .switch, .modebar, .brushed, .screen"
    visible = shown(f"[...document.querySelectorAll('{controls}')].filter(e => e.checkVisibility()).length")
    assert visible == 0
    assert shown("document.documentElement.scrollWidth") == 690
    assert shown.page.pdf().startswith(b"%PDF")
