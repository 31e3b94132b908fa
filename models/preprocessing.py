"""The graph that Transform made of a preprocessing_fn, as the Trainer and the SavedModel use it: of packed columns.

It has an input for each column, so it is loaded and called once; whoever needs it calls that one function.
"""

from collections.abc import Collection, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import tf2_utils
from tensorflow_transform.tf_metadata import schema_utils

from kubetfx.models.features import raw_schema
from kubetfx.models.raw_inputs import Packed, RawInputs


class Preprocessing(tf.Module):
    """From the raw columns, packed, to features and label."""

    def __init__(self, output: tft.TFTransformOutput, *, without: Collection[str] = ()) -> None:
        """Load the graph, and trace it.

        Args:
            output: The output of Transform.
            without: columns that are no part of the preprocessing.
        """
        super().__init__()
        self.feature_spec = output.transformed_feature_spec()
        """What features and label are, by name."""
        self.raw_spec = schema_utils.schema_as_feature_spec(raw_schema(output)).feature_spec
        """How each column is read, those among them that are no part of the preprocessing."""
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

    def _of_columns(self, columns: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        function = self._saved.transform_fn
        wanted = tf2_utils.get_structured_inputs_from_func_graph(function.graph)
        if missing := wanted.keys() - columns.keys():
            rows = tf.shape(next(iter(columns.values())))[0]
            columns = {**columns, **tf2_utils.supply_missing_inputs(wanted, rows, sorted(missing))}
        return dict(function(*tf.nest.flatten(dict(columns), expand_composites=True)))
