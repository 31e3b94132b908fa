"""FoldEvaluator: evaluates the model of a fold on the rows that the fold held out, and keeps its predictions."""

import functools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.arrays import Array
from kubetfx.artifacts import EVAL, FOLD, OUT_OF_FOLD, SCHEMA
from kubetfx.components.cross_validation import FoldEvaluation
from kubetfx.components.declaration import Artifacts, Component
from kubetfx.components.evaluation import cross_validated
from kubetfx.components.evaluation.evaluation import Evaluation
from kubetfx.components.evaluation.evaluation_request import request_of
from kubetfx.components.evaluation.evaluation_rows import Block
from kubetfx.components.evaluation.slices import OVERALL
from kubetfx.components.evaluation.tfma_files import CANDIDATE
from kubetfx.components.served_model_resolver import saved_model_path
from kubetfx.config.evaluation_section import EvaluationConfig
from kubetfx.models.examples import RowGroup, files_in, row_groups
from kubetfx.models.features import read_features, read_schema

FOLD_COLUMN, REPEAT_COLUMN = "fold", "repeat"
PREDICTION, PROBABILITIES = "prediction", "probabilities"
"""Columns added to those of the table; a name that the table has gets an underscore."""


class Executor(base_executor.BaseExecutor):
    """Predicts for each row once, for the metrics and for the file of predictions."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component."""
        examples = artifact_utils.get_single_instance(input_dict["fold_examples"])
        folder = Path(artifact_utils.get_single_uri(output_dict["fold_evaluation"]))
        folder.mkdir(parents=True, exist_ok=True)
        features = read_features(read_schema(Path(artifact_utils.get_single_uri(input_dict["schema"])) / SCHEMA))
        evaluation = EvaluationConfig.model_validate_json(exec_properties["evaluation_config"])
        models = {CANDIDATE: saved_model_path(input_dict["model"])}
        work = Evaluation(request_of(models, evaluation, exec_properties["task"], weight=features.weight))
        work.setup()
        groups = [group for group, _ in row_groups(files_in(artifact_utils.get_split_uri([examples], EVAL)))]
        about = json.loads((Path(examples.uri) / FOLD).read_text())
        state, answers = work.create(), _Answers(folder / OUT_OF_FOLD, about, features.classes)
        for group in groups:
            blocks = list(work.blocks(group))
            state = functools.reduce(work.add_block, blocks, state)
            answers.write(group, blocks)
        answers.close()
        values = work.result(state).values[OVERALL][CANDIDATE]
        defined = {name: value for name, value in values.items() if math.isfinite(value)}
        cross_validated.write_fold(folder, cross_validated.FoldMetrics(**about, metrics=defined))
        logging.info("Fold %s of repeat %s: %s", about["fold"] + 1, about["repeat"] + 1, defined)


class _Answers:
    """The file of the rows with the model's predictions."""

    def __init__(self, path: Path, about: dict[str, Any], classes: Sequence[str]) -> None:
        self._path = path
        self._about = about
        self._classes = classes
        self._writer: pq.ParquetWriter | None = None

    def write(self, group: RowGroup, blocks: Sequence[Block]) -> None:
        """Write a row group, without the bytes of its pictures."""
        rows = group.read()
        outputs = np.concatenate([block.predictions[CANDIDATE] for block in blocks])
        shown = [name for name in rows.schema.names if not pa.types.is_binary(rows.schema.field(name).type)]
        columns = {name: rows.column(name) for name in shown} | dict(self._added(outputs, shown))
        table = pa.table(columns)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table.cast(self._writer.schema))

    def _added(self, outputs: Array, names: Sequence[str]) -> Iterator[tuple[str, pa.Array]]:
        def free(name: str) -> str:
            return free(f"{name}_") if name in names else name

        for key in (FOLD_COLUMN, REPEAT_COLUMN):
            yield free(key), pa.array(np.full(len(outputs), self._about[key], np.int64))
        if not self._classes:
            yield free(PREDICTION), pa.array(outputs.reshape(-1).astype(np.float64))
            return
        likeliest = pa.array(outputs.argmax(axis=1))
        yield free(PREDICTION), pa.array(list(self._classes)).take(likeliest)
        columns = [pa.array(outputs[:, index].astype(np.float32)) for index in range(len(self._classes))]
        yield free(PROBABILITIES), pa.StructArray.from_arrays(columns, names=list(self._classes))

    def close(self) -> None:
        """Finish the file."""
        assert self._writer is not None  # every fold holds out rows
        self._writer.close()


class FoldEvaluator(Component):
    """Metrics of a fold's model on the rows that the fold held out, and its predictions for them.

    `metrics_digest` is the digest of the user's own metric modules, so that an edit invalidates the cache.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    INPUTS = {
        "fold_examples": standard_artifacts.Examples,
        "model": standard_artifacts.Model,
        "schema": standard_artifacts.Schema,
    }
    OUTPUTS = {"fold_evaluation": FoldEvaluation}
    PARAMETERS = {"evaluation_config": EvaluationConfig, "task": str, "metrics_digest": str}
