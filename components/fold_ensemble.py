"""FoldEnsemble: combines the models of all cross-validation folds into one, instead of a Trainer's model.

No fold has seen the evaluation split, so metrics measured there are valid for the mean of the models.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tensorflow_transform.tf_metadata import schema_utils
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from kubetfx.arrays import Array
from kubetfx.artifacts import EVAL, HISTORY, SCHEMA, TRAIN, VALIDATION
from kubetfx.components.declaration import Artifacts, Component
from kubetfx.components.evaluation.evaluation_rows import Models
from kubetfx.components.evaluation.metric_registry import find_metric
from kubetfx.components.served_model_resolver import saved_model_path
from kubetfx.models.calibration import with_temperature
from kubetfx.models.columns.image.pixels import Pixels
from kubetfx.models.examples import RowGroup, files_in, first_rows, row_groups
from kubetfx.models.export import export_model
from kubetfx.models.features import Features, read_features, read_schema
from kubetfx.models.folds_model import FoldModel, JointPreprocessing, mean_model
from kubetfx.models.training_record import Fitted


class Executor(base_executor.BaseExecutor):
    """Joins the SavedModels of the folds, calibrates them if configured, and measures the gain from joining."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component.

        Raises:
            TrainingError: the models were not trained by kubetfx.
        """
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        schema = read_schema(Path(artifact_utils.get_single_uri(input_dict["schema"])) / SCHEMA)
        features = read_features(schema)
        paths = [saved_model_path([artifact]) for artifact in input_dict["models"]]
        members = [FoldModel(path, number=number) for number, path in enumerate(paths)]
        facts = members[0].facts
        folder = Path(artifact_utils.get_single_uri(output_dict["model"]))
        training_files = files_in(artifact_utils.get_split_uri([examples], TRAIN))
        history = json.loads((Path(input_dict["models"][0].uri) / HISTORY).read_text(encoding="utf-8"))

        def groups_of(split: str) -> list[RowGroup]:
            return [group for group, _ in row_groups(files_in(artifact_utils.get_split_uri([examples], split)))]

        fitted = Fitted(mean_model(members), history)
        if exec_properties["calibrate"]:
            fitted = with_temperature(fitted, *_answers(paths, groups_of(VALIDATION), features))
        export_model(
            fitted.model,
            JointPreprocessing(members, schema_utils.schema_as_feature_spec(schema).feature_spec),
            features,
            Path(path_utils.serving_model_dir(folder)),
            pixels=Pixels.of_facts(facts) if facts.image else None,
            warmup_rows=first_rows(training_files, exec_properties["warmup_rows"], features.inputs),
        )
        gain = _gain(paths, groups_of(EVAL), features)
        logging.info("Ensemble: %s", gain)
        (folder / HISTORY).write_text(json.dumps(fitted.history | {"ensemble": gain}, indent=1), encoding="utf-8")


def _answers(paths: list[Path], groups: list[RowGroup], features: Features) -> tuple[Array, Array, Array]:
    """Return labels, the mean of the models' predictions, and weights."""
    models = _models(paths, features)
    found = [
        (block.labels["0"], np.mean(list(block.predictions.values()), axis=0), block.weights)
        for group in groups
        for block in models.blocks(group)
    ]
    labels, answers, weights = (np.concatenate([block[part] for block in found]) for part in range(3))
    return labels, answers, weights


def _models(paths: list[Path], features: Features) -> Models:
    return Models(
        {str(number): path for number, path in enumerate(paths)}, baselines={}, columns=[], weight=features.weight
    )


def _gain(paths: list[Path], groups: list[RowGroup], features: Features) -> dict[str, Any]:
    """Return the metric of each model and of their mean, on rows that none of them has seen."""
    metric = find_metric("cross_entropy" if features.classes else "root_mean_squared_error")
    accumulators = [metric.make_accumulator(top_k=1) for _ in [*paths, "mean"]]
    states = [accumulator.create() for accumulator in accumulators]
    models = _models(paths, features)
    rows = 0
    for group in groups:
        for block in models.blocks(group):
            predictions = [*block.predictions.values(), np.mean(list(block.predictions.values()), axis=0)]
            states = [
                accumulator.add_block(state, block.labels["0"], own, block.weights)
                for accumulator, state, own in zip(accumulators, states, predictions, strict=True)
            ]
            rows += len(block.weights)
    *members, mean = (float(accumulator.result(state)) for accumulator, state in zip(accumulators, states, strict=True))
    return {"metric": metric.name, "members": members, "value": mean, "rows": rows, "split": EVAL}


class FoldEnsemble(Component):
    """The mean of the models of all folds, in one SavedModel with the same signatures."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    INPUTS = {
        "models": standard_artifacts.Model,
        "examples": standard_artifacts.Examples,
        "schema": standard_artifacts.Schema,
    }
    OUTPUTS = {"model": standard_artifacts.Model}
    PARAMETERS = {"warmup_rows": int, "calibrate": int}
