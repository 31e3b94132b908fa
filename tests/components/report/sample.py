"""Facts to render: made by the functions that make them of a run, out of small synthetic tables."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from kubetfx.components.data.text_judgement import TextStatistics
from kubetfx.components.evaluation.cross_validated import CrossValidated, FoldMetrics
from kubetfx.components.evaluation.evaluation_result import Check, EvaluationResult
from kubetfx.components.report import collect, verdict
from kubetfx.components.report import data_facts as data
from kubetfx.components.report import quality_facts as quality
from kubetfx.components.report import training_facts as training
from kubetfx.components.report.evaluation_facts import Evaluation
from kubetfx.components.report.facts import (
    AnomalyFact,
    Data,
    Facts,
    ImageInput,
    Importance,
    Layer,
    Mistake,
    Push,
    Quality,
    Settings,
    Training,
)
from kubetfx.components.report.predictions import Predictions
from kubetfx.components.report.text_facts import ClassWords, CleanedText, KeyWord, Piece, TextExample, TextFacts
from kubetfx.config.report_section import CardConfig
from kubetfx.run_record import NodeRecord, RunRecord

SCRIPT = '<script>document.title = "taken over"</script>'
NASTY_NAMES = (
    SCRIPT,
    "quote \" and ' and &amp; and <b>bold",
    "emoji 🐧🧪 and שלום and 中文",
    "x" * 200,
    "a very long name with words " * 7,
    "[link](javascript:alert(1)) | pipe `code`",
    "null\x00byte and \x1b[31mcontrol",
    "--> ]]> </style></svg>",
)
CLASSES = ("plain", SCRIPT, "x" * 200)


def number_statistics(name: str, values: np.ndarray) -> statistics_pb2.FeatureNameStatistics:
    """Statistics of a column of numbers, of which NaN is missing, as StatisticsGen writes them."""
    feature = statistics_pb2.FeatureNameStatistics(type=statistics_pb2.FeatureNameStatistics.FLOAT)
    feature.path.step.append(name)
    known = values[np.isfinite(values)]
    number = feature.num_stats
    number.common_stats.num_non_missing = len(known)
    number.common_stats.num_missing = len(values) - len(known)
    if len(known):
        number.mean, number.std_dev, number.median = known.mean(), known.std(), float(np.median(known))
        number.min, number.max = known.min(), known.max()
        counts, edges = np.histogram(known, bins=10)
        histogram = number.histograms.add(type=statistics_pb2.Histogram.STANDARD)
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
            histogram.buckets.add(low_value=low, high_value=high, sample_count=count)
    return feature


def text_statistics(name: str, values: list[str]) -> statistics_pb2.FeatureNameStatistics:
    """Statistics of a column of text, of which "" is missing."""
    feature = statistics_pb2.FeatureNameStatistics(type=statistics_pb2.FeatureNameStatistics.STRING)
    feature.path.step.append(name)
    known = [value for value in values if value]
    names, counts = np.unique(known, return_counts=True)
    text = feature.string_stats
    text.common_stats.num_non_missing = len(known)
    text.common_stats.num_missing = len(values) - len(known)
    text.unique = len(names)
    for rank, index in enumerate(np.argsort(-counts, kind="stable")):
        text.rank_histogram.buckets.add(low_rank=rank, high_rank=rank, label=names[index], sample_count=counts[index])
    return feature


def statistics(tables: dict[str, dict[str, Any]]) -> dict[str, statistics_pb2.DatasetFeatureStatistics]:
    """Statistics of each split of a table, by the columns' values."""
    found = {}
    for split, columns in tables.items():
        dataset = statistics_pb2.DatasetFeatureStatistics(num_examples=len(next(iter(columns.values()))))
        for name, values in columns.items():
            make = number_statistics if isinstance(values, np.ndarray) else text_statistics
            dataset.features.append(make(name, values))
        found[split] = dataset
    return found


