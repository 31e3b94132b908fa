import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from google.protobuf import text_format
from sklearn import metrics as sklearn_metrics
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.util import examples_utils, model_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from kubetfx.artifacts import MODEL_FACTS, SPANS
from kubetfx.components.data.example_shards import PAYLOAD_FORMAT
from kubetfx.components.evaluation.confusion import class_scores
from kubetfx.components.evaluation.evaluation_result import Check, EvaluationResult, read_result
from kubetfx.components.evaluation.thresholds import effective_thresholds
from kubetfx.components.evaluator import Executor, why_not_comparable
from kubetfx.config.evaluation_section import EvaluationConfig, Threshold
from kubetfx.config.metric_catalogue import better_of, default_names
from kubetfx.errors import DataError
from kubetfx.models.asked_model import AskedModel
from kubetfx.models.features import set_role
from kubetfx.workspace import METADATA


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_without_thresholds_the_first_metric_may_hardly_be_worse_than_what_is_served(task):
    first = default_names(task)[0]

    assert effective_thresholds(EvaluationConfig(), task) == {first: Threshold(worse_by_at_most=0.01)}


def test_without_thresholds_the_first_metric_asked_for_counts():
    evaluation = EvaluationConfig(metrics=("auc", "accuracy"))

    assert effective_thresholds(evaluation, "classification") == {"auc": Threshold(worse_by_at_most=0.01)}


# The verdict, and what TFMA reads of it


NUM_SHARDS = 3


class Oracle(tf.Module):
    """A model whose predictions stand in the examples, under the name of the model."""

    def __init__(self, column: str, *, num_outputs: int, task: str) -> None:
        super().__init__()
        label_type = tf.int64 if task == "classification" else tf.float32
        spec = {
            column: tf.io.FixedLenFeature([num_outputs], tf.float32),
            "label": tf.io.FixedLenFeature([1], label_type),
        }
        examples = tf.TensorSpec([None], tf.string, "examples")

        @tf.function(input_signature=[examples])
        def serving_examples(examples):
            outputs = tf.io.parse_example(examples, spec)[column]
            return {"value": outputs[:, 0]} if task == "regression" else {"probabilities": outputs}

        @tf.function(input_signature=[examples])
        def transform_features(examples):
            return {"label": tf.io.parse_example(examples, spec)["label"]}

        self.serving_examples, self.transform_features = serving_examples, transform_features

    def save(self, path: str, *, classes: tuple[str, ...]) -> None:
        names = ("serving_examples", "transform_features")
        tf.saved_model.save(self, path, signatures={name: getattr(self, name) for name in names})
        facts = Path(path) / MODEL_FACTS
        facts.parent.mkdir(exist_ok=True)
        facts.write_text(
            json.dumps({"label": "species", "classes": classes, "inputs": ["x"], "columns": {"x": "float32"}})
        )


NO_COLUMNS: Mapping[str, np.ndarray] = {}


def write_examples(
    folder: Path, labels: np.ndarray, answers: dict[str, np.ndarray], others: Mapping[str, np.ndarray], *, task: str
) -> None:
    """Rows whose columns say what each model answers; `times`, if it is there, has their weights."""
    columns = {
        "label": pa.array(labels, pa.int64() if task == "classification" else pa.float32()),
        "island": pa.array(["north" if index % 3 else "south" for index in range(len(labels))]),
        **{name: pa.array(cells) for name, cells in others.items()},
    }
    for name, values in answers.items():
        columns[name] = pa.array([np.atleast_1d(value) for value in values], pa.list_(pa.float32()))
    folder.mkdir(parents=True)
    table = pa.table(columns)
    for shard in range(NUM_SHARDS):
        pq.write_table(
            table.take(pa.array(range(shard, len(labels), NUM_SHARDS), pa.int64())), folder / f"data-{shard}.parquet"
        )


