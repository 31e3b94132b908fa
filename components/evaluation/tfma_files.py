"""Writes our values and our verdict in TFMA's file formats.

TFMA's readers `tfma.load_eval_result`, `load_metrics` and `load_validation_result` read them. TFMA computes nothing.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf import json_format
from tensorflow_model_analysis import version as tfma_version
from tensorflow_model_analysis.proto import config_pb2, metrics_for_slice_pb2, validation_result_pb2

from kubetfx.components.evaluation.evaluation import Request, Values
from kubetfx.components.evaluation.evaluation_result import COUNT, Check
from kubetfx.components.evaluation.slices import MISSING, OVERALL, SliceKey, slice_name
from kubetfx.config.evaluation_section import Threshold
from kubetfx.config.metric_catalogue import Better, describe
from kubetfx.models.features import LABEL

CANDIDATE = "candidate"
BASELINE = "baseline"
_MODULE = "kubetfx.components.evaluation.metric_registry"


def write(
    folder: Path,
    *,
    values: Values,
    checks: Sequence[Check],
    thresholds: Mapping[str, Threshold],
    better: Mapping[str, Better],
    request: Request,
    num_classes: int,
) -> None:
    """Write an evaluation as TFMA would.

    Args:
        folder: The folder of the evaluation artifact.
        values: The values of the metrics, by slice, model and name.
        checks: The checks of the candidate's metrics.
        thresholds: The thresholds of the checks.
        better: Whether higher or lower values are better, by metric.
        request: The request of the evaluation.
        num_classes: The number of classes; 0 for a regression.
    """
    keys = _Keys(has_baseline=BASELINE in request.saved_models, num_classes=num_classes)
    slice_keys = [_slice_key(key) for key in values]
    values = {key: {name: own[name] for name in request.saved_models} for key, own in values.items()}
    records: dict[str, Sequence[Any]] = {
        "metrics-00000-of-00001": [
            metrics_for_slice_pb2.MetricsForSlice(slice_key=key, metric_keys_and_values=keys.entries(of_models))
            for key, of_models in zip(slice_keys, values.values(), strict=True)
        ],
        "plots-00000-of-00001": [metrics_for_slice_pb2.PlotsForSlice(slice_key=key) for key in slice_keys],
        "attributions-00000-of-00001": [
            metrics_for_slice_pb2.AttributionsForSlice(slice_key=key) for key in slice_keys
        ],
        "validations": [_validation(keys, checks, thresholds, better, {slice_name(key): key for key in values})],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, messages in records.items():
        with tf.io.TFRecordWriter(str(folder / f"{name}.tfrecord")) as writer:
            for message in messages:
                writer.write(message.SerializeToString(deterministic=True))
    metrics = [name for name in values[OVERALL][CANDIDATE] if name != COUNT]
    run = config_pb2.EvalRun(
        eval_config=_eval_config(metrics, thresholds, better, request),
        version=tfma_version.VERSION,
        data_location="<user provided PCollection>",
        file_format="<unknown>",
        model_locations={keys.model(name): str(path) for name, path in request.saved_models.items()},
    )
    (folder / "eval_config.json").write_text(json_format.MessageToJson(run), encoding="utf-8")


class _Keys:
    """Keys of metrics in TFMA's format."""

    def __init__(self, *, has_baseline: bool, num_classes: int) -> None:
        self._has_baseline = has_baseline
        self._num_classes = num_classes

    def model(self, name: str) -> str:
        """Return the name of a model; TFMA omits that of a single model."""
        return name if self._has_baseline else ""

    def key(self, metric: str, model: str, *, is_diff: bool = False) -> metrics_for_slice_pb2.MetricKey:
        """Return the key of a model's metric, or of the candidate's difference from the baseline."""
        key = metrics_for_slice_pb2.MetricKey(name=metric, model_name=self.model(model), is_diff=is_diff)
        key.example_weighted.value = False
        description = describe(metric)
        if description is not None and description.of_each_class:
            if self._num_classes == 2:
                key.sub_key.class_id.value = 1
            else:
                key.aggregation_type.macro_average = True
        return key

    def entries(
        self, of_models: Mapping[str, Mapping[str, float]]
    ) -> list[metrics_for_slice_pb2.MetricsForSlice.MetricKeyAndValue]:
        """Return the values of a slice."""
        found = [
            (self.key(name, model), value) for model, metrics in of_models.items() for name, value in metrics.items()
        ]
        if self._has_baseline:
            ours, theirs = of_models[CANDIDATE], of_models[BASELINE]
            found += [(self.key(name, CANDIDATE, is_diff=True), ours[name] - theirs[name]) for name in ours]
        return [
            metrics_for_slice_pb2.MetricsForSlice.MetricKeyAndValue(key=key, value={"double_value": {"value": value}})
            for key, value in found
        ]


