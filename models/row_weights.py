"""How often each row counts: the cells of `training.sample_weight`."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kubetfx.arrays import Array
from kubetfx.errors import DataError


def weights_of(block: pa.RecordBatch, column: str | None) -> Array:
    """Return the weights of rows, (rows,) float64.

    Args:
        block: The block of examples.
        column: that has them; None: each row counts once.

    Raises:
        DataError: one is missing, no number, infinite or negative.
    """
    if column is None:
        return np.ones(block.num_rows)
    cells = block.column(column)
    wrong = _first_wrong(cells)
    if wrong is not None:
        raise DataError(_message(column, cells[wrong].as_py(), "in some row"))
    weights: Array = cells.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return weights


def check_weights(blocks: Iterable[tuple[str, pa.RecordBatch]], *, column: str, label: str) -> None:
    """Check the weights of a table. Rows without a label, which are not learned from, need none.

    Args:
        blocks: of rows with both columns, in order, each with the name of its file.
        column: The name of the weights' column.
        label: The name of the label's column.

    Raises:
        DataError: one is missing, no number, infinite or negative, or all are 0.
    """
    total, rows_before, file_before, text = 0.0, 0, "", None
    for file, block in blocks:
        rows_before = rows_before if file == file_before else 0
        labelled = block.column(label).is_valid()
        cells = block.column(column).filter(labelled)
        wrong = _first_wrong(cells)
        if wrong is not None:
            row = rows_before + int(np.flatnonzero(labelled.to_numpy(zero_copy_only=False))[wrong]) + 1
            raise DataError(_message(column, cells[wrong].as_py(), f"in row {row:,} of {file}"))
        if pa.types.is_string(cells.type) and len(cells):
            text = text or _message(column, cells[0].as_py(), f"as text in {file}")
        total += pc.sum(cells.cast(pa.float64())).as_py() or 0.0
        rows_before, file_before = rows_before + block.num_rows, file
    if text:
        raise DataError(text)
    if not total:
        raise DataError(
            f"training.sample_weight: all weights in the column {column!r} are 0, so no row counts. Name another "
            "column, or leave training.sample_weight out."
        )


def _first_wrong(cells: pa.Array) -> int | None:
    """Return the position of the first cell that is not a weight; None: all are."""
    if pa.types.is_string(cells.type):
        return next((index for index, cell in enumerate(cells.to_pylist()) if not _is_number(cell)), None)
    numbers = cells.cast(pa.float64())
    is_right = pc.fill_null(pc.and_(pc.is_finite(numbers), pc.greater_equal(numbers, 0)), False)
    found = int(pc.index(is_right, False).as_py())
    return None if found < 0 else found


def _is_number(cell: str | None) -> bool:
    try:
        return cell is not None and np.isfinite(float(cell))
    except ValueError:
        return False


def _message(column: str, value: object, place: str) -> str:
    received = "a missing cell" if value is None else repr(value)
    return (
        f"training.sample_weight: every row needs a number of 0 or more in the column {column!r}. Received: {received} "
        f"{place}. Correct it, leave the row out, or name another column."
    )
