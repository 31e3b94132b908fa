"""The processes and devices that train one network together, and which rows of each batch are whose.

A team of one is the rule; `training.distribution` makes it larger. Each replica (a GPU, or the processor of a worker)
computes the gradients of its part of a batch, and tf.distribute adds them up: the batch stays the one of the config.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Share:
    """The parts of each batch that the replicas of a process have."""

    first: int = 0
    """Number of the first replica here, among all."""
    local: int = 1
    """Replicas here."""
    replicas: int = 1
    """All of them."""

    def divisible(self, batch_size: int, num_rows: int) -> int:
        """Return a batch size with which the last batch, too, has a row for each replica.

        Args:
            batch_size: The smallest size to return.
            num_rows: The number of rows of all batches.
        """
        while 0 < num_rows % batch_size < min(self.replicas, num_rows):
            batch_size += 1
        return batch_size

    @property
    def is_whole(self) -> bool:
        """Whether there is one replica, which has all rows."""
        return self.replicas == 1

    def of(self, batches: tf.data.Dataset, *, is_averaged: bool) -> tf.data.Dataset:
        """Cut batches.

        Args:
            batches: tuples of tensors, each (rows, ...).
            is_averaged: whether replicas average over their parts, and the team over its replicas, as they do with
                gradients. The weight makes that the average over the batch, also where its rows cannot be divided
                evenly. Otherwise each row counts once.

        Returns:
            Tuples of the same tensors and a weight, a scalar: the parts of this process, as many per batch as it has
            replicas. A part of no row has one that weighs nothing.
        """

        def part(tensors: tuple[tf.Tensor, ...], replica: tf.Tensor) -> tuple[tf.Tensor, ...]:
            rows = tf.shape(tensors[0], tf.int64)[0]
            start, end = rows * replica // self.replicas, rows * (replica + 1) // self.replicas
            if is_averaged:
                weight = tf.cast((end - start) * self.replicas, tf.float32) / tf.cast(rows, tf.float32)
            else:
                weight = tf.cast(end > start, tf.float32)
            return *(tensor[start : tf.maximum(end, start + 1)] for tensor in tensors), weight

        def parts(*tensors: tf.Tensor) -> tf.data.Dataset:
            numbers = tf.data.Dataset.range(self.first, self.first + self.local)
            return numbers.map(lambda replica: part(tensors, replica))

        return batches.flat_map(parts)


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return Keras' metrics as numbers.

    Args:
        metrics: tensors by name.
    """
    return {name: float(keras.ops.convert_to_numpy(value)) for name, value in metrics.items()}


@dataclass(frozen=True)
class Team:
    """Those who train together, as one of its processes sees them."""

    strategy: Any = field(default_factory=tf.distribute.get_strategy)
    """Strategy of tf.distribute."""
    number: int = 0
    """Number of this process; 0 is the chief, which writes what is to be kept."""
    size: int = 1
    """Processes that train."""

    @property
    def is_asynchronous(self) -> bool:
        """Whether workers commit without waiting for one another."""
        return False

    @property
    def is_chief(self) -> bool:
        """Whether this process writes checkpoints and exports the model."""
        return self.number == 0

    @property
    def replicas(self) -> int:
        """Devices that train, of all processes."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def share(self) -> Share:
        """What this process has of each batch of the team."""
        local = self.replicas // self.size
        return Share(self.number * local, local, self.replicas)

    @property
    def own_share(self) -> Share:
        """What its replicas have of each batch of this process alone."""
        local = self.replicas // self.size
        return Share(0, local, local)

    def iterate(self, batches: tf.data.Dataset) -> Iterator[Any]:
        """Return an iterator for `strategy.run`.

        Args:
            batches: of this process, as many per step as it has replicas. Nobody reads beyond their end.
        """
        if self.replicas == 1:
            return iter(batches)
        # With a dataset that may end, the team would ask one another before each step whether it has.
        endless = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        return iter(self.strategy.distribute_datasets_from_function(lambda _: endless))

    def describe(self) -> dict[str, float | int]:
        """Return what history.json says of it."""
        return {"workers": self.size, "replicas": self.replicas}

    def evaluate(self, step: Callable[[Any], Any], data: Any) -> None:
        """Do a step of validation, each replica with its part: in a graph.

        Args:
            step: a function of a batch.
            data: of `iterate`.
        """
        self.strategy.run(step, args=(data,))

    def measure(self, trained: Any, batches: Any) -> dict[str, float]:
        """Return Keras' metrics of the epoch so far.

        Args:
            trained: the model.
            batches: that it is trained on.
        """
        return numbers(trained.get_metrics_result())

    def train(self, steps: Callable[..., Any], batches: Iterator[Any], count: int) -> Any:
        """Do steps of training.

        Args:
            steps: a graph of several steps, which takes batches and the number of steps.
            batches: of `iterate`.
            count: The number of steps.

        Returns:
            Keras' metrics of the epoch so far.
        """
        return steps(batches, tf.constant(count))[0]

    def agree(self, wanted: bool) -> bool:
        """Have all processes do what the chief wants.

        Args:
            wanted: of this process.

        Returns:
            What the chief wants. All of the team have to ask at the same point of the training.
        """
        if self.size == 1:
            return wanted
        return bool(self._sum(tf.constant(float(wanted and self.is_chief))))

    @functools.cached_property
    def _sum(self) -> Any:
        """Function that sums a value over the replicas of all processes, as a graph that is made once."""

        @tf.function
        def total(value: tf.Tensor) -> Any:
            per_replica = self.strategy.run(lambda: value)
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

        return total

    def vary_seeds(self, variables: Sequence[Any]) -> None:
        """Have the layers of each process draw other random numbers.

        Otherwise dropout would leave out the same units in the same places of all parts of a batch.

        Args:
            variables: of a model, new or restored: random states among them are the chief's.
        """
        if not self.number:
            return
        for state in variables:
            if "seed_generator_state" in getattr(state, "path", ""):
                first, *others = tf.convert_to_tensor(state).numpy().tolist()
                state.assign(np.array([(first + self.number * 1_000_003) % 2**31, *others], state.dtype))
