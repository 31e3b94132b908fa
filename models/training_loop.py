"""The one training loop: epochs of steps, validation after each, and Keras' callbacks around them.

Keras' own `fit` fetches a batch per call, builds its iterators anew and cannot begin in the middle of an epoch. Here
the model says how several steps become one call (`train_steps`), and an epoch may begin at any of its steps.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

Logs = dict[str, Any]


def fit(
    trained: Any,
    batches: tf.data.Dataset,
    validation: tf.data.Dataset,
    *,
    epochs: range,
    steps: int,
    validation_steps: int,
    callbacks: Sequence[keras.callbacks.Callback],
    first_step: int = 0,
) -> None:
    """Train until the last epoch, or until a callback sets `stop_training`.

    Args:
        trained: a compiled Keras model that has `train_steps(batches, count)`, and in `steps_per_call` how many steps
            that may do at most: TrainedTable, or TrainedNetwork for images.
        batches: of all epochs, one after the other, from `first_step` of the first epoch on.
        validation: batches of the validation split, again and again.
        epochs: their numbers, counted from 0.
        steps: per epoch.
        validation_steps: batches of the validation split.
        callbacks: Keras', which are called as `fit` of Keras does.
        first_step: steps of the first epoch that were done before.
    """
    calls = keras.callbacks.CallbackList(
        list(callbacks), add_progbar=True, verbose=2, epochs=epochs.stop, steps=steps, model=trained
    )
    trained.stop_training = False
    trained.make_test_function()
    rows, validation_rows = iter(batches), iter(validation)
    logs: Logs = {}
    calls.on_train_begin()
    for epoch in epochs:
        if not first_step:  # the metrics of an epoch that goes on have been restored
            trained.reset_metrics()
        calls.on_epoch_begin(epoch)
        step = first_step
        while step < steps and not trained.stop_training:
            count = min(trained.steps_per_call, steps - step)
            calls.on_train_batch_begin(step)
            logs = trained.train_steps(rows, count)
            step += count
            calls.on_train_batch_end(step - 1, logs)
        first_step = 0
        logs = _numbers(trained.get_metrics_result())
        logs |= _validate(trained, validation_rows, validation_steps, calls)
        calls.on_epoch_end(epoch, logs)
        if trained.stop_training:
            break
    calls.on_train_end(logs)


def _validate(trained: Any, batches: Iterator[Any], steps: int, calls: keras.callbacks.CallbackList) -> Logs:
    calls.on_test_begin()
    trained.reset_metrics()
    logs: Logs = {}
    for step in range(steps):
        calls.on_test_batch_begin(step)
        logs = trained.test_function(batches)
        calls.on_test_batch_end(step, logs)
    logs = _numbers(trained.get_metrics_result())
    calls.on_test_end(logs)
    return {f"val_{name}": value for name, value in logs.items()}


def _numbers(logs: Logs) -> Logs:
    return {name: float(keras.ops.convert_to_numpy(value)) for name, value in logs.items()}
