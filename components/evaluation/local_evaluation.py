"""An evaluation in this process: what TFMA's pipeline does for the Evaluator, with whole columns in place of rows.

The models answer large batches of the evaluation split, metrics.py turns the answers into numbers, TFMA validates
them, and what is written are TFMA's files: whoever reads an evaluation with TFMA sees no difference. The
configuration of TFMA is components/evaluator.py's.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_model_analysis import version as tfma_version
from tensorflow_model_analysis.evaluators import metrics_validator
from tensorflow_model_analysis.metrics import (  # noqa: F401 - TFMA knows a metric by its name once it is imported
    confusion_matrix_metrics,
    example_count,
    mean_regression_error,
    metric_types,
    squared_pearson_correlation,
)
from tensorflow_model_analysis.proto import config_pb2, metrics_for_slice_pb2
from tensorflow_model_analysis.slicer import slicer_lib
from tensorflow_model_analysis.utils import config_util
from tensorflow_model_analysis.writers import metrics_plots_and_validations_writer as tfma_writer

from kubetfx.components.evaluation import metrics
from kubetfx.models.asked_model import AskedModel, columns_to_read
from kubetfx.models.examples import read_blocks

BATCH_ROWS = 8_192
IMAGE_BATCH_ROWS = 64
"""Of images, whose network computes more for each than memory would hold for thousands."""

SliceKey = tuple[tuple[str, Any], ...]
"""Columns of a slice and their values, as TFMA has it. Empty: all rows."""


@dataclass(frozen=True)
class Answers:
    """What a model says about the evaluation split."""

    labels: np.ndarray
    """(rows,) index of the class, or number."""
    predictions: np.ndarray
    """(rows, classes) probabilities, or (rows,) numbers."""


@dataclass(frozen=True)
class EvaluationRows:
    """The evaluation split, as far as metrics need it."""

    answers: Mapping[str, Answers]
    """By name of the model."""
    columns: Mapping[str, np.ndarray]
    """Of the slices: (rows,) object, None where a cell is missing."""
    num_rows: int


def evaluate(
    models: Mapping[str, Path], files: Sequence[str], eval_config: config_pb2.EvalConfig, *, output: Path
) -> None:
    """Evaluate models, and write what TFMA would.

    Args:
        models: folder of each SavedModel, by the name that `eval_config` has for it.
        files: of the evaluation split.
        eval_config: TFMA's configuration.
        output: folder to write.
    """
    has_baseline = any(spec.is_baseline for spec in eval_config.model_specs)
    config = config_util.update_eval_config_with_defaults(eval_config, has_baseline=has_baseline, rubber_stamp=True)
    config_util.verify_eval_config(config)
    slices = [tuple(spec.feature_keys) for spec in config.slicing_specs]
    names = [name for name in models if has_baseline or name == _candidate(eval_config)]
    outputs = {spec.name: spec.prediction_key for spec in eval_config.model_specs}
    rows = _read_rows(
        {name: models[name] for name in names}, files, outputs=outputs, columns=sorted({c for s in slices for c in s})
    )
    if not has_baseline:  # TFMA leaves the name of an only model out
        rows = EvaluationRows({"": rows.answers[names[0]]}, rows.columns, rows.num_rows)
    results = [
        (key, _metrics_of_slice(config, rows, indices))
        for columns in slices
        for key, indices in _rows_by_slice(rows, columns)
    ]
    if has_baseline:
        baseline = next(spec.name for spec in config.model_specs if spec.is_baseline)
        results = [(key, values | _differences(values, baseline)) for key, values in results]
    model_locations = {name if has_baseline else "": str(models[name]) for name in names}
    _write(results, config, model_locations, output)


def _candidate(eval_config: config_pb2.EvalConfig) -> str:
    return next(spec.name for spec in eval_config.model_specs if not spec.is_baseline)


def _read_rows(
    models: Mapping[str, Path], files: Sequence[str], *, outputs: Mapping[str, str], columns: Sequence[str]
) -> EvaluationRows:
    asked = {name: AskedModel(path, output=outputs[name]) for name, path in models.items()}
    labels: dict[str, list[np.ndarray]] = {name: [] for name in models}
    predictions: dict[str, list[np.ndarray]] = {name: [] for name in models}
    cells: dict[str, list[np.ndarray]] = {column: [] for column in columns}
    num_rows = 0
    batch_rows = IMAGE_BATCH_ROWS if any(model.is_image for model in asked.values()) else BATCH_ROWS
    for block in read_blocks(files, columns_to_read(asked.values(), columns), max_rows=batch_rows):
        num_rows += block.num_rows
        for name, model in asked.items():
            label, answer = model.ask(block)
            predictions[name].append(answer)
            labels[name].append(label)
        for column, parts in cells.items():
            parts.append(_cells(block.column(column)))
    answers = {name: Answers(np.concatenate(labels[name]), np.concatenate(predictions[name])) for name in models}
    return EvaluationRows(answers, {column: np.concatenate(parts) for column, parts in cells.items()}, num_rows)


def _cells(array: pa.Array) -> np.ndarray:
    """(rows,) object: text as bytes, as TFMA has it; None where a cell is missing."""
    if pa.types.is_string(array.type):
        array = array.cast(pa.binary())
    cells = np.empty(len(array), object)
    cells[:] = array.to_pylist()
    return cells


def _rows_by_slice(rows: EvaluationRows, columns: tuple[str, ...]) -> Iterator[tuple[SliceKey, np.ndarray | slice]]:
    """Each slice over some columns with the indices of its rows. A row with a missing cell is in no slice."""
    if not columns:
        yield (), slice(None)
        return
    columns = tuple(sorted(columns))
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, key in enumerate(zip(*(rows.columns[column] for column in columns), strict=True)):
        groups.setdefault(key, []).append(index)
    for key, indices in groups.items():
        if None not in key:
            yield tuple(zip(columns, key, strict=True)), np.array(indices)


def _metrics_of_slice(
    config: config_pb2.EvalConfig, rows: EvaluationRows, indices: np.ndarray | slice
) -> dict[metric_types.MetricKey, float]:
    values: dict[metric_types.MetricKey, float] = {}
    for model, answers in rows.answers.items():
        labels, predictions = answers.labels[indices], answers.predictions[indices]
        for spec in config.metrics_specs:
            names = [json.loads(metric.config)["name"] for metric in spec.metrics if metric.config]
            if any(metric.class_name == "ExampleCount" for metric in spec.metrics):
                values[metric_types.MetricKey("example_count", model_name=model)] = float(len(labels))
            if spec.HasField("aggregate"):
                key, found = (
                    {"aggregation_type": metric_types.AggregationType(macro_average=True)},
                    [
                        metrics.class_metrics(names, labels == index, predictions[:, index])
                        for index in sorted(spec.aggregate.class_weights)
                    ],
                )
                of_spec = {name: sum(of_class[name] for of_class in found) / len(found) for name in names}
            elif spec.HasField("binarize"):
                (index,) = spec.binarize.class_ids.values
                key = {"sub_key": metric_types.SubKey(class_id=index)}
                of_spec = metrics.class_metrics(names, labels == index, predictions[:, index])
            else:
                key, of_spec = {}, metrics.whole_metrics(names, labels, predictions)
            values |= {metric_types.MetricKey(n, model_name=model, **key): value for n, value in of_spec.items()}
    return values


def _differences(values: Mapping[metric_types.MetricKey, float], baseline: str) -> dict[metric_types.MetricKey, float]:
    """What TFMA's thresholds against a baseline look at: how much more the candidate has."""
    return {
        key.make_diff_key(): value - values[key.make_baseline_key(baseline)]
        for key, value in values.items()
        if key.model_name != baseline
    }


