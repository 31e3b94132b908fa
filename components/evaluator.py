"""Evaluator: TFX's, with TFMA's configuration made from ours and the reasons of its verdict read back.

Whether a model is blessed is TFMA's decision. Here stands how each metric of `evaluation` is computed, and what a
threshold is in TFMA's terms.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from absl import logging
from tensorflow_model_analysis.proto import config_pb2, metrics_for_slice_pb2
from tensorflow_model_analysis.writers import metrics_plots_and_validations_writer as tfma_files
from tfx import types
from tfx.components.evaluator import constants as tfx_constants
from tfx.components.evaluator import executor as tfx_evaluator
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import proto_utils

from kubetfx.components.data import beam_mode, parquet_tfxio, table_profile
from kubetfx.components.evaluation import golden, image_evaluation
from kubetfx.components.evaluation.evaluation_result import RESULT, Check, EvaluationResult
from kubetfx.components.served_model_resolver import saved_model_path
from kubetfx.config.evaluation import METRICS, EvaluationConfig, Threshold, is_lower_better, worsening
from kubetfx.config.model import Task
from kubetfx.models.examples import files_in, read_blocks
from kubetfx.models.export import read_facts
from kubetfx.models.features import LABEL, Features, read_features, read_schema

CANDIDATE = "candidate"
BASELINE = "baseline"
DEFAULT_WORSE_BY_AT_MOST = 0.01
EVALUATION_SPLIT = "eval"
NOT_COMPARED = "not_compared.txt"
"""File of the evaluation artifact that says why the served model was left out, where it was."""

_PER_CLASS = {
    "auc": "AUC",
    "auc_precision_recall": "AUCPrecisionRecall",
    "f1": "F1Score",
    "precision": "Precision",
    "recall": "Recall",
}
"""Of the second class where there are two; the mean over the classes, each against the rest, where there are more."""

_WHOLE = {
    "accuracy": "SparseCategoricalAccuracy",
    "cross_entropy": "SparseCategoricalCrossentropy",
    "mean_absolute_error": "MeanAbsoluteError",
    "mean_squared_error": "MeanSquaredError",
    "root_mean_squared_error": "RootMeanSquaredError",
    "squared_pearson_correlation": "SquaredPearsonCorrelation",
}


def effective_thresholds(evaluation: EvaluationConfig, task: Task) -> dict[str, Threshold]:
    """The thresholds of the config, or the one that holds without any: hardly worse than what is served."""
    if evaluation.thresholds:
        return evaluation.thresholds
    first = (evaluation.metrics or METRICS[task])[0]
    return {first: Threshold(worse_by_at_most=DEFAULT_WORSE_BY_AT_MOST)}


def make_eval_config(
    evaluation: EvaluationConfig, *, task: Task, num_classes: int, has_baseline: bool, classes: Sequence[int] = ()
) -> config_pb2.EvalConfig:
    """TFMA's configuration.

    Args:
        evaluation: the section of the config.
        task: of the model.
        num_classes: 0 for regression.
        classes: indices of the classes that the evaluation split has rows of. TFMA takes a class without rows for one
            that all metrics are 0 of. Empty: all.
        has_baseline: whether a served model is there to compare with.
    """
    thresholds = _of_tfma(effective_thresholds(evaluation, task), task)
    computed = [name for name in evaluation.metrics if name in METRICS[task]] or METRICS[task]
    names = dict.fromkeys([*computed, *thresholds])
    whole = config_pb2.MetricsSpec(metrics=[config_pb2.MetricConfig(class_name="ExampleCount")])
    per_class = config_pb2.MetricsSpec()
    if num_classes == 2:
        per_class.binarize.class_ids.values.append(1)
    else:
        per_class.aggregate.macro_average = True
        per_class.aggregate.class_weights.update(dict.fromkeys(classes or range(num_classes), 1.0))
    for name in names:
        spec, class_name = (per_class, _PER_CLASS[name]) if name in _PER_CLASS else (whole, _WHOLE[name])
        metric = spec.metrics.add(class_name=class_name, config=json.dumps({"name": name}))
        if name in thresholds:
            overall = metric.per_slice_thresholds.add(slicing_specs=[config_pb2.SlicingSpec()])
            overall.threshold.CopyFrom(_threshold(name, thresholds[name]))  # metric.threshold would hold for each slice
    slices = [config_pb2.SlicingSpec()]
    slices += [config_pb2.SlicingSpec(feature_keys=[s] if isinstance(s, str) else s) for s in evaluation.slices]
    return config_pb2.EvalConfig(
        model_specs=[_model_spec(CANDIDATE, task)] + [_model_spec(BASELINE, task)] * has_baseline,
        metrics_specs=[spec for spec in (whole, per_class) if spec.metrics],
        slicing_specs=slices,
    )


def _of_tfma(thresholds: dict[str, Threshold], task: Task) -> dict[str, Threshold]:
    """The thresholds of metrics that TFMA computes; an empty one if there are none, since TFMA asks for one."""
    found = {name: threshold for name, threshold in thresholds.items() if name in METRICS[task]}
    return found or {METRICS[task][0]: Threshold.model_construct(at_least=None, at_most=None, worse_by_at_most=None)}


def _model_spec(name: str, task: Task) -> config_pb2.ModelSpec:
    return config_pb2.ModelSpec(
        name=name,
        is_baseline=name == BASELINE,
        signature_name="serving_examples",
        preprocessing_function_names=["transform_features"],
        label_key=LABEL,
        prediction_key="probabilities" if task == "classification" else "value",
    )


def _threshold(name: str, threshold: Threshold) -> config_pb2.MetricThreshold:
    """Every metric has a value threshold, if an empty one: TFMA blesses nothing that it has no bound for."""
    result = config_pb2.MetricThreshold()
    result.value_threshold.lower_bound.value = _or(threshold.at_least, -math.inf)
    result.value_threshold.upper_bound.value = _or(threshold.at_most, math.inf)
    if threshold.worse_by_at_most is not None:
        change = result.change_threshold
        lower = is_lower_better(name)
        change.direction = (
            config_pb2.MetricDirection.LOWER_IS_BETTER if lower else config_pb2.MetricDirection.HIGHER_IS_BETTER
        )
        change.absolute.value = threshold.worse_by_at_most if lower else -threshold.worse_by_at_most
    return result


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def read_evaluation(folder: Path, evaluation: EvaluationConfig, *, task: Task) -> EvaluationResult:
    """Read back what TFMA wrote.

    Args:
        folder: of the evaluation artifact.
        evaluation: the section of the config that it ran with.
        task: of the model.
    """
    by_slice: dict[str, dict[str, dict[str, float]]] = {}
    for record in tfma_files.load_and_deserialize_metrics(str(folder)):
        by_slice[_slice_name(record)] = _values_by_model(record)
    overall = by_slice.pop("")
    order = ["example_count", *METRICS[task]]
    images = image_evaluation.read(folder)
    metrics = {name: overall[CANDIDATE][name] for name in order if name in overall[CANDIDATE]}
    metrics |= images["metrics"].get(CANDIDATE, {})
    baseline = overall.get(BASELINE, {}) | images["metrics"].get(BASELINE, {})
    checks = list(_checks(effective_thresholds(evaluation, task), metrics, baseline))
    return EvaluationResult(
        metrics=metrics,
        baseline_metrics=baseline,
        slices={
            _with_class_name(name, images.get("classes", ())): _of_slice(values[CANDIDATE])
            for name, values in sorted(by_slice.items())
        },
        checks=checks,
        is_blessed=_is_valid(folder) and all(check.passed for check in checks if check.metric not in METRICS[task]),
        by_class=images.get("by_class", {}),
        not_compared_because=(folder / NOT_COMPARED).read_text() if (folder / NOT_COMPARED).is_file() else None,
    )


def _with_class_name(slice_name: str, classes: Sequence[str]) -> str:
    """TFMA slices by the label as the network has it, where the label of images goes by that very name: a number."""
    return re.sub(
        rf"(^|, ){LABEL}=(\d+)(?=,|$)",
        lambda match: f"{match[1]}{LABEL}={classes[int(match[2])]}" if int(match[2]) < len(classes) else match[0],
        slice_name,
    )


def _of_slice(metrics: dict[str, float]) -> dict[str, float]:
    """Without what is not defined, such as the area under the curve of a slice in which a class has no row."""
    return {name: value for name, value in metrics.items() if not math.isnan(value)}


def _slice_name(record: metrics_for_slice_pb2.MetricsForSlice) -> str:
    parts = []
    for key in record.slice_key.single_slice_keys:
        value = getattr(key, key.WhichOneof("kind") or "bytes_value")
        parts.append(f"{key.column}={value.decode(errors='replace') if isinstance(value, bytes) else value}")
    return ", ".join(parts)


def _values_by_model(record: metrics_for_slice_pb2.MetricsForSlice) -> dict[str, dict[str, float]]:
    values: dict[str, dict[str, float]] = {}
    for entry in record.metric_keys_and_values:
        if not entry.key.is_diff and entry.value.WhichOneof("type") == "double_value":
            model = entry.key.model_name or CANDIDATE
            values.setdefault(model, {})[entry.key.name] = entry.value.double_value.value
    return values


def _checks(thresholds: dict[str, Threshold], metrics: dict[str, float], baseline: dict[str, float]) -> Iterator[Check]:
    for name, threshold in thresholds.items():
        value, served = metrics[name], baseline.get(name)
        if threshold.at_least is not None:
            yield Check(name, "at_least", threshold.at_least, value, served, value >= threshold.at_least)
        if threshold.at_most is not None:
            yield Check(name, "at_most", threshold.at_most, value, served, value <= threshold.at_most)
        if threshold.worse_by_at_most is not None:
            worse = 0.0 if served is None else worsening(name, value, served)
            yield Check(
                name,
                "worse_by_at_most",
                threshold.worse_by_at_most,
                value,
                served,
                math.isfinite(value) and worse <= threshold.worse_by_at_most,
            )


class Executor(tfx_evaluator.Executor):
    """TFX's Evaluator, given what only the run knows: the number of classes, and whether there is a baseline."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the component, and log each check."""
        evaluation = EvaluationConfig.model_validate_json(exec_properties["evaluation_config"])
        task: Task = exec_properties["task"]
        features = _features(input_dict[standard_component_specs.SCHEMA_KEY])
        classes, label = features.classes, features.label
        inputs = {key: value for key, value in input_dict.items() if key != standard_component_specs.SCHEMA_KEY}
        baseline = inputs.pop(standard_component_specs.BASELINE_MODEL_KEY, [])
        transform_graph = inputs.pop("transform_graph")
        difference = (
            why_not_comparable(saved_model_path(inputs["model"]), saved_model_path(baseline)) if baseline else None
        )
        if baseline and difference is None:
            inputs[standard_component_specs.BASELINE_MODEL_KEY] = baseline
        eval_config = make_eval_config(
            evaluation,
            task=task,
            classes=_classes_with_rows(inputs["examples"], label, classes) if classes else (),
            num_classes=len(classes),
            has_baseline=standard_component_specs.BASELINE_MODEL_KEY in inputs,
        )
        folder = Path(artifact_utils.get_single_uri(output_dict[standard_component_specs.EVALUATION_KEY]))
        if beam_mode.is_in_process(self._beam_pipeline_args):
            self._log_startup(inputs, output_dict, exec_properties)
            _evaluate_in_process(inputs, eval_config, folder)
            _bless(inputs, output_dict, folder)
        else:
            num_rows = table_profile.num_rows(Path(artifact_utils.get_single_uri(inputs["examples"])))
            beam_mode.choose_running_mode(self, num_rows=num_rows)
            with parquet_tfxio.read_by_tfx():
                super().Do(
                    inputs, output_dict, {**exec_properties, "eval_config": proto_utils.proto_to_json(eval_config)}
                )
        if difference:
            (folder / NOT_COMPARED).write_text(difference, encoding="utf-8")
        facts = read_facts(saved_model_path(inputs["model"]))
        if facts is not None and facts.image is not None:
            models = {CANDIDATE: saved_model_path(inputs["model"])}
            if standard_component_specs.BASELINE_MODEL_KEY in inputs:
                models[BASELINE] = saved_model_path(inputs[standard_component_specs.BASELINE_MODEL_KEY])
            split = artifact_utils.get_split_uri(inputs["examples"], EVALUATION_SPLIT)
            image_evaluation.write(image_evaluation.evaluate(split, models, evaluation), folder)
        result = read_evaluation(folder, evaluation, task=task)
        if not result.is_blessed:
            _withdraw_blessing(artifact_utils.get_single_instance(output_dict[standard_component_specs.BLESSING_KEY]))
        (folder / RESULT).write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
        if num_golden_rows := exec_properties["golden_rows"]:
            golden_rows = golden.predict_golden_rows(
                artifact_utils.get_split_uri(inputs["examples"], EVALUATION_SPLIT),
                number=num_golden_rows,
                transform_graph=artifact_utils.get_single_uri(transform_graph),
                saved_model=saved_model_path(inputs["model"]),
            )
            golden.write(golden_rows, folder)
        for check in result.checks:
            logging.info("%s", check)


