"""The report's views of single trials: the timeline, any two hyperparameters, the panel."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import demo, showcase

from rungwise.results.record.types import State, SweepState
from rungwise.results.report.importance import analyse
from rungwise.results.report.plots.space.pairs import plot_pairs
from rungwise.results.report.plots.space.parallel import NOT_SEARCHED, plot_parallel
from rungwise.results.report.plots.space.scales import NumericScale, scale_of
from rungwise.results.report.plots.timeline import RESUMED, assign_slots, machine_of, plot_timeline
from rungwise.results.report.provenance import describe_settings
from rungwise.results.report.report import render
from rungwise.results.report.snapshot import FrozenReader, Snapshot, read
from rungwise.results.report.trial_panel import panel_data
from rungwise.trainable.messages import Failure, FailureKind


def snapshot(run: Path) -> Snapshot:
    with FrozenReader(run) as reader:
        return read(reader)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that a record writes, in seconds since its sweep began at 1,000,000."""
    now = [0.0]
    monkeypatch.setattr(time, "time", lambda: 1_000_000 + now[0])
    return now


def timed(folder: Path, clock: list[float]) -> Path:
    """Two trials beside each other on one machine, the second with a lost attempt; then one on another machine."""
    record, session = demo.begin(folder)
    for number in (1, 2):
        demo.add(record, number)
    for at, number, step in ((0, 1, 0), (5, 2, 0), (20, 1, 1), (30, 2, 1), (40, 2, 0), (50, 1, 2), (60, 2, 2)):
        clock[0] = at
        if step == 0:
            attempt = record.start_attempt(number)
        else:
            attempt = 2 if (number, step) == (2, 2) else 1
            record.add_report(number, attempt, step, demo.metrics(float(step), 0.5, seconds=10.0))
            record.place(number, f"node-a:{100 + number}", "cpu")
    clock[0] = 70
    record.end_trial(1, State.COMPLETED, reason="reached 4 epochs")
    record.end_trial(2, State.LOST, failure=Failure(FailureKind.LOST, "its process died 2 times"))
    demo.add(record, 3)
    record.start_attempt(3)
    record.place(3, "node-b:7", "cuda:0")
    clock[0] = 100
    record.end_trial(3, State.COMPLETED)
    demo.add(record, 4)  # dealt, not started
    record.end_session(session, SweepState.INTERRUPTED)
    record.close()
    return folder


def test_every_attempt_has_its_time_and_its_slot(tmp_path: Path, clock: list[float]) -> None:
    now = snapshot(timed(tmp_path / "run", clock))
    spans = [(one.trial.trial, one.attempt, one.start - 1_000_000, one.end - 1_000_000) for one in now.attempts]
    # the second attempt of trial 2 began 10 s, the time of its training, before its first report
    assert spans == [(1, 1, 0, 70), (2, 1, 5, 30), (2, 2, 50, 70), (3, 1, 70, 100)]
    assert [one.is_last for one in now.attempts] == [True, False, True, True]
    assert assign_slots(now.attempts) == [("node-a", 1), ("node-a", 2), ("node-a", 2), ("node-b", 1)]
    assert [machine_of(one) for one in now.attempts] == ["node-a", "node-a", "node-a", "node-b"]


def test_the_timeline_draws_each_attempt_by_how_it_ended(tmp_path: Path, clock: list[float]) -> None:
    drawn = plot_timeline(snapshot(timed(tmp_path / "run", clock)))
    assert drawn is not None
    bars = {trace["legendgroup"]: trace for trace in drawn.views[0].data}
    assert set(bars) == {"completed", "lost", RESUMED}
    assert (bars["completed"]["base"], bars["completed"]["x"], bars["completed"]["y"]) == ([0, 70], [70, 30], [0, 2])
    assert (bars[RESUMED]["base"], bars[RESUMED]["x"], bars[RESUMED]["y"]) == ([5], [25], [1])
    assert bars["lost"]["customdata"] == ["attempt 2 of 2, 20 s, node-a:102"]
    assert drawn.views[0].layout["yaxis"]["ticktext"] == ["node-a #1", "node-a #2", "node-b #1"]
    assert drawn.alt == (
        "3 trials on 2 machines. 1 attempt was resumed by a later one. Not shown: 1 that never started."
    )