def _write(
    results: Sequence[tuple[SliceKey, dict[metric_types.MetricKey, float]]],
    config: config_pb2.EvalConfig,
    model_locations: Mapping[str, str],
    output: Path,
) -> None:
    combine = tfma_writer.CombineValidations(config)
    validation = combine.create_accumulator()
    for result in results:
        validation = combine.add_input(validation, metrics_validator.validate_metrics(result, config))
    keys = [slicer_lib.serialize_slice_key(key) for key, _ in results]
    records = {
        "metrics-00000-of-00001": [tfma_writer.convert_slice_metrics_to_proto(r, None) for r in results],
        "plots-00000-of-00001": [metrics_for_slice_pb2.PlotsForSlice(slice_key=key) for key in keys],
        "attributions-00000-of-00001": [metrics_for_slice_pb2.AttributionsForSlice(slice_key=key) for key in keys],
        "validations": [combine.extract_output(validation)],
    }
    output.mkdir(parents=True, exist_ok=True)
    for name, messages in records.items():
        with tf.io.TFRecordWriter(str(output / f"{name}.tfrecord")) as writer:
            for message in messages:
                writer.write(message.SerializeToString())
    run = config_pb2.EvalRun(
        eval_config=config,
        version=tfma_version.VERSION,
        data_location="<user provided PCollection>",
        file_format="<unknown>",
        model_locations=model_locations,
    )
    (output / "eval_config.json").write_text(json_format.MessageToJson(run), encoding="utf-8")
