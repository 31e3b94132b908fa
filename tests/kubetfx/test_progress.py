"""Events of a run, as people see them."""

import contextlib
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest

from kubetfx.progress import (
    Advances,
    Begin,
    Console,
    End,
    Message,
    NodeBegins,
    NodeEnds,
    without_empty_lines,
    without_middle,
)

EVENTS = [
    Begin("Loading TFX"),
    End(),
    NodeBegins(3, 11, "SchemaGen"),
    NodeEnds(3, 11, "SchemaGen", "done", 1.23),
    NodeEnds(4, 11, "Trainer", "cached", 0.01),
    NodeEnds(5, 11, "Pusher", "failed", 2.0),
    Message("[bold]as it is[/bold]", style="yellow"),
]


def test_console_writes_the_lines_of_a_log():
    log = io.StringIO()
    console = Console(log)

    for event in EVENTS:
        console(event)

    assert log.getvalue().splitlines() == [
        "Loading TFX ...",
        "[3/11]   SchemaGen            done in 1.2 s",
        "[4/11]   Trainer              cached",
        "[5/11]   Pusher               failed after 2.0 s",
        "[bold]as it is[/bold]",
    ]


def test_printed_event_is_the_line_of_the_console():
    log = io.StringIO()
    Console(log)(EVENTS[3])

    assert f"{EVENTS[3]}\n" == log.getvalue()
    assert [str(event) for event in EVENTS[:3]] == ["Loading TFX ...", "", ""]


def test_print_gets_the_lines_of_a_log(capsys):
    progress = without_empty_lines(print)

    for event in EVENTS:
        progress(event)

    assert capsys.readouterr().out.splitlines() == [
        "Loading TFX ...",
        "[3/11]   SchemaGen            done in 1.2 s",
        "[4/11]   Trainer              cached",
        "[5/11]   Pusher               failed after 2.0 s",
        "[bold]as it is[/bold]",
    ]


def test_callable_of_the_user_gets_every_event():
    seen = []
    progress = without_empty_lines(seen.append)

    for event in EVENTS:
        progress(event)

    assert seen == EVENTS


def test_quiet_console_shows_nothing():
    log = io.StringIO()
    console = Console(log, quiet=True)

    for event in EVENTS:
        console(event)

    assert log.getvalue() == ""


def test_console_outlives_the_redirection_of_standard_error(tmp_path):
    program = (
        "import pathlib, sys\n"
        "from kubetfx.progress import Console, NodeEnds\n"
        "from kubetfx.redirection import logged_to\n"
        "console = Console()\n"
        "with logged_to(pathlib.Path(sys.argv[1])):\n"
        "    console(NodeEnds(3, 11, 'SchemaGen', 'done', 1.23))\n"
        "    print('of the node')\n"
    )
    log = tmp_path / "node.log"
    done = subprocess.run([sys.executable, "-c", program, log], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("", "[3/11]   SchemaGen            done in 1.2 s\n")
    assert log.read_text() == "of the node\n"


def test_line_of_a_task_with_a_long_name_is_one_line_in_a_log():
    log = io.StringIO()
    title = "StatisticsGen + SchemaGen + ExampleValidator + AnomalyGate + Transform"

    Console(log)(NodeEnds(3, 6, title, "done", 9.4))

    assert log.getvalue() == f"[3/6]    {title} done in 9.4 s\n"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_event_is_a_value(event):
    with pytest.raises(AttributeError):
        event.text = "another"


def test_of_a_line_that_nobody_reads_the_middle_is_left_out():
    message = f"It holds {'é' * 1_500_000}. Mend it.\nShort."
    first, second = without_middle(message).split("\n")
    assert first == f"It holds {'é' * 1_991} [1,496,019 characters more] {'é' * 1_990}. Mend it."
    assert second == "Short."
    assert without_middle("é" * 4_000) == "é" * 4_000
    file = io.StringIO()
    Console(file).say(message)
    assert file.getvalue() == f"{first}\nShort.\n"


@pytest.fixture
def terminal(monkeypatch) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """A terminal, and a function that waits for a frame and returns all that was drawn so far."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    here, there = os.openpty()
    os.set_blocking(here, False)
    drawn = bytearray()

    def frames() -> str:
        time.sleep(0.3)  # a frame is drawn every tenth of a second
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(here, 65_536):
                drawn.extend(chunk)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())

    with os.fdopen(there, "w", encoding="utf-8") as file:
        yield file, frames
    os.close(here)


def test_node_that_tells_how_far_it_is_has_a_bar_on_a_terminal(terminal):
    file, frames = terminal
    console = Console(file)

    console(NodeBegins(7, 11, "Tuner"))
    assert "━" not in frames()
    console(Advances(4, 10, "auc 0.76412 at best, 3.1 trials per minute, about 2 min left"))
    seen = frames()
    console(Advances(5, 10, "auc 0.76502 at best, 3.2 trials per minute, about 2 min left"))
    later = frames()
    console(NodeEnds(7, 11, "Tuner", "done", 190.0))

    assert "━" in seen
    assert "4 of 10" in seen
    assert "5 of 10" in later
    for words in ("auc 0.76502 at best", "3.2 trials per minute", "about 2 min left"):
        assert words in later
    assert "4 of 10" not in later[len(seen) :].rpartition("\r")[2]  # it takes the place of what was said before
    assert frames().rstrip().endswith("[7/11]   Tuner                done in 190.0 s")


def test_node_of_a_number_that_nobody_knows_has_no_bar(terminal):
    file, frames = terminal
    console = Console(file)

    console(NodeBegins(7, 11, "Tuner"))
    console(Advances(4, None, "auc 0.76412 at best"))
    seen = frames()
    console.end()

    assert "running 4 0:00:0" in seen
    assert "auc 0.76412 at best" in seen
    assert "━" not in seen


def test_node_that_tells_how_far_it_is_has_a_line_each_in_a_log():
    log = io.StringIO()
    console = Console(log)

    console(NodeBegins(7, 11, "Tuner"))
    console(Advances(4, 10, "auc 0.76412 at best"))
    console(Advances(5, 10, "auc 0.76502 at best"))

    assert log.getvalue().splitlines() == ["  4 of 10: auc 0.76412 at best", "  5 of 10: auc 0.76502 at best"]
