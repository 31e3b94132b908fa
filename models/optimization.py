"""How a network learns: its loss, the optimizer and its schedule, early stopping, and the weights of classes."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kubetfx.arrays import Array
from kubetfx.config.training_section import TrainingConfig
from kubetfx.errors import ConfigError
from kubetfx.models.layers import FittedLayer
from kubetfx.models.prefetching import fetched_ahead
from kubetfx.user_code import load_object

Loss = Callable[[Any, Any], Any]


def compile_model(
    model: keras.Model,
    training: TrainingConfig,
    *,
    labels: Array,
    num_steps: int,
    is_classifier: bool,
    has_one_hot_labels: bool,
) -> None:
    """Give a model its loss, metrics and optimizer.

    Args:
        model: from features to probabilities (batch, classes), or to values (batch, 1).
        training: the section of the config.
        labels: (rows,) the labels of the training rows.
        num_steps: The number of steps of all epochs.
        is_classifier: Whether the label is a class rather than a number.
        has_one_hot_labels: whether labels come as probabilities (batch, classes), as those of images do.

    Raises:
        ConfigError: the loss of the config cannot be imported, or is not a function.
    """
    metric: keras.metrics.Metric
    if not is_classifier:
        metric = keras.metrics.MeanAbsoluteError(name="mean_absolute_error")
    elif has_one_hot_labels:
        metric = keras.metrics.CategoricalAccuracy(name="accuracy")
    else:
        metric = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    loss = own_loss(training) or _loss(training, labels, is_classifier=is_classifier, is_one_hot=has_one_hot_labels)
    # The layers of augmentation have operations that XLA lacks, and what is deterministic is not compiled by it anyway.
    optimizer = make_optimizer(training, num_steps=num_steps, rates=own_rates(model))
    model.compile(optimizer=optimizer, loss=loss, weighted_metrics=[metric], jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    outputs = tf.zeros([1, *model.output.shape[1:]])
    model.compute_metrics(None, outputs if has_one_hot_labels else tf.zeros([1, 1]), outputs)
    model.reset_metrics()  # their variables are there now, as a checkpoint needs them


def _loss(training: TrainingConfig, labels: Array, *, is_classifier: bool, is_one_hot: bool) -> Any:
    if is_classifier and is_one_hot:
        return keras.losses.CategoricalCrossentropy(label_smoothing=training.label_smoothing)
    if is_classifier:
        return keras.losses.SparseCategoricalCrossentropy()
    variance = float(labels.var(dtype=np.float64)) or 1.0

    def loss(y_true: Any, y_pred: Any) -> Any:
        """Return the mean squared error as a share of the label's variance: the same learning rate suits every unit."""
        return keras.losses.mean_squared_error(y_true, y_pred) / variance

    return loss


def own_loss(training: TrainingConfig) -> Loss | None:
    """Return the user's loss, if the config names one.

    Args:
        training: the section of the config.

    Raises:
        ConfigError: it cannot be imported, or is not a function.
    """
    if training.loss is None:
        return None
    loss: Any = load_object(training.loss, key="training.loss")
    if isinstance(loss, type):
        loss = loss()
    if not callable(loss):
        raise ConfigError(
            "training.loss is a function of labels and predictions, or a keras.losses.Loss. Received: "
            f"{training.loss}, which is a {type(loss).__name__}."
        )
    found: Loss = loss
    return found


def own_callbacks(training: TrainingConfig) -> list[keras.callbacks.Callback]:
    """Return new instances of the user's callbacks.

    Args:
        training: the section of the config.

    Raises:
        ConfigError: one cannot be imported, or is not a callback.
    """
    return [_own_callback(name) for name in training.callbacks]


def _own_callback(name: str) -> keras.callbacks.Callback:
    named: Any = load_object(name, key="training.callbacks")
    callback = named if isinstance(named, keras.callbacks.Callback) else named() if callable(named) else named
    if not isinstance(callback, keras.callbacks.Callback):
        raise ConfigError(
            f"training.callbacks are classes derived from keras.callbacks.Callback, or functions that return one. "
            f"Received: {name}, which gives a {type(callback).__name__}."
        )
    return callback