def _evaluate_in_process(
    inputs: dict[str, list[types.Artifact]], eval_config: config_pb2.EvalConfig, folder: Path
) -> None:
    from kubetfx.components.evaluation import local_evaluation

    keys = {CANDIDATE: standard_component_specs.MODEL_KEY, BASELINE: standard_component_specs.BASELINE_MODEL_KEY}
    split = artifact_utils.get_split_uri(inputs[standard_component_specs.EXAMPLES_KEY], EVALUATION_SPLIT)
    local_evaluation.evaluate(
        {name: saved_model_path(inputs[key]) for name, key in keys.items() if key in inputs},
        files_in(split),
        eval_config,
        output=folder,
    )


def _bless(inputs: dict[str, list[types.Artifact]], output_dict: dict[str, list[types.Artifact]], folder: Path) -> None:
    """Write TFMA's verdict as TFX's executor does."""
    blessing = artifact_utils.get_single_instance(output_dict[standard_component_specs.BLESSING_KEY])
    for kind, key in (("current", "model"), ("baseline", standard_component_specs.BASELINE_MODEL_KEY)):
        if key in inputs:
            model = artifact_utils.get_single_instance(inputs[key])
            blessing.set_string_custom_property(f"{kind}_model", model.uri)
            blessing.set_int_custom_property(f"{kind}_model_id", model.id)
    is_blessed = _is_valid(folder)
    blessing.set_int_custom_property(tfx_constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(is_blessed))
    name = tfx_constants.BLESSED_FILE_NAME if is_blessed else tfx_constants.NOT_BLESSED_FILE_NAME
    Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    (Path(blessing.uri) / name).touch()
    logging.info("Blessing result %s written to %s.", is_blessed, blessing.uri)


