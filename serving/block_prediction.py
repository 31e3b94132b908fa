"""Predictions of a model for a block of rows, and the reasons why some rows have none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from kubetfx.arrays import Array
from kubetfx.artifacts import DEFAULT_SIGNATURE
from kubetfx.errors import KubetfxError, UsageError
from kubetfx.serving import model_columns
from kubetfx.serving.model_columns import Feed, ModelColumns
from kubetfx.serving.model_facts import read_classes
from kubetfx.serving.status import Code, ServingError, in_words
from kubetfx.tables.table_file import BadRow, Rows

if TYPE_CHECKING:  # a client of a server does without TensorFlow
    from kubetfx.serving.saved_model import SavedModel, Signature


TABLE_BATCH = 4_096
IMAGE_BATCH = 32
"""Rows that the model is given at once: a decoded image takes thousands of times the memory of a row."""
FAILED = "The model failed: "
"""Start of the reason of a row that the model itself refused."""
_OF_THE_ROWS = frozenset({Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.DATA_LOSS, Code.RESOURCE_EXHAUSTED})
"""Codes of errors that are about the rows. After any other code, no other row could be predicted either."""


@dataclass(frozen=True)
class Predicted:
    """Predictions of a block of rows."""

    index: Array
    """(rows,) int64: the rows that have a prediction, by their numbers within the block."""
    columns: dict[str, pa.Array]
    """Copied columns, and the model's outputs, each (rows,)."""
    bad: list[BadRow]
    """The other rows."""


class Stopped(Exception):  # noqa: N818 - it is not an error
    """The prediction was asked to end before it was complete."""


class BlockPredictor:
    """Predicts blocks, and copies columns of the rows beside the predictions. Several threads may use it at once."""

    def __init__(
        self,
        model: "SavedModel",
        columns: ModelColumns,
        *,
        root: Path,
        copied: Sequence[str] = (),
        batch_size: int | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare the calls of the model.

        Args:
            model: to ask, by its signature `serving_default`.
            columns: what that takes.
            root: folder that paths of images are relative to.
            copied: columns of the rows to put beside the predictions.
            batch_size: rows that the model is given at once. None: TABLE_BATCH or IMAGE_BATCH.
            is_stopped: asked before each batch; once it is true, `predict` raises Stopped.
        """
        signature = model.signatures[DEFAULT_SIGNATURE]
        self._model = model
        self._columns = columns
        self._root = root
        self._copied = copied
        self._batch_size = batch_size or (TABLE_BATCH if not columns.has_pictures else IMAGE_BATCH)
        self._is_stopped = is_stopped
        self._inputs = tuple(signature.inputs)
        self._feeds = tuple(spec.tensor_name for spec in signature.inputs.values())
        self._classes = read_classes(model.path)
        constant = {"classes"} if self._classes else set()  # their names are the same in each row
        self._outputs = {name: spec.tensor_name for name, spec in signature.outputs.items() if name not in constant}

    def predict(self, rows: Rows) -> Predicted:
        """Predict a block, batch by batch.

        Args:
            rows: the block, with the columns that the model takes and those to be copied.

        Returns:
            Predictions of the rows that have one, and why the others have none.

        Raises:
            KubetfxError: the model cannot be asked, or an output has not one value per row.
            Stopped: see `is_stopped`.
        """
        feed = model_columns.to_feed(rows, self._columns)
        reasons: dict[int, str] = {}
        answers: list[list[Array]] = []
        for start in range(0, len(feed.index), self._batch_size):
            if self._is_stopped():
                raise Stopped
            positions = np.arange(start, min(start + self._batch_size, len(feed.index)))
            answers += self._predict_batch(feed, positions, reasons)
        kept = feed.with_bad(reasons)
        outputs = dict(zip(self._outputs, zip(*answers, strict=True), strict=True)) if answers else {}
        columns: dict[str, Any] = {name: kept.table.column(name) for name in self._copied}
        columns |= model_columns.to_columns(outputs, self._classes)
        return Predicted(kept.index, columns, kept.bad)

    def _predict_batch(self, feed: Feed, positions: Array, reasons: dict[int, str]) -> list[list[Array]]:
        arrays = {name: array[positions] for name, array in feed.arrays.items()}
        for name in self._columns.pictures(feed.table.column_names):
            arrays[name], unread = model_columns.read_images(arrays[name], self._root)
            reasons |= {int(positions[position]): reason for position, reason in unread.items()}
            readable = np.array([position not in unread for position in range(len(positions))], bool)
            positions, arrays = positions[readable], {key: array[readable] for key, array in arrays.items()}
        return self._answer([arrays[name] for name in self._inputs], positions, reasons)

    def _answer(self, arrays: list[Array], positions: Array, reasons: dict[int, str]) -> list[list[Array]]:
        """Return answers of the model, in one piece or several.

        Rows that make it fail are found by halving the batch.
        """
        if not len(positions):
            return []
        try:
            return [self._call(arrays, len(positions))]
        except ServingError as error:
            if error.code not in _OF_THE_ROWS:
                raise KubetfxError(f"The model cannot be asked: {error}.") from error
            if len(positions) == 1:
                reasons[int(positions[0])] = f"{FAILED}{in_words(error.message)}"
                return []
        half = len(positions) // 2
        return [
            *self._answer([array[:half] for array in arrays], positions[:half], reasons),
            *self._answer([array[half:] for array in arrays], positions[half:], reasons),
        ]

    def _call(self, arrays: list[Array], num_rows: int) -> list[Array]:
        shaped = [
            array[:, np.newaxis] if self._columns.is_column_vector[name] else array
            for name, array in zip(self._inputs, arrays, strict=True)
        ]
        answers = self._model.run(self._feeds, shaped, tuple(self._outputs.values()))
        for name, answer in zip(self._outputs, answers, strict=True):
            if answer.ndim == 0 or len(answer) != num_rows:
                raise KubetfxError(
                    f"The model's output {name!r} does not have one value per row. Received: shape {answer.shape} for "
                    f"{num_rows} rows."
                )
        return answers


def default_signature(signatures: Mapping[str, "Signature"]) -> "Signature":
    """Return the signature that rows are predicted by.

    Args:
        signatures: The signatures of the model, by name.

    Raises:
        UsageError: the model has none of the name `serving_default`.
    """
    if DEFAULT_SIGNATURE not in signatures:
        raise UsageError(
            f"The model has no signature {DEFAULT_SIGNATURE!r}. Received: {', '.join(signatures)}. Export one of that "
            "name, which takes a value or an encoded image a row."
        )
    return signatures[DEFAULT_SIGNATURE]
