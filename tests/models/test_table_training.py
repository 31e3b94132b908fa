"""A training of a small table: members, averages, and an epoch as one graph."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.models import training_loop
from kubetfx.models.layers import MemberOutputs, Members
from kubetfx.models.table_training import AveragedWeights, TrainedTable

ROWS, BATCH, STEPS, MEMBERS = 12, 5, 3, 4


def network() -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((2,), name="numeric")
    logits = MemberOutputs(3)(Members(MEMBERS)(inputs))
    return keras.Model({"numeric": inputs}, keras.layers.Softmax()(logits))


def batches() -> tf.data.Dataset:
    random = np.random.default_rng(0)
    features = {"numeric": random.normal(size=(ROWS, 2)).astype(np.float32)}
    return tf.data.Dataset.from_tensor_slices((features, np.arange(ROWS) % 3)).batch(BATCH).repeat()


def compiled(*, average_epochs: float) -> TrainedTable:
    trained = TrainedTable.of(network(), steps_per_call=STEPS, average_steps=average_epochs * STEPS)
    trained.compile(keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(), jit_compile=False)
    return trained


def fit(trained: TrainedTable, *callbacks: keras.callbacks.Callback, epochs: int = 2) -> dict[str, list[float]]:
    history = keras.callbacks.History()
    training_loop.fit(
        trained,
        batches(),
        (batches(), STEPS),
        epochs=range(epochs),
        steps=STEPS,
        callbacks=[*callbacks, history],
    )
    return history.history


def test_steps_of_a_call_are_all_done() -> None:
    trained = compiled(average_epochs=0)

    fit(trained, epochs=2)

    assert int(trained.optimizer.iterations) == 2 * STEPS


def test_each_member_learns_for_itself_and_their_mean_is_validated() -> None:
    trained = compiled(average_epochs=0)
    features, labels = next(iter(batches()))
    probabilities = trained(features).numpy()
    of_each = -np.log(probabilities[np.arange(BATCH), :, labels]).mean()
    of_mean = -np.log(probabilities.mean(axis=1)[np.arange(BATCH), labels]).mean()

    losses = [
        float(trained.compute_loss(features, labels, tf.constant(probabilities), training=training))
        for training in (True, False)
    ]

    assert losses == [pytest.approx(of_each, rel=1e-5), pytest.approx(of_mean, rel=1e-5)]
    assert of_mean < of_each


class Seen(keras.callbacks.Callback):
    """The weights at the end of each epoch, as early stopping finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch, logs=None) -> None:
        self.weights.append(self.model.trainable_weights[0].numpy())


def test_averages_are_validated_and_kept_and_training_goes_on_with_the_weights() -> None:
    plain, averaged, seen = compiled(average_epochs=0), compiled(average_epochs=2), Seen()

    history = fit(averaged, AveragedWeights(), seen, epochs=40)
    expected = fit(plain, epochs=40)

    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    assert history["val_loss"] != expected["val_loss"]
    assert np.abs(seen.weights[-1] - plain.trainable_weights[0].numpy()).max() > 0


def test_same_seed_gives_the_same_weights_bit_by_bit() -> None:
    first, second = compiled(average_epochs=2), compiled(average_epochs=2)

    for trained in (first, second):
        fit(trained, AveragedWeights(), epochs=3)

    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
