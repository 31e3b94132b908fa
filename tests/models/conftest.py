"""Preprocessing as Transform does it, from tf.Examples of a few rows."""

import itertools
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_metadata.proto.v0 import schema_pb2

from kubetfx.components.data import analysis, block_work
from kubetfx.components.data.analysis_graphs import PreprocessingFn
from kubetfx.components.data.table_scan import scan
from kubetfx.components.data.tables import TableProfile
from kubetfx.components.schema_gen import complete_schema
from kubetfx.config.data_section import FeaturesConfig, Stated
from kubetfx.config.metric_catalogue import Task
from kubetfx.models import network
from kubetfx.models.columns.column_type import MISSING_INTEGER
from kubetfx.models.examples import files_in, row_groups
from kubetfx.models.features import Features, read_features

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Preprocessed:
    """A table after Transform."""

    features: Features
    output: tft.TFTransformOutput
    config: FeaturesConfig

    def transform(self, rows: Rows) -> dict[str, np.ndarray]:
        """The features of raw rows; a cell that is None or not there is missing."""
        inputs = {}
        for name in (*self.features.inputs, self.features.label):
            spec = self.output.raw_feature_spec()[name]
            values = [[missing(spec.dtype) if row.get(name) is None else row[name]] for row in rows]
            inputs[name] = tf.constant(values, spec.dtype)
        return {name: tensor.numpy() for name, tensor in self.output.transform_features_layer()(inputs).items()}


def missing(dtype: tf.DType) -> Any:
    return {tf.string: b"", tf.int64: MISSING_INTEGER}.get(dtype, math.nan)


def profile_of(rows: Rows, separators: Mapping[str, str]) -> TableProfile:
    """What a scan of the rows finds."""
    block = pa.RecordBatch.from_pylist(rows)
    stated = {name: Stated("list", separator) for name, separator in separators.items()}
    return scan(lambda: iter([block]), "rows", names=block.schema.names, stated=stated)


def schema_of(profile: TableProfile, *, label: str, task: Task, config: FeaturesConfig) -> schema_pb2.Schema:
    types = {"float": schema_pb2.FLOAT, "int64": schema_pb2.INT, "string": schema_pb2.BYTES}
    schema = schema_pb2.Schema()
    for column in profile.columns:
        feature = schema.feature.add(name=column.name, type=types[column.type])
        feature.presence.min_fraction = column.num_values / profile.num_rows
        feature.value_count.min = feature.value_count.max = 1
    complete_schema(schema, profile, label=label, task=task, config=config)
    return schema


@pytest.fixture(scope="session")
def preprocess(tmp_path_factory) -> Callable[..., Preprocessed]:
    """Analyze rows with kubetfx.models.network's preprocessing_fn as Transform does; the same rows once."""
    known: dict[str, Preprocessed] = {}

    def run(
        rows: Rows,
        *,
        label: str,
        task: Task = "classification",
        separators: Mapping[str, str] = MappingProxyType({}),
        **config: Any,
    ) -> Preprocessed:
        key = repr((rows, label, task, dict(separators), config))
        if key not in known:
            folder = tmp_path_factory.mktemp("transform")
            features_config = FeaturesConfig.model_validate(config)
            schema = schema_of(profile_of(rows, separators), label=label, task=task, config=features_config)
            known[key] = preprocessed(rows, schema, features_config, folder)
        return known[key]

    return run


def preprocessed(rows: Rows, schema: schema_pb2.Schema, config: FeaturesConfig, folder: Path) -> Preprocessed:
    """The table after Transform, whose files are in the folder."""
    write_split(folder / "Split-train", rows)
    return Preprocessed(read_features(schema), analyzed(schema, config, folder), config)


def analyzed(schema: schema_pb2.Schema, config: FeaturesConfig, folder: Path) -> tft.TFTransformOutput:
    """What Transform makes of the training split in the folder."""
    groups = [group for group, _ in row_groups(files_in(str(folder / "Split-train")))]
    graph, temporary = folder / "transform_graph", folder / "temporary"
    temporary.mkdir()
    analysis.analyze(
        preprocessing_fn(schema, config, folder),
        schema,
        run=lambda phase: block_work.run_here(phase, groups, threads=1),
        output=graph,
        temporary=temporary,
    )
    return tft.TFTransformOutput(str(graph))


