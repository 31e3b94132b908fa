"""What each column is used for: the label, a feature of some column type (models/columns/), or left out.

The decision is taken once, by components/schema_gen.py, and written into the schema as annotations: the schema
artifact, or the frozen schema file, says how features are computed, in training and in serving alike. A person can
edit it there.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from kubetfx.artifacts import SCHEMA
from kubetfx.models.columns import known_types
from kubetfx.models.columns.column_profile import CellType
from kubetfx.models.columns.column_type import MISSING_INTEGER, Column, integers_last
from kubetfx.models.columns.image.image_type import Image
from kubetfx.models.columns.text.text_type import Text

if TYPE_CHECKING:  # it imports TensorFlow
    import tensorflow_transform as tft

LABEL = "label"
"""Role of the label, and its name among what preprocessing_fn returns."""
WEIGHT = "weight"
"""Role of the column that says how often a row counts, and its name beside features and label in training."""
EXCLUDED = "excluded"
IMAGE = Image.tag
"""Role of the column of images."""
TEXT = Text.tag
"""Role of the columns of text."""

CLASS = "class:"
"""Begins the tag of a class of the label."""

_SEARCHED = "features:"
"""Begins the tag of a schema that a search has made: the section `features` with what was found, as JSON."""

_CELLS: dict[int, CellType] = {schema_pb2.FLOAT: "float", schema_pb2.INT: "int64", schema_pb2.BYTES: "string"}


@dataclass(frozen=True)
class Features:
    """The columns by what they are used for."""

    label: str
    classes: tuple[str, ...]
    """Names of the classes, in the order of their index. Empty for regression."""
    by_type: Mapping[str, tuple[Column, ...]]
    """What the model looks at, by the tag of the column type, as `ColumnType.preprocess` gets them."""
    excluded: dict[str, str]
    """Columns left out, with the reason."""
    weight: str | None = None
    """The column that says how often a row counts; None: each counts once."""

    def names(self, tag: str) -> tuple[str, ...]:
        """Return the names of the columns of a type.

        Args:
            tag: The tag of the type.
        """
        return tuple(column.name for column in self.by_type.get(tag, ()))

    @property
    def numeric(self) -> tuple[str, ...]:
        """Columns of numbers."""
        return self.names("numeric")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Columns of categories."""
        return self.names("vocabulary")

    @property
    def hashed(self) -> tuple[str, ...]:
        """Columns of categories that are hashed."""
        return self.names("hashed")

    @property
    def columns(self) -> dict[str, Column]:
        """Every column that the model looks at, by its name, in the order of the types."""
        return {column.name: column for columns in self.by_type.values() for column in columns}

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the columns that the model looks at."""
        return tuple(self.columns)

    @property
    def separators(self) -> dict[str, str]:
        """Separators of the columns that are lists in requests, what is between their values elsewhere."""
        return {name: column.separator for name, column in self.columns.items() if column.separator}

    @property
    def served_names(self) -> dict[str, str]:
        """Name in the signature `serving_default` of each column that the model looks at."""
        own = {tag: known_types.type_of(tag) for tag in self.by_type}
        return {c.name: own[tag].served_name(c) for tag, columns in self.by_type.items() for c in columns}


def set_representations(schema: schema_pb2.Schema) -> None:
    """Have each column read as one value per row, a missing cell as NaN, "" or MISSING_INTEGER; what is set stays.

    Args:
        schema: to complete.
    """
    representations = schema.tensor_representation_group[""].tensor_representation
    for feature in schema.feature:
        if feature.name not in representations:
            dense = representations[feature.name].dense_tensor
            dense.column_name = feature.name
            dense.shape.dim.add(size=1)
            if feature.type == schema_pb2.FLOAT:
                dense.default_value.float_value = float("nan")
            elif feature.type == schema_pb2.INT:
                dense.default_value.int_value = MISSING_INTEGER
            else:
                dense.default_value.bytes_value = b""


def set_role(feature: schema_pb2.Feature, role: str, reason: str, *, classes: Iterable[str] = ()) -> None:
    """Annotate a feature of the schema with its role, unless it already has one.

    Args:
        feature: to annotate.
        role: LABEL, WEIGHT, EXCLUDED, or the tag of a column type.
        reason: in words.
        classes: The classes of the label.
    """
    if role_of(feature) is None:
        feature.annotation.tag.extend([role, *(f"{CLASS}{name}" for name in classes)])
        feature.annotation.comment.append(reason)


def role_of(feature: schema_pb2.Feature) -> str | None:
    """Return LABEL, WEIGHT, EXCLUDED, or the tag of the column's type; None: the schema does not say.

    Args:
        feature: The feature of the schema.
    """
    tags = feature.annotation.tag
    return next((tag for tag in tags if tag in (LABEL, WEIGHT, EXCLUDED) or known_types.is_tag(tag)), None)


def set_searched(schema: schema_pb2.Schema, features: Mapping[str, Any]) -> None:
    """Annotate a schema with the way to make features that a search has found.

    Args:
        schema: to annotate.
        features: the section of the config, with the best values.
    """
    schema.annotation.tag.append(f"{_SEARCHED}{json.dumps(features)}")


def searched_features(schema: schema_pb2.Schema) -> dict[str, Any] | None:
    """Return the section `features` that a search has found, which goes before the config's; None: there was none.

    Args:
        schema: The schema of the columns.
    """
    found = (tag.removeprefix(_SEARCHED) for tag in schema.annotation.tag if tag.startswith(_SEARCHED))
    text = next(found, None)
    return None if text is None else dict(json.loads(text))


def read_schema(path: str | Path) -> schema_pb2.Schema:
    """Return a schema.

    Args:
        path: The path of its text file.
    """
    schema = schema_pb2.Schema()
    schema.CopyFrom(_parse(Path(path).read_text(encoding="utf-8")))
    return schema


def raw_schema(transform_output: "tft.TFTransformOutput") -> schema_pb2.Schema:
    """Return the schema of the columns that Transform has read.

    It is the text that SchemaGen has written, which tf.Transform would parse each time.

    Args:
        transform_output: of Transform.
    """
    folder = Path(transform_output.transform_savedmodel_dir).parent
    return read_schema(folder / transform_output.RAW_METADATA_DIR / SCHEMA)


@functools.lru_cache(maxsize=1)
def _parse(text: str) -> schema_pb2.Schema:
    """Parse a schema once: it takes half a millisecond per column, and a run reads its schema a dozen times."""
    return text_format.Parse(text, schema_pb2.Schema())


def read_features(schema: schema_pb2.Schema) -> Features:
    """Return the columns by role.

    Args:
        schema: whose annotations say it.
    """
    by_role: dict[str, list[schema_pb2.Feature]] = {}
    for feature in schema.feature:
        if role := role_of(feature):
            by_role.setdefault(role, []).append(feature)
    (label,) = by_role.pop(LABEL)
    excluded = by_role.pop(EXCLUDED, [])
    weights = by_role.pop(WEIGHT, [])
    return Features(
        label=label.name,
        classes=tuple(tag.removeprefix(CLASS) for tag in label.annotation.tag if tag.startswith(CLASS)),
        by_type={
            tag: integers_last([_column(feature) for feature in by_role[tag]])
            for tag in sorted(by_role, key=known_types.rank)
        },
        excluded={feature.name: "; ".join(feature.annotation.comment) for feature in excluded},
        weight=weights[0].name if weights else None,
    )


def details_of(feature: schema_pb2.Feature) -> dict[str, str]:
    """Return what the column's type has to know besides, by name.

    Args:
        feature: The feature of the schema.
    """
    role = role_of(feature)
    return dict(tag.split(":", 1) for tag in feature.annotation.tag if tag != role and ":" in tag)


def _column(feature: schema_pb2.Feature) -> Column:
    return Column(feature.name, _CELLS[feature.type], feature.presence.min_fraction < 1, details_of(feature))
