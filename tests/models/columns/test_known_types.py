import sys
from pathlib import Path

import pytest
from tensorflow_metadata.proto.v0 import schema_pb2

import kubetfx
from kubetfx.components.data.column_roles import choose_role
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.errors import ConfigError
from kubetfx.models.columns import known_types
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.features import read_features, set_role
from kubetfx.models.network import feature_positions

OWN = """from kubetfx.models.columns.column_type import ColumnType

number = 3

class Code(ColumnType):
    def choose(self, column, *, num_rows, config):
        return "a code" if column.name.endswith("code") else None
"""
TAG = "type:own_column_types:Code"


@pytest.fixture
def own_types(tmp_path: Path, monkeypatch) -> Path:
    """A module beside pipeline.yaml."""
    module = tmp_path / "own_column_types.py"
    module.write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_column_types", raising=False)
    return module


def text(name: str) -> ColumnProfile:
    """A column with another value in every row."""
    return ColumnProfile(name, "string", 100, 100)


def test_type_of_the_user_s_is_asked_before_a_column_is_taken_for_an_identifier(own_types):
    config = FeaturesConfig(types=("own_column_types:Code",))

    assert choose_role(text("zip_code"), num_rows=100, config=config) == (TAG, "a code")
    assert choose_role(text("name"), num_rows=100, config=config)[0] == "excluded"
    assert choose_role(text("zip_code"), num_rows=100, config=FeaturesConfig())[0] == "excluded"


def test_schema_says_where_the_type_of_a_column_is_found(own_types):
    schema = schema_pb2.Schema()
    for name, role, kind in (
        ("mass", "numeric", schema_pb2.FLOAT),
        ("zip_code", TAG, schema_pb2.BYTES),
        ("kind", "label", schema_pb2.BYTES),
    ):
        set_role(schema.feature.add(name=name, type=kind), role, "by hand")

    features = read_features(schema)

    assert features.inputs == ("zip_code", "mass")  # the user's before ours
    assert type(known_types.type_of(TAG)).__name__ == "Code"
    assert features.served_names == {"zip_code": "zip_code", "mass": "mass"}
    assert feature_positions(features) is None


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("own_column_types:number", r"features\.types: a column type is a subclass of .*ColumnType\. .*which is 3"),
        ("own_column_types:Cod", r"the module own_column_types has no Cod"),
        ("no_such_types:Code", r"features\.types: the module no_such_types cannot be imported"),
        ("own_column_types", r"features\.types is written module:name"),
    ],
    ids=["a number", "unknown class", "unknown module", "no class"],
)
def test_reference_to_no_column_type_is_an_error(own_types, reference, message):
    with pytest.raises(ConfigError, match=message):
        known_types.types_by_tag([reference])


def test_edit_of_a_type_is_in_the_cache_s_key_of_whoever_runs_it(own_types, tmp_path):
    def properties() -> dict[str, str]:
        config = kubetfx.PipelineConfig(
            tmp_path,
            name="codes",
            data={"path": "data", "label": "kind"},
            features={"types": ["own_column_types:Code"]},
        )
        nodes = {node.id: node.exec_properties for node in kubetfx.create_pipeline(config).components}
        return {
            "SchemaGen": nodes["SchemaGen"]["types_digest"],
            "Transform": nodes["Transform"]["custom_config"],
            "Trainer": nodes["Trainer"]["custom_config"],
        }

    before = properties()
    assert properties() == before
    own_types.write_text(OWN + "# edited\n")

    assert all(now != then for now, then in zip(properties().values(), before.values(), strict=True))


def test_every_type_of_ours_has_a_tag_and_words_of_its_own():
    from kubetfx.components.report import formats

    tags = [column_type.tag for column_type in known_types.COLUMN_TYPES]

    assert len(set(tags)) == len(tags)
    assert [formats.role(tag) for tag in tags] == [
        "image",
        "date",
        "number",
        "list of categories",
        "text",
        "category",
        "category, hashed",
    ]
    assert formats.role(TAG) == "Code"
