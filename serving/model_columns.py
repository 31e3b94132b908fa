"""Between Arrow and a model's signature: columns become the arrays that it is fed, its answers become columns.

A cell that the model cannot take makes its row a BadRow, with the reason in words.
"""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.arrays import Array
from kubetfx.artifacts import BYTES_SUFFIX, IMAGE_BYTES, IMAGE_PATH
from kubetfx.errors import DataError, KubetfxError, UsageError
from kubetfx.tables.as_text import in_utf8, is_list, padded, texts_of
from kubetfx.tables.spelled_numbers import understand
from kubetfx.tables.table_file import BadRow, Rows

if TYPE_CHECKING:
    from kubetfx.serving.saved_model import Signature


_MAX_IMAGE_BYTES = 128 * 2**20
"""Maximum number of bytes of a picture's file: a server takes no larger request."""


@dataclass(frozen=True)
class ModelColumns:
    """What a signature takes and returns, as columns."""

    inputs: Mapping[str, np.dtype[Any]]
    """dtypes by input; object is text."""
    is_column_vector: Mapping[str, bool]
    """Whether the input is (rows, 1) and not (rows,)."""
    lists: frozenset[str] = frozenset()
    """Inputs that are (rows, any) text: a list per row, filled up with empty text."""

    @property
    def is_of_images(self) -> bool:
        """Whether it takes encoded pictures and nothing else."""
        return dict(self.inputs) == {IMAGE_BYTES: np.dtype(object)}

    @property
    def has_pictures(self) -> bool:
        """Whether an input may be of encoded pictures."""
        return any(name.endswith(BYTES_SUFFIX) for name in self.inputs)

    def pictures(self, held: Collection[str]) -> dict[str, str]:
        """Match the inputs of encoded pictures with the columns of a table.

        Args:
            held: The names of the table's columns.

        Returns:
            By input, the column with the bytes of the pictures, or their paths: the one of the input's name, or of that
            name without `_bytes`. Inputs that other columns are for are left out.
        """
        if self.is_of_images:
            return {IMAGE_BYTES: IMAGE_BYTES if IMAGE_BYTES in held else IMAGE_PATH}
        encoded = [n for n, dtype in self.inputs.items() if dtype == np.dtype(object) and n.endswith(BYTES_SUFFIX)]
        columns = {name: name.removesuffix(BYTES_SUFFIX) for name in encoded if name not in held}
        return {name: column for name, column in columns.items() if column in held}


def model_columns(signature: "Signature") -> ModelColumns:
    """Describe what a signature takes, as columns.

    Args:
        signature: whose inputs are (rows,) or (rows, 1) each, or (rows, any) of text.

    Returns:
        The inputs in the signature's order.

    Raises:
        UsageError: an input is of another shape, or of a type that no file can hold.
    """
    inputs, vectors = {}, {}
    lists = set()
    for name, spec in signature.inputs.items():
        shape = signature.proto.inputs[name].tensor_shape
        sizes = [dimension.size for dimension in shape.dim]
        if spec.array_dtype == np.dtype(object) and sizes == [-1, -1]:
            lists.add(name)
        elif spec.array_dtype is None or (not shape.unknown_rank and len(sizes) != 1 and sizes[1:] != [1]):
            raise UsageError(
                f"The model takes something other than columns. Received: the input {name!r} of shape {sizes} in "
                f"signature {signature.name!r}. Bulk prediction needs one value, or one encoded image, per row."
            )
        inputs[name] = spec.array_dtype
        vectors[name] = len(sizes) == 2 and name not in lists
    return ModelColumns(inputs, vectors, frozenset(lists))