def test_no_slot_trains_two_trials_at_a_time(tmp_path: Path) -> None:
    now = snapshot(showcase.sweep(tmp_path / "run", 60))
    last: dict[tuple[str, int], float] = {}
    for attempt, slot in sorted(
        zip(now.attempts, assign_slots(now.attempts), strict=True), key=lambda pair: (pair[0].start, pair[0].end)
    ):
        assert attempt.start >= last.get(slot, 0.0)
        last[slot] = attempt.end
    assert len(now.attempts) == len(now.entries)


def test_any_two_hyperparameters_can_be_axes_on_the_scale_of_their_distribution(tmp_path: Path) -> None:
    now = snapshot(showcase.sweep(tmp_path / "run", 120))
    found = analyse(now)
    drawn = plot_pairs(found, now)
    assert drawn is not None
    assert set(drawn.axes) == {"lr", "dropout", "width", "activation", "l2"}
    kinds = {name: axis["layout"]["type"] for name, axis in drawn.axes.items()}
    assert kinds == {"lr": "log", "l2": "log", "width": "log", "dropout": "linear", "activation": "category"}
    (view,) = drawn.views
    trials = [number for trace in view.data for number in trace["meta"]["trials"]]
    assert sorted(trials) == [entry.number for entry in now.search]  # every trial, those without a score too
    params = {entry.number: entry.trial.params for entry in now.search}
    for name, axis in drawn.axes.items():
        values = [value for group in axis["values"] for value in group]
        assert values == [params[number].get(name) for number in trials]
    scored = dict(zip(view.data[0]["meta"]["trials"], view.data[0]["marker"]["color"], strict=True))
    assert scored == {entry.number: value for entry, value in found.level if entry.trial.arm == now.arms[0]}


def test_one_hyperparameter_has_no_second_axis(tmp_path: Path) -> None:
    now = snapshot(showcase.empty(tmp_path / "run"))
    assert plot_pairs(analyse(now), now) is None


def test_not_searched_is_apart_from_the_scale_and_trials_left_out_are_counted(tmp_path: Path) -> None:
    now = snapshot(showcase.sweep(tmp_path / "run", 120))
    found = analyse(now)
    drawn = plot_parallel(found, now)
    assert drawn is not None
    (view,) = drawn.views
    titles = view.layout["xaxis"]["ticktext"]
    for trace in view.data:
        for x, y, trial in zip(trace["x"], trace["y"], trace["meta"]["trials"], strict=True):
            if trial is not None and x is not None and titles[x] == "l2":
                searched = any(entry.number == trial and "l2" in entry.trial.params for entry, _ in found.level)
                assert (y == NOT_SEARCHED) != searched
    (band,) = view.layout["shapes"]
    assert band["y0"] < NOT_SEARCHED < band["y1"] < 0  # 0 is the bottom of the scale
    assert f"Left out: {120 - len(found.level)} trials of the search" in drawn.note


