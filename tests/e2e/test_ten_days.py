"""Ten days of a model in production: spans arrive, one late, one broken, one drifts; the server is up all the time."""

import contextlib
import csv
import itertools
import random
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

import kubetfx
from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.pipeline.retrain_watch import watch_once
from kubetfx.progress import Event
from tests.e2e.project import command, environment
from tests.e2e.project import kubetfx as run_command
from tests.ports import free_ports

pytestmark = pytest.mark.long

CONFIG = """
name: days
data:
  path: events/{YYYY}-{MM}-{DD}/*.csv
  label: bought
  window: {spans: 4, done_file: _SUCCESS}
  splits: {eval: newest}
model: {kind: network, hidden_units: [8], members: 1}
training: {epochs: 4, batch_size: 64, learning_rate: 0.02, warm_start: served}
evaluation: {thresholds: {accuracy: {at_least: 0.6}}}
serving: {endpoint: {rest: 'http://127.0.0.1:PORT', timeout_seconds: 60}}
monitoring: {requests: requests, last: 20s, period: 20s, min_rows: 100, skew: 0.2, scores: 1, unseen: 1, drift: 1}
retrain: {on: [new_span, drift, schedule], every: 3d, at_most: 12h, back_off: 1h}
"""
MORNING = datetime(2026, 11, 1, 6, tzinfo=UTC)
ROWS = 200
COLOURS = ("blue", "green", "red")


def rows_of(day: int, *, shift: float = 0.0) -> list[dict[str, object]]:
    seeded = random.Random(day)
    rows = []
    for _ in range(ROWS):
        price, colour = seeded.gauss(10 + shift, 2), seeded.choice(COLOURS)
        is_bought = price - shift + {"blue": 2, "green": 0, "red": -2}[colour] + seeded.gauss(0, 0.5) > 10
        rows.append({"price": round(price, 3), "colour": colour, "bought": "yes" if is_bought else "no"})
    return rows


@dataclass
class Shop:
    """The project, and the time in it."""

    folder: Path
    now: datetime = MORNING
    decisions: list[str] = field(default_factory=list)

    @property
    def config(self) -> PipelineConfig:
        return load_config(self.folder / "pipeline.yaml")

    def at(self, day: int, hour: int = 6) -> None:
        self.now = MORNING + timedelta(days=day - 1, hours=hour - 6)

    def arrive(self, day: int, rows: list[dict[str, object]], *, is_whole: bool = True) -> None:
        span = self.folder / "events" / f"2026-11-{day:02}"
        span.mkdir(parents=True, exist_ok=True)
        with (span / "rows.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0]])
            writer.writeheader()
            writer.writerows(rows)
        if is_whole:
            (span / "_SUCCESS").touch()

    def watch(self) -> tuple[int, str]:
        """Decide once; the exit code, and what was decided."""
        said: list[str] = []

        def progress(event: Event) -> None:
            if re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC  ", str(event)):
                said.append(str(event).partition("  ")[2])

        exit_code = watch_once(self.config, progress, run=self.run, clock=lambda: self.now)
        (decision,) = said
        return exit_code, decision.partition(" Drift is not known.")[0]  # a version was not asked in the last seconds

    def run(self) -> int:
        return run_command("run", self.folder / "pipeline.yaml").exit_code

    @property
    def versions(self) -> list[int]:
        place = Path(str(self.config.push_path))
        return sorted(int(path.name) for path in place.glob("[0-9]*")) if place.is_dir() else []


class Clients:
    """Ask without a pause, from several threads, and remember what failed."""

    def __init__(self, url: str) -> None:
        self.url, self.shift = url, 0.0
        self.answered, self.failures, self.versions = 0, [], set()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(2)]
        for thread in self._threads:
            thread.start()

    def _ask(self, seed: int) -> None:
        with httpx.Client(timeout=30) as client:
            for day in itertools.count(100 + seed):
                for row in rows_of(day, shift=self.shift)[:20]:
                    if self._ended.is_set():
                        return
                    instance = {"price": row["price"], "colour": row["colour"]}
                    try:
                        answer = client.post(f"{self.url}:predict", json={"instances": [instance]})
                        if answer.status_code != 200 or answer.json()["predictions"][0]["label"] not in ("yes", "no"):
                            self.failures.append(answer.text)
                    except httpx.HTTPError as error:
                        self.failures.append(repr(error))
                    self.answered += 1
                    time.sleep(0.02)

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def shop(tmp_path: Path, free_port: int) -> Shop:
    (tmp_path / "pipeline.yaml").write_text(CONFIG.replace("PORT", str(free_port)))
    return Shop(tmp_path)


@pytest.fixture
def free_port() -> int:
    (port,) = free_ports(1)
    return port


