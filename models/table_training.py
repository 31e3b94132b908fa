"""How a network for tables is trained.

An epoch is one graph, the members of an ensemble learn each for itself, and the weights that are validated and kept are
averages over the last steps.

The loop is in models/training_loop.py.
"""

from typing import Any

import keras
import tensorflow as tf

from kubetfx.arrays import Array
from kubetfx.models.team import Team
from kubetfx.models.training_loop import TrainedModel

_SHARE = 0.1
"""Weights are averaged over this share of the steps so far, at most: early ones are forgotten soon."""


class TrainedTable(TrainedModel):
    """A table's model as it is trained. The exported one has the mean of the members.

    Its output is (batch, outputs), or (batch, members, outputs).
    """

    average_steps = 0.0
    """Steps that weights are averaged over; 0: not at all."""

    @classmethod
    def of(
        cls, model: keras.Model, *, steps_per_call: int, average_steps: float, team: Team | None = None
    ) -> "TrainedTable":
        """Wrap a model.

        Args:
            model: from features to probabilities or values, of each member where there are several.
            steps_per_call: steps between two callbacks, at most.
            average_steps: that weights are averaged over; 0: not at all.
            team: who trains it; None: this process alone.

        Returns:
            A model that shares its layers.
        """
        trained = cls({tensor.name: tensor for tensor in model.inputs}, model.output, name="trained_network")
        trained.steps_per_call = steps_per_call
        trained.average_steps = average_steps
        trained.team = team or trained.team
        return trained

    @property
    def has_members(self) -> bool:
        """Whether it is an ensemble."""
        return len(self.output.shape) == 3

    def compile(self, *arguments: Any, **keywords: Any) -> None:
        """Compile as Keras does, and begin the averages.

        Args:
            arguments: Those of Keras' `compile`.
            keywords: Those of Keras' `compile`.
        """
        super().compile(*arguments, **keywords)
        self._averages = [tf.Variable(variable.value) for variable in self.trainable_variables]
        self._num_steps = tf.Variable(0.0)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None,
                     training: bool = True) -> Any:  # fmt: skip
        """Compute the loss: in training that of each member, in validation that of the members' mean.

        Args:
            x: features.
            y: (batch, ...) labels.
            y_pred: (batch, members, outputs).
            sample_weight: (batch,).
            training: Whether this is a training step rather than validation.

        Returns:
            The loss, a scalar.
        """
        if self.has_members and training:
            members = y_pred.shape[1]
            y = tf.repeat(y, members, axis=0)
            y_pred = tf.reshape(y_pred, (-1, y_pred.shape[2]))
            sample_weight = None if sample_weight is None else tf.repeat(sample_weight, members, axis=0)
        elif self.has_members:
            y_pred = tf.reduce_mean(y_pred, axis=1)
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Compute the metrics of the members' mean.

        Args:
            x: features.
            y: (batch, ...) labels.
            y_pred: (batch, members, outputs).
            sample_weight: (batch,).

        Returns:
            Metrics by name.
        """
        if self.has_members:
            y_pred = tf.reduce_mean(y_pred, axis=1)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def after_step(self) -> None:
        """Bring the averages up to date."""
        if self.average_steps:
            self._num_steps.assign_add(1.0)
            window = tf.clip_by_value(_SHARE * self._num_steps, 1.0, max(self.average_steps, 1.0))
            for average, variable in zip(self._averages, self.trainable_variables, strict=True):
                average.assign_add((variable.value - average) / window)

    @property
    def changing_variables(self) -> list[Any]:
        """All that a checkpoint has to hold, in an order that depends on the config alone."""
        return [*super().changing_variables, *self._averages, self._num_steps]

    def swap(self, weights: list[Array] | None = None) -> list[Array]:
        """Replace the weights by their averages, or by other weights.

        Args:
            weights: The weights to put in; None: the averages.

        Returns:
            The weights from before.
        """
        before = [variable.numpy() for variable in self.trainable_variables]
        for variable, other in zip(self.trainable_variables, weights or self._averages, strict=True):
            variable.assign(other)
        return before


class AveragedWeights(keras.callbacks.Callback):
    """Has the averages validated and kept, by the callbacks after it, and training go on with the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Array] = []
        """Weights from before a validation, until the next epoch begins."""

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Replace the weights by the averages: the steps of the epoch are over, and its validation begins."""
        self.weights = self.model.swap()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the weights from before the validation back."""
        if self.weights:
            self.model.swap(self.weights)
            self.weights = []