def test_the_panel_holds_outcome_settings_curve_and_the_end_of_the_log(tmp_path: Path) -> None:
    run = tmp_path / "run"
    record, _ = demo.begin(run)
    with record:
        demo.fill(record)
    (run / "logs").mkdir()
    (run / "logs" / "1-1.log").write_text("".join(f"line {line}\n" for line in range(100)))
    (run / "logs" / "6-1.log").write_text("of the first attempt")
    (run / "logs" / "6-2.log").write_text("postgresql://me:secret@host/db \x1b[31mred")
    told = panel_data(snapshot(run), run)
    first, third, fourth, sixth = (told["trials"][number] for number in (1, 3, 4, 6))
    about = dict(first["about"])
    assert about["why it ended"] == "reached 4 epochs"
    assert about["best validation accuracy"] == "90.00% after 3 epochs"
    assert first["curve"] == ([1, 2, 3, 4], [0.5, 0.7, 0.9, 0.8])
    assert first["log"].splitlines() == [f"line {line}" for line in range(80, 100)]
    assert math.isnan(third["curve"][1][1])  # which the page writes as null: a gap
    assert fourth["error"] == "Traceback\nZeroDivisionError: 1 / 0"
    assert "log" not in fourth
    assert "secret" not in sixth["log"]
    assert sixth["log"].endswith("db red")
    assert dict(sixth["about"])["attempts"] == "2"
    assert ("optimizer", "sgd") in sixth["settings"]
    assert ("batch_norm", "True") in told["shared"]
    assert {name for name, _ in told["shared"]}.isdisjoint(name for name, _ in sixth["settings"])


def begin_logged_trial(run: Path) -> Path:
    """A run with one trial in its first attempt; the path of the log of that."""
    record, _ = demo.begin(run)
    with record:
        demo.add(record, 1)
        demo.attempt(record, 1)
    (run / "logs").mkdir()
    return run / "logs" / "1-1.log"


def test_no_end_of_a_secret_is_left_where_a_log_is_cut(tmp_path: Path) -> None:
    log_file, secret = begin_logged_trial(tmp_path / "run"), "hunter2" * 9
    found = snapshot(tmp_path / "run")
    for length in range(3900, 4000):
        text = "x" * 30_000 + f" postgresql://me:{secret}@host/ " + "y" * length
        log_file.write_text(text)
        log = panel_data(found, tmp_path / "run")["trials"][1]["log"]
        assert "unter" not in log
        assert len(log) == 4000


def test_a_log_is_shown_as_a_terminal_shows_it(tmp_path: Path) -> None:
    """Without colours, and of a progress bar its last state: else the bar is all of the last lines."""
    log_file = begin_logged_trial(tmp_path / "run")
    bar = "".join(f"\r{percent}%" for percent in range(101))
    log_file.write_bytes(f"\x1b[1;31mwarning\x1b[0m: slow\r\n\x1b]0;title\x07{bar}\nend\x07\n".encode())
    log = panel_data(snapshot(tmp_path / "run"), tmp_path / "run")["trials"][1]["log"]
    assert log.splitlines() == ["warning: slow", "100%", "end\\x07"]


def test_none_is_a_choice_like_any_other_and_not_the_absence_of_one(tmp_path: Path) -> None:
    record, _ = demo.begin(tmp_path / "run", arms={"one": {}})
    choices = [None, 0.99995, 1.0, "a"]
    space = {"c": json.dumps({"name": "CategoricalDistribution", "attributes": {"choices": choices}})}
    for number in range(1, 17):
        params = {"c": choices[number % 4]}
        record.add_trial(
            number, arm="one", phase="search", config=demo.config(number), params=params, distributions=space
        )
        demo.attempt(record, number, 0.5, 0.5, 0.5, 0.5 + number / 100)
        record.end_trial(number, State.COMPLETED)
    record.close()
    found = snapshot(tmp_path / "run")
    drawn = plot_parallel(analyse(found), found)
    assert drawn is not None
    assert NOT_SEARCHED not in [y for trace in drawn.views[0].data for y in trace["y"]]
    assert scale_of(found.search, "c").labels() == [(0, "None"), (1 / 3, "0.99995"), (2 / 3, "1"), (1, "a")]
    page = render(tmp_path / "run")
    assert "<td>None</td>" in page
    assert "c = None" in page


def test_a_file_that_a_sweep_removes_meanwhile_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, _ = demo.begin(tmp_path / "run")
    record.close()
    renamed = tmp_path / "run" / ".temporary"
    renamed.touch()
    stat = os.stat

    def stat_or_rename(path: Any, **how: Any) -> os.stat_result:
        """The file is renamed between two looks at it."""
        found = stat(path, **how)
        if os.fspath(path) == os.fspath(renamed):
            renamed.unlink()
            stat(path)
        return found

    monkeypatch.setattr(os, "stat", stat_or_rename)
    assert "Does L2 help?" in render(tmp_path / "run")
    assert not renamed.exists()


