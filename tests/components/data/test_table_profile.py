"""The profile of a table, on its way with the examples."""

import pytest

from kubetfx.components.data import table_profile
from kubetfx.components.data.tables import TableProfile
from kubetfx.models.columns.column_profile import ColumnProfile


def test_profile_of_thousands_of_columns_comes_back_but_for_values_that_are_not_the_labels(tmp_path):
    features = tuple(ColumnProfile(f"c{number}", "string", 10, 2, values=("a", "b")) for number in range(3_000))
    label = ColumnProfile("kind", "string", 10, 2, values=("é", "x"))

    table_profile.write(tmp_path, TableProfile((*features, label), 10), label="kind")
    found = table_profile.read(tmp_path)

    assert found.num_rows == 10
    assert found.column("kind") == label
    assert found.column("c2999").num_distinct == 2
    assert found.column("c2999").values == ()


def test_examples_without_a_profile_are_no_examples_of_ours(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"table_profile\.json"):
        table_profile.read(tmp_path)
