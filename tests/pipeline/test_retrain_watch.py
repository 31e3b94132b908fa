"""When a pipeline is run again, and what is said when it is not."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from kubetfx.components.data.retraining import DECISIONS, MEMORY, Decision, Memory, decide
from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError, UsageError
from kubetfx.pipeline.retrain_watch import decision_now, watch_once
from kubetfx.progress import silent
from kubetfx.workspace import locked
from kubetfx.workspace import watched as watched_by_another

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def write_span(folder: Path, day: str, text: str = "x,y\n1,a\n2,b\n") -> None:
    (folder / "events" / day).mkdir(parents=True, exist_ok=True)
    (folder / "events" / day / "rows.csv").write_text(text)


class Watched:
    """A pipeline whose data comes in days."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for day in ("2026-11-27", "2026-11-29"):
            write_span(folder, day)

    def config(self, retrain: str, *overrides: str) -> PipelineConfig:
        path = self.folder / "pipeline.yaml"
        path.write_text(
            "name: days\ndata: {path: 'events/{YYYY}-{MM}-{DD}/*.csv', label: y, window: {spans: 28}}\n"
            f"retrain: {retrain}\n"
        )
        return load_config(path, overrides=overrides)

    def decide(
        self, retrain: str, memory: Memory, now: datetime = NOON, *, drift: Callable[[], Sequence[str]] = tuple
    ) -> Decision:
        config = self.config(retrain, *(["monitoring.requests=log"] if "drift" in retrain else []))
        assert config.retrain is not None
        return decide(config.retrain, config.data, memory, now, drift=drift)

    def trained(self, began_at: datetime = NOON - 2 * DAY, *, exit_code: int = 0) -> Memory:
        first = self.decide("{on: [new_span]}", Memory())
        return Memory().begun(first.spans, began_at).ended(exit_code, began_at + timedelta(minutes=5))


@pytest.fixture
def watched(tmp_path) -> Watched:
    return Watched(tmp_path)


def test_first_run_needs_no_reason(watched):
    decision = watched.decide("{on: [schedule], every: 7d}", Memory())

    assert decision.retrain
    assert decision.why == "No run has begun yet."
    assert [*decision.spans] == ["2026-11-27", "2026-11-29"]


def test_nothing_new_is_said(watched):
    decision = watched.decide("{on: [new_span, schedule], every: 7d}", watched.trained())

    assert not decision.retrain
    assert decision.why == (
        "Nothing to do: the data is that of the last run; by schedule the next run begins at 2026-12-05 12:00:00 UTC."
    )


@pytest.mark.parametrize(
    ("day", "words"), [("2026-11-30", "New"), ("2026-11-28", "Arrived late"), ("2026-11-27", "Rewritten")]
)
def test_spans_that_came_since_are_a_reason(watched, day, words):
    memory = watched.trained()
    write_span(watched.folder, day, "x,y\n1,a\n2,b\n3,c\n")

    decision = watched.decide("{on: [new_span]}", memory)

    assert decision.retrain
    assert decision.why == f"{words} since the last run: {day}."
    ended = memory.begun(decision.spans, NOON).ended(0, NOON)
    assert not watched.decide("{on: [new_span]}", ended).retrain


def test_span_that_leaves_the_window_is_no_news(watched):
    memory = watched.trained()
    (watched.folder / "events" / "2026-11-27" / "rows.csv").unlink()

    assert not watched.decide("{on: [new_span]}", memory).retrain


