"""Batches of the rows that are kept in memory."""

import numpy as np
import pytest
import tensorflow as tf

from kubetfx.models.training_rows import TrainingRows

NUM_ROWS, BATCH_SIZE = 23, 5


@pytest.fixture
def rows() -> TrainingRows:
    arrays = {"numeric": np.arange(NUM_ROWS, dtype=np.float32)[:, np.newaxis], "label": np.arange(NUM_ROWS)}
    return TrainingRows(NUM_ROWS, arrays["label"], arrays, tf.data.Dataset.range(0), arrays)


def labels_of(dataset: tf.data.Dataset) -> list[list[int]]:
    return [label.tolist() for _, label in dataset.as_numpy_iterator()]


def test_every_row_comes_once_an_epoch_and_in_another_order_in_the_next(rows):
    dataset = rows.batches(BATCH_SIZE, shuffle_seed=1)
    epochs = [labels_of(dataset), labels_of(dataset)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [5, 5, 5, 5, 3]
        assert sorted(label for batch in epoch for label in batch) == list(range(NUM_ROWS))
    assert epochs[0] != epochs[1]
    assert len(dataset) == 5


def test_order_depends_on_the_seed_and_on_nothing_else(rows):
    first, again, other = (labels_of(rows.batches(BATCH_SIZE, shuffle_seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_without_a_seed_rows_keep_their_order_and_features_their_label(rows):
    batches = list(rows.batches(BATCH_SIZE).as_numpy_iterator())
    assert [label for _, labels in batches for label in labels] == list(range(NUM_ROWS))
    for features, labels in batches:
        assert features["numeric"][:, 0].tolist() == labels.tolist()
