"""The models of the folds of cross-validation as one: each has features of its own, and what they say is averaged.

They are taken from their SavedModels, so that it does not matter what they are: networks, trees, or the user's own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kubetfx.artifacts import PIXELS
from kubetfx.errors import TrainingError
from kubetfx.models.export import NETWORK, TRANSFORM_COLUMNS, raw_inputs_of
from kubetfx.models.features import LABEL
from kubetfx.models.raw_inputs import Packed
from kubetfx.serving.model_facts import ModelFacts, network_arguments, read_facts


class FoldModel:
    """The SavedModel of a fold."""

    def __init__(self, path: Path, *, number: int) -> None:
        """Load it.

        Args:
            path: folder of the SavedModel.
            number: The number of the fold, which is part of its features' names.

        Raises:
            TrainingError: features cannot be asked for, or kubetfx did not export it.
        """
        facts = read_facts(path)
        self.loaded = tf.saved_model.load(str(path))
        signatures = self.loaded.signatures
        if facts is None or not {NETWORK, TRANSFORM_COLUMNS} <= signatures.keys():
            raise TrainingError(
                "model.ensemble: folds joins models with the signatures `transform_columns` and `network`, which those "
                "that kubetfx trains have, unless a frozen schema has a column read in a way of its own. Received: one "
                f"with {', '.join(sorted(signatures))}. Give a number of networks, such as model.ensemble: 5."
            )
        self.facts: ModelFacts = facts
        self.transform, self.network = signatures[TRANSFORM_COLUMNS], signatures[NETWORK]
        self._number = number

    def joint_name(self, name: str) -> str:
        """Return the name of a feature among those of all folds. Pictures are decoded once for all.

        Args:
            name: The name of the feature in this fold.
        """
        return name if name == PIXELS else f"fold_{self._number}_{name}"

    @property
    def specs(self) -> dict[str, tf.TensorSpec]:
        """What the network takes, by joint name."""
        (_, arguments) = self.network.structured_input_signature
        by_argument = network_arguments({name: name for name in self.facts.network_inputs}, self.facts.network_inputs)
        return {self.joint_name(name): arguments[argument] for argument, name in by_argument.items()}


class JointPreprocessing(tf.Module):
    """From the raw columns, packed, to the features of every fold, and the label: as models/preprocessing.py's."""

    def __init__(self, members: Sequence[FoldModel], raw_spec: Mapping[str, Any]) -> None:
        """Take the preprocessing of each fold's model.

        Args:
            members: The models of the folds.
            raw_spec: how each column is read.
        """
        super().__init__()
        self.raw_spec = dict(raw_spec)
        """How each column is read, those among them that are not part of the preprocessing."""
        self.inputs = raw_inputs_of(members[0].facts)
        """The columns, and how they are packed."""
        self._loaded = [member.loaded for member in members]
        self._members = members
        made = {name: spec for member in members for name, spec in member.specs.items() if name != PIXELS}
        self.feature_spec = {name: tf.io.FixedLenFeature(spec.shape[1:], spec.dtype) for name, spec in made.items()}
        """What the features are, by name."""

    def __call__(self, packed: Packed) -> dict[str, tf.Tensor]:
        """Return features and label, in a graph or outside of one.

        Args:
            packed: by `inputs`.
        """
        found: dict[str, tf.Tensor] = {}
        for member in self._members:
            features = dict(member.transform(**packed))
            found |= {LABEL: features.pop(LABEL)}
            found |= {member.joint_name(name): tensor for name, tensor in features.items()}
        return found


class _Network(keras.layers.Layer):
    """The network of a fold, as it was saved."""

    def __init__(self, member: FoldModel, *, name: str) -> None:
        super().__init__(name=name, trainable=False)
        self._loaded = member.loaded
        self._function = member.network
        self._names = {member.joint_name(name): name for name in member.facts.network_inputs}
        self._order = member.facts.network_inputs

    def call(self, features: Mapping[str, Any]) -> Any:
        """Return (batch, outputs).

        Args:
            features: by joint name.
        """
        own = {self._names[name]: tensor for name, tensor in features.items()}
        return self._function(**network_arguments(own, self._order))["outputs"]


def mean_model(members: Sequence[FoldModel]) -> keras.Model:
    """Return a model whose answers are the mean of those of the folds' networks.

    Args:
        members: The models of the folds.

    Returns:
        A model from the features of all folds, by joint name, to probabilities (batch, classes), or values (batch, 1).
    """
    specs = {name: spec for member in members for name, spec in member.specs.items()}
    inputs = {name: keras.Input(spec.shape[1:], dtype=spec.dtype, name=name) for name, spec in specs.items()}
    outputs = [
        _Network(member, name=f"network_{number}")({name: inputs[name] for name in member.specs})
        for number, member in enumerate(members)
    ]
    return keras.Model(inputs, keras.layers.Average(name="mean", dtype="float32")(outputs), name="ensemble")
