"""report.html from the record alone: what it says, counted by hand, and that no record breaks it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import random
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import confirmed, demo, showcase

from rungwise.results.analysis.answer import answer
from rungwise.results.cli.main import main
from rungwise.results.exporters.optuna_study import studies
from rungwise.results.record.reader import Reader
from rungwise.results.record.types import Decision, State, SweepState
from rungwise.results.record.writer import Record
from rungwise.results.report.cost import session_table
from rungwise.results.report.error_gallery import data_uri
from rungwise.results.report.glossary import GLOSSARY, link_first_uses
from rungwise.results.report.importance import analyse
from rungwise.results.report.page import embedded, environment
from rungwise.results.report.plots import curves
from rungwise.results.report.plots.arms import plot_arms
from rungwise.results.report.plots.history import plot_history
from rungwise.results.report.report import render, write
from rungwise.results.report.snapshot import FrozenReader, Snapshot, read
from rungwise.results.report.summary import tiles

ODD = {
    "empty": (showcase.empty, "This sweep is empty: no trial has started yet."),
    "nameless": (showcase.nameless, "This sweep is empty: no trial has started yet."),
    "one": (showcase.one, "One trial compares nothing"),
    "diverged": (showcase.diverged, "No trial can be called best: 6 diverged."),
    "failed": (showcase.failed, "No trial can be called best: 6 failed."),
    "constant": (showcase.constant, "all trials have the same value"),
    "running": (showcase.running, "The sweep is still running: 6 trials have ended, 2 are in flight."),
    "loss": (showcase.loss, "Nothing is confirmed yet."),
}


def payload(page: str) -> Any:
    """The data that the page draws, read as strictly as JSON can be."""
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', page, re.S)
    assert found

    def refused(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(found[1], parse_constant=refused)


def texts(data: Any) -> Iterator[str]:
    """All texts that are values of JSON."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from texts(value)


def words(page: str) -> str:
    """What a reader reads: the page without its scripts, styles and tags."""
    bare = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.S)
    bare = re.sub(r"</?a\b[^>]*>", "", bare)  # a link is part of its sentence
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", bare)).split())


def snapshot(run: Path) -> Snapshot:
    with FrozenReader(run) as reader:
        return read(reader)


# -- what it says ----------------------------------------------------------------------------------------------


def test_the_answer_comes_first_with_intervals_and_the_winners_curse(tmp_path: Path) -> None:
    page = render(confirmed.two_arms(tmp_path / "run"))
    told = words(page)
    assert told.index("L2 has 0.30 points more") < told.index("Best so far") < told.index("Provenance")
    assert "Nothing is confirmed" not in told
    # L2: 99.00% was seen, of the settings that were chosen; their five seeds have 98.50% in the mean of validation
    assert "L2 2 99.00% 99.00% 98.50% 0.50 points 98.40% 98.27 to 98.53%" in told
    big = [trace for trace in payload(page)["plots"]["arms"]["data"][0] if "error_x" in trace]
    assert [trace["x"] for trace in big] == [[0.981], [0.984]]
    whisker = big[1]["error_x"]
    assert whisker["array"][0] == pytest.approx(whisker["arrayminus"][0], rel=1e-3) == pytest.approx(0.00124, rel=0.01)


def test_the_axis_of_test_scores_names_one_split(tmp_path: Path) -> None:
    run = confirmed.two_arms(tmp_path / "run")
    with Reader(run) as reader:
        found = answer(reader)
    found = replace(found, format=replace(found.format, metric="val/f1"))
    drawn = plot_arms(snapshot(run), found)
    assert drawn is not None
    assert drawn.views[0].layout["xaxis"]["title"]["text"] == "test f1"


def test_an_arm_that_failed_everywhere_lost_in_the_report_too(tmp_path: Path) -> None:
    made = confirmed.sweep(tmp_path / "run")
    made.score(made.confirmed("no L2", made.search("no L2", 0.98), confirmed.NO_L2), confirmed.NO_L2)
    made.search("L2", 0.3, state=State.DIVERGED)
    made.search("L2", state=State.FAILED)
    made.record.close()
    told = words(render(tmp_path / "run"))
    assert "L2 lost against no L2: of its 2 trials, 1 diverged and 1 failed. Best by validation is no L2: " in told
    assert "L2 2 none 1 diverged and 1 failed" in told