def evaluate(
    folder: Path,
    labels: np.ndarray,
    candidate: np.ndarray,
    baseline: np.ndarray | None,
    *,
    evaluation: dict[str, Any],
    classes: tuple[str, ...] = (),
    beam_arguments: Sequence[str] = (),
    columns: Mapping[str, np.ndarray] = NO_COLUMNS,
) -> tuple[EvaluationResult, Any, bool]:
    """Run the executor; what it found, what TFMA reads of the verdict, and whether the blessing was given."""
    inputs, outputs, config, task = artifacts_of(folder, labels, candidate, baseline, evaluation, classes, columns)
    executor = Executor(base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=list(beam_arguments)))
    executor.Do(inputs, outputs, {"evaluation_config": config.model_dump_json(), "task": task, "golden_rows": 0})
    validation = tfma.load_validation_result(str(folder / "evaluation"))
    return read_result(folder / "evaluation"), validation, model_utils.is_model_blessed(outputs["blessing"][0])


def artifacts_of(
    folder: Path,
    labels: np.ndarray,
    candidate: np.ndarray,
    baseline: np.ndarray | None,
    evaluation: dict[str, Any],
    classes: tuple[str, ...],
    columns: Mapping[str, np.ndarray] = NO_COLUMNS,
) -> tuple[dict[str, Any], dict[str, Any], EvaluationConfig, str]:
    """Inputs and outputs of an Evaluator, the section of the config, and the task."""
    task = "classification" if classes else "regression"
    examples, schema = standard_artifacts.Examples(), standard_artifacts.Schema()
    evaluation_artifact, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
    models = {name: standard_artifacts.Model() for name in ("candidate", "baseline")}
    artifacts = {
        "examples": examples, "schema": schema, "evaluation": evaluation_artifact, "blessing": blessing, **models,
    }  # fmt: skip
    for name, artifact in artifacts.items():
        artifact.uri = str(folder / name)
    examples.split_names = artifact_utils.encode_split_names(["train", "eval"])
    examples_utils.set_payload_format(examples, PAYLOAD_FORMAT)
    answers = {"candidate": candidate, "baseline": candidate if baseline is None else baseline}
    for split in ("train", "eval"):
        write_examples(folder / "examples" / f"Split-{split}", labels, answers, columns, task=task)
    proto = schema_pb2.Schema()
    set_role(proto.feature.add(name="species", type=schema_pb2.BYTES), "label", "", classes=classes)
    if "times" in columns:
        set_role(proto.feature.add(name="times", type=schema_pb2.FLOAT), "weight", "")
    (folder / "schema").mkdir()
    (folder / "schema" / "schema.pbtxt").write_text(text_format.MessageToString(proto))
    for name, model in models.items():
        Oracle(name, num_outputs=len(classes) or 1, task=task).save(
            path_utils.serving_model_dir(model.uri), classes=classes
        )
    inputs = {"examples": [examples], "model": [models["candidate"]], "schema": [schema], "transform_graph": []}
    if baseline is not None:
        inputs["baseline_model"] = [models["baseline"]]
    config = EvaluationConfig.model_validate(evaluation)
    return inputs, {"evaluation": [evaluation_artifact], "blessing": [blessing]}, config, task


def missed_by(result: EvaluationResult) -> set[str]:
    return {check.metric for check in result.checks if not check.passed}


def missed_by_tfma(validation: Any) -> set[str]:
    return {
        failure.metric_key.name
        for validations in validation.metric_validations_per_slice
        for failure in validations.failures
    }


NUM_ROWS = 60
RANDOM = np.random.default_rng(0)


def predictions(labels: np.ndarray, num_classes: int, *, right: float) -> np.ndarray:
    """Probabilities whose largest is that of the label in a share of the rows."""
    targets = np.where(RANDOM.random(len(labels)) < right, labels, RANDOM.integers(0, num_classes, len(labels)))
    logits = RANDOM.normal(size=(len(labels), num_classes)) + 2 * np.eye(num_classes)[targets]
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def binary_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("binary")


