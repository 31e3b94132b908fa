"""ExampleGen of images run by itself, and what it wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfx.types import artifact_utils, standard_artifacts

from kubetfx.components.example_driver import Driver
from kubetfx.components.example_gen import ExampleGen, Executor
from kubetfx.config.data_section import DataConfig
from kubetfx.models.examples import files_in, read_blocks


def run_executor(
    path: Path, output: Path, *, beam_arguments: Sequence[str] = (), **fields: Any
) -> standard_artifacts.Examples:
    """Run driver and executor as TFX's launcher does, with the exec properties of the component."""
    data = DataConfig.model_validate({"path": str(path), "format": "images", **fields})
    component = ExampleGen(data)
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
        for block in read_blocks(files_in(f"{examples.uri}/Split-{split}")):
            for row in block.to_pylist():
                present = {name: value for name, value in row.items() if value is not None}
                rows[row["path"]] = {**present, "split": split}
    return rows