def test_several_comparisons_are_a_list_and_what_they_cannot_tell_is_said_once(tmp_path: Path) -> None:
    made = confirmed.sweep(tmp_path / "run", arms={"none": {}, "a": {}, "b": {}})
    for arm, values in (("none", confirmed.NO_L2), ("a", confirmed.L2), ("b", confirmed.NO_L2)):
        made.score(made.confirmed(arm, made.search(arm, 0.98), values), values)
    made.record.close()
    page = render(tmp_path / "run")
    assert page.count("<li>The configuration found with ") == 2
    assert words(page).count("cannot be told from one search per arm") == 1
    assert "a against none one search The configuration found with a has 0.30 points more" in words(page)


def test_without_confirmation_it_says_so_and_draws_no_interval(run: Path) -> None:
    page = render(run)
    assert "Nothing is confirmed yet." in words(page)
    assert "error_x" not in page[: page.index('id="plotly"')]


def test_every_state_has_its_curve_and_the_diverged_one_is_never_best(run: Path) -> None:
    page = render(run)
    data = payload(page)
    lines = [trace for trace in data["plots"]["curves"]["data"][0] if trace["mode"] == "lines"]
    names = [trace["name"] for trace in lines]
    assert names == ["stopped (1)", "lost (1)", "diverged (1)", "completed (2)"]  # 4 failed, 7 and 8 told no accuracy
    done = lines[-1]
    assert done["x"] == [1, 2, 3, 4, None, 1, 2, 3, 4, None]
    assert done["y"] == [0.5, 0.7, 0.9, 0.8, None, 0.3, 0.65, 0.75, 0.85, None]  # the last attempt's word
    assert done["meta"]["trials"] == [1, 1, 1, 1, None, 6, 6, 6, 6, None]
    assert "no L2 90.00%, L2 85.00%" in words(page)  # not the 99% of the diverged trial 3
    assert data["hover"]["1"] == "trial 1 · no L2 · completed<br>lr = 0.01<br>hidden = 128-64<br>reached 4 epochs"


@pytest.mark.parametrize(("budget", "planned"), [("trials", "8 of 80"), ("epochs", "8")])
def test_the_trials_of_a_sweep_in_progress_are_out_of_those_of_all_searches_of_all_arms(
    run: Path, budget: str, planned: str
) -> None:
    read_run, findings = snapshot(run), answer(Reader(run))
    definition = replace(read_run.definition, trials=8, searches=5, budget=budget)
    name, value, _ = tiles(replace(read_run, definition=definition), findings)[0]
    assert (name, value) == ("search trials", planned)


def test_rungs_are_those_of_asha(run: Path) -> None:
    now = snapshot(run)
    assert now.rungs == [1, 3, 4]  # grace 1, eta 3, 4 epochs
    assert [shape["x0"] for shape in payload(render(run))["plots"]["curves"]["views"][0]["layout"]["shapes"]] == [1, 3]


def test_history_is_the_best_so_far_of_each_arm(tmp_path: Path) -> None:
    made = confirmed.sweep(tmp_path / "run")
    for arm, *told in (("a", 0.5, 0.6), ("b", 0.7), ("a", 0.55), ("a", 0.9, 0.8), ("b", 0.6)):
        made.search(str(arm), *map(float, told))
    made.search("b", 0.99, state=State.LOST)
    made.record.close()
    drawn = plot_history(snapshot(tmp_path / "run"))
    assert drawn is not None
    lines = {trace["name"]: trace for trace in drawn.views[0].data if trace["mode"] == "lines"}
    assert (lines["a"]["x"], lines["a"]["y"]) == ([1, 3, 4, 5], [0.6, 0.6, 0.9, 0.9])
    assert (lines["b"]["x"], lines["b"]["y"]) == ([2, 5, 5], [0.7, 0.7, 0.7])