@contextlib.contextmanager
def served(shop: Shop, port: int) -> Iterator[Clients]:
    flags = ["--rest-port", str(port), "--grpc-port", "0", "--file-system-poll-wait-seconds", "0.2"]
    log = shop.folder / "server.log"
    with log.open("w") as output:
        arguments = ("serve", shop.folder / "pipeline.yaml", *flags, "--log-requests", shop.folder / "requests")
        process = subprocess.Popen(
            command(*arguments, "--sample", "1"), stdout=output, stderr=output, env=environment()
        )
    url = f"http://127.0.0.1:{port}/v1/models/days"
    try:
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                if "AVAILABLE" in httpx.get(url).text:
                    break
            time.sleep(0.2)
        clients = Clients(url)
        yield clients
        clients.end()
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_ten_days(shop: Shop, free_port: int) -> None:  # noqa: PLR0915 - it is a story
    pushed: list[int] = []

    def pushes() -> bool:
        """Whether there is a version more than before."""
        new = [version for version in shop.versions if version not in pushed]
        pushed.extend(new)
        return len(new) == 1

    # Day 2: two spans. Nothing is served, so the push is verified from the next run on.
    shop.arrive(1, rows_of(1))
    shop.arrive(2, rows_of(2))
    shop.at(2)
    text = (shop.folder / "pipeline.yaml").read_text()
    (shop.folder / "pipeline.yaml").write_text(re.sub("serving: .*\n", "", text))
    assert shop.watch() == (0, "Running: No run has begun yet.")
    assert pushes()
    (shop.folder / "pipeline.yaml").write_text(text)

    with served(shop, free_port) as clients:
        # Later on day 2: nothing.
        shop.at(2, hour=12)
        exit_code, decision = shop.watch()
        assert (exit_code, decision.partition(";")[0]) == (0, "Nothing to do: the data is that of the last run")

        wait_for(clients, rows=300)

        # Day 3: a new span, pushed while clients ask. The training starts from what is served.
        shop.arrive(3, rows_of(3))
        shop.at(3)
        assert shop.watch() == (0, "Running: New since the last run: 2026-11-03.")
        assert pushes()

        # Day 4: half of a span is uploaded, and then the rest; `at_most` is over.
        shop.arrive(5, rows_of(5)[:50], is_whole=False)
        shop.at(4)
        assert shop.watch()[1].startswith("Nothing to do: ")
        shop.at(5)
        shop.arrive(5, rows_of(5))
        assert shop.watch() == (0, "Running: New since the last run: 2026-11-05.")
        assert pushes()

        # Later on day 5: the span of day 4 arrives late, within `at_most`, and waits for the morning.
        shop.arrive(4, rows_of(4))
        shop.at(5, hour=10)
        exit_code, decision = shop.watch()
        assert decision.startswith("Not now: Arrived late since the last run: 2026-11-04. The last run began at")
        assert "so the next begins at 2026-11-05 18:00:00 UTC at the earliest (retrain.at_most)." in decision
        shop.at(6)
        assert shop.watch() == (0, "Running: Arrived late since the last run: 2026-11-04.")
        assert pushes()

        # Day 7: a span with words where prices were. The run fails, is tried again after an hour, and fails again.
        shop.arrive(7, [row | {"price": f"about {row['colour']}"} for row in rows_of(7)])
        shop.at(7)
        exit_code, decision = shop.watch()
        assert (exit_code, decision) == (2, "Running: New since the last run: 2026-11-07.")
        shop.now += timedelta(minutes=30)
        assert "The last run failed, so the next begins at 2026-11-07 07:00:00 UTC" in shop.watch()[1]
        shop.now += timedelta(minutes=31)
        assert shop.watch()[0] == 2
        shop.now += timedelta(minutes=61)
        assert "The last 2 runs failed, so the next begins at" in shop.watch()[1]
        assert not pushes()

        # It is put right.
        shop.arrive(7, rows_of(7))
        shop.now += timedelta(minutes=60)
        exit_code, decision = shop.watch()
        assert exit_code == 0
        assert "Rewritten since the last run: 2026-11-07." in decision
        assert pushes()

        # Day 8: prices have risen, in the requests and in the span of the day.
        clients.shift = 6.0
        wait_for(clients, rows=300)
        shop.arrive(8, rows_of(8, shift=6.0))
        shop.at(8)
        exit_code, decision = shop.watch()
        assert decision.startswith("Running: New since the last run: 2026-11-08. ")
        assert "Drift: price is " in decision
        assert exit_code in (0, 4)

        # Day 9: more of the same.
        shop.arrive(9, rows_of(9, shift=6.0))
        shop.at(9)
        assert shop.watch()[1].startswith("Running: New since the last run: 2026-11-09.")

        # Day 12: no span came, and the schedule is due.
        shop.at(11)
        assert shop.watch()[1].startswith("Nothing to do: the data is that of the last run; by schedule")
        shop.at(12)
        assert shop.watch()[1].startswith("Running: The last run began at 2026-11-09 06:00:00 UTC, and every is 3d.")

    assert clients.failures == []
    assert clients.answered > 500
    pushes()
    assert len(shop.versions) >= 5
    for version in shop.versions:
        lineage = kubetfx.lineage(shop.config, version)
        assert lineage.is_whole, str(lineage)
        assert lineage.provenance is not None
        assert lineage.provenance.data is not None
        assert 2 <= len(lineage.provenance.data.spans) <= 4


def wait_for(clients: Clients, *, rows: int) -> None:
    """Until there are so many requests, and the log that is looked at has no others."""
    before, begun = clients.answered, time.monotonic()
    while clients.answered < before + rows or time.monotonic() < begun + 21:
        assert time.monotonic() < begun + 120
        time.sleep(0.1)
