"""What was found out about spans and read of them before: kept in the workspace, so that each is read once.

A run whose window has 28 spans reads the new one. What is kept of a span depends on its files, on the code and on what
is asked of it; anything else is another entry. Entries are written beside their place and then moved, so a killed run
leaves none that is torn.
"""

import contextlib
import hashlib
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kubetfx.child_process import write_whole
from kubetfx.code_digest import code_digest
from kubetfx.storage import locate
from kubetfx.tables.files import shown_names
from kubetfx.tables.spans import Span
from kubetfx.workspace import METADATA

_CODE = ("components", "models", "tables")
FOLDER = "spans"
"""Of a workspace."""
_INDEX = "index.json"
_UNUSED_SECONDS = 7 * 24 * 3600
"""Time after which what is kept of a span that no window has is removed."""


@dataclass(frozen=True)
class SpanStore:
    """A folder of entries, by span."""

    folder: Path

    @classmethod
    def beside(cls, artifact_uri: str) -> "SpanStore | None":
        """Return the store of the workspace that an artifact is in; None: it is in none, as in a pod.

        Args:
            artifact_uri: WORKSPACE/artifacts/COMPONENT/KEY/ID.
        """
        parents = Path(artifact_uri).parents
        is_in_workspace = len(parents) > 3 and parents[2].name == "artifacts" and (parents[3] / METADATA).exists()
        return cls(parents[3] / FOLDER) if is_in_workspace else None

    def place(self, span: str, kind: str, *depends_on: Any) -> Path:
        """Return where an entry is, whether it is there or not.

        Args:
            span: its label.
            kind: The kind of the entry.
            depends_on: everything that it depends on besides the code; each has a `repr` that says all of it.
        """
        digest = hashlib.sha256(repr((code_digest(_CODE), *depends_on)).encode()).hexdigest()
        return self.folder / quote(span, safe="") / f"{kind}-{digest[:40]}"

    @staticmethod
    def read(place: Path) -> Any:
        """Return an entry; None: there is none.

        Args:
            place: of the entry.
        """
        try:
            content = place.read_bytes()
            os.utime(place)
            return pickle.loads(content)
        except Exception:  # what is torn, or of another version, fails in any way
            return None

    @staticmethod
    def write(place: Path, value: Any) -> None:
        """Keep an entry.

        Args:
            place: of the entry.
            value: that can be pickled.
        """
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.{os.getpid()}")
        partial.write_bytes(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
        partial.replace(place)

    def completed(self, places: Sequence[Path], make: Callable[[list[int]], Iterable[Any]]) -> list[Any]:
        """Return entries, and make and keep those that are not there.

        Args:
            places: of the entries.
            make: given the numbers of those that are not there, returns them in that order. It is not called for none.

        Returns:
            All entries.
        """
        entries = [self.read(place) for place in places]
        missing = [number for number, entry in enumerate(entries) if entry is None]
        for number, entry in zip(missing, make(missing) if missing else (), strict=True):
            self.write(places[number], entry)
            entries[number] = entry
        return entries

    def changes(self, spans: Sequence[Span]) -> tuple[str, ...]:
        """Compare spans with those that earlier runs had.

        Args:
            spans: of this run, in order.

        Returns:
            Sentences on those that are new, late, or have other files than before; none for the first run.
        """
        return changes(states_of(spans), self._index())

    def remember(self, spans: Sequence[Span]) -> None:
        """Note which spans a run had, and remove what is kept of others that nobody has used for a week.

        Args:
            spans: of the run.
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
    """Return what tells whether a span is new, or was written anew.

    Args:
        spans: each with its files.
    """
    return {span.label: (span.number, state_of(span.paths)) for span in spans}


def changes(now: SpanStates, before: SpanStates) -> tuple[str, ...]:
    """Compare spans with those of before.

    Args:
        now: of a run, in order.
        before: of all earlier runs; empty for the first one.

    Returns:
        Sentences on those that are new, late, or have other files than before.
    """
    if not before:
        return ()
    oldest, newest = (end(number for number, _ in before.values()) for end in (min, max))
    groups: dict[str, list[str]] = {"New": [], "Arrived late": [], "Written anew": []}
    for label, (number, state) in now.items():
        if label not in before:
            if number > oldest:  # older ones were there, and a wider window has them now
                groups["New" if number > newest else "Arrived late"].append(label)
        elif before[label][1] != state:
            groups["Written anew"].append(label)
    return tuple(f"{said} since the last run: {shown_names(labels)}." for said, labels in groups.items() if labels)


def state_of(paths: Iterable[str]) -> str:
    """Return a digest of what tells whether files were written anew: their names, sizes and times.

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
    """Have a file under a second name; it is copied where the file system has no links.

    Args:
        source: the file.
        target: its second name.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _last_use(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return max((entry.stat().st_mtime for entry in folder.iterdir()), default=0.0)
    return time.time()
