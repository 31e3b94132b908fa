"""Asking a pushed model without a server: it is loaded the way TensorFlow Serving loads it."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from kubetfx.errors import DataError
from kubetfx.serving import image_requests as image_rows

SIGNATURE = "serving_default"
BATCH = 4_096
IMAGE_BATCH = 64
"""Decoded images take thousands of times the memory of a row."""
_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Prediction:
    """The answer for one row."""

    label: str | None = None
    score: float | None = None
    probabilities: Mapping[str, float] | None = None
    """By class name."""
    value: float | None = None
    """Of a regression; the others are None then."""


def predict(saved_model: Path, rows_path: Path, *, missing_values: Sequence[str]) -> list[Prediction]:
    """Predictions for the rows of a file, in their order.

    Args:
        saved_model: folder of a version.
        rows_path: .csv, .json (a list of objects) or .jsonl (an object a line), with the columns of the model.
            Other columns are not looked at. Of a model of images: a folder or file of images, or a list of paths.
        missing_values: what stands for a missing cell in a CSV.

    Raises:
        DataError: the rows cannot be read, lack a column of the model, or hold what the model refuses.
    """
    import tensorflow as tf

    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(saved_model))
        signature = meta_graph.signature_def[SIGNATURE]
        dtypes = {name: tf.DType(info.dtype).as_numpy_dtype for name, info in signature.inputs.items()}
        rows = read_rows(rows_path, dtypes, missing_values=missing_values)
        outputs = {name: info.name for name, info in signature.outputs.items()}
        predictions: list[Prediction] = []
        num_rows = len(next(iter(rows.values())))
        size = IMAGE_BATCH if image_rows.takes_images(dtypes) else BATCH
        tensors = {name: info.name for name, info in signature.inputs.items()}
        for start in range(0, num_rows, size):
            batch = {tensors[name]: column[start : start + size] for name, column in rows.items()}
            try:
                answer = session.run(outputs, batch)
            except tf.errors.InvalidArgumentError:
                _raise_refused(session, outputs, batch, start=start, names=image_rows.names_of(rows_path))
            predictions.extend(_to_predictions(answer))
        return predictions


def _raise_refused(
    session: Any,
    outputs: Mapping[str, str],
    batch: Mapping[str, np.ndarray],
    *,
    start: int,
    names: Sequence[str] | None,
) -> None:
    """Which row of a batch it is that the model refuses."""
    import tensorflow as tf

    for index in range(len(next(iter(batch.values())))):
        try:
            session.run(outputs, {name: column[index : index + 1] for name, column in batch.items()})
        except tf.errors.InvalidArgumentError as error:
            number = start + index
            raise refusal(number, str(error.message), name=names[number] if names else None) from None
    raise DataError("The model refuses the rows together, and each by itself it takes. Ask for fewer at a time.")


def refusal(number: int, message: str, *, name: str | None) -> DataError:
    """The error for a row, counted from 0, with what TensorFlow says of it, and the picture's name if it is one."""
    row = f"row {number + 1}" + (f", {name}" if name else "")
    return DataError(
        f"The model refuses {row}: {_reason(message).rstrip('.')}. Mend it or take it away; or let `kubetfx "
        "batch-predict` leave such rows out."
    )


def _reason(message: str) -> str:
    """The line of TensorFlow's error that is about the row; around it stands where in the graph that was."""
    if asserted := re.search(r"assertion failed: \[([^\]]*)\]", message):
        return asserted[1]
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["it does not say why"]
    nodes = [number for number, line in enumerate(lines[:-1]) if line.startswith("Node: ")]
    return lines[nodes[-1] + 1] if nodes else lines[0]


def to_prediction(answer: Mapping[str, Any]) -> Prediction:
    """The prediction in a server's answer for one row.

    Raises:
        DataError: the model is not one of kubetfx.
    """
    if "value" in answer:
        return Prediction(value=float(answer["value"]))
    if not {"label", "score", "probabilities", "classes"} <= answer.keys():
        raise DataError(
            "The served model is none of kubetfx: it returns no label, score, probabilities and classes, and no value. "
            f"Received: {', '.join(answer)}. Ask it over its own REST or gRPC API."
        )
    probabilities = dict(zip(answer["classes"], map(float, answer["probabilities"]), strict=True))
    return Prediction(str(answer["label"]), float(answer["score"]), probabilities)


