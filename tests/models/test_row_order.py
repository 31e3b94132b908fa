"""The order of the rows of a training."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kubetfx.models.row_order import POOL, batches_of_indices, lengths_of

NUM_ROWS, BATCH = 1_003, 10
LENGTHS = np.random.default_rng(0).geometric(0.05, NUM_ROWS).astype(np.int32)


@pytest.fixture(autouse=True)
def seeded():
    """As a training is: what tf.data draws depends on the seed of the process as well."""
    tf.random.set_seed(0)


def epochs(number: int, **keywords) -> list[list[list[int]]]:
    batches = batches_of_indices(NUM_ROWS, BATCH, **keywords).repeat(number)
    found = iter([indices.tolist() for indices in batches.as_numpy_iterator()])
    return [list(itertools.islice(found, -(-NUM_ROWS // BATCH))) for _ in range(number)]


def padding(batches: list[list[int]]) -> float:
    computed = sum(LENGTHS[rows].max() * len(rows) for rows in batches)
    return computed / LENGTHS.sum() - 1


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["any", "by length"])
def test_every_epoch_has_each_row_once_in_an_order_of_the_seed(lengths):
    first, second = epochs(2, seed=3, lengths=lengths)

    for batches in (first, second):
        assert sorted(itertools.chain(*batches)) == list(range(NUM_ROWS))
        assert [len(rows) for rows in batches] == [BATCH] * 100 + [3]
    assert first != second
    assert [first, second] == epochs(2, seed=3, lengths=lengths)
    assert first != epochs(1, seed=4, lengths=lengths)[0]


def test_rows_of_a_batch_have_about_one_length_and_other_neighbours_in_each_epoch():
    (any_rows,), (first, second) = epochs(1, seed=3), epochs(2, seed=3, lengths=LENGTHS)

    assert padding(any_rows) > 1
    assert padding(first) < 0.2
    assert not {tuple(sorted(rows)) for rows in first} & {tuple(sorted(rows)) for rows in second}
    means = [LENGTHS[rows].mean() for rows in first]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.4  # short ones do not come first
    assert POOL * BATCH < NUM_ROWS


def test_last_batch_of_fewer_rows_has_texts_of_any_length():
    means = [LENGTHS[batches[-1]].mean() for batches in epochs(200, seed=3, lengths=LENGTHS)]

    error = LENGTHS.std() / np.sqrt(3 * len(means))
    assert abs(np.mean(means) - LENGTHS.mean()) < 3 * error


def test_fewer_rows_than_a_batch_are_one_batch():
    (rows,) = batches_of_indices(3, BATCH, seed=3, lengths=LENGTHS[:3]).as_numpy_iterator()

    assert sorted(rows) == [0, 1, 2]


def test_skipped_batches_are_the_first_ones():
    batches = batches_of_indices(NUM_ROWS, BATCH, seed=3, lengths=LENGTHS)
    found = [rows.tolist() for rows in batches.skip(40).as_numpy_iterator()]

    assert found == epochs(1, seed=3, lengths=LENGTHS)[0][40:]


def test_without_a_seed_rows_stay_as_they_are():
    assert list(itertools.chain(*epochs(1, seed=None, lengths=LENGTHS)[0])) == list(range(NUM_ROWS))


def test_length_of_a_row_is_that_of_its_longest_text():
    tokens = np.array([[[5, 1, 0], [2, 0, 0]], [[0, 0, 0], [3, 3, 3]], [[0, 0, 0], [0, 0, 0]]])

    assert lengths_of({"text_tokens": tokens, "number": np.zeros((3, 1))}).tolist() == [2, 3, 0]
    assert lengths_of({"text_pieces": tokens}).tolist() == [2, 3, 0]
    assert lengths_of({"text_ngrams": tokens, "number": np.zeros((3, 1))}) is None
