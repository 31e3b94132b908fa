"""Training with parameter servers: workers learn at their own pace, and commit to weights that servers keep.

The chief writes the rows to files, a folder per worker, and hands out steps: a worker reads the weights, computes the
gradients of a batch of its own, and commits them, whatever others have committed meanwhile. How many commits of others
came between is the staleness, which history.json has.

The workers are TensorFlow's servers and run nothing but graphs, so rows come from files as tf.data reads them. A
worker's own folder is below its working directory: the graph is the same for all.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kubetfx.models.features import LABEL, WEIGHT
from kubetfx.models.prefetching import fetched_ahead
from kubetfx.models.team import Team, numbers
from kubetfx.models.training_rows import TrainingRows

ROWS = "rows"
"""Folder in the job's folder, with a folder per worker; also the name of a worker's own in its working directory."""
FILES = 16
"""Files of each worker: their order is drawn again in each epoch, and that of rows within a buffer."""
BUFFER_ROWS = 100_000
SAMPLE_ROWS = 10_000
"""Training rows whose loss is measured after each epoch."""
STEPS_PER_CALL = 50
"""Steps that are handed to a worker at a time, at most."""


@dataclass
class Staleness:
    """How many commits of others came between a worker's look at the weights and its own commit."""

    steps: int = 0
    total: float = 0.0
    most: int = 0

    def add(self, steps: int, total: float, most: int) -> None:
        """Count steps.

        Args:
            steps: The number of steps.
            total: The sum of their staleness.
            most: The maximum of their staleness.
        """
        self.steps, self.total, self.most = self.steps + steps, self.total + total, max(self.most, most)


@dataclass(frozen=True)
class AsynchronousTeam(Team):
    """The chief's view of workers that do not wait for one another."""

    workers: int = 1
    folder: Path = Path()
    """Folder of the job, which all workers see."""
    staleness: Staleness = field(default_factory=Staleness)
    coordinator: Any = None
    """tf.distribute's ClusterCoordinator."""

    @property
    def is_asynchronous(self) -> bool:
        """See Team."""
        return True

    def iterate(self, batches: Any) -> Iterator[Any]:
        """See Team.

        Args:
            batches: of the workers or, for the validation, of the chief.
        """
        if isinstance(batches, WorkerBatches):
            found: Iterator[Any] = iter(self.coordinator.create_per_worker_dataset(batches.make))
            return found
        return iter(batches)

    def measure(self, trained: Any, batches: "WorkerBatches") -> dict[str, float]:
        """Return Keras' metrics of a sample of the training rows, with the weights as they are.

        What workers count together is lost where two add to it at a time.

        Args:
            trained: the model.
            batches: of the workers.
        """
        trained.reset_metrics()
        for batch in batches.sample:
            trained.test_step(batch)
        return numbers(trained.get_metrics_result())

    def describe(self) -> dict[str, float | int]:
        """See Team."""
        counted = self.staleness
        mean = round(counted.total / max(counted.steps, 1), 3)
        return {
            "workers": self.workers,
            "replicas": self.workers,
            "mean_staleness": mean,
            "most_staleness": counted.most,
        }

    def evaluate(self, step: Callable[[Any], Any], data: Any) -> None:
        """See Team: the chief evaluates by itself.

        Args:
            step: A function that does a step of validation.
            data: A batch.
        """
        step(data)

    def train(self, steps: Callable[..., Any], batches: Iterator[Any], count: int) -> Any:
        """See Team: steps are handed to whichever worker is free.

        Args:
            steps: a graph of several steps.
            batches: of each worker.
            count: The number of steps.

        Returns:
            What one of the graphs returned.
        """
        per_call = min(STEPS_PER_CALL, math.ceil(count / (2 * self.workers)))
        sizes = [min(per_call, count - start) for start in range(0, count, per_call)]
        answers = [self.coordinator.schedule(steps, args=(batches, tf.constant(size))) for size in sizes]
        self.coordinator.join()
        found = None
        for answer, size in zip(answers, sizes, strict=True):
            found, behind, most = answer.fetch()
            self.staleness.add(size, float(behind), int(most))
        return found


