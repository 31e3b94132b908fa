"""Asking an exported model for the label and the answer of rows of examples, as the Evaluator does."""

from collections.abc import Iterable, Mapping, Sequence
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

    Where the network takes what preprocessing makes, the two are asked one by one, and preprocessing is given columns.
    Models of images, and those of earlier versions, are asked with tf.Examples.
    """

    def __init__(self, path: Path, *, output: str, also: Sequence[str] = (), optimize_graph: bool = True) -> None:
        """Load it.

        Args:
            path: folder of the SavedModel.
            output: of `serving_examples` that is wanted: `probabilities` or `value`.
            also: signatures that are going to be called besides.
            optimize_graph: see SavedModel.
        """
        self._output = output
        facts, signatures = read_facts(path), read_signatures(path)
        self.is_image = facts is not None and facts.image is not None
        takes_columns = facts is not None and TRANSFORM_COLUMNS in signatures
        self._transform = TRANSFORM_COLUMNS if takes_columns else _TRANSFORM
        self._network_inputs = facts.network_inputs if facts is not None else ()
        made = signatures[self._transform].outputs if self._transform in signatures else ()
        self.has_features = bool(self._network_inputs) and set(self._network_inputs) <= set(made)
        """Whether `features` and `outputs` can be asked."""
        self._inputs = raw_inputs_of(facts) if takes_columns and self.has_features and facts is not None else None
        own = (self._transform, NETWORK) if self.has_features else (_TRANSFORM, _EXAMPLES)
        self._model = SavedModel(path, only=(*own, *also), scheduling="pool", optimize_graph=optimize_graph)

    def close(self) -> None:
        """Free the session."""
        self._model.close()

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Columns that a block has to have; None: all that the examples have."""
        return None if self._inputs is None else self._inputs.columns

    def ask(self, block: pa.RecordBatch) -> tuple[Array, Array]:
        """Ask for labels and answers.

        Args:
            block: rows of examples.

        Returns:
            (rows,) index of the class, or number; and (rows, classes) probabilities, or (rows,) values.
        """
        if self.has_features:
            features = self.features(block)
            return features[LABEL].reshape(-1), self.outputs(features)
        rows = {"examples": to_examples(block)}
        label = self._model.signature(_TRANSFORM)(rows, [LABEL])[LABEL].reshape(-1)
        return label, self.answer(_EXAMPLES, rows)

    def features(self, block: pa.RecordBatch) -> dict[str, Array]:
        """Return what preprocessing makes of rows: the features and the label, each (rows, ...).

        Args:
            block: rows of examples.
        """
        wanted = list(dict.fromkeys((LABEL, *self._network_inputs)))
        if self._inputs is None:
            return self._model.signature(_TRANSFORM)({"examples": to_examples(block)}, wanted)
        packed = {name: np.asarray(tensor) for name, tensor in self._inputs.pack(block).items()}
        return self._model.signature(TRANSFORM_COLUMNS)(packed, wanted)

    def outputs(self, features: Mapping[str, Array]) -> Array:
        """Return (rows, classes) probabilities, or (rows,) values.

        Args:
            features: of the rows, as `features` returns them.
        """
        return self._shaped(
            self._model.signature(NETWORK)(network_arguments(features, self._network_inputs))["outputs"]
        )

    def answer(self, signature: str, arrays: Mapping[str, Any]) -> Array:
        """Return (rows, classes) probabilities, or (rows,) values.

        Args:
            signature: one that clients call.
            arrays: its inputs.
        """
        return self._shaped(self._model.signature(signature)(arrays, [self._output])[self._output])

    def _shaped(self, outputs: Array) -> Array:
        return outputs.reshape(-1) if self._output == "value" else outputs


def columns_to_read(models: Iterable[AskedModel], others: Sequence[str]) -> list[str] | None:
    """Columns that some models and whoever else need; None: all, since one of the models needs tf.Examples."""
    needed = [model.columns for model in models]
    found = [columns for columns in needed if columns is not None]
    if len(found) < len(needed):
        return None
    return list(dict.fromkeys([*(name for columns in found for name in columns), *others]))
