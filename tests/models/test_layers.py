"""What layers are fitted to, and what they compute, on numbers that can be checked by hand."""

import keras
import numpy as np
import pytest

from kubetfx.models.layers import BinnedNumbers, CategoryEmbedding, MemberOutputs, Members, fit_layers


def binned(values: list[list[float]], *, num_bins: int, flagged: tuple[int, ...] = ()) -> BinnedNumbers:
    rows = np.array(values, np.float32)
    layer = BinnedNumbers("numeric", num_columns=rows.shape[1] - len(flagged), num_bins=num_bins, flagged=flagged)
    layer.fit_to(rows)
    return layer


def encoded(layer: keras.layers.Layer, row: list[float]) -> list[float]:
    return np.asarray(layer(np.array([row], np.float32)))[0].tolist()


def bounded(score: float) -> object:
    return pytest.approx(score / (1 + (score / 3) ** 2) ** 0.5)


def test_score_is_bounded_smoothly() -> None:
    layer = binned([[0.0], [1.0]], num_bins=1)

    scores = [encoded(layer, [score])[0] for score in (-100, -0.1, 0, 0.1, 3, 100)]
    assert scores == pytest.approx([-2.9986508, -0.0999445, 0, 0.0999445, 2.1213203, 2.9986508])


def test_number_is_followed_by_how_far_it_is_through_each_bin_between_quantiles() -> None:
    layer = binned([[value] for value in (0, 1, 2, 4, 6, 8, 12, 16, 20)], num_bins=4)  # edges 0, 2, 6, 12, 20

    assert encoded(layer, [5]) == [bounded(5), 1, 0.75, 0, 0]
    assert encoded(layer, [-3]) == [bounded(-3), 0, 0, 0, 0]
    assert encoded(layer, [16]) == [bounded(16), 1, 1, 1, 0.5]
    assert encoded(layer, [99]) == [bounded(99), 1, 1, 1, 1]


def test_column_of_few_values_has_a_bin_between_each_two_of_them() -> None:
    layer = binned([[value] for value in (0, 0, 0, 0, 0, 0, 0, 0, 1, 5)], num_bins=4)

    assert encoded(layer, [1]) == [bounded(1), 1, 0, 0, 0]
    assert encoded(layer, [3]) == [bounded(3), 1, 0.5, 0, 0]


def test_missing_cells_of_a_column_take_no_part_in_its_quantiles() -> None:
    missing = [[0.0, value, 1.0] for value in (1, 2, 3, 4)]
    known = [[value, value, 0.0] for value in (4.0, 8.0)]
    layer = binned(missing + known, num_bins=1, flagged=(0,))

    assert encoded(layer, [5, 2.5, 0]) == [bounded(5), bounded(2.5), 0, 0.25, pytest.approx(1.5 / 7)]


def test_column_with_one_value_adds_nothing() -> None:
    assert encoded(binned([[3.0], [3.0]], num_bins=2), [3.0]) == [bounded(3), 0, 0]


def test_rare_and_unseen_categories_are_one_and_the_others_are_told_apart() -> None:
    indices = keras.Input((1,), name="categorical", dtype="int64")
    layer = CategoryEmbedding("categorical", size=5, dimensions=4, min_rows=3)
    network = keras.Model({"categorical": indices}, layer(indices))

    fit_layers(network, {"categorical": np.array([[0]] * 4 + [[1]] * 3 + [[2]] * 2 + [[3]])})

    vectors = network({"categorical": np.arange(5)[:, np.newaxis]}).numpy()
    assert vectors.shape == (5, 4)
    np.testing.assert_array_equal(vectors[2], vectors[3])
    np.testing.assert_array_equal(vectors[2], vectors[4])
    assert len(np.unique(vectors[:3], axis=0)) == 3


def test_members_see_the_inputs_with_signs_of_their_own_and_answer_each_for_itself() -> None:
    keras.utils.set_random_seed(1)
    members, outputs = Members(16), MemberOutputs(2)

    seen = members(np.full((3, 4), 2.0, np.float32)).numpy()
    answers = outputs(seen).numpy()

    assert seen.shape == (3, 16, 4)
    assert set(np.abs(seen).ravel()) == {2.0}
    assert len(np.unique(seen[0], axis=0)) > 8
    assert answers.shape == (3, 16, 2)
    kernel = outputs.weights[0].numpy()
    np.testing.assert_allclose(answers[0, 5], seen[0, 5] @ kernel[5], rtol=1e-5)
