"""The one training loop: epochs of steps, validation after each, and Keras' callbacks around them.

Keras' own `fit` fetches a batch per call, builds its iterators again and cannot begin in the middle of an epoch. Here
the model says how several steps become one call (`train_steps`), and an epoch may begin at any of its steps.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from kubetfx.models.team import Team, numbers

Logs = dict[str, Any]


class TrainedModel(keras.Model):
    """A model as it is trained, by the loop below. It shares its layers with the exported one."""

    steps_per_call = 1
    """Steps between two callbacks, at most."""
    team = Team()
    """Who trains it."""

    def compile(self, *arguments: Any, **keywords: Any) -> None:
        """Compile as Keras does, and make the calls of several steps again.

        Args:
            arguments: Those of Keras' `compile`.
            keywords: Those of Keras' `compile`.
        """
        super().compile(*arguments, **keywords)
        run = self.team.strategy.run
        if self.team.size > 1 and not self.team.is_asynchronous:
            self.optimizer.apply_gradients = with_dense_gradients(self.optimizer.apply_gradients)

        self._commits = tf.Variable(0, dtype=tf.int64)
        is_asynchronous = self.team.is_asynchronous

        # Without autograph, whose conversion of a few functions takes a third of a second.
        @tf.function(reduce_retracing=True, autograph=False)
        def training(batches: Iterator[Any], count: tf.Tensor) -> Any:
            def step(done: tf.Tensor, behind: tf.Tensor, most: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
                data = next(batches)
                before = self._commits.read_value() if is_asynchronous else zero
                with tf.control_dependencies([before]):
                    run(self.train_step, args=(data,))
                self.after_step()
                if is_asynchronous:
                    committed = min(self.trainable_variables, key=lambda variable: variable.shape.num_elements())
                    with tf.control_dependencies([tf.identity(committed.value)]):  # read when it is updated
                        others = self._commits.assign_add(1, read_value=True) - before - 1
                    behind, most = behind + others, tf.maximum(most, others)
                return done + 1, behind, most

            zero = tf.constant(0, tf.int64)
            _, behind, most = tf.while_loop(lambda done, *_: done < count, step, (tf.constant(0), zero, zero))
            return self.get_metrics_result(), behind, most

        @tf.function(reduce_retracing=True, autograph=False)
        def validation(batches: Iterator[Any], count: tf.Tensor) -> Any:
            def step(done: tf.Tensor) -> tuple[tf.Tensor]:
                self.team.evaluate(self.test_step, next(batches))
                return (done + 1,)

            tf.while_loop(lambda done: done < count, step, (tf.constant(0),))
            return self.get_metrics_result() if self.team.size == 1 else {}  # others may have another number of calls

        self._training, self._validation = training, validation

    def after_step(self) -> None:
        """Do what is done once per step, whoever trains: part of the graph."""

    def train_steps(self, batches: Iterator[Any], count: int) -> Logs:
        """Do steps of training: a graph is entered once for all of them, and not in each.

        Args:
            batches: features, label, and weight.
            count: The number of steps.

        Returns:
            Keras' metrics of the epoch so far.
        """
        found: Logs = self.team.train(self._training, batches, count)
        return found

    def test_steps(self, batches: Iterator[Any], count: int) -> Logs:
        """Do steps of validation, whose metrics are in `get_metrics_result()`.

        Args:
            batches: features, label, and weight.
            count: The number of steps.

        Returns:
            Keras' metrics so far; nothing where several processes have to be asked for them.
        """
        found: Logs = self._validation(batches, tf.constant(count))
        return found

    @property
    def changing_variables(self) -> list[Any]:
        """All that a checkpoint has to hold, in an order that depends on the config alone."""
        found: list[Any] = [*self.variables, *self.optimizer.variables, *self.metrics_variables]
        return list({id(variable): variable for variable in found}.values())


def with_dense_gradients(apply_gradients: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that hands gradients of embeddings on as whole tensors.

    Workers would exchange them as the rows that a batch has used, and TensorFlow gathers no other number of rows than
    that of the first batch; the last batch of an epoch may have fewer.

    Args:
        apply_gradients: of an optimizer.
    """

    def apply(gradients: Iterable[tuple[Any, Any]], *arguments: Any, **keywords: Any) -> Any:
        dense = [(gradient if gradient is None else tf.convert_to_tensor(gradient), of) for gradient, of in gradients]
        return apply_gradients(dense, *arguments, **keywords)

    return apply


def fit(
    trained: TrainedModel,
    batches: tf.data.Dataset,
    validation: tuple[tf.data.Dataset, int],
    *,
    epochs: range,
    steps: int,
    callbacks: Sequence[keras.callbacks.Callback],
    first_step: int = 0,
) -> None:
    """Train until the last epoch, or until a callback sets `stop_training`.

    Args:
        trained: a compiled model.
        batches: of all epochs, one after the other, from `first_step` of the first epoch on.
        validation: batches of the validation split, repeatedly, and how many of them are one round.
        epochs: their numbers, counted from 0.
        steps: per epoch.
        callbacks: Keras callbacks, which are called as Keras' `fit` calls them.
        first_step: steps of the first epoch that were done before.
    """
    calls = keras.callbacks.CallbackList(
        list(callbacks), add_progbar=True, verbose=2, epochs=epochs.stop, steps=steps, model=trained
    )
    trained.stop_training = False
    rows, validation_rows = trained.team.iterate(batches), trained.team.iterate(validation[0])
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
        logs = trained.team.measure(trained, batches)
        logs |= _validate(trained, validation_rows, validation[1], calls)
        calls.on_epoch_end(epoch, logs)
        if trained.stop_training:
            break
    calls.on_train_end(logs)


def _validate(trained: TrainedModel, batches: Iterator[Any], steps: int, calls: keras.callbacks.CallbackList) -> Logs:
    calls.on_test_begin()
    trained.reset_metrics()
    for step in range(0, steps, trained.steps_per_call):
        calls.on_test_batch_begin(step)
        count = min(trained.steps_per_call, steps - step)
        calls.on_test_batch_end(step + count - 1, trained.test_steps(batches, count))
    logs = numbers(trained.get_metrics_result())
    calls.on_test_end(logs)
    return {f"val_{name}": value for name, value in logs.items()}
