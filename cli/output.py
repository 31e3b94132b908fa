"""What a command prints: talk to stderr, results to stdout, for people or as one JSON document."""

import io
import json
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TextIO

from rich.cells import cell_len
from rich.console import Console as RichConsole
from rich.markup import escape
from rich.table import Table

from kubetfx.progress import Console, without_middle

Format = Literal["human", "json"]

_WIDTH_OF_PIPES = 120
"""Columns of a table that goes to a file or a pipe."""
_CELL = 300
"""Characters of a cell."""


class Output(Console):
    """One command's output: a console for its progress, and its results.

    Args:
        format: `json` prints nothing but one document on stdout.
        stderr: where talk goes.
    """

    def __init__(self, format: Format, *, stderr: TextIO | None = None) -> None:
        super().__init__(stderr, quiet=format == "json")
        self.format = format
        if isinstance(sys.stdout, io.TextIOWrapper):  # of the C locale, which has 128 characters
            sys.stdout.reconfigure(errors="backslashreplace")
        self._data = RichConsole(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_PIPES)

    def error(self, message: str, *, exit_code: int, details: Mapping[str, Any] | None = None) -> None:
        """Print why the command fails.

        Args:
            message: what is wrong, what was received, and what to do; further lines are details.
            exit_code: that the command will end with.
            details: more keys of the JSON document.
        """
        self.end()
        if self.format == "json":
            self.document({"error": {"message": message, "exit_code": exit_code, **(details or {})}})
        else:
            first, _, rest = without_middle(message).partition("\n")
            self._talk.print(f"[bold red]Error:[/] {escape(first)}", soft_wrap=True)
            if rest:
                self._talk.print(escape(rest), soft_wrap=True)

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        title: str | None = None,
        whole_columns: Collection[str] = (),
        optional_columns: Sequence[str] = (),
    ) -> None:
        """Print rows of data to stdout.

        Args:
            columns: their headings; those that end in a space are aligned to the right.
            rows: a cell per column each.
            title: printed above the table.
            whole_columns: headings of those whose cells are copied into other commands, and stay on one line.
            optional_columns: headings of those that are left out, the last first, where the terminal is too narrow.
        """
        columns, rows = self._fitting(columns, rows, list(optional_columns))
        if title:
            self._data.print(f"\n[bold]{escape(title)}[/]")
        table = Table(box=None, pad_edge=False)
        for column in columns:
            justify: Literal["left", "right"] = "right" if column.endswith(" ") else "left"
            heading = column.strip()
            table.add_column(heading, justify=justify, overflow="fold", no_wrap=heading in whole_columns)
        is_whole = [column.strip() in whole_columns for column in columns]
        for row in rows:
            cells = [c if whole else without_middle(c, longest=_CELL) for c, whole in zip(row, is_whole, strict=True)]
            table.add_row(*map(escape, cells))
        self._data.print(table)

    def _fitting(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], optional: list[str]
    ) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Return columns and rows without the optional columns that there is no room for."""
        widths = {name: max(map(cell_len, cells)) for name, *cells in zip(columns, columns, *rows, strict=True)}
        while optional and sum(widths.values()) + 2 * len(widths) > self._data.width:
            del widths[optional.pop()]
        kept = [index for index, name in enumerate(columns) if name in widths]
        return [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]

    def text(self, text: str) -> None:
        """Print data to stdout.

        Args:
            text: printed as it is.
        """
        self._data.out(text, highlight=False)

    def document(self, document: Any) -> None:
        """Print the one JSON document of `--format json`.

        Args:
            document: A document of dicts, lists, texts and numbers. NaN and infinity, which JSON lacks, become null.
        """
        is_unicode = "utf" in (sys.stdout.encoding or "utf").lower()
        text = json.dumps(_finite(document), indent=2, ensure_ascii=not is_unicode, allow_nan=False)
        self._data.out(text, highlight=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
