"""Rows from a function of the user's or of kubetfx instead of files.

They are fetched into Parquet files, as is a file at a web address. Later readers of the table see files whose names,
sizes and times depend only on the rows, so that the cache recognizes the same rows wherever they were fetched. A
process fetches once per run.
"""

import contextlib
import filecmp
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kubetfx.config.data_section import DataConfig
from kubetfx.config.references import redacted, resolved
from kubetfx.errors import DataError, KubetfxError
from kubetfx.storage import is_url, is_web
from kubetfx.tables.downloads import fetch
from kubetfx.temporary_files import shared_folder
from kubetfx.user_code import load_object

FILE = "rows.parquet"
ROW_GROUP_ROWS = 65_536
_EARLIEST, _SECONDS = 1_000_000_000, 500_000_000
"""Range of the files' times: the digest chooses a second in the years 2001 to 2017."""

_fetched: dict[str, Path] = {}


def fetched(data: DataConfig, *, anew: bool = False) -> DataConfig:
    """Return the section with the path of the fetched rows.

    It is unchanged if it names neither a source nor a web address.

    Args:
        data: The section of the config.
        anew: Fetch the rows even if this process has done so before.

    Raises:
        ConfigError: the function does not exist, or an environment variable is not set.
        DataError: the function failed, or yielded something other than rows.
    """
    if data.source is None and not is_web(data.path):
        return data
    key = json.dumps([data.source or data.path, data.source_options], sort_keys=True, default=str)
    if anew or key not in _fetched or not _fetched[key].is_file():
        _fetched[key] = _fetch(data) if data.source else _download(data.path)
    return data.model_copy(update={"path": str(_fetched[key].parent if data.source else _fetched[key])})


def _download(path: str) -> Path:
    url = resolved(path, key="data.path")
    try:
        return fetch(url, shown=path)
    except DataError as error:
        raise DataError(redacted(str(error))) from None


def _fetch(data: DataConfig) -> Path:
    with tempfile.TemporaryDirectory(prefix="kubetfx-source-") as folder:
        aside = Path(folder) / FILE
        digest = _write(_rows(data), aside, source=str(data.source))
        target = _folder(data, digest)
        seconds = _EARLIEST + int(digest, 16) % _SECONDS
        os.utime(aside, (seconds, seconds))
        if not _is_same(target / FILE, aside):
            partial = target / f".{FILE}.{os.getpid()}"
            shutil.copy2(aside, partial)
            partial.rename(target / FILE)
    return target / FILE


def _rows(data: DataConfig) -> Iterator[pa.RecordBatch]:
    read = load_object(str(data.source), key="data.source")
    try:
        found = read(**resolved(data.source_options, key="data.source_options"))
        tables: Iterable[Any] = [found] if isinstance(found, pa.Table | pa.RecordBatch) else found
        for rows in tables:
            if isinstance(rows, pa.RecordBatch):
                yield rows
            elif isinstance(rows, pa.Table):
                yield from rows.to_batches()
            else:
                raise DataError(
                    f"data.source must yield Arrow record batches or tables. Received: {type(rows).__name__} from "
                    f"{data.source}. Convert it: pyarrow.Table.from_pandas(frame), or from_pylist(rows)."
                )
    except KubetfxError:
        raise
    except Exception as error:
        raise DataError(
            f"data.source failed: {type(error).__name__}: {redacted(str(error))}. Received: {data.source} with "
            f"{', '.join(sorted(data.source_options)) or 'no options'} (data.source_options)."
        ) from error


def _write(batches: Iterator[pa.RecordBatch], path: Path, *, source: str) -> str:
    """Write the rows, and return the digest of their content, which does not depend on the batches."""
    first = next(batches, None)
    if first is None:
        raise DataError(f"data.source yielded no rows. Received: {source}. Yield at least one batch.")
    digest = hashlib.sha256(str(first.schema.remove_metadata()).encode())
    num_rows = 0
    with pq.ParquetWriter(path, first.schema.remove_metadata(), compression="snappy") as writer:
        for table in _regrouped(first, batches, source=source):
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            num_rows += table.num_rows
    with path.open("rb") as file:
        hashlib.file_digest(file, lambda: digest)
    logging.info("Fetched %d rows from %s.", num_rows, source)
    return digest.hexdigest()[:16]


def _regrouped(first: pa.RecordBatch, others: Iterator[pa.RecordBatch], *, source: str) -> Iterator[pa.Table]:
    """Yield tables of ROW_GROUP_ROWS rows, the last one shorter."""
    schema = first.schema.remove_metadata()
    waiting, num_rows = [first], first.num_rows
    for batch in others:
        if batch.schema.remove_metadata() != schema:
            difference = _difference(schema, batch.schema)
            raise DataError(
                f"data.source must yield batches of one schema. Received: {difference} from {source}. Cast the columns "
                "before they are yielded."
            )
        waiting.append(batch)
        num_rows += batch.num_rows
        if num_rows >= ROW_GROUP_ROWS:
            table = pa.Table.from_batches([b.replace_schema_metadata(None) for b in waiting])
            whole = num_rows - num_rows % ROW_GROUP_ROWS
            yield table.slice(0, whole).combine_chunks()
            waiting, num_rows = table.slice(whole).to_batches(), num_rows - whole
    if num_rows or first.num_rows == 0:
        yield pa.Table.from_batches([b.replace_schema_metadata(None) for b in waiting], schema).combine_chunks()


def _difference(first: pa.Schema, second: pa.Schema) -> str:
    theirs = dict(zip(second.names, second.types, strict=True))
    changed = [
        f"{f.name}: {f.type}, then {theirs.get(f.name, 'nothing')}" for f in first if theirs.get(f.name) != f.type
    ]
    return "; ".join(changed) or f"also {', '.join(sorted(set(second.names) - set(first.names)))}"


def _folder(data: DataConfig, digest: str) -> Path:
    """Return `data.path` if it can be written; otherwise, as in a container, a separate folder for the rows."""
    place = Path(data.path)
    if data.path and not is_url(data.path):
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            if os.access(place, os.W_OK):
                return place
    place = shared_folder() / f"kubetfx-source-{digest}"
    place.mkdir(exist_ok=True)
    return place


def _is_same(old: Path, new: Path) -> bool:
    return old.is_file() and filecmp.cmp(old, new, shallow=False)