def test_less_is_better_where_the_sweep_says_so(tmp_path: Path) -> None:
    now = snapshot(showcase.loss(tmp_path / "run"))
    assert now.best is not None
    assert now.best.best == min(entry.best for entry in now.search if entry.rankable and entry.best is not None)
    drawn = plot_history(now)
    assert drawn is not None
    for trace in drawn.views[0].data[1::2]:
        assert trace["y"] == sorted(trace["y"], reverse=True)


def searched(folder: Path, trials: int, completed: Callable[[int], bool], **changed: Any) -> Path:
    """A search of one arm: lr alone decides the score, and trials that are not completed stop after one epoch."""
    record, _ = demo.begin(folder, arms={"all": {}}, **changed)
    for number in range(1, trials + 1):
        params = {"lr": 10 ** (-4 + 3 * number / trials), "hidden": ("128-64", "256-128")[number % 3 % 2]}
        config = demo.config(number)
        record.add_trial(
            number, arm="all", phase="search", config=config, params=params, distributions=demo.DISTRIBUTIONS
        )
        attempt = record.start_attempt(number)
        for epoch in range(1, 5 if completed(number) else 2):
            # at the end the order is reversed
            value = number / 1000 if epoch < 4 else 1 - number / 1000
            record.add_report(number, attempt, epoch, demo.metrics(float(epoch), value))
        record.end_trial(number, State.COMPLETED if completed(number) else State.STOPPED)
    record.close()
    return folder


def test_importances_are_those_of_completed_trials_with_intervals(tmp_path: Path) -> None:
    found = analyse(snapshot(searched(tmp_path / "run", 60, lambda number: number % 2 == 0)))
    only, first = found.importances
    assert (only.view, only.rung, only.n, only.completed) == ("all", None, 30, 30)
    assert (first.rung, first.n) == (1, 60)  # before any was stopped
    assert only.shares["lr"] > 0.8
    assert sum(only.shares.values()) == pytest.approx(1)
    assert all(low <= only.shares[name] <= high for name, (low, high) in only.intervals.items())
    assert only.intervals["lr"][0] > only.intervals["hidden"][1]  # told apart
    assert found.names == ["lr", "hidden"]
    assert found.rung == 4
    assert [value for _, value in found.level] == [1 - number / 1000 for number in range(2, 61, 2)]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_importances_are_the_figures_of_optuna_and_its_dashboard(mode: str, tmp_path: Path) -> None:
    import optuna

    run = searched(tmp_path / "run", 60, lambda number: number % 2 == 0, mode=mode)
    only = analyse(snapshot(run)).importances[0]
    with Reader(run) as reader:
        (study,) = studies(reader).values()
    assert only.shares == pytest.approx(optuna.importance.get_param_importances(study))  # its default evaluator
    dashboard = pytest.importorskip("optuna_dashboard._importance", reason="in the extra dev")
    dashboard.param_importance_cache.clear()  # of other studies with this number
    told = dashboard.get_param_importance_from_trials_cache(None, study._storage, study._study_id, 0, study.trials)
    assert only.shares == pytest.approx({one["name"]: one["importance"] for one in told})


def test_importances_of_several_searches_are_those_of_all_their_completed_trials(tmp_path: Path) -> None:
    import optuna

    run = showcase.sweep(tmp_path / "run", 400, searches=2)
    with Reader(run) as reader:
        exported = studies(reader)
    found = [one for one in analyse(snapshot(run)).importances if one.rung is None and one.view != "all arms"]
    assert len(found) == 2
    for importance in found:
        of_arm = [study for key, study in exported.items() if key.arm == importance.view]
        assert len(of_arm) == 2
        pooled = optuna.create_study(direction="maximize")
        pooled.add_trials([trial for study in of_arm for trial in study.trials])
        assert importance.shares == pytest.approx(optuna.importance.get_param_importances(pooled))


