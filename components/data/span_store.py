"""A store of results about spans in the workspace, so that each span is read once.

A run whose window has 28 spans reads only the new one. The key of an entry covers the files of the span, the code and
the request. Entries are written aside and then moved, so that a killed run leaves no torn entry.
"""

import contextlib
import hashlib
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kubetfx.child_process import write_whole
from kubetfx.code_digest import code_digest
from kubetfx.engine.shared_places import place_of
from kubetfx.storage import locate
from kubetfx.tables.files import shown_names
from kubetfx.tables.spans import Span
from kubetfx.workspace import METADATA

_CODE = ("components", "models", "tables")
FOLDER = "spans"
"""Folder of a workspace."""
_INDEX = "index.json"
_UNUSED_SECONDS = 7 * 24 * 3600
"""Time after which the entries of a span that is in no window are removed."""


@dataclass(frozen=True)
class SpanStore:
    """A folder of entries, by span."""

    folder: Path

    @classmethod
    def beside(cls, artifact_uri: str) -> "SpanStore | None":
        """Return the store of the workspace that contains an artifact.

        It is None if there is no workspace, as in a pod, or the workers do not see it.

        Args:
            artifact_uri: WORKSPACE/artifacts/COMPONENT/KEY/ID.
        """
        if place_of(artifact_uri) != artifact_uri:
            return None
        parents = Path(artifact_uri).parents
        is_in_workspace = len(parents) > 3 and parents[2].name == "artifacts" and (parents[3] / METADATA).exists()
        return cls(parents[3] / FOLDER) if is_in_workspace else None

    def place(self, span: str, kind: str, *depends_on: Any) -> Path:
        """Return the path of an entry, which need not exist.

        Args:
            span: The label of the span.
            kind: The kind of the entry.
            depends_on: Everything except the code that the entry depends on; each has a complete `repr`.
        """
        digest = hashlib.sha256(repr((code_digest(_CODE), *depends_on)).encode()).hexdigest()
        return self.folder / quote(span, safe="") / f"{kind}-{digest[:40]}"

    @staticmethod
    def read(place: Path) -> Any:
        """Return an entry, or None.

        Args:
            place: The path of the entry.
        """
        try:
            content = place.read_bytes()
            os.utime(place)
            return pickle.loads(content)
        except Exception:  # a torn entry, or one of another version, can fail in any way
            return None

    @staticmethod
    def write(place: Path, value: Any) -> None:
        """Store an entry.

        Args:
            place: The path of the entry.
            value: A value that can be pickled.
        """
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.{os.getpid()}")
        partial.write_bytes(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
        partial.replace(place)

    def completed(self, places: Sequence[Path], make: Callable[[list[int]], Iterable[Any]]) -> Iterator[Any]:
        """Yield entries one by one, after making and storing those that are missing.

        Args:
            places: of the entries.
            make: given the numbers of some entries, returns them in that order. It is not called for none.

        Yields:
            Every entry, in the order of the places.
        """
        made = self._made([number for number, place in enumerate(places) if not place.exists()], places, make)
        for number, place in enumerate(places):
            entry = made.pop(number, None)
            if entry is None and (entry := self.read(place)) is None:
                entry = self._made([number], places, make)[number]
            yield entry

    def _made(
        self, numbers: list[int], places: Sequence[Path], make: Callable[[list[int]], Iterable[Any]]
    ) -> dict[int, Any]:
        made = dict(zip(numbers, make(numbers) if numbers else (), strict=True))
        for number, entry in made.items():
            self.write(places[number], entry)
        return made

    def changes(self, spans: Sequence[Span]) -> tuple[str, ...]:
        """Compare spans with those of earlier runs.

        Args:
            spans: The spans of this run, in order.

        Returns:
            Sentences about spans that are new, late, or have changed files; none for the first run.
        """
        return changes(states_of(spans), self._index())

    def remember(self, spans: Sequence[Span]) -> None:
        """Record the spans of a run, and remove the entries of others that have not been used for a week.

        Args:
            spans: The spans of the run.
        """
        index = self._index() | states_of(spans)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / _INDEX, index)
        used = {quote(span.label, safe="") for span in spans}
        for folder in self.folder.iterdir():
            if folder.is_dir() and folder.name not in used and _last_use(folder) < time.time() - _UNUSED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

    def _index(self) -> "SpanStates":
        try:
            document = json.loads((self.folder / _INDEX).read_text())
            return {label: (number, state) for label, (number, state) in document.items()}
        except (OSError, ValueError):
            return {}


SpanStates = dict[str, tuple[int, str]]
"""Number and state of a span by its label."""


def states_of(spans: Iterable[Span]) -> SpanStates:
    """Return the states of spans, which show whether a span is new or was rewritten.

    Args:
        spans: The spans with their files.
    """
    return {span.label: (span.number, state_of(span.paths)) for span in spans}


def changes(now: SpanStates, before: SpanStates) -> tuple[str, ...]:
    """Compare spans with earlier ones.

    Args:
        now: The spans of a run, in order.
        before: The spans of all earlier runs; empty for the first run.

    Returns:
        Sentences about spans that are new, late, or have changed files.
    """
    if not before:
        return ()
    oldest, newest = (end(number for number, _ in before.values()) for end in (min, max))
    groups: dict[str, list[str]] = {"New": [], "Arrived late": [], "Rewritten": []}
    for label, (number, state) in now.items():
        if label not in before:
            if number > oldest:  # older spans existed before, and a wider window includes them now
                groups["New" if number > newest else "Arrived late"].append(label)
        elif before[label][1] != state:
            groups["Rewritten"].append(label)
    return tuple(f"{said} since the last run: {shown_names(labels)}." for said, labels in groups.items() if labels)


def state_of(paths: Iterable[str]) -> str:
    """Return a digest of the names, sizes and times of files, which changes when they are rewritten.

    Args:
        paths: on this machine or in a bucket.
    """
    digest = hashlib.sha256()
    for path in paths:
        place = locate(path)
        if isinstance(place, Path):
            found = place.stat()
            size, changed = found.st_size, found.st_mtime_ns
        else:
            info = place.info()
            size, changed = info.num_bytes, info.modified_ns
        digest.update(f"{path} {size} {changed}\n".encode())
    return digest.hexdigest()


def link(source: Path, target: Path) -> None:
    """Give a file a second name; it is copied if the file system has no links.

    Args:
        source: The file.
        target: Its second name.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _last_use(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return max((entry.stat().st_mtime for entry in folder.iterdir()), default=0.0)
    return time.time()