@dataclass(frozen=True)
class Feed:
    """The rows of a block, ready for the model but for images, which are read a batch at a time."""

    arrays: Mapping[str, Array]
    """By input, each (rows,), or (rows, any) of lists."""
    table: pa.Table
    """The same rows as they were read."""
    index: Array
    """(rows,) int64: their numbers within the block."""
    bad: list[BadRow]
    """The other rows of the block."""

    def keep(self, mask: Array) -> "Feed":
        """Return some of the rows.

        Args:
            mask: (rows,) bool, true for those to keep.
        """
        arrays = {name: array[mask] for name, array in self.arrays.items()}
        return replace(self, arrays=arrays, table=self.table.filter(pa.array(mask)), index=self.index[mask])

    def content(self, position: int) -> str:
        """Return a row as JSON, for people.

        Args:
            position: The position of the row in `table`, from 0.
        """
        row = {name: _to_json(value) for name, value in self.table.slice(position, 1).to_pylist()[0].items()}
        return json.dumps(row, ensure_ascii=False)

    def with_bad(self, reasons: Mapping[int, str]) -> "Feed":
        """Move some rows to the bad ones.

        Args:
            reasons: why each is bad, by its position in `table`.

        Returns:
            The rows that are left.
        """
        if not reasons:
            return self
        mask = np.ones(len(self.index), bool)
        mask[list(reasons)] = False
        bad = [BadRow(int(self.index[p]), reason, self.content(p)) for p, reason in reasons.items()]
        return replace(self.keep(mask), bad=[*self.bad, *bad])


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def to_feed(rows: Rows, columns: ModelColumns) -> Feed:
    """Make arrays of the model's types from columns. Missing cells become NaN and b"", wherever the rows come from.

    Images are not read: their column is the one of the table, of paths or of bytes.

    Args:
        rows: a block.
        columns: what the model takes; all of them are columns of the block.

    Returns:
        The rows, without those that have a cell which the model cannot take.
    """
    arrays: dict[str, Array] = {}
    reasons: dict[int, str] = {}
    pictures = columns.pictures(rows.table.column_names)
    for name, dtype in columns.inputs.items():
        if name in pictures:
            arrays[name] = np.empty(rows.table.num_rows, object)
            arrays[name][:] = rows.table.column(pictures[name]).to_pylist()
            continue
        column = rows.table.column(name).combine_chunks()
        if name in columns.lists:
            arrays[name] = in_utf8(padded(_as_lists(column)))
            continue
        arrays[name], bad = _to_array(column, dtype)
        for position in bad:
            value = column[position].as_py()
            takes = "text" if dtype == np.dtype(object) else "numbers"
            reasons.setdefault(
                position,
                f"Column {name!r} is missing, and the model takes {dtype}."
                if value is None
                else f"Column {name!r} holds {takes}. Received: {value!r}.",
            )
    return Feed(arrays, rows.table, rows.index, list(rows.bad)).with_bad(reasons)


def check_type(name: str, arrow_type: pa.DataType, dtype: np.dtype[Any], *, place: str) -> None:
    """Refuse a column that can never be what the model takes.

    Args:
        name: The name of the column.
        arrow_type: of its cells.
        dtype: that the model takes; object is text or bytes.
        place: the file or table that the column is in, for the error.

    Raises:
        DataError: no cell of that type can be converted.
    """
    if name == IMAGE_BYTES and not (pa.types.is_binary(arrow_type) or pa.types.is_large_binary(arrow_type)):
        raise DataError(
            f"{place}: column {name!r} must hold the bytes of images. Received: {arrow_type}. Put the paths of the "
            f"files into a column {IMAGE_PATH!r}."
        )
    try:
        _to_array(pa.array([], arrow_type), dtype)
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        takes = "text" if dtype == np.dtype(object) else f"numbers ({dtype})"
        raise DataError(f"{place}: column {name!r} must hold {takes}. Received: {arrow_type}.") from None


def _as_lists(column: pa.Array) -> pa.ListArray:
    """Return text as lists of one: the model takes it apart."""
    if is_list(column.type):
        return column.cast(pa.list_(pa.string()))
    return pa.ListArray.from_arrays(pa.array(np.arange(len(column) + 1, dtype=np.int32)), texts_of(column))