def test_intervals_of_importances_narrow_with_trials_and_are_the_same_again(tmp_path: Path) -> None:
    wide, narrow = (
        analyse(snapshot(searched(tmp_path / str(trials), trials, lambda _: True))).importances[0].intervals
        for trials in (24, 240)
    )
    again = analyse(snapshot(tmp_path / "24")).importances[0].intervals
    assert wide == again
    for name in wide:
        assert narrow[name][1] - narrow[name][0] < wide[name][1] - wide[name][0]


def test_with_too_few_completed_trials_a_rung_is_compared_and_said(tmp_path: Path) -> None:
    run = searched(tmp_path / "run", 60, lambda number: number % 6 == 0)
    (only,) = analyse(snapshot(run)).importances
    assert (only.rung, only.n, only.completed) == (1, 60, 10)
    told = words(render(run))
    assert "of completed trials there are too few to say (n=10, 20 are needed)" in told
    assert "the figure compares the 60 trials that reached 1 epoch" in told


def test_too_few_trials_have_no_importances_but_words(tmp_path: Path, run: Path) -> None:
    told = words(render(run))
    assert "too few to say (n=2, 20 are needed)" in told
    barely = (searched(tmp_path / str(trials), trials, lambda _: True) for trials in (19, 20))
    assert [bool(analyse(snapshot(one)).importances[0].shares) for one in barely] == [False, True]


def test_hyperparameters_without_two_values_have_no_importance(tmp_path: Path) -> None:
    record, _ = demo.begin(tmp_path / "run", arms={"all": {}})
    for number in range(1, 31):
        demo.add(record, number, arm="all")
        demo.attempt(record, number, *(number / 100 + epoch / 50 for epoch in range(4)))
        record.end_trial(number, State.COMPLETED)
    record.close()
    (only,) = analyse(snapshot(tmp_path / "run")).importances
    assert (only.n, only.shares, only.why) == (30, {}, "no hyperparameter has two values")


def test_pooled_arms_are_a_hyperparameter_and_what_one_arm_searches_counts_there(tmp_path: Path) -> None:
    found = analyse(snapshot(showcase.sweep(tmp_path / "run", 300)))
    completed, pooled = (one for one in found.importances if one.view == "all arms")
    assert (completed.rung, pooled.rung) == (None, 1)
    assert pooled.n > 2 * completed.n
    assert max(pooled.shares, key=lambda name: pooled.shares[name]) == "lr"  # the score is a parabola in log lr
    assert set(pooled.shares) == {"lr", "dropout", "width", "activation", "l2", "arm"}
    assert {one.view: "l2" in one.shares for one in found.importances} == {"all arms": True, "no L2": False, "L2": True}


def test_a_failed_trial_shows_its_reason_and_its_traceback(run: Path) -> None:
    told = words(render(run))
    assert "ZeroDivisionError Traceback ZeroDivisionError: 1 / 0" in told
    assert "train_loss is inf at epoch 2" in told


def test_forecast_stands_against_what_it_took(tmp_path: Path) -> None:
    run = showcase.sweep(tmp_path / "run")
    now = snapshot(run)
    epochs = sum(entry.epochs or 0 for entry in now.entries)
    assert f"epochs 150 {epochs:g} {100 * (epochs / 150 - 1):+.0f}%" in words(render(run))


def test_an_audit_tells_whether_a_winner_was_stopped(tmp_path: Path) -> None:
    record, _ = demo.begin(tmp_path / "run")
    demo.add(record, 1)
    demo.attempt(record, 1, 0.5, 0.7, 0.8, 0.9)
    record.end_trial(1, State.COMPLETED)
    demo.add(record, 2)
    demo.attempt(record, 2, 0.4)
    record.end_trial(2, State.STOPPED, decision=Decision(1.0, 0.5, True))
    record.add_trial(3, arm="L2", phase="audit", source=2, config=demo.config(2), params={}, distributions={})
    demo.attempt(record, 3, 0.4, 0.7, 0.9, 0.95)
    record.end_trial(3, State.COMPLETED)
    record.close()
    told = words(render(tmp_path / "run"))
    assert "Early stopping stopped a winner: trial 2 would have beaten the best finished trial by 5.00 points." in told


