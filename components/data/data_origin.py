"""The files from which the rows of an examples artifact were read, with the digest of each."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kubetfx.components.data.span_store import SpanStore, state_of
from kubetfx.cores import num_cores
from kubetfx.provenance import DataFile, DataOrigin, SpanOrigin
from kubetfx.storage import locate
from kubetfx.tables.files import TableFiles


def data_origin(
    path: str, files: TableFiles | None, rows: Mapping[str, int], *, fingerprint: str | None, store: SpanStore | None
) -> DataOrigin:
    """Return the origin of the rows. Files of spans that are known from earlier runs are not read again.

    Args:
        path: `data.path`.
        files: The files of the table; None for a folder of images.
        rows: The number of rows by split.
        fingerprint: The fingerprint of the files that TFX computed.
        store: The store of the workspace; None if there is none.
    """
    spans = files.spans if files else ()
    of_path = {file: span.label for span in spans for file in span.paths}
    return DataOrigin(
        path=path,
        rows=dict(rows),
        fingerprint=fingerprint,
        spans=[SpanOrigin(name=span.label, number=span.number, version=span.version) for span in spans],
        files=_files(files.paths, of_path, store) if files else [],
    )


def _files(paths: Sequence[str], span_of: Mapping[str, str], store: SpanStore | None) -> list[DataFile]:
    if store is not None and span_of:
        places = [store.place(span_of[path], "digest", state_of([path])) for path in paths]
        return list(store.completed(places, lambda missing: _look_at([paths[number] for number in missing], span_of)))
    return _look_at(paths, span_of)


def _look_at(paths: Sequence[str], span_of: Mapping[str, str]) -> list[DataFile]:
    with ThreadPoolExecutor(num_cores()) as pool:
        return list(pool.map(lambda path: _file(path, span_of.get(path)), paths))


def _file(path: str, span: str | None) -> DataFile:
    place = locate(path)
    if not isinstance(place, Path):
        info = place.info()
        return DataFile(path=path, num_bytes=info.num_bytes, modified_at=info.modified_ns / 1e9, span=span)
    status = place.stat()
    with place.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return DataFile(path=path, num_bytes=status.st_size, modified_at=status.st_mtime, sha256=sha256, span=span)