def to_client_rows(columns: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Columns of `read_rows` as rows for a client."""
    lists = {name: [_to_client_value(name, value) for value in column.tolist()] for name, column in columns.items()}
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _to_client_value(name: str, value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    return image_rows.to_json(value) if name == image_rows.IMAGE_BYTES else value.decode()


def read_rows(path: Path, dtypes: Mapping[str, Any], *, missing_values: Sequence[str]) -> dict[str, np.ndarray]:
    """The model's columns of a file of rows, each (rows,). Missing cells are NaN and b"".

    A model of images also takes a folder or file of images.

    Raises:
        DataError: the file cannot be read, is empty, or lacks a column.
    """
    if image_rows.takes_images(dtypes) and path.exists() and (paths := image_rows.image_paths(path)):
        return {image_rows.IMAGE_BYTES: image_rows.from_paths(paths)}
    try:
        if path.suffix in (".json", ".jsonl"):
            table = _read_json(path)
        else:
            table = _read_csv(path, dtypes, missing_values=missing_values)
    except FileNotFoundError:
        raise DataError(f"There is no such file of rows. Received: {path}.") from None
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise DataError(f"The rows cannot be read. Received: {path}, where {error}") from None
    if image_rows.takes_images(dtypes):
        table = {image_rows.IMAGE_BYTES: list(image_rows.from_table(table, path.parent))}
    absent = sorted(set(dtypes) - set(table))
    if absent:
        raise DataError(
            f"The rows lack columns of the model: {', '.join(absent)}. Received: {', '.join(table)}. "
            "Add them; a cell may be empty."
        )
    if not len(next(iter(table.values()))):
        raise DataError(f"There are no rows. Received: {path}.")
    return {name: _to_array(table[name], dtype, name=name) for name, dtype in dtypes.items()}


def _read_csv(path: Path, dtypes: Mapping[str, Any], *, missing_values: Sequence[str]) -> dict[str, list[Any]]:
    options = pa_csv.ConvertOptions(
        null_values=list(missing_values),
        strings_can_be_null=True,
        column_types={name: pa.string() if dtype is object else pa.float64() for name, dtype in dtypes.items()},
    )
    delimiter = "\t" if path.suffix == ".tsv" else ","
    table = pa_csv.read_csv(path, parse_options=pa_csv.ParseOptions(delimiter=delimiter), convert_options=options)
    return {name: column.to_pylist() for name, column in zip(table.column_names, table.columns, strict=True)}


def _read_json(path: Path) -> dict[str, list[Any]]:
    text = path.read_text(encoding="utf-8")
    rows = (
        [json.loads(line) for line in text.splitlines() if line.strip()]
        if path.suffix == ".jsonl"
        else json.loads(text)
    )
    if isinstance(rows, dict):
        rows = rows.get("instances", [rows])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("a list of objects, a row each, was expected")
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(key for row in rows for key in row)}


def _to_array(values: list[Any], dtype: Any, *, name: str) -> np.ndarray:
    if dtype is object:
        return np.array([_encoded(value) for value in values], dtype=object)
    try:
        return np.array([np.nan if value is None else value for value in values], dtype=dtype)
    except (TypeError, ValueError, OverflowError):
        wrong = next(
            value for value in values if not isinstance(value, float | int | None) or abs(value or 0) > _LARGEST
        )
        raise DataError(f"Column {name!r} holds numbers. Received: {wrong!r}.") from None


def _encoded(value: Any) -> bytes:
    return value if isinstance(value, bytes) else _as_text(value).encode()


def _as_text(value: Any) -> str:
    """As ExampleGen has it: booleans are `true` and `false`."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _to_predictions(outputs: Mapping[str, np.ndarray]) -> list[Prediction]:
    if "value" in outputs:
        return [Prediction(value=float(value)) for value in outputs["value"]]
    classes = [name.decode() for name in outputs["classes"][0]]
    return [
        Prediction(label.decode(), float(score), dict(zip(classes, map(float, probabilities), strict=True)))
        for label, score, probabilities in zip(
            outputs["label"], outputs["score"], outputs["probabilities"], strict=True
        )
    ]
