"""Loads a model of kubetfx for mlflow.pyfunc. It travels with the model, and needs TensorFlow, NumPy and pandas alone.

Rows come as a frame with the columns of the training data; a cell or a column that is missing is a missing value, as it
was in training. The model is loaded as TensorFlow Serving loads it, since only there the columns have their names.
"""

import json
import math
from pathlib import Path
from typing import Any

_FACTS = Path("assets.extra") / "kubetfx.json"
_SIGNATURE = "serving_default"


def _load_pyfunc(path: str) -> "PredictingModel":
    return PredictingModel(path)


class PredictingModel:
    """A SavedModel that predicts for frames."""

    def __init__(self, path: str) -> None:
        """Load the model.

        Args:
            path: folder of the SavedModel.
        """
        import tensorflow as tf

        facts = Path(path) / _FACTS
        self._facts = json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else {}
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        with graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], path)
        signature = loaded.signature_def[_SIGNATURE]
        self._inputs = {
            name: (info.name, tf.as_dtype(info.dtype).as_numpy_dtype, len(info.tensor_shape.dim))
            for name, info in signature.inputs.items()
        }
        self._outputs = {name: info.name for name, info in signature.outputs.items()}

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Predict for rows.

        Args:
            model_input: a pandas frame, or what makes one: a dictionary of columns, a list of rows.
            params: not used.

        Returns:
            A frame with the same index: `label`, `score` and `probabilities.CLASS` of each class; or `value`.
        """
        import pandas as pd

        frame = model_input if isinstance(model_input, pd.DataFrame) else pd.DataFrame(model_input)
        fed = {tensor: self._array(frame, name, dtype, rank) for name, (tensor, dtype, rank) in self._inputs.items()}
        found = self._session.run(self._outputs, fed)
        columns: dict[str, Any] = {}
        for name, values in found.items():
            if name == "classes":
                continue
            if name == "probabilities":
                classes = self._facts.get("classes") or range(values.shape[1])
                columns |= {f"{name}.{one}": values[:, index] for index, one in enumerate(classes)}
            elif values.dtype == object:
                columns[name] = [value.decode(errors="replace") for value in values.ravel()]
            else:
                columns[name] = values.reshape(len(frame), -1)[:, 0]
        order = {"label": 0, "score": 1, "value": 2}
        names = sorted(columns, key=lambda name: order.get(name, 3))
        return pd.DataFrame({name: columns[name] for name in names}, index=frame.index)

    def _array(self, frame: Any, name: str, dtype: Any, rank: int) -> Any:
        import numpy as np
        import pandas as pd

        column = name if name in frame.columns else name.removesuffix("_bytes")
        cells = frame[column] if column in frame.columns else pd.Series([None] * len(frame), index=frame.index)
        if dtype is not object and np.dtype(dtype).kind == "f":
            return pd.to_numeric(cells).astype(dtype).to_numpy()
        if dtype is not object and np.dtype(dtype).kind in "iu":
            if cells.isna().any():
                raise ValueError(f"Column {name!r} has no missing cells in this model. Received: a missing cell.")
            return pd.to_numeric(cells).astype(dtype).to_numpy()
        if rank == 2 and name in self._facts.get("separators", {}):
            return self._lists(cells, self._facts["separators"][name])
        array = np.array([_as_bytes(cell) for cell in cells], object)
        return array[:, None] if rank == 2 else array

    @staticmethod
    def _lists(cells: Any, separator: str) -> Any:
        import numpy as np

        rows = [_values(cell, separator) for cell in cells]
        width = max([len(row) for row in rows] or [0])
        array = np.full((len(rows), max(width, 1)), b"", object)
        for index, row in enumerate(rows):
            array[index, : len(row)] = row
        return array


def _values(cell: Any, separator: str) -> list[bytes]:
    if isinstance(cell, str):
        return [part.strip().encode() for part in cell.split(separator)]
    return [_as_bytes(part) for part in cell] if isinstance(cell, list | tuple) else [_as_bytes(cell)]


def _as_bytes(cell: Any) -> bytes:
    if isinstance(cell, bytes):
        return cell
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return b""
    return str(cell).encode()
