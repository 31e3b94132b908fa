"""The output of a bulk prediction: finished blocks in a folder beside it, then one Parquet file, all at once.

A block is finished when its file is there, and a file is there whole or not at all. The folder's name is a digest of
all that decides what the rows and their predictions are, so that blocks of another input or model are never taken.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kubetfx.arrays import Array
from kubetfx.errors import DataError, KubetfxError, UsageError
from kubetfx.tables.table_file import BadRow, Block

ROW_COLUMN = "row"
"""Column of the output: the number of a row in the input, from 1."""
_METADATA = b"kubetfx"
"""Key in the metadata of an output: its Origin, as JSON."""
_GROUP_ROWS = 65_536
_GROUP_BYTES = 32 * 2**20
"""Limits of a row group of the output: rows, and bytes in memory."""
_ERRORS_SCHEMA = pa.schema([(ROW_COLUMN, pa.int64()), ("reason", pa.string()), ("content", pa.string())])


@dataclass(frozen=True)
class Origin:
    """Where an output comes from."""

    key: str
    """Digest of input, model and settings."""
    model_name: str
    model_version: int
    input: str
    """Path of the input, as it was given."""
    num_rows: int = 0
    """Rows of the input."""
    num_errors: int = 0
    """Rows without a prediction."""


@dataclass(frozen=True)
class BulkOutput:
    """Where the predictions of a job go."""

    path: Path
    """File of the predictions."""
    origin: Origin

    @property
    def errors_path(self) -> Path:
        """File of the rows without a prediction."""
        return self.path.with_suffix(".errors.parquet")

    @property
    def folder(self) -> Path:
        """Folder of finished blocks."""
        return self.path.parent / f".{self.path.name}.{self.origin.key[:16]}"

    def existing(self) -> Origin | None:
        """Look for an output at this path.

        Returns:
            Its origin, which is this job; None if there is none.

        Raises:
            UsageError: something else is there.
        """
        for path in (self.path, self.errors_path):
            found = _read_origin(path) if path.exists() else self.origin
            if found is None or found.key != self.origin.key:
                source = f"{found.input}, model version {found.model_version}" if found else "not known"
                raise UsageError(
                    "There is an output already, of another input, model or choice of columns. "
                    f"Received: {path} (of: {source}). Choose another `output`, or replace it: `force=True`"
                )
        return _read_origin(self.path) if self.path.exists() else None

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder of finished blocks, and keep others from it.

        Raises:
            UsageError: it cannot be written, or another process is at it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_whole(self.folder / "probe", lambda path: path.touch())
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise UsageError(
                f"The output cannot be written. Received: {self.path} ({reason}). Grant write permission to its "
                "folder, or choose another `output`."
            ) from None
        try:
            with _locked(self.folder):
                yield
        except BlockingIOError:
            raise UsageError(f"Another process is writing this output. Received: {self.path}. Wait for it.") from None
        finally:
            with contextlib.suppress(OSError):  # it is gone, or holds blocks
                self.folder.rmdir()

    def discard_blocks(self) -> None:
        """Delete finished blocks."""
        for path in self.folder.iterdir():
            path.unlink()

    def publish(self, blocks: Sequence[Block]) -> Origin:
        """Put all blocks into the output, check that no row is missing, and let it appear.

        Args:
            blocks: all blocks of the input, in order; each is finished.

        Returns:
            Where the output comes from, with its numbers of rows and errors.

        Raises:
            KubetfxError: predictions and errors do not add up to the rows of the input, or the disk is full.
            DataError: there is no prediction at all; the errors are published.
        """
        try:
            origin, first_reason = self._gather(blocks)
            self._let_appear(origin)
        except OSError as error:
            raise KubetfxError(
                f"The output could not be written: {error}. Finished blocks are kept. Free the disk, and give the "
                "same command again."
            ) from error
        if origin.num_errors == origin.num_rows:
            raise DataError(
                f"No row could be predicted. The reasons are in {self.errors_path}. Received: {origin.num_rows:,} "
                f"rows; the first: {first_reason}"
            )
        return origin

    def _gather(self, blocks: Sequence[Block]) -> tuple[Origin, str]:
        """Write predictions and errors aside."""
        num_rows, reason = 0, ""
        with _Writer(self._predictions_aside) as predictions, _Writer(self._errors_aside) as errors:
            for block in blocks:
                predicted, bad = _read_block(self.folder, block)
                predictions.write(_numbered(predicted, after=num_rows))
                errors.write(_numbered(bad, after=num_rows))
                num_rows += block.num_rows
                reason = reason or next(iter(bad.column("reason").slice(0, 1).to_pylist()), "")
            if predictions.num_rows + errors.num_rows != num_rows:
                raise _not_all(f"{predictions.num_rows:,} predictions and {errors.num_rows:,} errors", num_rows)
            origin = replace(self.origin, num_rows=num_rows, num_errors=errors.num_rows)
            predictions.finish(origin)
            errors.finish(origin)
        return origin, reason

    def _let_appear(self, origin: Origin) -> None:
        """Rename both files. The errors come first: once the predictions are there, everything is."""
        if origin.num_errors:
            self._errors_aside.replace(self.errors_path)
        else:
            self.errors_path.unlink(missing_ok=True)
        if origin.num_errors < origin.num_rows:
            self._predictions_aside.replace(self.path)
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        shutil.rmtree(self.folder)
        self._remove_stale_folders()

    def _remove_stale_folders(self) -> None:
        """Delete blocks for this path of another input or model, unless another process uses them."""
        name = re.compile(re.escape(f".{self.path.name}.") + "[0-9a-f]{16}")
        for folder in self.path.parent.iterdir():
            if name.fullmatch(folder.name) and folder.is_dir():
                with contextlib.suppress(OSError), _locked(folder):
                    shutil.rmtree(folder)

    @property
    def _predictions_aside(self) -> Path:
        return self.folder / "predictions.parquet"

    @property
    def _errors_aside(self) -> Path:
        return self.folder / "errors.parquet"


def _read_origin(path: Path) -> Origin | None:
    """Return where a file of predictions or errors comes from; None if kubetfx did not write it."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
        return Origin(**json.loads(metadata[_METADATA]))
    except (pa.ArrowInvalid, OSError, KeyError, ValueError, TypeError):
        return None


