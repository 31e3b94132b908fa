"""Spans: the parts in which data arrives, each in files that a number or a date names.

As in TFX, `{SPAN}` is a whole number, `{YYYY}`, `{MM}` and `{DD}` are a date, whose number is that of its days since
1970, and `{VERSION}` numbers the editions of a span, of which the newest counts. A date is what the names say: no clock
and no time zone is asked.
"""

import datetime
import functools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kubetfx.errors import DataError
from kubetfx.storage import Location, list_files
from kubetfx.tables.files import is_hidden, shown_names
from kubetfx.tables.window import Window

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_DIGITS = {"SPAN": "[0-9]+", "VERSION": "[0-9]+", "YYYY": "[0-9]{4}", "MM": "[0-9]{2}", "DD": "[0-9]{2}"}
_DATE = ("YYYY", "MM", "DD")
_EPOCH = datetime.date(1970, 1, 1)


@dataclass(frozen=True)
class Span:
    """Files that arrived together."""

    number: int
    """Number of the span; of a date, its days since 1970."""
    version: int | None
    """None: the files have none."""
    is_date: bool
    pattern: str
    """The glob, relative to the folder of the table, that finds its files and those of no other span."""
    paths: tuple[str, ...]

    @property
    def label(self) -> str:
        """How people name it."""
        return label_of(self.number, is_date=self.is_date)

    @property
    def folder(self) -> str | None:
        """The one that has files of this span alone, relative to the folder of the table; None: there is none."""
        return self.pattern.rpartition("/")[0] or None


@dataclass(frozen=True)
class Chosen:
    """The spans of a window."""

    spans: tuple[Span, ...]
    """In order, one at least."""
    notes: tuple[str, ...]
    """Notes on them, a sentence each."""


def label_of(number: int, *, is_date: bool) -> str:
    """Return how people name a span.

    Args:
        number: The number of the span.
        is_date: whether it is that of a date.
    """
    return (_EPOCH + datetime.timedelta(days=number)).isoformat() if is_date else str(number)


def choose(base: Location, pattern: str, window: Window) -> Chosen:
    """Find the spans of a window.

    Args:
        base: folder of the table.
        pattern: The pattern of its files, relative to the folder, with placeholders.
        window: which spans are wanted.

    Returns:
        The spans.

    Raises:
        DataError: there is none, a placeholder is not known, or a span has two spellings.
    """
    is_date = _is_date(pattern)
    every, notes = _all_versions(base, pattern, is_date=is_date)
    found = {span.number: span for span in every}  # the newest version is the last
    if window.done_file:
        found, unfinished = _whole(base, pattern, found, window.done_file)
        notes += unfinished
    if not found:
        reason = " ".join(notes)
        raise DataError(f"data.path matches no span. Received: {base / pattern}.{' ' + reason if reason else ''}")
    first, last = _bounds(window, found, is_date=is_date)
    spans = tuple(found[number] for number in sorted(found) if first <= number <= last)
    wanted = f"{label_of(first, is_date=is_date)} to {label_of(last, is_date=is_date)}"
    if not spans:
        there = [label_of(number, is_date=is_date) for number in sorted(found)]
        raise DataError(
            f"data.window has no span. Received: {wanted}, where there are {there[0]} to {there[-1]}. Widen the "
            "window, or look for the files in another place: data.path"
        )
    missing = [label_of(n, is_date=is_date) for n in _missing(first, last, found)]
    if missing:
        notes.append(f"The window from {wanted} has {len(spans)} spans; without files are: {shown_names(missing)}.")
    return Chosen(spans, tuple(notes))


def exactly(base: Location, pattern: str, wanted: Collection[str]) -> tuple[Span, ...]:
    """Find spans that were chosen before, without those that have arrived since then.

    Args:
        base: folder of the table.
        pattern: see `choose`.
        wanted: the `pattern` of each span.

    Returns:
        The spans, in order.

    Raises:
        DataError: one is gone.
    """
    spans = _all_versions(base, pattern, is_date=_is_date(pattern))[0]
    found = tuple(span for span in spans if span.pattern in wanted)
    if gone := sorted({*wanted} - {span.pattern for span in found}):
        raise DataError(
            f"Spans have gone since the run began. Received: {shown_names(gone)} in {base}. Start it again."
        )
    return found


def _missing(first: int, last: int, found: Collection[int]) -> Sequence[int]:
    """Return the missing numbers between those that were found: what is older or newer than all is not missing."""
    return sorted({*range(max(first, min(found)), min(last, max(found)))} - {*found})