@pytest.fixture(scope="module")
def binary(binary_folder):
    """A candidate worse than what is served, and bounds of all kinds, some missed."""
    labels = np.arange(NUM_ROWS) % 2
    candidate, baseline = predictions(labels, 2, right=0.7), predictions(labels, 2, right=0.9)
    evaluation = {
        "metrics": ["accuracy", "cross_entropy", "auc", "precision", "recall", "f1"],
        "thresholds": {
            "accuracy": {"at_least": 0.5, "worse_by_at_most": 1},
            "cross_entropy": {"worse_by_at_most": 0.0001},
            "auc": {"worse_by_at_most": 0.0001},
            "precision": {"at_least": 0.9999},
            "recall": {"at_least": 0.9999},
        },
        "slices": ["island"],
    }
    outcome = evaluate(
        binary_folder,
        labels, candidate, baseline, evaluation=evaluation, classes=("no", "yes"),
    )  # fmt: skip
    return labels, candidate, baseline, outcome


def test_metrics_of_two_classes_are_those_of_scikit_learn(binary):
    labels, candidate, baseline, (result, _, _) = binary

    for model, found in ((candidate, result.metrics), (baseline, result.baseline_metrics)):
        predicted = model.argmax(axis=1)
        assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
        assert found["cross_entropy"] == pytest.approx(sklearn_metrics.log_loss(labels, model), rel=1e-4)
        assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, model[:, 1]), abs=0.01)
        assert found["precision"] == pytest.approx(sklearn_metrics.precision_score(labels, predicted))
        assert found["recall"] == pytest.approx(sklearn_metrics.recall_score(labels, predicted))
        assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(labels, predicted))


def test_what_we_say_is_missed_is_what_tfma_says(binary):
    *_, (result, validation, blessed) = binary

    assert missed_by(result) == missed_by_tfma(validation) == {"cross_entropy", "auc", "precision", "recall"}
    assert not blessed
    assert not result.is_blessed


def test_check_has_the_metric_the_bound_and_both_values(binary):
    *_, (result, _, _) = binary

    check = next(c for c in result.checks if (c.metric, c.kind) == ("accuracy", "worse_by_at_most"))

    assert check == Check(
        "accuracy",
        "worse_by_at_most",
        1.0,
        result.metrics["accuracy"],
        result.baseline_metrics["accuracy"],
        passed=True,
        better="higher",
    )


def test_metrics_are_also_computed_by_slice(binary):
    labels, candidate, _, (result, _, _) = binary

    assert list(result.slices) == ["island=north", "island=south"]
    north = np.arange(NUM_ROWS) % 3 > 0
    assert result.slices["island=north"]["accuracy"] == pytest.approx(
        (candidate.argmax(axis=1) == labels)[north].mean()
    )
    assert [values["example_count"] for values in result.slices.values()] == [40, 20]


@pytest.mark.parametrize("has_baseline", [False, True], ids=["first push", "with a served model"])
def test_thresholds_hold_for_the_whole_and_not_for_a_weak_slice(tmp_path, has_baseline):
    labels = np.arange(NUM_ROWS) % 2
    is_south = np.arange(NUM_ROWS) % 3 == 0
    all_right = np.eye(2, dtype=np.float32)[labels] * 0.8 + 0.1
    wrong_in_the_south = np.where(is_south[:, np.newaxis], 1 - all_right, all_right)
    evaluation = {"thresholds": {"accuracy": {"at_least": 0.6, "worse_by_at_most": 0.4}}, "slices": ["island"]}

    result, validation, blessed = evaluate(
        tmp_path, labels, wrong_in_the_south, all_right if has_baseline else None,
        evaluation=evaluation, classes=("no", "yes"),
    )  # fmt: skip

    assert result.slices["island=south"]["accuracy"] == 0
    assert missed_by(result) == missed_by_tfma(validation) == set()
    assert result.failures == []
    assert blessed


