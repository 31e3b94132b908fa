"""The progress of a run: events, and a console that shows them.

Functions that take time accept `progress`, a callable that receives events. Nothing is printed by default.
`progress=print` prints the lines of a log, one per node; `Console()` shows them with a spinner on a terminal, and in a
notebook's cell.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from kubetfx.redirection import is_descriptor

_STATE_STYLES = {
    "done": "green",
    "cached": "cyan",
    "failed": "bold red",
    "interrupted": "bold yellow",
    "skipped": "dim",
}
LONGEST_LINE = 4_000
"""Characters of a line that is shown."""
_INSTANT = frozenset({"cached", "skipped"})
"""States that took no time."""


@dataclass(frozen=True)
class Message:
    """A line for people to read."""

    text: str
    style: str | None = None
    """As rich names it, for example `yellow`."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Begin:
    """A step begins; it is over at the next event of any kind."""

    label: str

    def __str__(self) -> str:
        return f"{self.label} ..."


@dataclass(frozen=True)
class End:
    """The last step is over."""

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True)
class NodeBegins:
    """A node of a pipeline starts. It has no text: the line comes when the node ends."""

    number: int
    """Number of the node, from 1."""
    total: int
    """Nodes of the pipeline."""
    node_id: str

    def __str__(self) -> str:
        return ""


@dataclass(frozen=True)
class NodeEnds:
    """A node of a pipeline is over."""

    number: int
    """Number of the node, from 1."""
    total: int
    """Nodes of the pipeline."""
    node_id: str
    state: str
    """`done`, `cached`, `failed`, `interrupted` or `skipped`."""
    seconds: float
    """Time that the node took."""

    @property
    def time(self) -> str:
        """How long it took, for people; empty if it took no time."""
        return "" if self.state in _INSTANT else f" {'in' if self.state == 'done' else 'after'} {self.seconds:.1f} s"

    def __str__(self) -> str:
        return f"{_position(self):<9}{self.node_id:<20} {self.state}{self.time}"


@dataclass(frozen=True)
class Advances:
    """The progress of the last step."""

    done: int
    total: int | None
    """Total number; None if unknown."""
    words: str
    """Additional words."""

    @property
    def count(self) -> str:
        """How far it is, in numbers."""
        return f"{self.done}" if self.total is None else f"{self.done} of {self.total}"

    def __str__(self) -> str:
        return f"  {self.count}: {self.words}"


Event = Message | Begin | End | NodeBegins | NodeEnds | Advances
Progress = Callable[[Event], None]
"""A callable that is given each event of a run as it happens."""


_current: ContextVar[Progress] = ContextVar("progress")


@contextlib.contextmanager
def reported_to(progress: Progress) -> Iterator[None]:
    """Let code within the context report its progress.

    Args:
        progress: is given the events.
    """
    token = _current.set(progress)
    try:
        yield
    finally:
        _current.reset(token)


def report(event: Event) -> None:
    """Report progress to the caller; ignored in a separate process.

    Args:
        event: that happened.
    """
    _current.get(silent)(event)


def without_empty_lines(progress: Progress) -> Progress:
    """Return a callable as it is; instead of `print`, one that prints only events that have a text.

    Args:
        progress: as whoever calls us gave it.
    """
    if progress is not print:
        return progress

    file = os.fdopen(os.dup(1), "w", buffering=1) if is_descriptor(sys.stdout, 1) else None  # a node's log is not meant

    def show(event: Event) -> None:
        if text := str(event):
            print(text, file=file)

    return show


def silent(event: Event) -> None:
    """Show nothing.

    Args:
        event: is ignored.
    """


def without_middle(text: str, *, longest: int = LONGEST_LINE) -> str:
    """Shorten the middle of long lines: a cell of a table may hold a book, and the remedy is at the end.

    Args:
        text: A text of any number of lines.
        longest: characters that a line may have.

    Returns:
        The lines, of which a longer one says how much is left out.
    """
    return "\n".join(
        line
        if len(line) <= longest
        else f"{line[: longest // 2]} [{len(line) - longest // 2 * 2:,} characters more] {line[-(longest // 2) :]}"
        for line in text.split("\n")
    )


