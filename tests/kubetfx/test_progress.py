"""Events of a run, as people see them."""

import io
import subprocess
import sys

import pytest

from kubetfx.progress import Begin, Console, End, Message, NodeBegins, NodeEnds, without_empty_lines, without_middle

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