SLICED = 200


@pytest.fixture(scope="module")
def sliced(tmp_path_factory):
    """Slices of a column: one that is good, one that is bad, a small one, and rows whose cell is missing."""
    labels = np.arange(SLICED) % 2
    islands = np.array(["north"] * 80 + ["south"] * 60 + ["tiny"] * 10 + [None] * 50, object)
    is_wrong = (islands == "south") & (np.arange(SLICED) % 4 < 2) | (islands == "tiny")
    candidate = np.where((np.eye(2)[labels] > 0) != is_wrong[:, np.newaxis], 0.9, 0.1).astype(np.float32)
    evaluation = {
        "thresholds": {"accuracy": {"at_least": 0.6}},
        "slices": {"island": {"accuracy": {"at_least": 0.7}, "cross_entropy": {"worse_by_at_most": 0.1}}},
    }
    folder = tmp_path_factory.mktemp("sliced")
    return evaluate(
        folder, labels, candidate, candidate, evaluation=evaluation, classes=("no", "yes"), columns={"island": islands}
    )


def test_bound_of_a_column_holds_for_each_of_its_slices(sliced):
    result, validation, blessed = sliced

    assert not blessed
    assert result.failures == ["Accuracy of island=south is 0.5 and must be at least 0.7: it misses by 0.2; the served "
                               "model has 0.5."]  # fmt: skip
    assert not validation.validation_ok
    (of_slice,) = validation.metric_validations_per_slice
    assert [(one.column, one.bytes_value) for one in of_slice.slice_key.single_slice_keys] == [("island", b"south")]
    assert [failure.metric_key.name for failure in of_slice.failures] == ["accuracy"]


def test_rows_of_all_slices_add_up_and_missing_cells_are_one(sliced):
    result, _, _ = sliced

    rows = {name: values["example_count"] for name, values in result.slices.items()}
    assert rows == {"island=(missing)": 50, "island=north": 80, "island=south": 60, "island=tiny": 10}


def test_slice_too_small_to_judge_is_said(sliced):
    result, _, _ = sliced

    small = next(check for check in result.checks if check.slice == "island=tiny" and check.metric == "accuracy")
    assert small.passed
    assert str(small) == (
        "Accuracy of island=tiny is 0 and must be at least 0.7: it is not judged, since 10 rows are too few (30 are "
        "needed)."
    )
    assert "Slices with too few rows to be judged: island=tiny." in result.notes


@pytest.fixture(scope="module")
def multiclass(tmp_path_factory):
    labels = np.arange(NUM_ROWS) % 3
    candidate = predictions(labels, 3, right=0.8)
    evaluation = {"thresholds": {"accuracy": {"at_least": 0.3, "worse_by_at_most": 0}, "auc": {"at_least": 0.3}}}
    folder = tmp_path_factory.mktemp("multiclass")
    return labels, candidate, evaluate(folder, labels, candidate, None, evaluation=evaluation, classes=("a", "b", "c"))


def test_metrics_of_more_classes_are_means_over_the_classes(multiclass):
    labels, candidate, (result, _, _) = multiclass

    expected = sklearn_metrics.roc_auc_score(labels, candidate, multi_class="ovr", average="macro")
    assert result.metrics["auc"] == pytest.approx(expected, abs=0.01)
    assert result.metrics["accuracy"] == pytest.approx((candidate.argmax(axis=1) == labels).mean())
    assert set(default_names("classification")) <= set(result.metrics)
    assert all(math.isfinite(value) for value in result.metrics.values())


def test_precision_recall_and_f1_are_those_of_the_confusion_matrix(multiclass):
    _, _, (result, _, _) = multiclass

    scores = class_scores(np.array(result.confusion))
    assert sum(one.support for one in scores) == NUM_ROWS
    for name in ("precision", "recall", "f1"):
        assert result.metrics[name] == pytest.approx(np.mean([getattr(one, name) for one in scores]))


