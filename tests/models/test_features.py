import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from kubetfx.models.features import Features, read_features, read_schema, set_role

SCHEMA = """
feature { name: "mass" type: FLOAT presence { min_fraction: 0.9 } annotation { tag: "numeric" } }
feature { name: "year" type: INT presence { min_fraction: 1 } annotation { tag: "vocabulary" } }
feature { name: "count" type: INT presence { min_fraction: 1 } annotation { tag: "numeric" } }
feature { name: "code" type: INT presence { min_fraction: 1 } annotation { tag: "hashed" } }
feature { name: "depth" type: FLOAT presence { min_fraction: 1 } annotation { tag: "measured" tag: "numeric" } }
feature { name: "island" type: BYTES presence { min_fraction: 1 } annotation { tag: "vocabulary" } }
feature { name: "name" type: BYTES annotation { tag: "hashed" } }
feature { name: "id" type: INT presence { min_fraction: 1 } annotation { tag: "excluded" comment: "an identifier" } }
feature { name: "forgotten" type: INT presence { min_fraction: 1 } }
feature {
  name: "species"
  type: BYTES
  presence { min_fraction: 1 }
  annotation { tag: "label" tag: "class:b" tag: "class:a" tag: "class:class:c" }
}
"""


@pytest.fixture
def features() -> Features:
    return read_features(text_format.Parse(SCHEMA, schema_pb2.Schema()))


def test_columns_come_by_role_and_type_in_the_order_of_the_schema(features):
    assert features.numeric == ("mass", "depth", "count")
    assert features.vocabulary == ("island", "year")
    assert features.hashed == ("name", "code")
    assert features.inputs == features.numeric + features.vocabulary + features.hashed


def test_column_without_a_role_and_the_label_are_no_inputs(features):
    assert {"forgotten", "species", "id"}.isdisjoint(features.inputs)


def test_integers_and_strings_among_the_inputs_are_known(features):
    cells = {name: column.type for name, column in features.columns.items()}
    assert {name for name, cell in cells.items() if cell == "int64"} == {"year", "count", "code"}
    assert {name for name, cell in cells.items() if cell == "string"} == {"island", "name"}


def test_classes_keep_the_order_of_the_schema(features):
    assert (features.label, features.classes) == ("species", ("b", "a", "class:c"))


def test_columns_with_missing_cells_are_optional(features):
    assert {name for name, column in features.columns.items() if column.is_optional} == {"mass", "name"}


def test_reason_for_leaving_a_column_out_is_kept(features):
    assert features.excluded == {"id": "an identifier"}


def test_role_is_set_once():
    feature = schema_pb2.Feature(name="species")

    set_role(feature, "label", "the label", classes=["a", "b"])
    set_role(feature, "numeric", "another opinion")

    assert list(feature.annotation.tag) == ["label", "class:a", "class:b"]
    assert list(feature.annotation.comment) == ["the label"]


def test_schema_is_read_from_its_file(tmp_path):
    (tmp_path / "schema.pbtxt").write_text('feature { name: "größe" }', encoding="utf-8")

    assert read_schema(tmp_path / "schema.pbtxt").feature[0].name == "größe"