def table(rows: int, *, seed: int, shift: float = 0.0, num_numbers: int = 3) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    columns: dict[str, Any] = {"label": generator.choice(list(CLASSES), rows).tolist()}
    for index in range(num_numbers):
        columns[f"number_{index}"] = generator.normal(shift if index == 0 else 0, 1, rows)
    columns["number_1"][: rows // 5] = np.nan
    columns["constant"] = np.full(rows, 3.0)
    columns["empty"] = np.full(rows, np.nan)
    for name in NASTY_NAMES:
        columns[name] = generator.choice(["", SCRIPT, "y" * 200, "b", "🐧"], rows).tolist()
    return columns


def schema_of(columns: dict[str, Any]) -> schema_pb2.Schema:
    schema = schema_pb2.Schema()
    for name, values in columns.items():
        feature = schema.feature.add(name=name)
        feature.type = schema_pb2.FLOAT if isinstance(values, np.ndarray) else schema_pb2.BYTES
        role = {"label": "label", "constant": "excluded", "empty": "excluded"}.get(name)
        feature.annotation.tag.append(role or ("numeric" if isinstance(values, np.ndarray) else "vocabulary"))
        feature.annotation.comment.append("it has the same value in every row" if role == "excluded" else "as it is")
    return schema


def data_facts(num_numbers: int = 3) -> Data:
    tables = {
        "train": table(400, seed=1, num_numbers=num_numbers),
        "validation": table(60, seed=2, num_numbers=num_numbers),
        "eval": table(120, seed=3, num_numbers=num_numbers),
    }
    previous = statistics({"train": table(300, seed=4, shift=3.0, num_numbers=num_numbers)})
    found = data.describe(statistics(tables), schema=schema_of(tables["train"]), previous=previous)
    anomaly = AnomalyFact(
        split="eval", column=SCRIPT, problem="Unexpected string values: " + SCRIPT, action="warn", remedy="Mend it."
    )
    return found.model_copy(update={"anomalies": [anomaly], "compared_with": "20260101-000000-abcdef", "span": 3})


def training_facts() -> Training:
    losses = [1.0 / (1 + epoch) for epoch in range(12)]
    validation = [1.1 / (1 + epoch) + 0.02 * epoch for epoch in range(12)]
    found = Training(
        epochs=12,
        best_epoch=8,
        epochs_asked=50,
        stopped_early=True,
        history={
            "loss": losses,
            "accuracy": [1 - x / 2 for x in losses],
            "val_loss": validation,
            "val_accuracy": losses,
        },
        learning_rate=[0.001] * 6 + [0.0005] * 6,
        seconds=[0.5] * 12,
        steps_per_epoch=4,
        seconds_per_step=0.012,
        rows=400,
        batch_size=128,
        seed=0,
        layers=[
            {"name": "hidden_1", "type": "Dense", "output": [[None, 128]], "parameters": 4224},
            {"name": "x" * 80, "type": "Dropout", "output": [[None, 128]], "parameters": 0},
        ],
        parameters=4224,
        trainable_parameters=4224,
        optimizer="Adam",
        hardware={"processor": "AMD EPYC", "accelerators": []},
        versions={"python": "3.11", "keras": "3"},
    )
    return found.model_copy(update={"diagnosis": training.diagnose(found)})


def predictions(rows: int = 400, *, classes: tuple[str, ...] = CLASSES, seed: int = 5) -> Predictions:
    """Of a model that is right more often than not."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, len(classes), rows)
    scores = generator.normal(0, 1, (rows, len(classes)))
    scores[np.arange(rows), labels] += 1.5
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return Predictions(classes, labels, probabilities, np.ones(rows, bool), np.ones(rows))


def regression_predictions(rows: int = 300) -> Predictions:
    generator = np.random.default_rng(6)
    truth = generator.normal(100, 30, rows)
    return Predictions((), truth, truth + generator.normal(2, 10, rows), np.ones(rows, bool), np.ones(rows))


def quality_facts(found: Predictions, names: list[str]) -> Quality:
    described = quality.describe(found, total_rows=3 * len(found.labels), seed=0)
    importance = [
        Importance(column=name, value=1 / (1 + index) - 0.05, deviation=0.01) for index, name in enumerate(names)
    ]
    return described.model_copy(
        update={
            "importance": importance,
            "importance_metric": "cross_entropy",
            "importance_rows": 200,
            "importance_repetitions": 3,
        }
    )


def text_facts(name: str) -> TextFacts:
    """Of texts that try to break out."""
    pieces = [
        piece
        for index, text in enumerate(NASTY_NAMES)
        for piece in (Piece(text=text, effect=index - 3.5, strength=(index - 3.5) / 4), Piece(text=" and "))
    ]
    example = TextExample(pieces=pieces, is_cut=True, said=CLASSES[1], truth=CLASSES[2], score=0.93)
    words = [KeyWord(word=text, effect=2.5 - index / 4, texts=12 * index) for index, text in enumerate(NASTY_NAMES)]
    return TextFacts(
        column=name,
        is_classifier=True,
        wrong=[example, example.model_copy(update={"is_cut": False})],
        right=[example.model_copy(update={"truth": CLASSES[1]})],
        key_words=[ClassWords(name=one, words=words) for one in CLASSES],
        texts=1_234,
        cleaned=[CleanedText(before=text, after=text.lower()) for text in NASTY_NAMES],
    )


def described_texts(name: str) -> list[TextStatistics]:
    shares = {"Latin": 0.9, "Han": 0.06, "Cyrillic": 0.03, "other": 0.01}
    numbers = {"cells": 1_234, "empty": 12, "median_words": 18, "most_words": 1_024, "entropy": 4.31}
    return [
        TextStatistics(column=name, split=split, scripts=shares, unknown=0.0432, strange=0.0004, **numbers)
        for split in ("train", "validation", "eval")
    ]


CHECKS = [
    {"metric": "accuracy", "kind": "at_least", "bound": 0.6, "value": 0.71, "baseline": 0.75, "passed": True},
    {"metric": "accuracy", "kind": "worse_by_at_most", "bound": 0.02, "value": 0.71, "baseline": 0.75, "passed": False},
]


def evaluation_facts(*, blessed: bool = False) -> Evaluation:
    checks = [Check(**{**check, "passed": check["passed"] or blessed}) for check in CHECKS]
    slices = {
        f"{SCRIPT}={SCRIPT}": {"example_count": 12, "accuracy": 0.5, "auc": 0.6},
        "colour=red": {"example_count": 200, "accuracy": 0.6, "auc": 0.7},
        "colour=green": {"example_count": 188, "accuracy": 0.83, "auc": 0.9},
        f"name={'x' * 200}": {"example_count": 0},
    }
    document = {
        "metrics": {"example_count": 400, "accuracy": 0.71, "auc": 0.8, "precision": float("nan")},
        "baseline_metrics": {"example_count": 400, "accuracy": 0.75, "auc": 0.79},
        "slices": slices,
        "checks": checks,
        "is_blessed": blessed,
        "not_compared_because": None,
        "simple_metrics": {
            "constant": {"accuracy": 0.625, "auc": 0.5},
            "linear": {"accuracy": 0.65, "auc": 0.7, "precision": 0.6},
        },
        "notes": [f"The model says {SCRIPT!r} of every evaluation row."],
    }
    return verdict.describe(EvaluationResult(**document))


def with_intervals(evaluation: Evaluation, predicted: Predictions) -> Evaluation:
    return collect.with_intervals(evaluation, predicted, {}, total_rows=len(predicted.labels), seed=0)


def facts(*, blessed: bool = False, num_numbers: int = 3) -> Facts:
    """Of a classification with slices, drift, an anomaly, and names that try to break out."""
    found = data_facts(num_numbers)
    names = [column.name for column in found.columns if column.role in ("numeric", "vocabulary")]
    predicted = predictions()
    evaluation = with_intervals(evaluation_facts(blessed=blessed), predicted)
    card = CardConfig(
        purpose=f"To see whether {SCRIPT} does harm.",
        owner="the team <team@example.org>",
        limits=("Not for people.", SCRIPT),
        data_source="made up",
        license="CC0",
    )
    return Facts(
        settings=Settings(name="sample", model_name="sample", card=card),
        label="label",
        data=found.model_copy(update={"texts": described_texts(SCRIPT)}),
        training=training_facts(),
        evaluation=evaluation,
        quality=quality_facts(predicted, names).model_copy(update={"texts": text_facts(SCRIPT)}),
        push=Push(
            version=1795000000 if blessed else None,
            destination="/models/sample/1795000000" if blessed else None,
            served_version=1794000000,
            request=json.dumps({"instances": [dict.fromkeys(names[:4], "it's")]}),
            model_digest="ab" * 32,
        ),
    )


def regression_facts() -> Facts:
    """Of a regression without slices, pushed for the first time."""
    predicted = regression_predictions()
    document = {
        "metrics": {"example_count": 300, "mean_absolute_error": 8.1, "root_mean_squared_error": 10.2},
        "baseline_metrics": {},
        "slices": {},
        "checks": [Check("mean_absolute_error", "at_most", 9.0, 8.1, None, passed=True)],
        "is_blessed": True,
    }
    evaluation = with_intervals(verdict.describe(EvaluationResult(**document)), predicted)
    return Facts(
        settings=Settings(name="houses", model_name="houses", task="regression"),
        label="price",
        training=training_facts(),
        evaluation=evaluation,
        quality=quality_facts(predicted, ["rooms", "area"]),
        push=Push(version=7, destination="/models/houses/7", model_digest="cd" * 32),
    )


def picture() -> str:
    """A data URI, as components/report/mistakes.py makes them."""
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 90).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def image_facts() -> Facts:
    """For a classification of images: mistakes, robustness, a network of many layers."""
    predicted = predictions()
    document = {
        "metrics": {"example_count": 400, "accuracy": 0.71, "kappa": 0.5, "drop_blur_1": 0.02, "drop_fgsm_0.01": 0.4},
        "baseline_metrics": {"accuracy": 0.6, "drop_blur_1": 0.05},
        "slices": {},
        "checks": [Check("drop_fgsm_0.01", "at_most", 0.5, 0.4, None, passed=True)],
        "is_blessed": True,
    }
    evaluation = with_intervals(verdict.describe(EvaluationResult(**document)), predicted)
    shown = [
        Mistake(picture=picture(), path=f"{SCRIPT}.png", truth=truth, named=CLASSES[0], score=0.9)
        for truth in (*CLASSES[1:], "emoji 🐧")
    ]
    layers = [Layer(name=f"convolution_{index}", type="Conv2D", output=[[None, 8, 8, 16]]) for index in range(60)]
    waited = ImageInput(images_per_second=900, wait_share=0.04, decoded="in each epoch")
    quality = quality_facts(predicted, []).model_copy(update={"num_mistakes": 116, "mistakes": shown})
    return Facts(
        settings=Settings(name="pictures", model_name="pictures"),
        label="label",
        training=training_facts().model_copy(update={"layers": layers, "input": waited}),
        evaluation=evaluation,
        quality=quality,
        push=Push(version=3, destination="/models/pictures/3", model_digest="ef" * 32),
    )


NODES = ("TableExampleGen", "StatisticsGen", "SchemaGen", "AnomalyGate", "Trainer", "Evaluator", "Pusher", "Report")


def record(state: str = "not_blessed", *, nodes: int = len(NODES), folder: Path | None = None) -> RunRecord:
    """Of a run that reached some of its nodes."""
    ends = {"failed": "failed", "interrupted": "interrupted", "stopped_by_anomalies": "failed"}
    reached = [
        NodeRecord(
            id=name,
            state="done" if index % 2 else "cached",
            seconds=1.5 * index,
            log=str((folder or Path("/nowhere")) / f"{name}.log"),
            outputs={f"output_{index}": []},
            upstream=list(NODES[max(index - 3, 0) : index]),
        )
        for index, name in enumerate(NODES[:nodes])
    ]
    if state in ends:
        reached[-1] = reached[-1].model_copy(update={"state": ends[state]})
    return RunRecord(
        run_id="20261121-120000-abcdef",
        name="sample",
        state=state,
        started_at="2026-11-21T12:00:00Z",
        seconds=41.5,
        error="ValueError: the sky fell" if state == "failed" else None,
        nodes=reached,
        planned_nodes=list(NODES),
        config={"name": "sample", "data": {"path": f"/data/{SCRIPT}", "label": "label"}, "training": {"epochs": 50}},
        command=["kubetfx", "run", "my folder/pipeline.yaml"],
        machine={"system": "Linux", "architecture": "x86_64", "cores": 2, "memory_bytes": 8 * 2**30, "python": "3.11"},
        metrics={"accuracy": 0.71},
    )


def folds() -> CrossValidated:
    rows = {"train": 60, "eval": 30}
    return CrossValidated([FoldMetrics(n, 0, rows, {"accuracy": 0.7 + n / 10}) for n in range(3)], "3 folds")