def test_mistakes_are_images_in_the_page(tmp_path: Path) -> None:
    page = render(showcase.sweep(tmp_path / "run"))
    images = re.findall(r'<img src="([^"]*)" alt="([^"]*)"', page)
    assert len(images) == 12
    assert images[0][1] == "test image 0: is 0, taken for 3 with probability 99.9%"
    assert all(source.startswith("data:image/png;base64,") for source, _ in images)


def test_a_regression_shows_predicted_against_true_and_residuals(tmp_path: Path) -> None:
    run = showcase.sweep(tmp_path / "run", confirmed=False)
    with Record(run) as record:
        record.set_meta("test", {"trial": 1, "samples": 10, "true": [1.0, 2.0, 4.0], "predicted": [1.5, 2.0, 3.0]})
    page = render(run)
    drawn = payload(page)["plots"]["residuals"]
    assert [data[1]["x"] for data in drawn["data"]] == [[1.0, 2.0, 4.0]] * 2
    assert [data[1]["y"] for data in drawn["data"]] == [[1.5, 2.0, 3.0], [0.5, 0.0, -1.0]]
    told = words(page)
    assert "Mean absolute error 0.5; predictions are 0.167 too low on average." in told
    assert "(3 of 10 shown)" in told


def test_a_png_holds_the_pixels_it_was_given() -> None:
    import io

    import numpy as np
    from PIL import Image

    for channels in (1, 3):
        pixels = np.arange(channels * 4 * 5, dtype=np.uint8).reshape(channels, 4, 5) * 3
        body = base64.b64decode(data_uri(pixels.tobytes(), pixels.shape).partition(",")[2])
        with Image.open(io.BytesIO(body)) as image:
            seen = np.asarray(image)
        assert (seen == (pixels[0] if channels == 1 else pixels.transpose(1, 2, 0))).all()
    body = base64.b64decode(data_uri(bytes([0, 8, 16, 4]), (1, 2, 2), 16).partition(",")[2])  # 16 levels of grey
    with Image.open(io.BytesIO(body)) as image:
        assert np.asarray(image).tolist() == [[0, 127], [255, 63]]
    with pytest.raises(ValueError, match=r"an image must be \(1 or 3, H, W\) bytes, but got 7 bytes for \(1, 2, 4\)"):
        data_uri(bytes(7), (1, 2, 4))


def test_the_first_use_of_a_term_leads_to_the_glossary_and_no_later_one_does(tmp_path: Path) -> None:
    page = render(showcase.sweep(tmp_path / "run"))
    links = re.findall(r'<a class="term" href="#([^"]*)" title="([^"]*)">([^<]*)</a>', page)
    assert {"term-rung", "term-arm", "term-trial", "term-interval", "term-importance"} <= {
        anchor for anchor, _, _ in links
    }
    assert len({anchor for anchor, _, _ in links}) == len(links)
    for anchor, meaning, _ in links:
        assert re.search(rf'<div id="{anchor}"><dt>[^<]*</dt><dd>{re.escape(meaning)}</dd>', page)
    assert page.index('<a class="term"') < page.index('id="glossary"')


def test_terms_are_linked_in_running_text_only_as_whole_words() -> None:
    link = f'<a class="term" href="#term-rung" title="{GLOSSARY["rung"]}">'
    page = '<h2>Rung</h2><table><td>rung</td></table><p title="a rung"><code>rung</code> strung <b>Rungs</b>, rung</p>'
    assert link_first_uses(page) == page.replace("<b>Rungs</b>", f"<b>{link}Rungs</a></b>")
    assert 'href="#term-winner-s-curse"' in link_first_uses("<li>the winner&#39;s curse</li>")
    assert link_first_uses("<p>a &lt;rung&gt;</p>").count("<a") == 1
    assert link_first_uses("<p>more: --searches 161.</p>") == '<p>more: <span class="flag">--searches 161</span>.</p>'


# -- that nothing breaks it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD)
def test_an_odd_record_has_a_page_that_says_what_is_odd(name: str, tmp_path: Path) -> None:
    build, told = ODD[name]
    page = render(build(tmp_path / name))
    assert told in words(page)
    payload(page)
    assert "nan" not in words(page).lower().split()


