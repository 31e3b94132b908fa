"""ImageExampleGen run by itself, and what it wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.components.image_example_gen import Driver, Executor, ImageExampleGen
from kubetfx.config.data import DataConfig


def run_executor(
    path: Path, output: Path, *, beam_arguments: Sequence[str] = (), **fields: Any
) -> standard_artifacts.Examples:
    """Run driver and executor as TFX's launcher does, with the exec properties of the component."""
    data = DataConfig.model_validate({"path": str(path), "format": "images", **fields})
    component = ImageExampleGen(data)
    examples = standard_artifacts.Examples()
    examples.uri = str(output)
    output.mkdir(parents=True)
    properties = Driver(None).resolve_exec_properties(dict(component.exec_properties), None, None)
    context = Executor.Context(beam_pipeline_args=list(beam_arguments), unique_id="1")
    Executor(context).Do({}, {"examples": [examples]}, properties)
    return examples


def rows_of(examples: standard_artifacts.Examples) -> dict[str, dict[str, Any]]:
    """The examples by path: their values, and their split."""
    rows = {}
    for split in artifact_utils.decode_split_names(examples.split_names):
        files = sorted(tf.io.gfile.glob(f"{examples.uri}/Split-{split}/*"))
        for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            row = {name: getattr(f, f.WhichOneof("kind")).value[0] for name, f in features.items()}
            rows[row["path"].decode()] = {**row, "split": split}
    return rows
