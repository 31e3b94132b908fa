"""The only module that prints: progress and talk to stderr, results to stdout, for people or as one JSON document.

What others write to the screen meanwhile is sent to a log (`logged_to`).
"""

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

Format = Literal["human", "json"]

WIDTH_OF_PIPES = 120
"""Columns of a table that goes to a file or a pipe."""

_STATE_STYLES = {
    "done": "green",
    "cached": "cyan",
    "failed": "bold red",
    "interrupted": "bold yellow",
    "skipped": "dim",
}
_INSTANT = frozenset({"cached", "skipped"})
"""States that took no time."""


class NodeLine(Protocol):
    """What a progress line needs of a node's result."""

    @property
    def node_id(self) -> str: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102


class Output:
    """One command's output.

    Args:
        format: `json` prints nothing but one document on stdout.
        stderr: where talk goes. The local runner points file descriptor 2 at a node's log while the node runs, so it
            hands over a stream of its own.
    """

    def __init__(self, format: Format, *, stderr: TextIO | None = None) -> None:
        self.format = format
        self._talk = Console(file=stderr or sys.stderr, quiet=format == "json", highlight=False)
        self._data = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_PIPES)
        self._progress: Progress | None = None

    def say(self, message: str, *, style: str | None = None) -> None:
        """A line of talk."""
        self._talk.print(escape(message), style=style, soft_wrap=True)

    def begin(self, label: str) -> None:
        """Something takes a while: a spinner on a terminal, nothing elsewhere."""
        self.end()
        if not self._talk.is_terminal or self._talk.quiet:
            return
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self._talk,
            transient=True,
            redirect_stdout=False,  # what others write goes where file descriptors 1 and 2 point: to the node's log
            redirect_stderr=False,
        )
        self._progress.add_task(label)
        self._progress.start()

    def update(self, label: str) -> bool:
        """Say how far it is. False: there is no spinner to say it in."""
        if self._progress is None:
            return False
        for task in self._progress.task_ids:
            self._progress.update(task, description=label)
        return True

    def end(self) -> None:
        """It is over; the spinner goes."""
        if self._progress:
            self._progress.stop()
            self._progress = None

    def node_begins(self, position: str, node_id: str) -> None:
        """A node starts."""
        self.begin(f"{position} {node_id}  running")

    def node_ends(self, position: str, node: NodeLine) -> None:
        """A node's line: `[3/10] SchemaGen  done in 1.2 s`."""
        self.end()
        style = _STATE_STYLES[node.state]
        time = "" if node.state in _INSTANT else f" {'in' if node.state == 'done' else 'after'} {node.seconds:.1f} s"
        self._talk.print(f"{escape(position):<9}{node.node_id:<20} [{style}]{node.state}[/]{time}", soft_wrap=True)

    def error(self, message: str, *, exit_code: int, details: Mapping[str, Any] | None = None) -> None:
        """Why the command fails."""
        self.end()
        if self.format == "json":
            self.document({"error": {"message": message, "exit_code": exit_code, **(details or {})}})
        else:
            first, _, rest = message.partition("\n")
            self._talk.print(f"[bold red]Error:[/] {escape(first)}", soft_wrap=True)
            if rest:
                self._talk.print(escape(rest), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
        """Rows of data on stdout. Columns whose name ends in a space are aligned to the right."""
        if title:
            self._data.print(f"\n[bold]{escape(title)}[/]")
        table = Table(box=None, pad_edge=False)
        for column in columns:
            table.add_column(column.strip(), justify="right" if column.endswith(" ") else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self._data.print(table)

    def text(self, text: str) -> None:
        """Data on stdout, as it is."""
        self._data.out(text, highlight=False)

    def document(self, document: Any) -> None:
        """The one JSON document of `--format json`. NaN and infinity, which JSON lacks, become null."""
        self._data.out(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False), highlight=False)


@contextlib.contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Send file descriptors 1 and 2 to a file, and with them whatever TensorFlow's C++ and Beam's workers write."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with path.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # the disk may be full, and the descriptors are to come back anyway
                stream.flush()
        for descriptor, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