def test_numbers_that_are_none_become_null_and_text_cannot_leave_its_script() -> None:
    told = embedded({"a": [float("nan"), float("inf"), 0.1234567891], "b": "</script>\u2028&"})
    assert told == '{"a":[null,null,0.123457],"b":"\\u003c/script\\u003e\\u2028\\u0026"}'


def test_text_is_escaped_in_every_template_and_control_characters_are_shown() -> None:
    template = environment().from_string('<p title="{{ value }}">{{ value }}</p>')
    shown = "&lt;b&gt;&#34;&#39;&amp; \\x1b 5% of it"
    assert template.render(value="<b>\"'& \x1b 5% of it") == f'<p title="{shown}">{shown}</p>'
    assert template.render(value=None) == '<p title=""></p>'


def test_no_text_of_the_record_becomes_html(tmp_path: Path) -> None:
    page = render(showcase.evil(tmp_path / "evil"))
    assert "<img src=x" not in page
    assert page.count("<script") == page.count("</script>") == 3  # data, plotly.js, ours
    assert page.count("onerror=") == page.count("onerror=&#34;window.pwned=1&#34;") + page.count(
        'onerror=\\"window.pwned=1\\"'
    )
    data = payload(page)
    drawn = list(texts([data["plots"], data["hover"], data["panel"]["metric"]]))
    assert any("&lt;img" in text for text in drawn)
    assert not any("<img" in text for text in drawn)  # plotly.js would read the tag; the rest of a panel is text


def test_only_our_two_scripts_may_run_and_nothing_may_be_fetched(run: Path) -> None:
    from plotly.offline import get_plotlyjs

    page = render(run)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    ours = page[page.rindex("<script>") + len("<script>") : page.rindex("</script>")]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in (ours, get_plotlyjs())]
    assert rules["script-src"].split() == [f"'sha256-{one}'" for one in hashes]
    packed = re.search(r'id="plotly">([^<]*)<', page)
    assert packed
    assert zlib.decompress(base64.b64decode(packed[1]), 31).decode() == get_plotlyjs()
    bare = page.replace(packed[1], "")
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', bare) == []


def test_500_trials_stay_small_and_quick(tmp_path: Path) -> None:
    runs = {trials: showcase.sweep(tmp_path / str(trials), trials) for trials in (50, 500)}
    render(showcase.one(tmp_path / "warm"))  # imports
    took = {}
    for trials, run in runs.items():
        begun = time.process_time()  # of this process: others may share the machine
        path = write(run)
        took[trials] = time.process_time() - begun
    assert took[500] < 10 * took[50]
    assert path.stat().st_size < 8_000_000


def test_long_curves_are_thinned_and_keep_their_rungs(tmp_path: Path) -> None:
    record, _ = demo.begin(tmp_path / "run", epochs=100, reports_per_epoch=50, grace=3)
    with record:
        for number in range(1, 7):
            demo.add(record, number)
            attempt = record.start_attempt(number)
            for step in range(1, 5001):
                record.add_report(number, attempt, step, {"epoch": step / 50, "val_accuracy": step / 5000})
            record.end_trial(number, State.COMPLETED)
    page = render(tmp_path / "run")
    line = payload(page)["plots"]["curves"]["data"][0][0]
    assert len(line["x"]) <= curves.POINTS + 6 * 8
    assert {3, 9, 27, 81, 100} <= set(line["x"])
    assert "Curves are thinned to 4000 points each." in words(page)


def test_a_page_is_made_while_a_driver_writes_and_tells_of_one_moment(tmp_path: Path) -> None:
    with demo.begin(tmp_path / "run")[0] as record:
        demo.add(record, 1)
        demo.attempt(record, 1, 0.5)
        with FrozenReader(tmp_path / "run") as reader:
            assert len(read(reader).entries) == 1
            demo.add(record, 2)
            demo.attempt(record, 2, 0.6)
            assert len(read(reader).entries) == 1  # still the same moment
        assert len(snapshot(tmp_path / "run").entries) == 2