def test_data_without_spans_is_looked_at_as_a_whole(tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text("x,y\n1,a\n")
    (tmp_path / "pipeline.yaml").write_text("name: one\ndata: {path: rows.csv, label: y}\nretrain: {on: [new_span]}\n")
    config = load_config(tmp_path / "pipeline.yaml")

    def now(memory: Memory) -> Decision:
        assert config.retrain is not None
        return decide(config.retrain, config.data, memory, NOON, drift=tuple)

    memory = Memory().begun(now(Memory()).spans, NOON - DAY).ended(0, NOON - DAY)
    assert now(memory).why == "Nothing to do: the data is that of the last run."
    table.write_text("x,y\n1,a\n2,b\n")
    assert now(memory) == Decision(True, "The files of data.path have changed since the last run.", now(memory).spans)
    table.unlink()
    assert not now(memory).retrain
    assert "data.path matches no file" in now(memory).why


def test_no_run_begins_sooner_than_at_most_says(watched):
    memory = watched.trained(NOON - timedelta(hours=20))
    write_span(watched.folder, "2026-11-30")

    early, late = (
        watched.decide("{on: [new_span], at_most: 1d}", memory, now) for now in (NOON, NOON + timedelta(hours=4))
    )

    assert not early.retrain
    assert early.why == (
        "Not now: New since the last run: 2026-11-30. The last run began at 2026-11-29 16:00:00 UTC, so the next "
        "begins at 2026-11-30 16:00:00 UTC at the earliest (retrain.at_most)."
    )
    assert late.retrain


def test_times_of_other_zones_are_the_same_times(watched):
    """A day is 24 hours, also where the clocks are changed in between."""
    new_york = timezone(timedelta(hours=-4))
    before = datetime(2026, 10, 31, 12, tzinfo=new_york)  # clocks went back in the night
    memory = watched.trained(before)
    write_span(watched.folder, "2026-11-30")

    after = datetime(2026, 11, 1, 11, tzinfo=timezone(timedelta(hours=-5)))
    assert watched.decide("{on: [new_span], at_most: 1d}", memory, after).retrain
    assert not watched.decide("{on: [new_span], at_most: 1d}", memory, after - timedelta(minutes=1)).retrain


def test_clock_that_was_set_back_holds_nothing_up(watched):
    memory = watched.trained(NOON + 300 * DAY)
    write_span(watched.folder, "2026-11-30")

    assert watched.decide("{on: [new_span], at_most: 1d}", memory).retrain
    assert watched.decide("{on: [schedule], every: 7d}", memory).retrain


def test_time_that_has_passed_is_a_reason(watched):
    memory = watched.trained(NOON - 7 * DAY)

    decision = watched.decide("{on: [schedule], every: 7d}", memory)

    assert decision.retrain
    assert decision.why == "The last run began at 2026-11-23 12:00:00 UTC, and every is 7d."
    assert not watched.decide("{on: [schedule], every: 7d}", memory, NOON - timedelta(minutes=1)).retrain


def test_failures_are_tried_again_later_each_time(watched):
    memory, waits = Memory(), []
    began = NOON
    for _ in range(12):
        memory = memory.begun({}, began).ended(1, began)
        wait = next(
            minutes
            for minutes in (10 * 2**power for power in range(20))
            if watched.decide("{on: [new_span], at_most: 4w}", memory, began + timedelta(minutes=minutes)).retrain
        )
        waits.append(wait)
        early = watched.decide("{on: [new_span]}", memory, began + timedelta(minutes=min(wait, 24 * 60) - 1))
        assert not early.retrain
        began += timedelta(days=2)

    assert waits == [10, 20, 40, 80, 160, 320, 640, 1280, *[2560] * 4]  # 24 hours are before 2,560 minutes
    assert "The last 12 runs failed, so the next begins at" in early.why
    assert "The run that began at" in early.why
    assert memory.begun({}, began).ended(0, began).failures == 0


@pytest.mark.parametrize("exit_code", [3, 4])
def test_verdict_on_the_data_is_not_asked_for_again(watched, exit_code):
    assert not watched.decide("{on: [new_span]}", watched.trained(exit_code=exit_code)).retrain


def test_interrupted_run_is_made_up_for_at_once(watched):
    decision = watched.decide("{on: [new_span], at_most: 4w}", watched.trained(exit_code=130))

    assert decision.retrain
    assert decision.why == "The run that began at 2026-11-28 12:00:00 UTC was interrupted."


def test_run_whose_process_was_killed_counts_as_a_failure(watched):
    first = watched.decide("{on: [new_span]}", Memory())
    killed = Memory().begun(first.spans, NOON)

    early, later = (
        watched.decide("{on: [new_span], at_most: 4w}", killed, NOON + timedelta(minutes=minutes))
        for minutes in (9, 10)
    )

    assert not early.retrain
    assert "The run that began at 2026-11-30 12:00:00 UTC did not end. The last run failed" in early.why
    assert later.retrain
    assert killed.begun(first.spans, NOON).failures == 1


def test_drift_is_a_reason_if_there_is_something_to_learn_from(watched):
    memory, asked = watched.trained(), []

    def drift() -> Sequence[str]:
        asked.append(1)
        return ["x: the distance is 0.4, at most 0.1."]

    unchanged = watched.decide("{on: [drift]}", memory, drift=drift)
    assert unchanged.why == "Nothing to do: the data is that of the last run."
    assert not asked
    write_span(watched.folder, "2026-11-30")
    drifted = watched.decide("{on: [drift]}", memory, drift=drift)
    assert drifted == Decision(True, "x: the distance is 0.4, at most 0.1.", drifted.spans)
    fine = watched.decide("{on: [drift]}", memory)
    assert (fine.retrain, fine.why) == (False, "Nothing to do: requests exceed no bound of monitoring.")


def test_log_that_cannot_be_read_is_said_and_stops_nothing_else(watched):
    memory = watched.trained()
    write_span(watched.folder, "2026-11-30")

    def drift() -> Sequence[str]:
        raise UsageError("The folder of requests has no files. Received: log.")

    alone = watched.decide("{on: [drift]}", memory, drift=drift)
    both = watched.decide("{on: [new_span, drift]}", memory, drift=drift)

    said = "Drift is not known. The folder of requests has no files. Received: log."
    assert (alone.retrain, both.retrain) == (False, True)
    assert said in alone.why
    assert said in both.why


def test_half_uploaded_span_waits_for_its_mark(watched):
    def now(memory: Memory) -> Decision:
        config = watched.config("{on: [new_span]}", "data.window.done_file=_SUCCESS")
        assert config.retrain is not None
        return decide(config.retrain, config.data, memory, NOON, drift=tuple)

    for day in ("2026-11-27", "2026-11-29"):
        (watched.folder / "events" / day / "_SUCCESS").touch()
    memory = Memory().begun(now(Memory()).spans, NOON - DAY).ended(0, NOON - DAY)
    write_span(watched.folder, "2026-11-30")
    assert not now(memory).retrain
    (watched.folder / "events" / "2026-11-30" / "_SUCCESS").touch()
    assert now(memory).why == "New since the last run: 2026-11-30."


def test_memory_is_written_around_a_run_and_decisions_are_kept(watched):
    config = watched.config("{on: [new_span], at_most: 1d}")
    seen = []

    def run() -> int:
        seen.append(Memory.read(config.workspace_path).outcome)
        return 4

    assert watch_once(config, silent, run=run) == 4
    assert watch_once(config, silent, run=run) == 0
    memory = Memory.read(config.workspace_path)
    assert seen == ["running"]
    assert (memory.outcome, memory.failures) == ("not_blessed", 0)
    lines = (config.workspace_path / DECISIONS).read_text().splitlines()
    assert [json.loads(line)["retrain"] for line in lines] == [True, False]


def test_memory_that_is_torn_is_none(watched):
    config = watched.config("{on: [new_span]}")
    config.workspace_path.mkdir(parents=True)
    (config.workspace_path / MEMORY).write_text('{"spans": ')

    assert decision_now(config).why == "No run has begun yet."


def test_never_two_at_a_time(watched):
    config = watched.config("{on: [new_span]}")

    with locked(config.workspace_path):
        assert decision_now(config).why == "Not now: a run is using the workspace."
        assert watch_once(config, silent, run=pytest.fail) == 0
    with (
        watched_by_another(config.workspace_path),
        pytest.raises(UsageError, match=r"Another process watches this pipeline"),
    ):
        watch_once(config, silent, run=pytest.fail)


@pytest.mark.parametrize(
    ("retrain", "message"),
    [
        ("{on: []}", r"retrain\.on.*at least 1"),
        ("{on: [new_data]}", r"retrain\.on.*'new_span', 'drift' or 'schedule'"),
        ("{on: [schedule]}", r"`on: \[schedule\]` and `every` go together\. Received: on: \[schedule\], every: None"),
        ("{on: [new_span], every: 7d}", r"go together\. Received: on: \[new_span\], every: 7d"),
        ("{on: [schedule], every: 1d, at_most: 2d}", r"`at_most` is longer than `every`"),
        ("{at_most: 1 day}", r"retrain\.at_most: a duration must be a number followed by s, m.*Received: '1 day'"),
        ("{at_most: 0d}", r"Received: '0d'"),
        ("{back_off: 3}", r"retrain\.back_off.*Received: '3'"),
        ("{on: [drift]}", r"needs a log of requests\. Received: no monitoring\.requests"),
    ],
)
def test_what_cannot_be_is_refused_in_words(watched, retrain, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        watched.config(retrain)


def test_rows_of_a_function_have_no_files_to_look_at(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text("name: x\ndata: {source: 'mine:read', label: y}\nretrain: {on: [new_span]}\n")
    with pytest.raises(ConfigError, match=r"\[new_span\]` watches files, and data\.source is a function"):
        load_config(path)


def test_address_of_the_web_does_not_say_what_is_new(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text("name: x\ndata: {path: 'https://a.org/rows.csv', label: y}\nretrain: {on: [new_span]}\n")
    with pytest.raises(ConfigError, match=r"files, and a web address does not say what is new\. Received: data\.path"):
        load_config(path)


def test_section_is_needed(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text("name: x\ndata: {path: rows.csv, label: y}\n")
    with pytest.raises(ConfigError, match=r"no section `retrain`"):
        watch_once(load_config(path), silent, run=pytest.fail)


LOOP = """
import sys
from pathlib import Path
from kubetfx.pipeline import forked_runs, retrain_watch

retrain_watch.import_for_runs = lambda config, progress: None  # nothing is trained here
path = Path(sys.argv[1])

def run():
    with (path.parent / "runs").open("a") as file:
        file.write("run\\n")
    return 0

sys.exit(retrain_watch.watch(path, (), lambda event: print(event, flush=True), run=run, seconds=0.2))
"""


def test_loop_runs_for_each_new_span_survives_a_broken_config_and_ends_when_told(watched, tmp_path):
    watched.config("{on: [new_span]}")
    path = watched.folder / "pipeline.yaml"
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait_for(lambda: number_of_runs(tmp_path) == 1)
        text = path.read_text()
        path.write_text("name: [")
        write_span(watched.folder, "2026-11-30")
        time.sleep(1)
        assert number_of_runs(tmp_path) == 1
        path.write_text(text)
        wait_for(lambda: number_of_runs(tmp_path) == 2)
        process.terminate()
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert "Running: No run has begun yet." in output
    assert "Not now: " in output
    assert "Running: New since the last run: 2026-11-30." in output
    assert Memory.read(tmp_path / ".kubetfx" / "days").outcome == "ended"


def number_of_runs(folder: Path) -> int:
    path = folder / "runs"
    return path.read_text().count("run") if path.exists() else 0


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, os.times()
        time.sleep(0.1)