def _is_date(pattern: str) -> bool:
    names = [name.partition(":")[0] for name in _PLACEHOLDER.findall(pattern)]
    unknown = [name for name in names if name not in _DIGITS]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    is_date = set(_DATE) <= set(names)
    some = set(_DATE) & set(names)
    if unknown or twice or not (is_date ^ ("SPAN" in names)) or (some and not is_date):
        raise DataError(
            "data.path: spans are named by {SPAN}, or by {YYYY}, {MM} and {DD}, each once; {VERSION} may be beside "
            f"them. Received: {pattern}."
        )
    return is_date


def _all_versions(base: Location, pattern: str, *, is_date: bool) -> tuple[list[Span], list[str]]:
    """Return the spans in the order of numbers and versions, and sentences on names that are none."""
    groups: dict[tuple[int, int | None], dict[str, list[str]]] = {}
    odd: list[str] = []
    expression = _expression(pattern)
    root = str(base)
    for path in list_files(base, _PLACEHOLDER.sub("*", pattern)):
        name = str(path)[len(root) :].lstrip("/")
        match = expression.fullmatch(name)
        if match is None or is_hidden(path.name):
            continue
        fields = match.groupdict()
        try:
            number = _number(fields, is_date=is_date)
        except ValueError:
            odd.append(name)
            continue
        version = int(fields["VERSION"]) if "VERSION" in fields else None
        own = _filled(pattern, fields)
        groups.setdefault((number, version), {}).setdefault(own, []).append(str(path))
    found: list[Span] = []
    for (number, version), by_pattern in sorted(groups.items(), key=lambda group: (group[0][0], group[0][1] or 0)):
        if len(by_pattern) > 1:
            raise DataError(
                f"data.path finds the span {label_of(number, is_date=is_date)} twice. Received: "
                f"{', '.join(sorted(by_pattern))}. Keep one of them."
            )
        ((own, paths),) = by_pattern.items()
        found.append(Span(number, version, is_date, own, tuple(sorted(paths))))
    notes = [f"Left out, since their names have no date that exists: {shown_names(odd)}."] if odd else []
    return found, notes


def _filled(pattern: str, fields: dict[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: fields[match[1].partition(":")[0]], pattern)


def _number(fields: dict[str, str], *, is_date: bool) -> int:
    if not is_date:
        return int(fields["SPAN"])
    return (datetime.date(*(int(fields[name]) for name in _DATE)) - _EPOCH).days


@functools.lru_cache(maxsize=64)
def _expression(pattern: str) -> re.Pattern[str]:
    """Return what the names of a pattern's files look like, with a group for each placeholder."""
    parts = []
    for text in re.split(r"(\{[^{}]*\}|\*|\?|\[[^\]]*\])", pattern):
        if placeholder := _PLACEHOLDER.fullmatch(text):
            name, _, width = placeholder[1].partition(":")
            digits = f"[0-9]{{{int(width)}}}" if width.isdigit() else _DIGITS[name]
            parts.append(f"(?P<{name}>{digits})")
        elif text in ("*", "?"):
            parts.append(f"[^/]{'*' if text == '*' else ''}")
        elif text.startswith("[") and text.endswith("]"):
            parts.append("[^" + text[2:] if text.startswith("[!") else text)
        else:
            parts.append(re.escape(text))
    return re.compile("".join(parts))


def _whole(base: Location, pattern: str, found: dict[int, Span], done_file: str) -> tuple[dict[int, Span], list[str]]:
    folders = _PLACEHOLDER.sub("*", pattern).rpartition("/")[0]
    marks = {str(mark) for mark in list_files(base, f"{folders}/{done_file}")} if folders else set()
    whole, unfinished = {}, []
    for number, span in found.items():
        if span.folder is None or "*" in span.folder:
            raise DataError(
                f"data.window.done_file is a file in the folder of a span, and the spans have no folders of their own. "
                f"Received: {span.pattern}. Put each span into a folder, or leave done_file out."
            )
        if str(base / span.folder / done_file) in marks:
            whole[number] = span
        else:
            unfinished.append(span.label)
    notes = [f"Left out, since there is no {done_file} yet: {shown_names(unfinished)}."] if unfinished else []
    return whole, notes


def _bounds(window: Window, found: Collection[int], *, is_date: bool) -> tuple[int, int]:
    if window.num_spans is not None:
        return max(found) - window.num_spans + 1, max(found)
    first = min(found) if window.first is None else _number_of(window.first, is_date=is_date)
    return first, max(found) if window.last is None else _number_of(window.last, is_date=is_date)


def _number_of(bound: int | datetime.date, *, is_date: bool) -> int:
    if isinstance(bound, datetime.date) != is_date:
        kind = "dates, such as 2026-11-30" if is_date else "numbers of spans"
        raise DataError(f"data.window: `from` and `to` are {kind}, as data.path has them. Received: {bound}.")
    return (bound - _EPOCH).days if isinstance(bound, datetime.date) else bound
