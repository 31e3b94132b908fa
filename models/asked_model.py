"""Asking an exported model for rows of examples, as Evaluator and report do: features first, then the network."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from kubetfx.arrays import Array
from kubetfx.artifacts import IMAGE_BYTES, PIXELS
from kubetfx.models.columns.image.pixel_signatures import DECODE
from kubetfx.models.columns.image.pixels import Pixels
from kubetfx.models.examples import to_examples
from kubetfx.models.export import NETWORK, TRANSFORM_COLUMNS, raw_inputs_of
from kubetfx.models.features import LABEL
from kubetfx.serving.model_facts import network_arguments, read_facts
from kubetfx.serving.saved_model import SavedModel, read_signatures

_EXAMPLES, _TRANSFORM, _RAW = "serving_examples", "transform_features", "serving_default"


class AskedModel:
    """A SavedModel that is asked for blocks of rows.

    Only the part of its graph that is used here is loaded. Models that have no signature for columns, those of earlier
    versions and of some frozen schemas, are asked with tf.Examples.
    """

    def __init__(self, path: Path, *, optimize_graph: bool = True, with_raw_columns: bool = False) -> None:
        """Load it.

        Args:
            path: folder of the SavedModel.
            optimize_graph: whether to; for a thousand columns it takes seconds, which many rows are worth.
            with_raw_columns: whether `outputs_of_columns` will be called.

        Raises:
            ValueError: kubetfx did not export it.
        """
        facts = read_facts(path)
        if facts is None:
            raise ValueError(f"kubetfx did not export this model. Received: {path}.")
        self.facts = facts
        signatures = read_signatures(path)
        decodes = [DECODE] if DECODE in signatures else []
        transform = TRANSFORM_COLUMNS if TRANSFORM_COLUMNS in signatures else _TRANSFORM
        made = {*signatures[transform].outputs, *([PIXELS] if facts.image else [])}
        self.has_features = bool(facts.network_inputs) and made.issuperset(facts.network_inputs)
        """Whether features can be asked for, and the network by itself."""
        takes_columns = self.has_features and TRANSFORM_COLUMNS in signatures
        self._inputs = raw_inputs_of(facts) if takes_columns else None
        network = [NETWORK, *decodes] if self.has_features else [_EXAMPLES]
        raw = [_RAW] if with_raw_columns else []
        only = [TRANSFORM_COLUMNS if takes_columns else _TRANSFORM, *network, *raw]
        self._model = SavedModel(path, only=only, scheduling="pool", optimize_graph=optimize_graph)

    def close(self) -> None:
        """Free the session."""
        self._model.close()

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Columns that a block has to have; None: all that the examples have."""
        return None if self._inputs is None else (*self._inputs.columns, *self.facts.image_columns)

    def ask(self, block: pa.RecordBatch) -> tuple[Array, Array, dict[str, Array]]:
        """Ask for labels and answers.

        Args:
            block: rows of examples.

        Returns:
            (rows,) index of the class, or number; (rows, classes) probabilities, or (rows,) values; and the features
            that the network was asked with, each (rows, ...): none of a model that `has_features` says to have none.
        """
        if self.has_features:
            features = self.features(block)
            return features.pop(LABEL).reshape(-1), self.outputs(features), features
        rows = {"examples": to_examples(block)}
        answer = self._model.signature(_EXAMPLES)(rows, [self._answer])[self._answer]
        return self._model.signature(_TRANSFORM)(rows, [LABEL])[LABEL].reshape(-1), self._shaped(answer), {}

    def features(self, block: pa.RecordBatch) -> dict[str, Array]:
        """Ask for what the network takes, of a model that `has_features`.

        Args:
            block: rows of examples.

        Returns:
            Features and label by name, each (rows, ...).
        """
        found = self.transformed(block)
        for column in self.facts.image_columns:
            found |= self._decoded(_as_sent(block.column(column), "string"))
        return found

    @property
    def transformed_columns(self) -> tuple[str, ...] | None:
        """Columns that a block has to have for `transformed`; None: all that the examples have."""
        return None if self._inputs is None else tuple(self._inputs.columns)

    def transformed(self, block: pa.RecordBatch) -> dict[str, Array]:
        """Ask for what Transform makes of rows: what the network takes, but for pictures.

        Args:
            block: rows of examples.

        Returns:
            Label, and features if the model has them, by name, each (rows, ...).
        """
        names = [name for name in self.facts.network_inputs if name != PIXELS] if self.has_features else []
        wanted = list(dict.fromkeys((LABEL, *names)))
        if self._inputs is None:
            return self._model.signature(_TRANSFORM)({"examples": to_examples(block)}, wanted)
        packed = {name: np.asarray(tensor) for name, tensor in self._inputs.pack(block).items()}
        return self._model.signature(TRANSFORM_COLUMNS)(packed, wanted)

    def _decoded(self, contents: Array) -> dict[str, Array]:
        if DECODE in self._model.signatures:
            return self._model.signature(DECODE)({IMAGE_BYTES: contents})
        decoded = Pixels.of_facts(self.facts).features(tf.constant(contents, tf.string))  # an earlier version's model
        return {name: tensor.numpy() for name, tensor in decoded.items()}

    def outputs(self, features: Mapping[str, Array]) -> Array:
        """Ask the network.

        Args:
            features: by name, each (rows, ...).

        Returns:
            (rows, classes) probabilities, or (rows,) values.
        """
        arguments = network_arguments(features, self.facts.network_inputs)
        return self._shaped(self._model.signature(NETWORK)(arguments)["outputs"])

    def gradient(self, features: Mapping[str, Array], weights: Array) -> Array:
        """Ask for the gradient of `sum(weights * outputs)` by the pixels.

        Args:
            features: by name, each (rows, ...), with PIXELS.
            weights: (rows, classes).

        Returns:
            An array of the shape of the pixels.
        """
        arguments = network_arguments(features, self.facts.network_inputs)
        return self._model.gradient(NETWORK, arguments, output="outputs", by=PIXELS, weights=weights)

    def raw_columns(self, block: pa.RecordBatch) -> dict[str, Array]:
        """Turn rows into what clients send.

        Args:
            block: rows of examples.

        Returns:
            (rows,) by input of `serving_default`; of lists (rows, 1), with all values in one text.
        """
        facts = self.facts
        sent = {name: _as_sent(block.column(name), facts.columns[name]) for name in facts.inputs}
        return {facts.served_name(n): cells[:, None] if n in facts.separators else cells for n, cells in sent.items()}

    def outputs_of_columns(self, columns: Mapping[str, Array]) -> Array:
        """Ask as clients do.

        Args:
            columns: The columns of `raw_columns`.

        Returns:
            (rows, classes) probabilities, or (rows,) values.
        """
        return self._shaped(self._model.signature(_RAW)(columns, [self._answer])[self._answer])

    @property
    def _answer(self) -> str:
        return "probabilities" if self.facts.classes else "value"

    def _shaped(self, outputs: Array) -> Array:
        return outputs if self.facts.classes else outputs.reshape(-1)


def _as_sent(array: pa.Array, dtype: str) -> Array:
    if dtype == "string":
        texts: Array = pc.fill_null(array.cast(pa.binary()), b"").to_numpy(zero_copy_only=False)
        return texts
    numbers: Array = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers.astype(np.float32) if dtype == "float32" else numbers


def columns_to_read(models: Iterable[AskedModel], others: Sequence[str]) -> list[str] | None:
    """Find the columns that some models and whoever else need.

    Args:
        models: to be asked.
        others: columns that somebody else needs.

    Returns:
        Their names; None: all columns, since one of the models needs tf.Examples.
    """
    needed = [model.columns for model in models]
    found = [columns for columns in needed if columns is not None]
    if len(found) < len(needed):
        return None
    return list(dict.fromkeys([*(name for columns in found for name in columns), *others]))
