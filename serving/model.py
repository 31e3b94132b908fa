"""A pushed model in this process: rows in, predictions out. It is what `kubetfx predict` does, for programs.

    model = Model.load("served/penguins/1764350000")
    model.predict([{"island": "Dream", "bill_length_mm": 39.2}])

TensorFlow is imported when a model is loaded, and not before.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from kubetfx.errors import DataError, UsageError
from kubetfx.tables.csv_options import UNKNOWN_CSV, CsvOptions
from kubetfx.tables.memory import as_given

if TYPE_CHECKING:
    from kubetfx.serving.block_prediction import Predicted
    from kubetfx.serving.model_columns import ModelColumns
    from kubetfx.serving.saved_model import SavedModel
    from kubetfx.tables.table_file import BadRow

_FIRST = ("path", "label", "score", "probabilities", "value")
"""Columns of predictions, in this order; others of the model's outputs follow."""
_CLASSIFICATION = ("label", "score", "probabilities")


class Model:
    """A loaded model. It is asked the way a server would ask it."""

    def __init__(self, model: "SavedModel", columns: "ModelColumns") -> None:
        """Wrap a model that is loaded already; see `load`.

        Args:
            model: whose signature `serving_default` is asked.
            columns: what that signature takes.
        """
        self._model = model
        self._columns = columns

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Load a model.

        Args:
            path: folder of a SavedModel, for example a version in a push directory.

        Returns:
            The model; close it, or use it in a `with` statement.

        Raises:
            UsageError: there is none, it is broken, or it has no signature `serving_default` that takes one value, or
                one encoded image, per row.
        """
        from kubetfx.artifacts import DEFAULT_SIGNATURE
        from kubetfx.serving.block_prediction import default_signature
        from kubetfx.serving.model_columns import model_columns
        from kubetfx.serving.saved_model import SavedModel, read_signatures
        from kubetfx.serving.status import ServingError

        folder = Path(path)
        try:
            columns = model_columns(default_signature(read_signatures(folder)))
            return cls(SavedModel(folder, only=(DEFAULT_SIGNATURE,)), columns)
        except ServingError as error:
            raise UsageError(f"The model cannot be loaded: {error.message}. Received: {folder}.") from None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the columns that rows need. Other columns are not looked at."""
        return tuple(self._columns.inputs)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none for a regression, and for a model that kubetfx did not export."""
        from kubetfx.serving.model_facts import read_classes

        return read_classes(self._model.path)

    def predict(self, rows: Any, *, csv: CsvOptions = UNKNOWN_CSV) -> Any:
        """Predict rows.

        Args:
            rows: a pandas frame, an Arrow table or a list of dicts with the columns of `inputs`; or the path of a
                table's file, of a folder of such files, or of a JSON document; or the URL of a file. A model of images
                takes a column `path` or `image_bytes`, or the path of a picture or of a folder of them. Cells may be
                missing.
            csv: how CSV files are written, as far as it is known.

        Returns:
            An Arrow table with a row per row, in their order. For a classification: `label` string, `score` float32
            (the probability of the label), `probabilities` struct of a float32 per class. For a regression: `value`
            float32. Images that come from files have their `path` first; further outputs of the model are the last
            columns. For a pandas frame, a pandas frame with the same index, in which the probability of a class is a
            column `probabilities.CLASS`.

        Raises:
            DataError: the rows cannot be read or lack a column, or a row cannot be predicted: it is named.
            KubetfxError: the model cannot be asked.
        """
        tables = [_ordered(block) for block in self.blocks(rows, csv=csv)]
        return as_given(pa.concat_tables(tables), rows)

    def blocks(self, rows: Any, *, csv: CsvOptions = UNKNOWN_CSV) -> "Iterator[Predicted]":
        """Predict rows block by block, in bounded memory.

        Args:
            rows: as `predict` takes them.
            csv: how CSV files are written, as far as it is known.

        Yields:
            Predictions of a block of rows, in order. Blocks without rows are left out.

        Raises:
            DataError: the rows cannot be read or lack a column, or a row cannot be predicted: it is named.
            KubetfxError: the model cannot be asked.
        """
        from kubetfx.serving.block_prediction import BlockPredictor
        from kubetfx.serving.row_source import open_rows

        source = open_rows(rows, self._columns, csv=csv)
        predictor = BlockPredictor(self._model, self._columns, root=source.root, copied=source.plan.copied)
        before = 0
        for block in source.blocks:
            predicted = predictor.predict(block)
            if predicted.bad:
                raise first_refusal(predicted.bad, before=before)
            before += len(predicted.index)
            if len(predicted.index):
                yield predicted

    def close(self) -> None:
        """Free the model."""
        self._model.close()

    def __enter__(self) -> Self:
        """Return the model itself; it is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Free the model."""
        self.close()


def _ordered(block: "Predicted") -> pa.Table:
    names = sorted(block.columns, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    return pa.table({name: block.columns[name] for name in names})


def _path_in(content: str) -> str | None:
    """Return the picture that a bad row is about: its content is JSON then, and has a path."""
    try:
        document = json.loads(content)
    except ValueError:
        return None
    return document.get("path") if isinstance(document, dict) else None


def first_refusal(bad: "Sequence[BadRow]", *, before: int) -> DataError:
    """Return the error for the first of a block's rows without a prediction.

    Args:
        bad: those rows.
        before: number of the rows before the block.
    """
    first = min(bad, key=lambda row: row.index)
    return refusal(before + first.index, first.reason, name=_path_in(first.content))


def refusal(number: int, reason: str, *, name: str | None = None) -> DataError:
    """Return the error for a row without a prediction.

    Args:
        number: The number of the row, from 0.
        reason: why it has none.
        name: The name of the picture, if the row is one.
    """
    from kubetfx.serving.block_prediction import FAILED

    row = f"row {number + 1}" + (f", {name}" if name else "")
    return DataError(
        f"The model refuses {row}: {reason.removeprefix(FAILED).rstrip('.')}. Correct or remove it; a "
        "batch prediction leaves such rows out, and lists them."
    )


def to_prediction(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Read the prediction for a row from the outputs of a model.

    Args:
        answer: its outputs for the row, as a row of `Model.predict` or as a client gets them from a server.

    Returns:
        `label`, `score`, and `probabilities` by class; or `value`.

    Raises:
        DataError: the model is not one of kubetfx.
    """
    if "value" in answer:
        return {"value": float(answer["value"])}
    probabilities: Any = answer.get("probabilities")
    if not answer.keys() >= set(_CLASSIFICATION) or not (isinstance(probabilities, Mapping) or "classes" in answer):
        raise DataError(
            "The model was not exported by kubetfx: it returns no label, score, probabilities and classes, and no "
            f"value. Received: {', '.join(answer)}. Ask it over its own REST or gRPC API."
        )
    if not isinstance(probabilities, Mapping):
        probabilities = dict(zip(answer["classes"], map(float, probabilities), strict=True))
    return {"label": str(answer["label"]), "score": float(answer["score"]), "probabilities": dict(probabilities)}
