"""An evaluation in a loop, by threads, by Beam, and by TFX's Evaluator with TFMA, on the same models and rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from google.protobuf import text_format
from tensorflow_model_analysis.proto import config_pb2
from tfx.components.evaluator import executor as tfx_evaluator
from tfx.components.util import model_utils
from tfx.utils import proto_utils

from kubetfx.components.data import tfx_patches
from kubetfx.components.evaluation.thresholds import effective_thresholds
from tests.components.test_evaluator import artifacts_of, evaluate, predictions

NUM_ROWS = 90
WAYS = {
    "loop": ("--direct_num_workers=1",),
    "threads": ("--direct_num_workers=3",),
    "beam": ("--runner=DirectRunner", "--direct_running_mode=in_memory", "--direct_num_workers=2"),
}
"""Beam's command line by how the row groups are gone through; with two workers Beam makes two bundles of them."""

TFMA_OF_EACH_CLASS = {
    "auc": "AUC",
    "auc_precision_recall": "AUCPrecisionRecall",
    "f1": "F1Score",
    "precision": "Precision",
    "recall": "Recall",
}
TFMA_OF_ALL = {
    "accuracy": "SparseCategoricalAccuracy",
    "cross_entropy": "SparseCategoricalCrossentropy",
    "mean_absolute_error": "MeanAbsoluteError",
    "mean_squared_error": "MeanSquaredError",
    "root_mean_squared_error": "RootMeanSquaredError",
    "squared_pearson_correlation": "SquaredPearsonCorrelation",
}
LOWER_IS_BETTER = ("cross_entropy", "mean_absolute_error", "mean_squared_error", "root_mean_squared_error")


def tfma_config(config, *, task: str, num_classes: int, has_baseline: bool) -> config_pb2.EvalConfig:
    """TFMA's own configuration of our metrics and thresholds."""
    thresholds = effective_thresholds(config, task)
    whole = config_pb2.MetricsSpec(metrics=[config_pb2.MetricConfig(class_name="ExampleCount")])
    of_each = config_pb2.MetricsSpec()
    if num_classes == 2:
        of_each.binarize.class_ids.values.append(1)
    else:
        of_each.aggregate.macro_average = True
        of_each.aggregate.class_weights.update(dict.fromkeys(range(num_classes), 1.0))
    for name in config.metric_names(task):
        spec = of_each if name in TFMA_OF_EACH_CLASS else whole
        class_name = (TFMA_OF_EACH_CLASS | TFMA_OF_ALL)[name]
        metric = spec.metrics.add(class_name=class_name, config=json.dumps({"name": name}))
        if name in thresholds:
            per_slice = metric.per_slice_thresholds.add(slicing_specs=[config_pb2.SlicingSpec()])
            fill(per_slice.threshold, thresholds[name], lower_is_better=name in LOWER_IS_BETTER)
    output = "probabilities" if task == "classification" else "value"
    text = f"""signature_name: "serving_examples" preprocessing_function_names: "transform_features"
        label_key: "label" prediction_key: "{output}" """
    candidate, baseline = (
        text_format.Parse(f'name: "{name}" is_baseline: {is_baseline} {text}', config_pb2.ModelSpec())
        for name, is_baseline in (("candidate", "false"), ("baseline", "true"))
    )
    return config_pb2.EvalConfig(
        model_specs=[candidate, baseline] if has_baseline else [candidate],
        metrics_specs=[spec for spec in (whole, of_each) if spec.metrics],
        slicing_specs=[config_pb2.SlicingSpec(), config_pb2.SlicingSpec(feature_keys=["island"])],
    )


def fill(threshold: config_pb2.MetricThreshold, ours: Any, *, lower_is_better: bool) -> None:
    lower, upper = ours.at_least, ours.at_most
    threshold.value_threshold.lower_bound.value = -np.inf if lower is None else lower
    threshold.value_threshold.upper_bound.value = np.inf if upper is None else upper
    if ours.worse_by_at_most is not None:
        directions = config_pb2.MetricDirection
        change = threshold.change_threshold
        change.direction = directions.LOWER_IS_BETTER if lower_is_better else directions.HIGHER_IS_BETTER
        change.absolute.value = ours.worse_by_at_most * (1 if lower_is_better else -1)


def evaluate_with_tfma(folder: Path, labels, candidate, baseline, *, evaluation, classes) -> tuple[Any, bool]:
    """TFX's Evaluator: TFMA's verdict, and whether the blessing was given."""
    inputs, outputs, config, task = artifacts_of(folder, labels, candidate, baseline, evaluation, classes)
    eval_config = tfma_config(config, task=task, num_classes=len(classes), has_baseline=baseline is not None)
    inputs = {key: inputs[key] for key in ("examples", "model", "baseline_model") if key in inputs}
    with tfx_patches.parquet_read():
        tfx_evaluator.Executor().Do(inputs, outputs, {"eval_config": proto_utils.proto_to_json(eval_config)})
    validation = tfma.load_validation_result(str(folder / "evaluation"))
    return validation, model_utils.is_model_blessed(outputs["blessing"][0])