def test_nights_between_two_sessions_are_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    record, _ = demo.begin(tmp_path / "run")  # this session is killed after 10 s
    demo.add(record, 1)
    clock[0] += 10
    demo.attempt(record, 1, 0.5)
    clock[0] += 40_000
    session = record.start_session({"host": "elsewhere"})
    clock[0] += 5
    demo.attempt(record, 1, 0.6, first=2)
    record.end_session(session, SweepState.FINISHED)
    record.close()
    now = snapshot(tmp_path / "run")
    assert now.spans == [(1_000_000.0, 1_000_010.0), (1_040_010.0, 1_040_015.0)]
    assert now.worked(1_040_012.0) == 12.0
    states = [row[1] for row in session_table(now).rows]
    assert states == ["interrupted (its driver died or was stopped at once)", "finished"]


def test_the_same_record_gives_the_same_page_but_for_its_date(run: Path) -> None:
    first, second = (re.sub(r"on \d{4}-[^<]* UTC\.", "", render(run)) for _ in range(2))
    assert first == second


# -- as its user makes it --------------------------------------------------------------------------------------


def test_the_command_makes_the_page_and_names_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert (run / "report.html").read_text().startswith("<!doctype html>")


def test_open_shows_it_in_the_browser(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["report", str(run), "--open"]) == 0
    assert opened == [(run / "report.html").absolute().as_uri()]


def test_a_folder_without_a_record_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "but" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(run)
    before = (run / "report.html").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["report", str(run)]) == 1
    assert "No space left" in capsys.readouterr().err
    assert (run / "report.html").read_bytes() == before


def test_the_record_needs_no_plotly() -> None:
    code = "import sys, rungwise.results.record.reader, rungwise.results.cli.main; print('plotly' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_answer_draws_the_difference_that_it_claims(tmp_path: Path) -> None:
    run = confirmed.two_arms(tmp_path / "run")
    with Reader(run) as reader:
        found = answer(reader)
    (only,) = found.comparisons
    assert only.difference is not None
    page = render(run)
    drawn = payload(page)["plots"]["differences"]
    ((*_, dots, mark),) = drawn["data"]
    assert mark["x"] == pytest.approx([100 * only.difference.mean])
    assert mark["x"][0] + mark["error_x"]["array"][0] == pytest.approx(100 * (only.difference.high or 0))
    assert sum(dots["x"]) / len(dots["x"]) == pytest.approx(mark["x"][0])  # pairs of seeds
    assert [shape["x0"] for shape in drawn["views"][0]["layout"]["shapes"] if shape["type"] == "line"] == [0]
    assert "best validation accuracy" not in words(page).partition("Before you believe it")[0]  # the luckiest trial's
    assert f"test accuracy {found.format.value(found.arm(found.best or '').score.mean)}" in words(page)  # type: ignore[union-attr]


def test_the_provenance_says_once_what_all_drivers_have_in_common(run: Path) -> None:
    with Record(run) as record:
        for pid in (11, 12, 13):
            record.start_session({"host": "only-one", "pid": pid, "commit": "abc123" if pid < 13 else "def456"})
    text = section(run, "made")
    assert text.count("only-one") == 1
    assert text.count("abc123") == 2
    assert all(text.count(f">{pid}<") == 1 for pid in (11, 12, 13))
    assert "The last 3 of 4 sessions are shown." in text


def section(run: Path, name: str) -> str:
    """The markup of a section of the run's report."""
    page = render(run)
    return page[page.index(f'<section id="{name}"') :].partition("</section>")[0]


def test_mistakes_on_samples_that_are_no_images_are_a_table(tmp_path: Path) -> None:
    run = showcase.sweep(tmp_path / "run")
    told = showcase.scored("L2", 1, random.Random(0))
    for mistake in told["mistakes"]:
        del mistake["image"]
    record = Record(run)
    record.set_meta("test", told)
    record.close()
    page = render(run)
    assert "no image" not in page
    assert "most confident mistakes" in page
    assert f"<span>{told['mistakes'][0]['probability']:.1%}</span>" in page
