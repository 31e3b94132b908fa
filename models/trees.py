"""Boosted trees: LightGBM on the transformed columns, and what it learns as a Keras model like any other."""

import functools
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from kubetfx.arrays import Array
from kubetfx.config.model_section import TreesConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.cores import num_cores
from kubetfx.errors import TrainingError
from kubetfx.models.features import LABEL, Features
from kubetfx.models.forest import Forest
from kubetfx.models.forest_tables import Tree, read_trees, tabulate
from kubetfx.models.optimization import class_weights
from kubetfx.models.training_record import Fitted, environment, write_curves
from kubetfx.models.training_rows import TrainingRows
from kubetfx.models.tree_columns import Codes, Spec, SplitColumns

MIN_ROUNDS, MAX_ROUNDS = 100, 2_000
MIN_RATE, MAX_RATE = 0.05, 0.2
_CELLS_OF_ALL_TREES = 4e9
"""Numbers that are looked at in all rounds: about ten seconds of two cores."""
_MANY_CELLS_ROUNDS = 500
"""Where fewer rounds are affordable, each is made cheaper."""
_RATE_OF_ALL_TREES = 20
"""Rounds times rate after which little is left to learn."""
_RATE_OF_PATIENCE = 5
"""The same of the rounds that early stopping waits for a better one."""
_FEW_ROWS = 3_000
_CELLS_OF_A_THREAD = 100_000
"""Numbers that are worth another thread."""

Params = dict[str, Any]


def fit_trees(
    train: TrainingRows,
    validation: TrainingRows,
    spec: Spec,
    *,
    features: Features,
    config: TreesConfig,
    training: TrainingConfig,
    log_folder: Path,
    watch: Callable[[int, Callable[[], Array]], None] | None = None,
) -> Fitted:
    """Train trees until the validation loss no longer falls.

    Args:
        train: rows of training.
        validation: rows by which training stops.
        spec: The spec of the transformed features.
        features: the columns.
        config: the section `model.trees`.
        training: the section `training`: its weights of classes and its seed.
        log_folder: where TensorBoard's event files go.
        watch: Is called after each round, as `Watch` in models/fitting.py describes.

    Returns:
        The model of the best round.

    Raises:
        TrainingError: the rows are more than `training.cache_bytes` lets be kept in memory.
    """
    # Threads that wait for each other in a loop take what others, or a container's quota, leave them of the time.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when LightGBM is loaded
    import lightgbm

    columns = SplitColumns(features, spec, name="columns")
    matrices = [_matrix(rows, columns, training) for rows in (train, validation)]
    categories = range(columns.num_numbers, columns.num_numbers + columns.num_categories)
    codes = Codes.of(matrices[0], categories)
    for matrix in matrices:
        codes.encode(matrix)
    by_class = class_weights(training, train.labels, classes=features.classes, row_weights=train.weights)
    weights = train.weights
    if by_class is not None:
        of_class = np.array(list(by_class.values()))[train.labels]
        weights = of_class if weights is None else of_class * weights
    parameters = _parameters(config, training, shape=matrices[0].shape, num_classes=len(features.classes))
    most_rounds, patience = parameters.pop("num_iterations"), parameters.pop("early_stopping_rounds")
    options: dict[str, Any] = {"params": parameters, "categorical_feature": list(categories)}
    data = lightgbm.Dataset(matrices[0], train.labels, weight=weights, **options)
    held_out = lightgbm.Dataset(matrices[1], validation.labels, weight=validation.weights, reference=data, **options)
    losses: dict[str, dict[str, list[float]]] = {}
    times = [time.perf_counter()]
    booster = lightgbm.train(
        parameters,
        data,
        num_boost_round=most_rounds,
        valid_sets=[data, held_out],
        valid_names=["loss", "val_loss"],
        callbacks=[
            lightgbm.early_stopping(patience, verbose=False),
            lightgbm.record_evaluation(losses),
            lambda _: times.append(time.perf_counter()),
            *([functools.partial(_tell, watch, matrices[1])] if watch else []),
        ],
    )
    trees = codes.decode(read_trees(booster.model_to_string(num_iteration=booster.best_iteration)))
    variance = 1.0 if features.classes else float(train.labels.var(dtype=np.float64)) or 1.0  # as of a network's loss
    history = {name: [value / variance for value in next(iter(own.values()))] for name, own in losses.items()}
    write_curves(log_folder, history)
    rounds = len(history["loss"])
    logging.info("%d trees of %d rounds, the best of %d.", len(trees), booster.best_iteration, rounds)
    document = {
        "kind": "trees",
        "epochs": rounds,
        "best_epoch": booster.best_iteration,
        "epochs_asked": most_rounds,
        "stopped_early": rounds < most_rounds,
        "history": history,
        "seconds": np.diff(times).tolist(),
        "rows": train.num_rows,
        "seed": training.seed,
        "trees": len(trees),
        "parameters": sum(len(tree.leaves) for tree in trees),
        "optimizer": f"LightGBM, learning rate {parameters['learning_rate']:g}",
        **environment(),
    }
    return Fitted(tree_model(trees, columns, spec, num_classes=len(features.classes)), document)