def finished_blocks(folder: Path) -> set[int]:
    """Return the numbers of the blocks that are finished.

    Args:
        folder: The folder of finished blocks.
    """
    names = (re.fullmatch(r"([0-9]+)\.arrow", entry.name) for entry in os.scandir(folder))
    return {int(name[1]) for name in names if name}


def write_block(
    folder: Path, block: Block, *, index: Array, columns: Mapping[str, pa.Array], bad: Sequence[BadRow]
) -> None:
    """Write what came of a block.

    Args:
        folder: The folder of finished blocks.
        block: the block.
        index: (rows,) int64, the rows within the block that have a prediction.
        columns: what is known of those rows, each (rows,).
        bad: the other rows of the block.
    """
    if bad:
        rows = sorted(bad, key=lambda row: row.index)
        errors = pa.table(
            [[row.index for row in rows], [row.reason for row in rows], [row.content for row in rows]],
            schema=_ERRORS_SCHEMA,
        )
        _write_whole(_errors_path(folder, block), lambda path: _write_arrow(path, errors))
    predictions = pa.table({ROW_COLUMN: pa.array(index, pa.int64()), **columns})
    _write_whole(_block_path(folder, block), lambda path: _write_arrow(path, predictions))


def _read_block(folder: Path, block: Block) -> tuple[pa.Table, pa.Table]:
    """Return predictions and errors of a finished block, numbered within it.

    Raises:
        KubetfxError: a row has none of the two, or both.
    """
    try:
        predictions = _read_arrow(_block_path(folder, block))
        errors_path = _errors_path(folder, block)
        errors = _read_arrow(errors_path) if errors_path.exists() else _ERRORS_SCHEMA.empty_table()
        rows = np.sort(np.concatenate([table.column(ROW_COLUMN).to_numpy() for table in (predictions, errors)]))
    except (pa.ArrowInvalid, FileNotFoundError, KeyError) as error:
        raise KubetfxError(f"A finished block cannot be read: {error}. Start again: `force=True`") from None
    if not np.array_equal(rows, np.arange(block.num_rows)):
        found = f"{predictions.num_rows:,} predictions and {errors.num_rows:,} errors"
        raise _not_all(f"{found} in block {block.number}", block.num_rows)
    return predictions, errors


def _not_all(found: str, num_rows: int) -> KubetfxError:
    return KubetfxError(
        f"Predictions and errors don't add up to the rows of the input. Received: {found} for {num_rows:,} rows. "
        "Nothing was published. Start again: `force=True`"
    )


def _block_path(folder: Path, block: Block) -> Path:
    return folder / f"{block.number:06d}.arrow"


def _errors_path(folder: Path, block: Block) -> Path:
    return folder / f"{block.number:06d}.errors"


def _numbered(table: pa.Table, *, after: int) -> pa.Table:
    """Number rows through the whole input, from 1."""
    numbers = pa.array(table.column(ROW_COLUMN).to_numpy() + (after + 1), pa.int64())
    return table.set_column(table.column_names.index(ROW_COLUMN), ROW_COLUMN, numbers)


def _write_arrow(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def _read_arrow(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file that appears when it is complete, and survives a crash of the machine."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        write(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


class _Writer:
    """A Parquet file, its rows gathered into row groups of a good size."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[pa.Table] = []
        self.num_rows = 0

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Add rows. A table without any may lack columns."""
        if not table.num_rows:
            return
        self.num_rows += table.num_rows
        self._pending.append(table)
        num_rows, num_bytes = (sum(getattr(t, of) for t in self._pending) for of in ("num_rows", "nbytes"))
        if num_rows >= _GROUP_ROWS or num_bytes >= _GROUP_BYTES:
            self._flush()

    def finish(self, origin: Origin) -> None:
        """Write the last rows, say where all of them come from, and bring the file to the disk."""
        self._flush()
        if self._writer is None:
            return
        self._writer.add_key_value_metadata({_METADATA: json.dumps(asdict(origin), ensure_ascii=False).encode()})
        self._writer.close()
        with self._path.open("rb") as file:
            os.fsync(file.fileno())

    def _flush(self) -> None:
        if not self._pending:
            return
        table = pa.concat_tables(self._pending)
        self._pending = []
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path, table.schema, compression="zstd", use_dictionary=_text_columns(table.schema)
            )
        self._writer.write_table(table, row_group_size=_GROUP_ROWS)


def _text_columns(schema: pa.Schema) -> list[str]:
    """Return columns worth a Parquet dictionary. Scores seldom repeat, and looking for repetitions takes most time."""
    names = []
    for field in schema:
        inner, name = field.type, field.name
        while pa.types.is_fixed_size_list(inner) or pa.types.is_list(inner):
            inner, name = inner.value_type, f"{name}.list.element"
        if not (pa.types.is_floating(inner) or pa.types.is_integer(inner) or pa.types.is_struct(inner)):
            names.append(name)
    return names
