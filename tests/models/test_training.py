"""Batches of the rows that are kept in memory."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.config.training_section import TrainingConfig
from kubetfx.models.optimization import class_weights, compile_model, weighted_by_class
from kubetfx.models.training_rows import TrainingRows

NUM_ROWS, BATCH_SIZE = 23, 5


@pytest.fixture
def rows() -> TrainingRows:
    arrays = {"numeric": np.arange(NUM_ROWS, dtype=np.float32)[:, np.newaxis], "label": np.arange(NUM_ROWS)}
    return TrainingRows(NUM_ROWS, arrays["label"], arrays, sample=arrays)


def labels_of(dataset: tf.data.Dataset) -> list[list[int]]:
    return [label.tolist() for _, label in dataset.as_numpy_iterator()]


def test_every_row_comes_once_an_epoch_and_in_another_order_in_the_next(rows):
    dataset = rows.batches(BATCH_SIZE, seed=1)
    epochs = [labels_of(dataset), labels_of(dataset)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [5, 5, 5, 5, 3]
        assert sorted(label for batch in epoch for label in batch) == list(range(NUM_ROWS))
    assert epochs[0] != epochs[1]
    assert len(dataset) == 5


def test_order_depends_on_the_seed_and_on_nothing_else(rows):
    first, again, other = (labels_of(rows.batches(BATCH_SIZE, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_without_a_seed_rows_keep_their_order_and_features_their_label(rows):
    batches = list(rows.batches(BATCH_SIZE).as_numpy_iterator())
    assert [label for _, labels in batches for label in labels] == list(range(NUM_ROWS))
    for features, labels in batches:
        assert features["numeric"][:, 0].tolist() == labels.tolist()


def weighted_rows(labels: np.ndarray, weights: np.ndarray) -> TrainingRows:
    numbers = np.linspace(-1, 1, len(labels), dtype=np.float32)[:, np.newaxis]
    arrays = {"numeric": numbers, "label": labels[:, np.newaxis]}
    return TrainingRows(len(labels), labels, arrays, sample=arrays, weights=weights.astype(np.float32))


@pytest.mark.parametrize("is_classifier", [True, False])
def test_loss_of_weighted_rows_is_that_of_rows_which_are_there_as_often(is_classifier):
    """Weights are divided by their mean when rows are read."""
    keras.utils.set_random_seed(0)
    labels = np.arange(NUM_ROWS) % 3 if is_classifier else np.linspace(-3, 9, NUM_ROWS, dtype=np.float32)
    times = np.array([0, 1, 2, 4])[np.arange(NUM_ROWS) % 4]
    inputs = keras.Input((1,), name="numeric")
    outputs = keras.layers.Dense(3 if is_classifier else 1, activation="softmax" if is_classifier else None)(inputs)
    model = keras.Model({"numeric": inputs}, outputs)
    arguments = {"labels": labels, "is_classifier": is_classifier, "has_one_hot_labels": False}
    compile_model(model, TrainingConfig(), num_steps=100, **arguments)
    rows = weighted_rows(labels, times / times.mean())
    copies = np.repeat(np.arange(NUM_ROWS), times)
    repeated = {"numeric": rows.arrays["numeric"][copies]}

    found = model.evaluate(rows.batches(BATCH_SIZE), verbose=0, return_dict=True)

    expected = model.evaluate(repeated, labels[copies], batch_size=len(copies), verbose=0, return_dict=True)
    assert found == pytest.approx(expected, rel=1e-5)


def test_weights_of_rows_and_of_their_classes_multiply():
    rows = weighted_rows(np.array([0, 0, 0, 1]), np.array([1.0, 2.0, 0.0, 1.0]))
    training = TrainingConfig(class_weights="balanced")

    by_class = class_weights(training, rows.labels, classes=("no", "yes"), row_weights=rows.weights)

    assert by_class == pytest.approx({0: 4 / (2 * 3), 1: 4 / (2 * 1)})
    ((_, _, weights),) = weighted_by_class(rows.batches(4), by_class).as_numpy_iterator()
    assert weights.tolist() == pytest.approx([2 / 3, 4 / 3, 0, 2])
