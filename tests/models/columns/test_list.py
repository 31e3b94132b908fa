"""Lists in Transform, in the network and in the served graph."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.config.model_section import ModelConfig
from kubetfx.models.columns.column_type import Column
from kubetfx.models.columns.list import MAX_LENGTH, List
from kubetfx.serving.model_facts import read_facts
from kubetfx.tables.as_text import LIST_SEPARATOR
from tests.models.conftest import to_examples
from tests.models.test_export import TOLERANCE, export

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TAGS = ["red", "green", "blue", "sky"]


def tags(number: int) -> list[str]:
    return [tag for bit, tag in enumerate(TAGS) if number >> bit & 1]


ROWS = [
    {
        "tags": "; ".join(tags(i % 16)) or None,
        "words": LIST_SEPARATOR.join([f"a, {i * 7 % 150}", f"b{i % 40}", f"b{i % 40}"][: i % 4]) or None,
        "kind": "ab"[i % 2],
    }
    for i in range(480)
]
STATED = {"words": LIST_SEPARATOR}


@pytest.fixture(scope="module")
def lists(preprocess):
    return preprocess(ROWS, label="kind", separators=STATED)


def test_columns_of_lists_have_separator_length_and_number_of_flags(lists):
    assert {column.name: dict(column.details) for column in lists.features.by_type["list"]} == {
        "tags": {"separator": ";", "length": "4", "flags": "4"},
        "words": {"separator": LIST_SEPARATOR, "length": "3", "flags": "0"},
    }


def test_few_values_have_a_flag_each(lists):
    flags = lists.transform(ROWS)["list_flags"]
    expected = [tuple(tags(i % 16)) for i in range(len(ROWS))]

    assert flags.shape == (len(ROWS), 5)  # one stands for no value
    by_flags = {tuple(row): cell for row, cell in zip(flags.tolist(), expected, strict=True)}
    assert len(by_flags) == len(set(expected)) == 16
    assert [row.sum() for row in flags] == [len(cell) for cell in expected]


def test_order_spaces_and_repetitions_make_no_difference_to_flags(lists):
    cells = ["red;sky", " sky ;red", "red;;sky;red"]
    flags = lists.transform([ROWS[0] | {"tags": cell} for cell in cells])["list_flags"]

    assert (flags == flags[0]).all()


@pytest.mark.parametrize(
    "cell", [None, "", " ; ", "violet", "="], ids=["missing", "empty", "blank", "unseen", "filler"]
)
def test_list_without_a_value_that_training_knew_has_none(lists, cell):
    found = lists.transform([ROWS[0] | {"tags": cell, "words": cell}])

    assert not found["list_flags"].any()
    assert not found["list_values"].any()


def test_many_values_are_embedded_and_averaged(lists):
    values = lists.transform(ROWS)["list_values"]
    encoding = List().encode(lists.output, model=ModelConfig(embedding_size=5), features=lists.config)
    model = keras.Model(dict(encoding.inputs), encoding.vector)
    (table,) = model.get_layer("list_values_embedding").get_weights()

    vectors = model.predict({"list_flags": np.zeros((len(ROWS), 5), np.float32), "list_values": values}, verbose=0)

    assert values.shape == (len(ROWS), 1, 3)
    for row, vector in zip(values[:, 0], vectors[:, 5:], strict=True):
        known = table[row[row > 0]]
        np.testing.assert_allclose(vector, known.mean(axis=0) if len(known) else np.zeros(5), atol=1e-6)
    assert len(np.unique(values)) == 1 + len(
        {w for row in ROWS for w in (row["words"] or "").split(LIST_SEPARATOR)} - {""}
    )


def test_trees_see_how_many_values_there_are_of_many(lists):
    found = List().for_trees(lists.transform(ROWS), lists.features.by_type["list"])

    assert found["list_values"].numpy()[:4].tolist() == [[0], [1], [2], [3]]


def test_dimensions_are_known_unless_flags_are_of_several_columns(lists):
    tags, words = lists.features.by_type["list"]

    assert List().positions([tags, words]) == {
        "tags": [("list_flags", index) for index in range(5)],
        "words": [("list_values", 0)],
    }
    assert List().positions([tags, tags]) is None


def test_length_is_bounded():
    from kubetfx.models.columns.column_profile import ColumnProfile, Lists

    column = ColumnProfile("tags", "string", 9, lists=Lists(",", None, 5_000))

    assert List().details(column) == {"separator": ",", "length": str(MAX_LENGTH), "flags": "0"}
    assert Column("tags", "string").separator is None


def test_served_lists_are_those_of_training(lists, tmp_path):
    asked = [*ROWS[:40], {"tags": None, "words": None}, {"tags": "violet;red", "words": "b1"}]
    values = {
        name: [(row[name] or "").split(s) for row in asked] for name, s in (("tags", ";"), ("words", LIST_SEPARATOR))
    }

    for exported in export(lists, tmp_path / "model", ROWS):
        expected = exported.eager(asked)
        padded = tf.ragged.constant(values["tags"]).to_tensor(""), tf.ragged.constant(values["words"]).to_tensor("")
        apart = dict(zip(("tags", "words"), (tensor.numpy() for tensor in padded), strict=True))
        together = {name: np.array([[(row[name] or "").encode()] for row in asked], object) for name in values}
        for inputs in (apart, together):
            found = exported.run("serving_default", **inputs)["probabilities"]
            np.testing.assert_allclose(found, expected, atol=TOLERANCE)
        several = [{"tags": tags, "words": words} for tags, words in zip(*values.values(), strict=True)]
        for rows in (asked, several):
            examples = np.array(to_examples(rows), dtype=object)
            found = exported.run("serving_examples", examples=examples)["probabilities"]
            np.testing.assert_allclose(found, expected, atol=TOLERANCE)
        facts = read_facts(exported.path)
        assert facts is not None
        assert facts.separators == {"tags": ";", "words": LIST_SEPARATOR}