def test_a_curve_in_the_panel_is_thinned_and_keeps_its_end(tmp_path: Path) -> None:
    record, _ = demo.begin(tmp_path / "run")
    demo.add(record, 1)
    demo.attempt(record, 1, *(0.5 + step / 10_000 for step in range(1001)))
    record.close()
    x, _ = panel_data(snapshot(tmp_path / "run"), tmp_path / "run")["trials"][1]["curve"]
    assert len(x) <= 42
    assert (x[0], x[-1]) == (1, 1001)


def test_hyperparameters_without_a_column_are_counted(tmp_path: Path) -> None:
    record, _ = demo.begin(tmp_path / "run", space={})
    distribution = demo.DISTRIBUTIONS["lr"]
    params = {f"rate_{index}": 0.01 for index in range(20)}
    record.add_trial(
        1, arm="L2", phase="search", config=params, params=params, distributions=dict.fromkeys(params, distribution)
    )
    demo.attempt(record, 1, 0.5)
    record.close()
    assert "6 more hyperparameters have no column here" in render(tmp_path / "run")


def test_the_panel_says_of_a_completed_trial_what_it_reached(tmp_path: Path) -> None:
    run = showcase.sweep(tmp_path / "run", 20)
    confirmed = panel_data(snapshot(run), run)["trials"][21]  # the record has no reason of it
    assert dict(confirmed["about"])["why it ended"] == "it reached 9 epochs"


def test_a_grid_of_one_arm_and_a_range_of_another_share_a_numeric_scale() -> None:
    """sweeps/search_methods.py: each number was a category of its own."""
    ranged = {"name": "FloatDistribution", "attributes": {"low": 1e-3, "high": 1.0, "log": True, "step": None}}
    listed = {"name": "CategoricalDistribution", "attributes": {"choices": [1e-4, 1e-2]}}

    def entry(distribution: dict[str, Any], value: float) -> Any:
        trial = SimpleNamespace(distributions={"lr": json.dumps(distribution)}, params={"lr": value})
        return SimpleNamespace(trial=trial)

    scale = scale_of([entry(listed, 1e-4), entry(ranged, 0.3)], "lr")
    assert isinstance(scale, NumericScale)
    assert (scale.low, scale.high, scale.log) == (1e-4, 1.0, True)
    assert not scale_of([entry(listed, 1e-4), entry(listed, 1e-2)], "lr").numeric


@pytest.mark.parametrize(("high", "labels", "ticks"), [(6, ["1", "4", "6"], 1), (6.5, ["1", "3.75", "6.5"], None)])
def test_an_axis_of_few_whole_numbers_has_a_tick_at_each(high: float, labels: list[str], ticks: int | None) -> None:
    ranged = {"name": "IntDistribution", "attributes": {"low": 1, "high": high, "log": False, "step": 1}}
    trial = SimpleNamespace(distributions={"width": json.dumps(ranged)}, params={"width": 1})
    scale = scale_of([SimpleNamespace(trial=trial)], "width")  # type: ignore[list-item]
    assert isinstance(scale, NumericScale)
    assert scale.axis("width").get("dtick") == ticks
    assert [text for _, text in scale.labels()] == labels


def test_an_arms_own_range_is_in_words() -> None:
    ranged = json.dumps({"name": "FloatDistribution", "attributes": {"low": 1e-3, "high": 1.0, "log": True}})
    listed = json.dumps({"name": "CategoricalDistribution", "attributes": {"choices": [0.0, 0.5]}})
    found = describe_settings({"lr": ranged, "dropout": listed, "note": "{no range}"})
    assert found == "lr = 0.001 to 1 (logarithmic), dropout = one of 0, 0.5, note = {no range}"