def test_model_is_blessed_where_nothing_is_served_to_compare_with(multiclass):
    _, _, (result, validation, blessed) = multiclass

    assert blessed
    assert result.is_blessed
    assert missed_by(result) == missed_by_tfma(validation) == set()
    assert result.baseline_metrics == {}
    assert {check.baseline for check in result.checks} == {None}


EVERY_METRIC = ["accuracy", "auc", "auc_precision_recall", "cross_entropy", "f1_weighted", "f1", "precision", "recall"]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_rows_of_a_weight_are_rows_that_are_there_as_often(tmp_path, task):
    labels = np.arange(NUM_ROWS) % 3 if task == "classification" else np.arange(NUM_ROWS, dtype=np.float32)
    candidate = predictions(labels, 3, right=0.7) if task == "classification" else labels + labels % 5
    times = np.array([0.0, 1.0, 2.0, 5.0])[np.arange(NUM_ROWS) % 4]
    copies = np.repeat(np.arange(NUM_ROWS), times.astype(int))
    arguments = {
        "evaluation": {"slices": ["island"], "metrics": EVERY_METRIC if task == "classification" else []},
        "classes": ("a", "b", "c") if task == "classification" else (),
    }
    islands = np.array(["north" if index % 3 else "south" for index in range(NUM_ROWS)], object)

    weighted, _, _ = evaluate(
        tmp_path / "weighted", labels, candidate, candidate, columns={"times": times}, **arguments
    )
    repeated, _, _ = evaluate(
        tmp_path / "repeated",
        labels[copies],
        candidate[copies],
        candidate[copies],
        columns={"island": islands[copies]},
        **arguments,
    )

    def without_count(metrics: dict[str, float]) -> dict[str, float]:
        return {name: value for name, value in metrics.items() if name != "example_count"}

    assert weighted.metrics["example_count"] == NUM_ROWS
    assert without_count(weighted.metrics) == pytest.approx(without_count(repeated.metrics), nan_ok=True)
    assert weighted.simple_metrics["constant"] == pytest.approx(repeated.simple_metrics["constant"])
    assert weighted.confusion == repeated.confusion
    assert weighted.slices.keys() == repeated.slices.keys()
    for name, metrics in weighted.slices.items():
        assert without_count(metrics) == pytest.approx(without_count(repeated.slices[name]))
    assert weighted.weight == "times"
    assert weighted.notes[0] == "Metrics are weighted: each row counts as often as its 'times' says."


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_wrong_weight_is_an_error(tmp_path, weight):
    labels = np.arange(NUM_ROWS) % 2
    times = np.where(np.arange(NUM_ROWS) == 7, weight, 1.0)

    evaluation, columns = {"slices": []}, {"times": times}
    said = predictions(labels, 2, right=0.7)

    with pytest.raises(DataError, match=r"needs a number of 0 or more in the column 'times'\. Received: "):
        evaluate(tmp_path, labels, said, None, evaluation=evaluation, classes=("a", "b"), columns=columns)


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    labels = np.arange(NUM_ROWS, dtype=np.float32)
    candidate, baseline = labels + 2, labels + np.where(np.arange(NUM_ROWS) % 2, -1, 1).astype(np.float32)
    evaluation = {
        "thresholds": {
            "mean_absolute_error": {"worse_by_at_most": 0.001},
            "mean_squared_error": {"at_most": 4.001},
            "root_mean_squared_error": {"worse_by_at_most": 100},
            "squared_pearson_correlation": {"worse_by_at_most": 0.0001},
        }
    }
    folder = tmp_path_factory.mktemp("regression")
    return labels, candidate, baseline, evaluate(folder, labels, candidate, baseline, evaluation=evaluation)