def preprocessing_fn(schema: schema_pb2.Schema, config: FeaturesConfig, folder: Path) -> PreprocessingFn:
    """That of kubetfx.models.network, which finds the schema in the folder."""
    path = folder / "schema.pbtxt"
    path.write_text(text_format.MessageToString(schema))
    custom_config = {"schema_path": str(path), "features": config.model_dump(mode="json")}
    return lambda inputs: network.preprocessing_fn(inputs, custom_config)


def to_examples(rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Serialized tf.Examples; a missing cell is a missing feature."""
    return [_to_example(row).SerializeToString() for row in rows]


def _to_example(row: Mapping[str, Any]) -> tf.train.Example:
    example = tf.train.Example()
    for name, value in row.items():
        if value is None:
            continue
        feature = example.features.feature[name]
        if isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        elif isinstance(value, list):
            feature.bytes_list.value.extend(one.encode() for one in value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.float_list.value.append(value)
    return example


def to_block(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """The rows as TableExampleGen has them, for columns that have a value in one of them."""
    kinds = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    arrays = {}
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        kind = next((kinds[type(value)] for value in values if value is not None), pa.float64())
        arrays[name] = pa.array(values, kind)
    return pa.RecordBatch.from_pydict(arrays)


def write_split(folder: Path, rows: Sequence[Mapping[str, Any]], *, group_rows: int = 1_000) -> list[str]:
    """The file of a split, as a list of one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "data-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_batches([to_block(rows)]), path, row_group_size=group_rows)
    return [str(path)]


@pytest.fixture(scope="session")
def serialized() -> Callable[[Sequence[Mapping[str, Any]]], list[bytes]]:
    return to_examples


ODD_NAMES = {
    "float": "body mass (g)",
    "integer": "1st.count",
    "text": "naïve/island",
    "dotted": "is.female?",
    "hashed": "a-name!",
}


def make_rows(number: int = 60) -> Rows:
    """Numbers, whole numbers, few and many words, missing cells, and names that are no identifiers."""
    rows = []
    for index, letter in zip(range(number), itertools.cycle("abc"), strict=False):
        rows.append(
            {
                "bill": None if index % 10 == 3 else index / 4,
                ODD_NAMES["float"]: float(index % 7),
                ODD_NAMES["integer"]: None if index % 12 == 5 else index * 3 % 47,
                "year": 2007 + index % 3,
                ODD_NAMES["text"]: None if index % 9 == 4 else f"island {letter}",
                ODD_NAMES["dotted"]: "yes" if index % 2 else "no",
                ODD_NAMES["hashed"]: f"name {index % 40}",
                "species": ["Adelie", "Chinstrap", "Gentoo"][index % 3],
                "sex": ["female", "male"][index % 2],
                "mass": 3_000.0 + index * 10,
            }
        )
    return rows


@pytest.fixture(scope="session")
def rows() -> Rows:
    return make_rows()


@pytest.fixture(scope="session")
def multiclass(preprocess, rows) -> Preprocessed:
    kept = [{name: value for name, value in row.items() if name not in ("sex", "mass")} for row in rows]
    return preprocess(kept, label="species", vocabulary_size=10, hash_buckets=16)


@pytest.fixture(scope="session")
def binary(preprocess, rows) -> Preprocessed:
    kept = [{name: value for name, value in row.items() if name not in ("species", "mass")} for row in rows]
    return preprocess(kept, label="sex", vocabulary_size=10, hash_buckets=16)


@pytest.fixture(scope="session")
def regression(preprocess, rows) -> Preprocessed:
    kept = [{name: value for name, value in row.items() if name not in ("species", "sex")} for row in rows]
    return preprocess(kept, label="mass", task="regression", vocabulary_size=10, hash_buckets=16)


@pytest.fixture(scope="session")
def odd_names() -> dict[str, str]:
    return ODD_NAMES


@pytest.fixture(scope="session")
def export_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("exported")


def without_signatures(path: Path, earlier: Path, *names: str) -> Path:
    """A copy of a SavedModel as an earlier version exported it."""
    shutil.copytree(path, earlier)
    saved_model = saved_model_pb2.SavedModel.FromString((earlier / "saved_model.pb").read_bytes())
    for name in names:
        del saved_model.meta_graphs[0].signature_def[name]
    for node in saved_model.meta_graphs[0].object_graph_def.nodes:  # where TensorFlow finds signatures
        for child in list(node.children):
            if child.local_name in names:
                node.children.remove(child)
    (earlier / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    return earlier
