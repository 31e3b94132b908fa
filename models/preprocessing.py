"""The graph that Transform made of a preprocessing_fn, as the Trainer and the SavedModel use it: of packed columns.

It has an input for each column, so it is loaded and called once; whoever needs it calls that one function.
"""

import functools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import tf2_utils
from tensorflow_transform.tf_metadata import schema_utils

from kubetfx.arrays import Array
from kubetfx.models.examples import in_parts, read_ahead
from kubetfx.models.features import TEXT, raw_schema, role_of
from kubetfx.models.raw_inputs import Packed, RawInputs

TEXT_ROWS = 8_192
"""Rows that are preprocessed at a time where there is text: its operations take one core each, and threads share the
parts of a block."""


def rows_at_a_time(schema: schema_pb2.Schema) -> int | None:
    """Return how many rows are preprocessed at a time; None: all of a block.

    Args:
        schema: of the raw columns, with their roles.
    """
    return TEXT_ROWS if any(role_of(feature) == TEXT for feature in schema.feature) else None


class Preprocessing(tf.Module):
    """From the raw columns, packed, to features and label."""

    def __init__(self, output: tft.TFTransformOutput, *, without: Collection[str] = ()) -> None:
        """Load the graph, and trace it.

        Args:
            output: The output of Transform.
            without: columns that are not part of the preprocessing.
        """
        super().__init__()
        self.feature_spec = output.transformed_feature_spec()
        """What features and label are, by name."""
        schema = raw_schema(output)
        self._rows_at_a_time = rows_at_a_time(schema)
        self.raw_spec = schema_utils.schema_as_feature_spec(schema).feature_spec
        """How each column is read, those among them that are not part of the preprocessing."""
        self.inputs = RawInputs({name: column for name, column in self.raw_spec.items() if name not in without})
        """The columns, and how they are packed."""
        self._saved = tf.saved_model.load(output.transform_savedmodel_dir)
        of_packed = tf.function(lambda packed: self._of_columns(self.inputs.unpack(packed)), autograph=False)
        self._of_packed = of_packed.get_concrete_function(self.inputs.signature)

    def __call__(self, packed: Packed) -> dict[str, tf.Tensor]:
        """Return features and label, in a graph or outside of one.

        Args:
            packed: by `inputs`.
        """
        return dict(self._of_packed(packed))

    def of_block(self, block: pa.RecordBatch) -> dict[str, Array]:
        """Return features and label of a block of examples.

        Args:
            block: it has all columns of `inputs`.

        Returns:
            Arrays by name, each (rows, ...).
        """
        parts = [*in_parts(block, self._rows_at_a_time)] or [block]
        found = [*read_ahead([functools.partial(self._of_part, part) for part in parts])]
        if len(found) == 1:
            return found[0]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _of_part(self, part: pa.RecordBatch) -> dict[str, Array]:
        return {name: tensor.numpy() for name, tensor in self(self.inputs.pack(part)).items()}

    def _of_columns(self, columns: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        function = self._saved.transform_fn
        wanted = tf2_utils.get_structured_inputs_from_func_graph(function.graph)
        if missing := wanted.keys() - columns.keys():
            rows = tf.shape(next(iter(columns.values())))[0]
            columns = {**columns, **tf2_utils.supply_missing_inputs(wanted, rows, sorted(missing))}
        return dict(function(*tf.nest.flatten(dict(columns), expand_composites=True)))