def make_optimizer(
    training: TrainingConfig, *, num_steps: int, rates: Mapping[str, float] | None = None
) -> keras.optimizers.Optimizer:
    """Return the optimizer with its schedule.

    Args:
        training: the section of the config.
        num_steps: The number of steps of all epochs.
        rates: initial learning rates of single weights, by their path; the others have that of the config.
    """
    rate: Any = training.learning_rate
    schedule = training.schedule
    warm_up = round(schedule.warm_up * num_steps)
    if schedule.kind == "cosine" or warm_up:
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warm_up else rate,
            decay_steps=num_steps - warm_up,
            alpha=0.0 if schedule.kind == "cosine" else 1.0,
            warmup_target=rate if warm_up else None,
            warmup_steps=warm_up,
        )
    kinds = {
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": keras.optimizers.SGD,
    }
    kind = kinds[training.optimizer]
    if not rates:
        return kind(learning_rate=rate)
    optimizer = type(kind.__name__, (_RatesOfWeights, kind), {})(learning_rate=rate)
    optimizer.shares = {path: own / training.learning_rate for path, own in rates.items()}
    return optimizer


class _RatesOfWeights:
    """An optimizer by which some weights learn at another rate than the others."""

    shares: Mapping[str, float] = {}
    """What the rate is multiplied by, by path of the weight."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Change one weight, at its own rate."""
        own: Any = self
        path = own._trainable_variables[own._get_variable_index(variable)].path
        share = self.shares.get(path, 1.0)
        super().update_step(gradient, variable, learning_rate * share)  # type: ignore[misc]  # the optimizer has it


def own_rates(model: keras.Model) -> dict[str, float]:
    """Return the initial learning rates of the weights that have one of their own, by path.

    Args:
        model: that is trained.
    """
    layers = [layer for layer in model.layers if isinstance(layer, FittedLayer)]
    return {path: rate for layer in layers for path, rate in layer.learning_rates.items()}


def early_stopping(training: TrainingConfig) -> keras.callbacks.EarlyStopping:
    """Return the callback that restores the best weights; it is there, too, when nothing is to stop early.

    Args:
        training: the section of the config.
    """
    stopping = training.early_stopping
    return keras.callbacks.EarlyStopping(
        monitor="val_loss",
        patience=stopping.patience if stopping.enabled else training.epochs,
        min_delta=stopping.min_delta,
        restore_best_weights=True,
    )


def schedule_callbacks(training: TrainingConfig) -> list[keras.callbacks.Callback]:
    """Return what lowers the learning rate between epochs.

    Args:
        training: the section of the config.
    """
    schedule = training.schedule
    if schedule.kind != "reduce_on_plateau":
        return []
    return [keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=schedule.factor, patience=schedule.patience)]


def class_weights(
    training: TrainingConfig, labels: Array, *, classes: tuple[str, ...], row_weights: Array | None = None
) -> dict[int, float] | None:
    """Return the weight of each class by index; None if all weigh the same.

    Args:
        training: the section of the config.
        labels: (rows,) of training, indices of classes.
        classes: their names; empty for a regression.
        row_weights: (rows,) how often each row counts, on average once; None: each counts once.
    """
    if training.class_weights == "none" or not classes:
        return None
    if training.class_weights == "balanced":
        counts = np.bincount(labels.astype(np.int64), row_weights, minlength=len(classes))
        return {index: len(labels) / (len(classes) * (float(count) or 1.0)) for index, count in enumerate(counts)}
    return {index: training.class_weights.get(name, 1.0) for index, name in enumerate(classes)}


def weighted_by_class(batches: tf.data.Dataset, weights: dict[int, float]) -> tf.data.Dataset:
    """Multiply the weights of rows, where they have any, by those of their classes.

    Args:
        batches: (features, label), or with the weight.
        weights: by index of the class.

    Returns:
        The same batches with other weights.
    """
    table = tf.constant([weights[index] for index in range(len(weights))], tf.float32)

    def weighted(features: Any, label: Any, weight: Any = 1.0) -> tuple[Any, Any, Any]:
        return features, label, weight * tf.gather(table, tf.reshape(tf.cast(label, tf.int64), [-1]))

    return batches.apply(lambda dataset: fetched_ahead(dataset.map(weighted, num_parallel_calls=tf.data.AUTOTUNE)))
