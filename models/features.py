"""What each column is used for: numeric, vocabulary, hashed, label, or left out.

The decision is taken once, by components/schema_gen.py, and written into the schema as annotations: the schema
artifact, or the frozen schema file, says how features are computed, in training and in serving alike. A person can
edit it there.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

Role = Literal["label", "numeric", "vocabulary", "hashed", "excluded"]
ROLES: tuple[Role, ...] = ("label", "numeric", "vocabulary", "hashed", "excluded")

LABEL = "label"
"""Name of the label among what preprocessing_fn returns."""

MISSING_INTEGER = -(2**63)
"""Stands for a missing cell of an integer column where there is no NaN: tf.Example's int64."""


@dataclass(frozen=True)
class Features:
    """The columns by role, each in the order of the schema; integer columns apart from float ones where it matters."""

    label: str
    classes: tuple[str, ...]
    """Names of the classes, in the order of their index. Empty for regression."""
    numeric_floats: tuple[str, ...]
    numeric_integers: tuple[str, ...]
    vocabulary_strings: tuple[str, ...]
    vocabulary_integers: tuple[str, ...]
    hashed_strings: tuple[str, ...]
    hashed_integers: tuple[str, ...]
    optional: frozenset[str]
    """Columns with missing cells."""
    excluded: dict[str, str]
    """Columns left out, with the reason."""

    @property
    def numeric(self) -> tuple[str, ...]:
        """In the order of the numeric feature's dimensions."""
        return self.numeric_floats + self.numeric_integers

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """In the order of the categorical feature's dimensions."""
        return self.vocabulary_strings + self.vocabulary_integers

    @property
    def hashed(self) -> tuple[str, ...]:
        """In the order of the hashed feature's dimensions."""
        return self.hashed_strings + self.hashed_integers

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every column that the model looks at."""
        return self.numeric + self.vocabulary + self.hashed

    @property
    def integers(self) -> frozenset[str]:
        """Those of them that hold integers."""
        return frozenset(self.numeric_integers + self.vocabulary_integers + self.hashed_integers)

    @property
    def strings(self) -> frozenset[str]:
        """Those of them that hold text."""
        return frozenset(self.vocabulary_strings + self.hashed_strings)


def set_representations(schema: schema_pb2.Schema) -> None:
    """Have each column read as one value a row, a missing cell as NaN, "" or MISSING_INTEGER; what is set stays."""
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


def set_role(feature: schema_pb2.Feature, role: Role, reason: str, *, classes: Iterable[str] = ()) -> None:
    """Annotate a feature of the schema with its role, unless it already has one."""
    if any(tag in ROLES for tag in feature.annotation.tag):
        return
    feature.annotation.tag.extend([role, *(f"class:{name}" for name in classes)])
    feature.annotation.comment.append(reason)


def read_schema(path: str | Path) -> schema_pb2.Schema:
    """A schema from its text file."""
    schema = schema_pb2.Schema()
    schema.CopyFrom(_parse(Path(path).read_text(encoding="utf-8")))
    return schema


@functools.lru_cache(maxsize=1)
def _parse(text: str) -> schema_pb2.Schema:
    """Parsing takes half a millisecond a column, and a run reads its schema a dozen times."""
    return text_format.Parse(text, schema_pb2.Schema())


def read_features(schema: schema_pb2.Schema) -> Features:
    """The columns by role, as the annotations of the schema say."""
    by_role: dict[Role, list[schema_pb2.Feature]] = {role: [] for role in ROLES}
    for feature in schema.feature:
        role = next((role for role in ROLES if role in feature.annotation.tag), None)
        if role:
            by_role[role].append(feature)
    (label,) = by_role["label"]

    def names(role: Role, *types: int) -> tuple[str, ...]:
        return tuple(f.name for f in by_role[role] if f.type in types)

    number, integer, text = schema_pb2.FLOAT, schema_pb2.INT, schema_pb2.BYTES
    return Features(
        label=label.name,
        classes=tuple(tag.removeprefix("class:") for tag in label.annotation.tag if tag.startswith("class:")),
        numeric_floats=names("numeric", number),
        numeric_integers=names("numeric", integer),
        vocabulary_strings=names("vocabulary", text),
        vocabulary_integers=names("vocabulary", integer),
        hashed_strings=names("hashed", text),
        hashed_integers=names("hashed", integer),
        optional=frozenset(f.name for f in schema.feature if f.presence.min_fraction < 1),
        excluded={f.name: "; ".join(f.annotation.comment) for f in by_role["excluded"]},
    )