def _is_valid(folder: Path) -> bool:
    """TFMA's verdict, as it stands in its file."""
    return bool(tfma_files.load_and_deserialize_validation_result(str(folder)).validation_ok)


def _withdraw_blessing(blessing: types.Artifact) -> None:
    """TFMA may have given it: it knows nothing of the metrics of images."""
    blessed = Path(blessing.uri) / tfx_constants.BLESSED_FILE_NAME
    if blessed.exists():
        blessed.rename(blessed.with_name(tfx_constants.NOT_BLESSED_FILE_NAME))
    blessing.set_int_custom_property(tfx_constants.ARTIFACT_PROPERTY_BLESSED_KEY, tfx_constants.NOT_BLESSED_VALUE)


def why_not_comparable(candidate: Path, baseline: Path) -> str | None:
    """What keeps two models from being evaluated on the same rows by the same measure; None if nothing does.

    Args:
        candidate: folder of a SavedModel.
        baseline: folder of the served one.
    """
    ours, theirs = read_facts(candidate), read_facts(baseline)
    if ours is None or theirs is None:
        return "the served model was not exported by kubetfx"
    if (ours.image is None) != (theirs.image is None):
        return f"the served model is one of {'tables' if ours.image else 'images'}"
    if (ours.label, ours.classes) != (theirs.label, theirs.classes):
        return f"the served model predicts another label or other classes ({theirs.label})"
    for column, dtype in theirs.columns.items():
        if column not in ours.columns and column in theirs.inputs:
            return f"the served model reads the column {column!r}, which the data no longer has"
        if ours.columns.get(column, dtype) != dtype:
            return f"the served model reads the column {column!r} as {dtype}, and it is {ours.columns[column]} now"
    return None