def _to_array(column: pa.Array, dtype: np.dtype[Any]) -> tuple[Array, list[int]]:
    """Return an array for the model, and the positions of cells that it cannot take."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if dtype == np.dtype(object):
        if pa.types.is_floating(column.type) or pa.types.is_timestamp(column.type):
            column = texts_of(column)
        texts, bad = _cast(column, pa.string(), safe=True)
        codes = texts.fill_null("").cast(pa.binary()).dictionary_encode()
        return codes.dictionary.to_numpy(zero_copy_only=False)[codes.indices.to_numpy()], bad
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        found = understand(column.cast(pa.string()))
        column = pc.if_else(found.odd, column, found.texts)
    values, bad = _cast(column, pa.from_numpy_dtype(dtype), safe=dtype.kind != "f")
    if dtype.kind == "f":
        return values.fill_null(np.nan).to_numpy(), bad
    missing = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)).tolist()  # those in `bad` among them
    return values.fill_null(values.type.to_pandas_dtype()(0)).to_numpy(zero_copy_only=False), missing


def _cast(column: pa.Array, target: pa.DataType, *, safe: bool) -> tuple[pa.Array, list[int]]:
    """Return cells of another type. Those that it cannot hold are null, and their positions are returned."""
    if column.type == target:
        return column, []
    try:
        return column.cast(target, safe=safe), []
    except (pa.ArrowInvalid, UnicodeDecodeError):
        if len(column) == 1:
            return pa.nulls(1, target), [0]
    half = len(column) // 2
    head, bad_head = _cast(column[:half], target, safe=safe)
    tail, bad_tail = _cast(column[half:], target, safe=safe)
    return pa.concat_arrays([head, tail]), [*bad_head, *(half + position for position in bad_tail)]


def read_images(images: Array, root: Path) -> tuple[Array, dict[int, str]]:
    """Read encoded pictures.

    Args:
        images: (rows,) object: bytes, or paths relative to `root`.
        root: folder.

    Returns:
        The bytes, (rows,) object, and by position why there are none.
    """
    contents = np.empty(len(images), object)
    reasons = {}
    for position, image in enumerate(images):
        content = image if isinstance(image, bytes) else _read_image(image, root)
        if isinstance(content, str):
            reasons[position] = content
        else:
            contents[position] = content
    return contents, reasons


def _read_image(path: str | None, root: Path) -> bytes | str:
    """Return the bytes of a file, or why there are none."""
    if not path:
        return f"There is no path in column {IMAGE_PATH!r}."
    try:
        size = (root / path).stat().st_size
        if size > _MAX_IMAGE_BYTES:
            return f"The file is too large for an image. Received: {size:,} bytes. Largest: {_MAX_IMAGE_BYTES:,}."
        content = (root / path).read_bytes()
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        return f"The file cannot be read: {reason}."
    return content or "The file is empty."


def to_columns(outputs: Mapping[str, Sequence[Array]], classes: Sequence[str]) -> dict[str, pa.Array]:
    """Make columns of what a model answered.

    Args:
        outputs: batches of (rows, ...) by output.
        classes: names of the columns of `probabilities`, where they are known; otherwise they are a list.

    Returns:
        An array by output, each (rows,). Further dimensions of an output are lists of fixed size.

    Raises:
        KubetfxError: an output is of a type that Arrow lacks, or text that is not UTF-8.
    """
    columns = {}
    for name, batches in outputs.items():
        array = np.concatenate(batches)
        try:
            if name == "probabilities" and classes:
                fields = [pa.array(np.ascontiguousarray(array[:, index])) for index in range(len(classes))]
                columns[name] = pa.StructArray.from_arrays(fields, names=list(classes))
            else:
                columns[name] = _to_column(name, array)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
            raise KubetfxError(
                f"The model's output {name!r} cannot be written as a column: {error}. Received: {array.dtype} of shape "
                f"{array.shape}. The name of an output of bytes has to end in _bytes."
            ) from None
    return columns


def _to_column(name: str, array: Array) -> pa.Array:
    """Return a column of an array, whose further dimensions become lists of fixed size."""
    flat = array.reshape(-1)
    if flat.dtype == np.dtype(object):
        column = pa.array(flat, pa.binary())
        column = column if name.endswith(BYTES_SUFFIX) else column.cast(pa.string())
    else:
        column = pa.array(flat)
    for size in reversed(array.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column