def records(folder: Path) -> dict[tuple[str, str], float]:
    """Every value that was written, by slice and metric."""
    return {
        (str(record.slice_key), str(entry.key)): entry.value.double_value.value
        for record in tfma.load_metrics(str(folder / "evaluation"))
        for entry in record.metric_keys_and_values
    }


CLASSIFICATION: dict[str, Any] = {
    "metrics": ["accuracy", "cross_entropy", *TFMA_OF_EACH_CLASS],
    "thresholds": {
        "accuracy": {"at_least": 0.5, "worse_by_at_most": 0.01},
        "cross_entropy": {"at_most": 0.01},
        "auc_precision_recall": {"worse_by_at_most": 0.3},
    },
    "slices": ["island"],
}
OF_MANY: dict[str, Any] = CLASSIFICATION | {"metrics": ["accuracy", "cross_entropy", "auc", "auc_precision_recall"]}
"""Precision, recall and F1 are of the likeliest class, and TFMA's of those above one half: the same of two classes."""
REGRESSION: dict[str, Any] = {"thresholds": {"mean_absolute_error": {"worse_by_at_most": 0.01}}, "slices": ["island"]}


def classes_case(num_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.arange(NUM_ROWS) % num_classes
    candidate, baseline = (predictions(labels, num_classes, right=right) for right in (0.6, 0.8))
    candidate[0] = np.eye(num_classes)[0]  # 0 and 1, the ends of TFMA's thresholds
    candidate[1] = np.eye(num_classes)[1]
    return labels, candidate, baseline


def numbers_case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    labels = random.normal(100, 10, NUM_ROWS).astype(np.float32)
    return labels, labels + random.normal(0, 3, NUM_ROWS), labels + random.normal(0, 1, NUM_ROWS)


CASES = pytest.mark.parametrize(
    ("case", "classes", "evaluation", "has_baseline"),
    [
        pytest.param(classes_case(2), ("no", "yes"), CLASSIFICATION, True, marks=pytest.mark.long),
        (classes_case(2), ("no", "yes"), CLASSIFICATION, False),
        (classes_case(4), ("a", "b", "c", "d"), OF_MANY, True),
        (numbers_case(), (), REGRESSION, True),
    ],
    ids=["two classes", "two classes and nothing served", "four classes", "regression"],
)


@CASES
def test_every_number_and_the_verdict_are_those_of_tfma(tmp_path, case, classes, evaluation, has_baseline):
    labels, candidate, baseline = case
    arguments = (labels, candidate, baseline if has_baseline else None)

    _, validation, is_blessed = evaluate(tmp_path / "ours", *arguments, evaluation=evaluation, classes=classes)
    expected, is_blessed_by_tfma = evaluate_with_tfma(
        tmp_path / "tfma", *arguments, evaluation=evaluation, classes=classes
    )

    ours, theirs = records(tmp_path / "ours"), records(tmp_path / "tfma")
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key] == pytest.approx(value, rel=1e-5, abs=1e-7, nan_ok=True), key
    assert is_blessed == is_blessed_by_tfma
    assert validation.validation_ok == expected.validation_ok
    assert failures(validation) == failures(expected)
    assert validation.validation_details == expected.validation_details
    files = {name: {path.name for path in (tmp_path / name / "evaluation").iterdir()} for name in ("ours", "tfma")}
    assert files["ours"] == files["tfma"] | {"evaluation.json"}


def failures(validation: Any) -> set[tuple[str, str, str]]:
    return {
        (str(of_slice.slice_key), str(failure.metric_key), str(failure.metric_threshold))
        for of_slice in validation.metric_validations_per_slice
        for failure in of_slice.failures
    }


@pytest.mark.long
@CASES
def test_threads_and_beam_find_what_a_loop_finds(tmp_path, case, classes, evaluation, has_baseline):
    labels, candidate, baseline = case
    outcomes = {}
    for name, beam_arguments in WAYS.items():
        outcomes[name] = evaluate(
            tmp_path / name, labels, candidate, baseline if has_baseline else None,
            evaluation=evaluation, classes=classes, beam_arguments=beam_arguments,
        )  # fmt: skip

    loop, threads, beam = (records(tmp_path / name) for name in WAYS)
    assert threads == pytest.approx(loop, rel=0, abs=0, nan_ok=True)
    assert beam.keys() == loop.keys()
    for key, value in loop.items():
        assert beam[key] == pytest.approx(value, rel=1e-12, abs=1e-12, nan_ok=True), key
    files = sorted(path.name for path in (tmp_path / "loop" / "evaluation").iterdir())
    for name in ("threads", "beam"):
        assert failures(outcomes[name][1]) == failures(outcomes["loop"][1])
        assert outcomes[name][2] == outcomes["loop"][2]
        assert sorted(path.name for path in (tmp_path / name / "evaluation").iterdir()) == files
