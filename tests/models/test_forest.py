"""Ensembles in a graph beside LightGBM's own predictions."""

import lightgbm
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.models import forest_tables
from kubetfx.models.forest import BLOCK, WALKED_ROWS, Forest
from kubetfx.models.forest_tables import Tree, read_trees, tabulate

CATEGORIES = (4, 5)


def make_table(num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers with and without missing cells, one that is only ever 0 or missing, and categories."""
    random = np.random.default_rng(0)
    table = random.normal(size=(num_rows, 6)).astype(np.float32)
    table[:, 2] = np.round(table[:, 2] * 3)
    table[:, 3] = 0
    table[:, 4], table[:, 5] = random.integers(0, 60, num_rows), random.integers(0, 5, num_rows)
    label = table[:, 0] + np.abs(table[:, 1]) + random.normal(size=60)[table[:, 4].astype(int)]
    for column in (1, 3):
        is_missing = random.random(num_rows) < 0.2
        table[is_missing, column] = np.nan
        label[is_missing] += 1
    return table, label


def questions(table: np.ndarray, trees: list[Tree]) -> np.ndarray:
    """Rows of training, far ones, missing cells where training had none, unseen categories, and every threshold."""
    random = np.random.default_rng(1)
    far = random.normal(size=table.shape).astype(np.float32) * 30
    asked = np.concatenate([table, far])
    asked[random.random(asked.shape) < 0.1] = np.nan
    row = 0
    for tree in trees:
        for node in np.flatnonzero(~tree.decisions & 1):
            asked[row % len(asked), tree.features[node]] = tree.thresholds[node]
            row += 1
    asked[:, CATEGORIES] = np.round(asked[:, CATEGORIES])
    return asked


@pytest.mark.parametrize(
    ("objective", "num_outputs", "num_leaves"),
    [("regression", 1, 31), ("binary", 1, 8), ("multiclass", 4, 5), ("regression", 1, 300)],
    ids=["regression", "binary", "several classes", "more leaves than a byte counts"],
)
def test_sums_are_those_of_the_library(objective, num_outputs, num_leaves):
    table, label = make_table(2_000)
    target = {"regression": label * 1_000, "binary": label > 1, "multiclass": np.digitize(label, [0, 1, 2])}[objective]
    parameters = {
        "objective": objective,
        "num_class": num_outputs,
        "num_leaves": num_leaves,
        "min_data_in_leaf": 3,
        "min_data_per_group": 5,
        "cat_smooth": 1,
        "num_threads": 1,
        "verbosity": -1,
    }
    booster = lightgbm.train(parameters, lightgbm.Dataset(table, target, categorical_feature=list(CATEGORIES)), 20)
    trees = read_trees(booster.model_to_string())
    asked = questions(table, trees)
    assert any(len(tree.sets) for tree in trees)
    assert len(asked) > 2 * BLOCK

    sums = Forest(tabulate(trees), num_outputs=num_outputs)(asked).numpy()

    expected = booster.predict(asked, raw_score=True).reshape(sums.shape)
    np.testing.assert_allclose(sums, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("max_passes", [forest_tables.MAX_PASSES, 0], ids=["walked", "too many bins of categories"])
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_few_rows_have_the_sums_of_many(monkeypatch, max_passes, num_outputs):
    monkeypatch.setattr(forest_tables, "MAX_PASSES", max_passes)
    table, label = make_table(1_000)
    parameters = {"objective": "multiclass", "num_class": num_outputs} if num_outputs > 1 else {}
    target = np.digitize(label, [0, 1]) if num_outputs > 1 else label
    data = lightgbm.Dataset(table, target, categorical_feature=list(CATEGORIES))
    booster = lightgbm.train({**parameters, "num_threads": 1, "verbosity": -1}, data, 10)
    trees = read_trees(booster.model_to_string())
    tables = tabulate(trees)
    forest = Forest(tables, num_outputs=num_outputs)
    asked = questions(table, trees)[-60:]
    expected = booster.predict(asked, raw_score=True).reshape(len(asked), num_outputs)

    assert bool(len(tables.passes)) == bool(max_passes)
    for size in range(1, WALKED_ROWS + 2):
        sums = np.concatenate([forest(asked[first : first + size]) for first in range(0, len(asked), size)])
        np.testing.assert_allclose(sums, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("num_rows", [1, 3, WALKED_ROWS + 1])
def test_trees_of_one_leaf_are_their_value(num_rows):
    leaf = Tree(*(np.zeros(0, int) for _ in range(5)), np.array([0.25]), [])

    sums = Forest(tabulate([leaf, leaf]), num_outputs=1)(np.zeros((num_rows, 2), np.float32))

    assert sums.numpy().tolist() == [[0.5]] * num_rows


def test_no_rows_have_no_sums():
    leaf = Tree(*(np.zeros(0, int) for _ in range(5)), np.array([0.25]), [])

    assert Forest(tabulate([leaf]), num_outputs=1)(np.zeros((0, 2), np.float32)).shape == (0, 1)


def test_graph_does_not_grow_with_the_trees():
    table, label = make_table(500)
    booster = lightgbm.train({"verbosity": -1, "num_threads": 1}, lightgbm.Dataset(table, label), 40)
    trees = read_trees(booster.model_to_string())

    def operations(number: int) -> int:
        forest = Forest(tabulate(trees[:number]), num_outputs=1)
        traced = tf.function(forest.call).get_concrete_function(tf.TensorSpec([None, 6], tf.float32))
        return len(traced.graph.as_graph_def().node)

    assert operations(2) == operations(40)