def _slice_key(key: SliceKey) -> metrics_for_slice_pb2.SliceKey:
    result = metrics_for_slice_pb2.SliceKey()
    for column, cell in key:
        value = MISSING.encode() if cell is None else cell
        kind = {bytes: "bytes_value", int: "int64_value", float: "float_value"}[type(value)]
        setattr(result.single_slice_keys.add(column=column), kind, value)
    return result


def _validation(
    keys: _Keys,
    checks: Sequence[Check],
    thresholds: Mapping[str, Threshold],
    better: Mapping[str, Better],
    slices: Mapping[str, SliceKey],
) -> validation_result_pb2.ValidationResult:
    """Return the verdict of the checks in TFMA's format."""
    result = validation_result_pb2.ValidationResult(validation_ok=all(check.passed for check in checks))
    result.validation_details.slicing_details.add(slicing_spec={}, num_matching_slices=1)
    missed: dict[str | None, list[Check]] = {}
    for check in checks:
        if not check.passed:
            missed.setdefault(check.slice, []).append(check)
    for name, own in missed.items():
        key = _slice_key(slices[name] if name else OVERALL)
        failures = _failures(keys, own, thresholds, better) if name is None else _failures_of_slice(keys, own)
        result.metric_validations_per_slice.add(slice_key=key, failures=failures)
    return result


def _failures_of_slice(keys: _Keys, checks: Sequence[Check]) -> Iterator[validation_result_pb2.ValidationFailure]:
    for check in checks:
        failure = validation_result_pb2.ValidationFailure(metric_key=keys.key(check.metric, CANDIDATE))
        failure.metric_value.double_value.value = check.value
        side = "upper_bound" if check.kind == "at_most" else "lower_bound"
        getattr(failure.metric_threshold.value_threshold, side).value = check.bound
        yield failure


def _failures(
    keys: _Keys, checks: Sequence[Check], thresholds: Mapping[str, Threshold], better: Mapping[str, Better]
) -> Iterator[validation_result_pb2.ValidationFailure]:
    seen = set()
    for check in checks:
        is_change = check.kind == "worse_by_at_most"
        if check.passed or (check.metric, is_change) in seen:  # at_least and at_most are one threshold to TFMA
            continue
        seen.add((check.metric, is_change))
        threshold = _threshold(thresholds[check.metric], better[check.metric])
        if check.reference:
            side = threshold.value_threshold
            bound = side.upper_bound if better[check.metric] == "lower" else side.lower_bound
            bound.value = check.bound
        value, is_diff = check.value, False
        if is_change and check.baseline is not None:
            value, is_diff = check.value - check.baseline, True
        failure = validation_result_pb2.ValidationFailure(metric_key=keys.key(check.metric, CANDIDATE, is_diff=is_diff))
        failure.metric_value.double_value.value = value
        if is_change:
            failure.metric_threshold.change_threshold.CopyFrom(threshold.change_threshold)
        else:
            failure.metric_threshold.value_threshold.CopyFrom(threshold.value_threshold)
        yield failure


def _threshold(threshold: Threshold, better: Better) -> config_pb2.MetricThreshold:
    result = config_pb2.MetricThreshold()
    result.value_threshold.lower_bound.value = -math.inf if threshold.at_least is None else threshold.at_least
    result.value_threshold.upper_bound.value = math.inf if threshold.at_most is None else threshold.at_most
    if threshold.worse_by_at_most is not None:
        change, directions = result.change_threshold, config_pb2.MetricDirection
        is_lower = better == "lower"
        change.direction = directions.LOWER_IS_BETTER if is_lower else directions.HIGHER_IS_BETTER
        change.absolute.value = threshold.worse_by_at_most if is_lower else -threshold.worse_by_at_most
    return result


def _eval_config(
    metrics: Sequence[str],
    thresholds: Mapping[str, Threshold],
    better: Mapping[str, Better],
    request: Request,
) -> config_pb2.EvalConfig:
    """Return what was evaluated. The classes of the metrics are ours, which TFMA cannot compute."""
    spec = config_pb2.MetricsSpec()
    for name in metrics:
        metric = spec.metrics.add(class_name=name, module=_MODULE, config=json.dumps({"name": name}))
        if name in thresholds:
            overall = metric.per_slice_thresholds.add(slicing_specs=[config_pb2.SlicingSpec()])
            overall.threshold.CopyFrom(_threshold(thresholds[name], better[name]))
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                name=name,
                is_baseline=name == BASELINE,
                signature_name="serving_examples",
                preprocessing_function_names=["transform_features"],
                label_key=LABEL,
                prediction_key="probabilities" if request.task == "classification" else "value",
            )
            for name in request.saved_models
        ],
        metrics_specs=[spec],
        slicing_specs=[
            config_pb2.SlicingSpec(),
            *(config_pb2.SlicingSpec(feature_keys=names) for names in request.slices),
        ],
    )