def _features(schemas: list[types.Artifact]) -> Features:
    return read_features(read_schema(Path(artifact_utils.get_single_uri(schemas)) / "schema.pbtxt"))


def _classes_with_rows(examples: list[types.Artifact], label: str, classes: Sequence[str]) -> list[int]:
    """Indices of the classes that the evaluation split has rows of."""
    files = files_in(artifact_utils.get_split_uri(examples, EVALUATION_SPLIT))
    columns = (block.column(label) for block in read_blocks(files, [label]))
    found = {str(name) for column in columns for name in column.unique().drop_null().to_pylist()}
    return [index for index, name in enumerate(classes) if name in found]


class EvaluatorSpec(component_spec.ComponentSpec):
    """Channels and properties of Evaluator."""

    PARAMETERS = {
        "evaluation_config": component_spec.ExecutionParameter(type=str),
        "task": component_spec.ExecutionParameter(type=str),
        "golden_rows": component_spec.ExecutionParameter(type=int),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "baseline_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class Evaluator(base_beam_component.BaseBeamComponent):
    """Metrics of the candidate on the evaluation split, and whether it may be pushed."""

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        baseline_model: types.BaseChannel,
        schema: types.BaseChannel,
        transform_graph: types.BaseChannel,
        *,
        evaluation: EvaluationConfig,
        task: Task,
        golden_rows: int,
    ) -> None:
        super().__init__(
            EvaluatorSpec(
                examples=examples,
                model=model,
                baseline_model=baseline_model,
                schema=schema,
                transform_graph=transform_graph,
                golden_rows=golden_rows,
                evaluation_config=json.dumps(evaluation.model_dump(mode="json")),
                task=task,
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
            )
        )