class _Spinner(RichProgress):
    """A spinner with what is being done; where that tells how far it is, with a bar, and with words on a line below."""

    _told: Advances | None = None

    def advance_to(self, event: Advances) -> None:
        """Draw how far it is."""
        if self._told is None:
            bar = [] if event.total is None else [BarColumn(bar_width=20)]
            self.columns = (
                *self.columns[:-1],
                *bar,
                TextColumn("{task.fields[count]}", markup=False),
                self.columns[-1],
            )
        self._told = event
        for task in self.task_ids:
            self.update(task, completed=event.done, total=event.total, count=event.count)

    def get_renderables(self) -> Iterable[RenderableType]:
        """See rich."""
        yield from super().get_renderables()
        if self._told is not None:
            yield Text(f"  {self._told.words}", no_wrap=True, overflow="ellipsis")


class Console:
    """Shows events on a terminal, in a file, or in a notebook's cell.

    Args:
        file: where it writes. Default: standard error, or the cell of a notebook.
        quiet: show nothing.
    """

    def __init__(self, file: TextIO | None = None, *, quiet: bool = False) -> None:
        self._talk = RichConsole(file=file or _standard_error(), quiet=quiet, highlight=False)
        self._spinner: _Spinner | None = None

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Message():
                self.say(event.text, style=event.style)
            case Begin():
                self.begin(event.label)
            case End():
                self.end()
            case Advances():
                self._advance(event)
            case NodeBegins():  # the line comes when it ends
                self._spin(f"{_position(event)} {event.node_id}  running")
            case NodeEnds():
                self.end()
                state = f"[{_STATE_STYLES[event.state]}]{event.state}[/]"
                line = f"{escape(f'{_position(event):<9}')}{event.node_id:<20} {state}{event.time}"
                self._talk.print(line, soft_wrap=True)

    def say(self, message: str, *, style: str | None = None) -> None:
        """Print a line.

        Args:
            message: printed as it is; markup in it is not interpreted.
            style: as rich names it, for example `yellow`.
        """
        self._talk.print(escape(without_middle(message)), style=style, soft_wrap=True)

    def _advance(self, event: Advances) -> None:
        """Draw a bar behind the spinner, and the words below it; print a line where there is no spinner."""
        if self._spinner is None:
            self.say(str(event))
            return
        self._spinner.advance_to(event)

    def begin(self, label: str) -> None:
        """Show that something takes a while: by a spinner on a terminal, by a line elsewhere.

        Args:
            label: what is being done.
        """
        self._spin(label)
        if self._spinner is None:
            self.say(str(Begin(label)))

    def update(self, label: str) -> bool:
        """Change what the spinner says.

        Args:
            label: how far the work is.

        Returns:
            Whether there is a spinner; otherwise nothing was shown.
        """
        if self._spinner is None:
            return False
        for task in self._spinner.task_ids:
            self._spinner.update(task, description=label)
        return True

    def end(self) -> None:
        """Remove the spinner."""
        if self._spinner:
            self._spinner.stop()
            self._spinner = None

    def _spin(self, label: str) -> None:
        self.end()
        if not self._talk.is_terminal or self._talk.quiet:
            return
        self._spinner = _Spinner(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self._talk,
            transient=True,
            redirect_stdout=False,  # what others write goes where file descriptors 1 and 2 point: to the node's log
            redirect_stderr=False,
        )
        self._spinner.add_task(label, count="")
        self._spinner.start()


def _standard_error() -> TextIO:
    """Return standard error under another descriptor than 2, which a run points at the log of each node."""
    if not is_descriptor(sys.stderr, 2):
        return sys.stderr
    return os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")


def _position(event: NodeBegins | NodeEnds) -> str:
    return f"[{event.number}/{event.total}]"