def _tell(watch: Callable[[int, Callable[[], Array]], None], matrix: Array, told: Any) -> None:
    """Tell a watch of a round, as a callback of LightGBM."""

    def predictions() -> Array:
        found: Array = told.model.predict(matrix, num_iteration=told.iteration + 1)
        is_binary = found.ndim == 1 and told.params["objective"] == "binary"
        return np.stack([1 - found, found], axis=1) if is_binary else found.reshape(len(matrix), -1)

    watch(told.iteration + 1, predictions)


def tree_model(trees: Sequence[Tree], columns: SplitColumns, spec: Spec, *, num_classes: int) -> keras.Model:
    """Make a Keras model of an ensemble.

    Args:
        trees: with the values that `columns` makes as thresholds and categories.
        columns: from features to what the trees split.
        spec: The spec of the transformed features.
        num_classes: 0 for a regression.

    Returns:
        A model from the features to probabilities (batch, classes) or values (batch, 1), float32.
    """
    inputs = {
        name: keras.Input(own.shape, name=name, dtype=own.dtype.name) for name, own in spec.items() if name != LABEL
    }
    forest = Forest(tabulate(trees), num_outputs=num_classes if num_classes > 2 else 1, name="trees")
    return keras.Model(inputs, _Answer(num_classes, name="answer")(forest(columns(inputs))), name="trees")


class _Answer(keras.layers.Layer):
    """From sums of leaves, (batch, outputs) float64, to probabilities or values, float32."""

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(trainable=False, dtype="float64", **options)
        self._num_classes = num_classes

    def compute_output_spec(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor((inputs.shape[0], self._num_classes or 1), dtype="float32")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if self._num_classes > 2:
            inputs = tf.nn.softmax(inputs)
        elif self._num_classes:
            inputs = tf.sigmoid(tf.concat([-inputs, inputs], axis=1))
        return tf.cast(inputs, tf.float32)


def _matrix(rows: TrainingRows, columns: SplitColumns, training: TrainingConfig) -> Array:
    """Return (rows, columns) float32, which LightGBM wants whole."""
    if rows.arrays is None:
        raise TrainingError(
            f"Trees are trained on all rows in memory. Received: {rows.num_rows:,} rows, which take more than "
            f"training.cache_bytes: {training.cache_bytes:,}. Raise it as far as there is memory for twice as much, or "
            "set model.kind: network, which reads its rows in each epoch."
        )
    features = {name: tf.constant(array) for name, array in rows.arrays.items() if name != LABEL}
    with tf.device("CPU:0"):
        matrix: Array = columns(features).numpy()
    return matrix


def _parameters(config: TreesConfig, training: TrainingConfig, *, shape: tuple[int, int], num_classes: int) -> Params:
    """Return LightGBM's parameters.

    They are the config's, what follows from the shape of the training rows and from the task, and what makes trees
    independent of the number of threads.
    """
    trees_of_a_round = num_classes if num_classes > 2 else 1
    cells = math.prod(shape)
    affordable = int(np.clip(_CELLS_OF_ALL_TREES / (cells * trees_of_a_round), MIN_ROUNDS, MAX_ROUNDS))
    are_many = affordable < _MANY_CELLS_ROUNDS
    rounds = config.num_iterations or affordable
    lowest_rate = MIN_RATE if trees_of_a_round == 1 else 2 * MIN_RATE  # trees of many classes are many
    rate = config.learning_rate or float(np.clip(_RATE_OF_ALL_TREES / rounds, lowest_rate, MAX_RATE))
    return {
        **config.model_dump(),
        "num_iterations": rounds,
        "learning_rate": rate,
        "early_stopping_rounds": config.early_stopping_rounds or math.ceil(_RATE_OF_PATIENCE / rate),
        "num_leaves": config.num_leaves or (31 if shape[0] >= _FEW_ROWS else 15),
        "bagging_fraction": config.bagging_fraction or (0.5 if are_many else 0.8),
        "bagging_freq": 1,
        "max_bin": config.max_bin or (63 if are_many else 255),
        "objective": "multiclass" if num_classes > 2 else "binary" if num_classes else "regression",
        "num_class": trees_of_a_round,
        "seed": training.seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": min(num_cores(), cells // _CELLS_OF_A_THREAD + 1),
        "verbosity": -1,
    }
