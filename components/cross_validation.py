"""CrossValidation: the metrics of all folds together, and the predictions for all rows that they held out."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact

from kubetfx.artifacts import OUT_OF_FOLD
from kubetfx.components.data.folds import FoldRule
from kubetfx.components.declaration import Artifacts, Component
from kubetfx.components.evaluation import cross_validated
from kubetfx.components.evaluation.evaluation_result import format_metric
from kubetfx.config.metric_catalogue import label_of


class FoldEvaluation(Artifact):
    """A folder with fold.json and predictions.parquet, of one fold."""

    TYPE_NAME = "FoldEvaluation"


class CrossValidationResult(Artifact):
    """A folder with cross_validation.json and predictions.parquet."""

    TYPE_NAME = "CrossValidationResult"


class Executor(base_executor.BaseExecutor):
    """Puts the folds together."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component."""
        rule = FoldRule.model_validate_json(exec_properties["rule"])
        folder = Path(artifact_utils.get_single_uri(output_dict["cross_validation"]))
        folder.mkdir(parents=True, exist_ok=True)
        places = {Path(artifact.uri): cross_validated.read_fold(Path(artifact.uri)) for artifact in input_dict["folds"]}
        found = cross_validated.write(folder, list(places.values()), rule=rule.describe())
        for name, spread in found.metrics.items():
            logging.info("%s: %s", label_of(name), format_metric(spread.mean))
        _concatenate(sorted(places, key=lambda place: (places[place].repeat, places[place].fold)), folder / OUT_OF_FOLD)


def _concatenate(folders: list[Path], path: Path) -> None:
    """Write the predictions of all folds into one file, a row group at a time."""
    files = [pq.ParquetFile(folder / OUT_OF_FOLD) for folder in folders]
    schema = pa.unify_schemas([file.schema_arrow for file in files])
    with pq.ParquetWriter(path, schema) as writer:
        for file in files:
            for number in range(file.num_row_groups):
                writer.write_table(file.read_row_group(number).cast(schema))


class CrossValidation(Component):
    """Metrics of all folds, their means and intervals, and the predictions for all rows that the folds held out."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    INPUTS = {"folds": FoldEvaluation}
    OUTPUTS = {"cross_validation": CrossValidationResult}
    PARAMETERS = {"rule": FoldRule}
