"""Asking an exported model for the label and the answer of rows of examples, as the Evaluator does."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from kubetfx.models.examples import to_examples
from kubetfx.models.export import NETWORK, TRANSFORM_COLUMNS, network_arguments, raw_inputs_of, read_facts
from kubetfx.models.features import LABEL


class AskedModel:
    """A SavedModel that is asked for blocks of rows.

    Of the models of tables the columns go to training's preprocessing and then to the network. Those that have no
    signature for that, models of images and those of earlier versions, are asked with tf.Examples.
    """

    def __init__(self, path: Path, *, output: str) -> None:
        """Load it.

        Args:
            path: folder of the SavedModel.
            output: of `serving_examples` that is wanted: `probabilities` or `value`.
        """
        self._model = tf.saved_model.load(str(path))  # its variables live as long as this does
        self._output = output
        self._facts = read_facts(path)
        self.is_image = self._facts is not None and self._facts.image is not None
        takes_columns = self._facts is not None and TRANSFORM_COLUMNS in self._model.signatures
        self._inputs = raw_inputs_of(self._facts) if takes_columns and self._facts is not None else None

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Columns that a block has to have; None: all that the examples have."""
        return None if self._inputs is None else self._inputs.columns

    def ask(self, block: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        """Labels and answers.

        Args:
            block: rows of examples.

        Returns:
            (rows,) index of the class, or number; and (rows, classes) probabilities, or (rows,) values.
        """
        signatures = self._model.signatures
        if self._inputs is None or self._facts is None:
            examples = tf.constant(to_examples(block))
            answer = _call(signatures["serving_examples"], examples)[self._output]
            return _flat(_call(signatures["transform_features"], examples)[LABEL]), answer.numpy()
        features = signatures[TRANSFORM_COLUMNS](**_tensors(self._inputs.pack(block)))
        outputs = signatures[NETWORK](**network_arguments(features, self._facts.network_inputs))["outputs"]
        return _flat(features[LABEL]), outputs.numpy() if self._facts.classes else _flat(outputs)


def columns_to_read(models: Iterable[AskedModel], others: Sequence[str]) -> list[str] | None:
    """Columns that some models and whoever else need; None: all, since one of the models needs tf.Examples."""
    needed = [model.columns for model in models]
    found = [columns for columns in needed if columns is not None]
    if len(found) < len(needed):
        return None
    return list(dict.fromkeys([*(name for columns in found for name in columns), *others]))


def _call(signature: Any, examples: tf.Tensor) -> Mapping[str, tf.Tensor]:
    _, arguments = signature.structured_input_signature
    found: Mapping[str, tf.Tensor] = signature(**{next(iter(arguments)): examples})
    return found


def _tensors(packed: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    return {name: tf.convert_to_tensor(array) for name, array in packed.items()}


def _flat(tensor: tf.Tensor) -> np.ndarray:
    flat: np.ndarray = tensor.numpy().reshape(-1)
    return flat