def test_metrics_of_a_regression(regression):
    labels, candidate, baseline, (result, _, _) = regression

    for model, found in ((candidate, result.metrics), (baseline, result.baseline_metrics)):
        error = model - labels
        assert found["mean_absolute_error"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
        assert found["mean_squared_error"] == pytest.approx((error**2).mean(), rel=1e-5)
        assert found["root_mean_squared_error"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
        correlation = np.corrcoef(labels, model)[0, 1]
        assert found["squared_pearson_correlation"] == pytest.approx(correlation**2, rel=1e-4)


def test_lower_is_better_for_errors_to_us_and_to_tfma(regression):
    *_, (result, validation, blessed) = regression

    assert missed_by(result) == missed_by_tfma(validation) == {"mean_absolute_error"}
    assert not blessed


# The words


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (
            Check("accuracy", "at_least", 0.95, 0.9, None, passed=False),
            "Accuracy is 0.9 and must be at least 0.95: it misses by 0.05.",
        ),
        (
            Check("cross_entropy", "at_most", 0.5, 0.25, 0.2, passed=True),
            "Cross entropy is 0.25 and must be at most 0.5: it passes by 0.25; the served model has 0.2.",
        ),
        (
            Check("auc", "worse_by_at_most", 0.01, 0.9, 0.95, passed=False),
            "AUC is 0.9, 0.05 worse than the served model's 0.95, and may be at most 0.01 worse: it misses by 0.04.",
        ),
        (
            Check("precision", "worse_by_at_most", 0.02, math.nan, None, passed=False),
            "Precision is not defined and may be at most 0.02 worse than served: it misses.",
        ),
    ],
    ids=["at least", "at most", "worse by at most", "not defined"],
)
def test_verdict_is_given_per_metric_with_value_bound_and_baseline(check, words):
    assert str(check) == words


def test_lower_is_better_for_every_error_and_for_nothing_else():
    names = [*default_names("classification", sees_images=True), *default_names("regression")]

    errors = {name for name in names if "error" in name or "entropy" in name}
    assert {name for name in names if better_of(name) == "lower"} == errors
    assert better_of("drop_blur_1.5") == "lower"  # the accuracy that a blur costs


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"label": "sex"}, "predicts another label or other classes (species)"),
        ({"classes": ["no", "yes", "perhaps"]}, "predicts another label or other classes (species)"),
        ({"columns": {"species": "string"}}, "reads the column 'x', which the data no longer has"),
        ({"columns": {"x": "float32", "species": "string"}}, "reads the column 'x' as int64, and it is float32 now"),
    ],
    ids=["the same", "another label", "another class", "a column less", "a column of another type"],
)
def test_models_are_compared_only_on_the_same_columns_and_label(tmp_path, changes, reason):
    served = {
        "label": "species", "classes": ["no", "yes"], "inputs": ["x"], "columns": {"x": "int64", "species": "string"},
    }  # fmt: skip
    for name, facts in (("served", served), ("candidate", served | changes)):
        (tmp_path / name / MODEL_FACTS).parent.mkdir(parents=True)
        (tmp_path / name / MODEL_FACTS).write_text(json.dumps(facts))

    found = why_not_comparable(tmp_path / "candidate", tmp_path / "served")

    assert found == (reason and f"the served model {reason}")


def test_model_of_others_is_not_compared_with(tmp_path):
    assert why_not_comparable(tmp_path, tmp_path) == "the served model was not exported by kubetfx"


def test_mean_over_the_classes_leaves_out_a_class_without_rows(tmp_path):
    labels = np.arange(NUM_ROWS) % 2 * 2  # no row of the second of three classes
    candidate = predictions(labels, 3, right=0.8)

    result, _, _ = evaluate(tmp_path, labels, candidate, None, evaluation={}, classes=("a", "b", "c"))

    of_each = [sklearn_metrics.roc_auc_score(labels == index, candidate[:, index]) for index in (0, 2)]
    assert result.metrics["auc"] == pytest.approx(np.mean(of_each), abs=0.01)
    assert result.metrics["recall"] == pytest.approx(
        np.mean([(candidate[labels == index].argmax(axis=1) == index).mean() for index in (0, 2)])
    )