class WorkerBatches:
    """Batches that each worker makes for itself, when it is asked to.

    Args:
        make: the dataset; a graph of core operations.
        sample: a few batches of all rows, with which the chief measures what was learned.
    """

    def __init__(self, make: Callable[[], tf.data.Dataset], sample: tf.data.Dataset) -> None:
        self.make = make
        self.sample = sample

    def apply(self, transformation: Callable[[tf.data.Dataset], tf.data.Dataset]) -> "WorkerBatches":
        """See tf.data.Dataset.

        Args:
            transformation: makes a dataset of another one, out of core operations.

        Returns:
            The batches after it.
        """
        return WorkerBatches(lambda: transformation(self.make()), transformation(self.sample))


class WorkerRows(TrainingRows):
    """Rows of training as they are for the workers of an AsynchronousTeam."""

    def shuffled_batches(self, batch_size: int, *, seed: int, epochs: range, first_step: int = 0) -> Any:
        """See TrainingRows. Nobody knows whose step comes first, so the order is another in each training.

        Args:
            batch_size: rows of a batch.
            seed: not used.
            epochs: not used: a worker goes through its rows repeatedly.
            first_step: not used.
        """
        assert isinstance(self.team, AsynchronousTeam)
        kinds = _write(self, self.team.folder / ROWS, self.team.workers)
        return WorkerBatches(lambda: _read(kinds, batch_size), self.batches(SAMPLE_ROWS).take(1))


@dataclass(frozen=True)
class _Kind:
    """What the bytes of a row mean, in their order."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


def _write(rows: TrainingRows, folder: Path, workers: int) -> list[_Kind]:
    """Deal the rows to files, a row to each in turn."""
    kinds: list[_Kind] = []
    paths = [folder / str(worker) / str(number) for number in range(FILES) for worker in range(workers)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        position = 0
        for features, label, *weight in rows.batches(65_536).as_numpy_iterator():
            arrays = {**features, LABEL: label, **({WEIGHT: weight[0]} if weight else {})}
            kinds = kinds or [_Kind(name, array.dtype, array.shape[1:]) for name, array in sorted(arrays.items())]
            parts = [np.ascontiguousarray(arrays[kind.name]).reshape(len(label), -1) for kind in kinds]
            records = np.concatenate([part.view(np.uint8).reshape(len(label), -1) for part in parts], axis=1)
            for number, file in enumerate(files):
                file.write(np.ascontiguousarray(records[(number - position) % len(files) :: len(files)]).data)
            position += len(label)
    return kinds


def _read(kinds: list[_Kind], batch_size: int) -> tf.data.Dataset:
    """Return batches of the worker that runs this, without end."""
    names = tf.data.Dataset.from_tensor_slices([f"{ROWS}/{number}" for number in range(FILES)])
    record_bytes = sum(kind.num_bytes for kind in kinds)
    records = names.shuffle(FILES).interleave(
        lambda name: tf.data.FixedLengthRecordDataset(name, record_bytes), cycle_length=FILES, block_length=64
    )
    batches = records.shuffle(BUFFER_ROWS).repeat().batch(batch_size)
    return fetched_ahead(batches.map(lambda batch: _decoded(batch, kinds)), 2)


def _decoded(records: tf.Tensor, kinds: list[_Kind]) -> tuple[Any, ...]:
    cells = tf.io.decode_raw(records, tf.uint8)
    found, start = {}, 0
    for kind in kinds:
        part = tf.reshape(cells[:, start : start + kind.num_bytes], [-1, *kind.shape, kind.dtype.itemsize])
        found[kind.name] = tf.bitcast(part, tf.as_dtype(kind.dtype)) if kind.dtype.itemsize > 1 else part[..., 0]
        start += kind.num_bytes
    names = (LABEL, WEIGHT) if WEIGHT in found else (LABEL,)
    return found, *(found.pop(name) for name in names)
