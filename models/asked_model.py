"""Asking an exported model for the label and the answer of rows of examples, as the Evaluator does."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kubetfx.models.examples import to_examples
from kubetfx.models.export import NETWORK, TRANSFORM_COLUMNS, raw_inputs_of
from kubetfx.models.features import LABEL
from kubetfx.serving.model_facts import network_arguments, read_facts
from kubetfx.serving.saved_model import SavedModel, read_signatures

Array = np.ndarray[Any, Any]

_EXAMPLES, _TRANSFORM = "serving_examples", "transform_features"


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
        self._output = output
        facts = read_facts(path)
        self.is_image = facts is not None and facts.image is not None
        takes_columns = facts is not None and TRANSFORM_COLUMNS in read_signatures(path)
        self._facts = facts
        self._inputs = raw_inputs_of(facts) if takes_columns and facts is not None else None
        only = (_EXAMPLES, _TRANSFORM) if self._inputs is None else (TRANSFORM_COLUMNS, NETWORK)
        self._model = SavedModel(path, only=only, scheduling="pool")  # operations on thousands of rows: in parallel

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Columns that a block has to have; None: all that the examples have."""
        return None if self._inputs is None else self._inputs.columns

    def ask(self, block: pa.RecordBatch) -> tuple[Array, Array]:
        """Labels and answers.

        Args:
            block: rows of examples.

        Returns:
            (rows,) index of the class, or number; and (rows, classes) probabilities, or (rows,) values.
        """
        if self._inputs is None or self._facts is None:
            rows = {"examples": to_examples(block)}
            answer = self._model.signature(_EXAMPLES)(rows, [self._output])[self._output]
            return self._model.signature(_TRANSFORM)(rows, [LABEL])[LABEL].reshape(-1), answer
        packed = {name: np.asarray(tensor) for name, tensor in self._inputs.pack(block).items()}
        wanted = list(dict.fromkeys((LABEL, *self._facts.network_inputs)))
        features = self._model.signature(TRANSFORM_COLUMNS)(packed, wanted)
        arguments = network_arguments(features, self._facts.network_inputs)
        outputs = self._model.signature(NETWORK)(arguments)["outputs"]
        return features[LABEL].reshape(-1), outputs if self._facts.classes else outputs.reshape(-1)


def columns_to_read(models: Iterable[AskedModel], others: Sequence[str]) -> list[str] | None:
    """Columns that some models and whoever else need; None: all, since one of the models needs tf.Examples."""
    needed = [model.columns for model in models]
    found = [columns for columns in needed if columns is not None]
    if len(found) < len(needed):
        return None
    return list(dict.fromkeys([*(name for columns in found for name in columns), *others]))