def test_evaluation_split_without_rows_is_refused(tmp_path):
    nothing = np.zeros((0, 2), np.float32)

    with pytest.raises(DataError, match="evaluation split has no rows"):
        evaluate(tmp_path, np.zeros(0, int), nothing, None, evaluation={}, classes=("no", "yes"))


def test_tfma_reads_metrics_slices_and_config(binary, binary_folder):
    *_, (result, validation, _) = binary

    read = tfma.load_eval_result(str(binary_folder / "evaluation"), model_name="candidate")

    overall = read.get_metrics_for_slice((), class_id=1) | read.get_metrics_for_slice(())
    ours = {name: value["doubleValue"] for name, value in overall.items() if not name.endswith("_diff")}
    assert ours == pytest.approx(result.metrics)
    difference = result.metrics["accuracy"] - result.baseline_metrics["accuracy"]
    assert overall["accuracy_diff"]["doubleValue"] == pytest.approx(difference)
    assert sorted(read.get_slice_names()) == [(), (("island", "north"),), (("island", "south"),)]
    north = read.get_metrics_for_slice((("island", "north"),))
    assert north["accuracy"]["doubleValue"] == result.slices["island=north"]["accuracy"]
    assert [spec.name for spec in read.config.model_specs] == ["candidate", "baseline"]
    assert not validation.validation_ok


def test_served_model_is_not_asked_again_for_spans_that_it_saw_as_the_candidate(tmp_path, monkeypatch):
    asked: Counter[str] = Counter()
    init, ask = AskedModel.__init__, AskedModel.ask

    def named(model: AskedModel, path: Path, **options: bool) -> None:
        init(model, path, **options)
        model.name = path.parent.name

    def counted(model: AskedModel, block: pa.RecordBatch) -> Any:
        asked[model.name] += block.num_rows
        return ask(model, block)

    monkeypatch.setattr(AskedModel, "__init__", named)
    monkeypatch.setattr(AskedModel, "ask", counted)
    labels = np.arange(NUM_ROWS) % 2
    answers = predictions(labels, 2, right=0.7)
    (tmp_path / METADATA).touch()

    def run(number: int, spans: list[str], *, served: Path | None) -> EvaluationResult:
        inputs, outputs, config, task = artifacts_of(
            tmp_path / str(number), labels, answers, answers if served else None, {"metrics": ["auc"]}, ("no", "yes")
        )
        shards = {f"data-{shard}.parquet": [span, f"rows of {span}"] for shard, span in enumerate(spans)}
        (tmp_path / str(number) / "examples" / SPANS).write_text(json.dumps({"spans": [], "shards": shards}))
        if served:
            shutil.rmtree(inputs["baseline_model"][0].uri)
            shutil.copytree(served, inputs["baseline_model"][0].uri)
        place = tmp_path / "artifacts" / "Evaluator" / "evaluation" / str(number)
        place.mkdir(parents=True)
        outputs["evaluation"][0].uri = str(place)
        executor = Executor(base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=[]))
        executor.Do(inputs, outputs, {"evaluation_config": config.model_dump_json(), "task": task, "golden_rows": 0})
        return read_result(place)

    days = [f"day {number}" for number in range(NUM_SHARDS)]
    run(1, days, served=None)
    before = asked["baseline"]
    again = run(2, [*days[:-1], "a new day"], served=tmp_path / "1" / "candidate")
    assert asked["baseline"] - before == len(labels[NUM_SHARDS - 1 :: NUM_SHARDS])
    (tmp_path / METADATA).unlink()  # without a workspace nothing is kept
    fresh = run(3, days, served=tmp_path / "1" / "candidate")
    assert asked["baseline"] - before == len(labels[NUM_SHARDS - 1 :: NUM_SHARDS]) + NUM_ROWS
    assert (again.metrics, again.baseline_metrics) == (fresh.metrics, fresh.baseline_metrics)
