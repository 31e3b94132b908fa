"""Examples of a table in spans: shards that an earlier run wrote are linked, and new ones are kept for the next run.

The span of each shard is recorded beside the examples, so that later nodes can reuse their results in the same way.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubetfx.artifacts import SPANS
from kubetfx.components.data.block_work import Each, Run
from kubetfx.components.data.shard_writer import Counts, WriteShards, shard_name
from kubetfx.components.data.span_store import SpanStore, link
from kubetfx.models.examples import RowGroup
from kubetfx.tables.spans import Span


@dataclass(frozen=True)
class SpanShards:
    """Where the shards of a table are kept."""

    store: SpanStore
    spans: Sequence[Span]
    places: Sequence[Path]
    """Place of each shard."""

    def write(self, write: WriteShards, shards: Sequence[Any], run: Run) -> Counts:
        """Write the shards that do not exist yet.

        Args:
            write: Writes a shard.
            shards: All shards.
            run: Executes the work on many.

        Returns:
            Rows by split.
        """
        known = [self._link(place, write, number) for number, place in enumerate(self.places)]
        items = [(number, shards[number]) for number, counts in enumerate(known) if counts is None]
        written = run(Each(write.state_of), list(enumerate(items))) if items else []
        for (number, _), counts in zip(items, written, strict=True):
            known[number] = counts
            self._keep(self.places[number], write, number, counts)
        self.store.remember(self.spans)
        return write.merged(counts for counts in known if counts is not None)

    def describe(self, examples: Path) -> None:
        """Record the spans of examples beside them.

        Args:
            examples: The folder of the artifact.
        """
        number = len(self.places)
        shards = {shard_name(index, number): [place.parent.name, place.name] for index, place in enumerate(self.places)}
        spans = [{"name": span.label, "number": span.number, "version": span.version} for span in self.spans]
        (examples / SPANS).write_text(json.dumps({"spans": spans, "shards": shards}))

    def _link(self, place: Path, write: WriteShards, number: int) -> Counts | None:
        counts: Counts | None = self.store.read(place)
        if counts is None:
            return None
        try:
            for split, target in self._files(write, number).items():
                link(_content(place, split), target)
        except OSError:
            return None
        return counts

    def _keep(self, place: Path, write: WriteShards, number: int, counts: Counts) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        for split, source in self._files(write, number).items():
            content = _content(place, split)
            content.unlink(missing_ok=True)
            link(source, content)
        self.store.write(place, counts)

    @staticmethod
    def _files(write: WriteShards, number: int) -> dict[str, Path]:
        name = shard_name(number, write.num_shards)
        return {split: Path(folder) / name for split, folder in write.split_folders.items()}


def _content(place: Path, split: str) -> Path:
    return place.with_name(f"{place.name}.{split}.parquet")


class KnownShards:
    """The span of each row group of an artifact of examples."""

    def __init__(self, examples: Path) -> None:
        """Read the record.

        Args:
            examples: The folder of the artifact.
        """
        path = examples / SPANS
        self._shards: dict[str, list[str]] = json.loads(path.read_text())["shards"] if path.exists() else {}

    def __bool__(self) -> bool:
        """Return whether the examples are in spans."""
        return bool(self._shards)

    def of(self, group: RowGroup) -> tuple[str, str]:
        """Return the span of a row group, and the identity of its shard.

        Args:
            group: of the examples.
        """
        span, shard = self._shards[Path(group.file).name]
        return span, shard
