"""The reference of a served version: the statistics of the training rows, and the evaluation when it was pushed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kubetfx.arrays import Array
from kubetfx.artifacts import EVALUATION, SCHEMA, SERVING_MODEL, TEXTS, TRAIN, WORDS
from kubetfx.components.data.text_judgement import TextStatistics
from kubetfx.components.evaluation.evaluation_result import EvaluationResult, read_result
from kubetfx.components.evaluation.scores import Scores
from kubetfx.components.report import data_facts
from kubetfx.components.report.facts import Column
from kubetfx.errors import UsageError
from kubetfx.models.features import read_schema, role_of
from kubetfx.run_record import RunRecord
from kubetfx.serving.model_facts import ModelFacts, read_facts

Bucket = tuple[float, float, float]

_ANY_VALUE = ("hashed", "list", "text")
"""Roles of columns in which new values are usual."""


@dataclass(frozen=True)
class TrainingTexts:
    """The texts of the training rows."""

    statistics: TextStatistics
    words: pa.Array
    """All that they have."""


@dataclass(frozen=True)
class TrainingColumn:
    """A column of the training rows."""

    name: str
    column: Column
    """Facts as in the report."""
    is_text: bool
    edges: Array
    """(bars + 1,) bounds of the bars of a number; empty if nothing is compared."""
    counts: Array
    """(bars,) rows in each bar."""
    frequencies: Mapping[str, float]
    """Rows by value of a text column, as far as known."""
    vocabulary: frozenset[str] | None
    """All values of the training rows; None if unknown, or if any value is usual."""
    separator: str | None = None
    """Separator of a list."""
    texts: TrainingTexts | None = None
    """What is written in a column of text."""

    @property
    def missing(self) -> float:
        """Share of missing cells in the training rows."""
        return self.column.splits[TRAIN].missing

    @property
    def is_compared(self) -> bool:
        """Whether its distribution is compared."""
        return bool(self.frequencies) if self.is_text else len(self.edges) > 0

    @property
    def buckets(self) -> list[Bucket]:
        """Lower bound, upper bound and rows of each bar."""
        return [
            (float(low), float(high), float(count))
            for low, high, count in zip(self.edges[:-1], self.edges[1:], self.counts, strict=True)
        ]


@dataclass(frozen=True)
class Reference:
    """The reference of a version."""

    version: int
    run_id: str
    facts: ModelFacts
    columns: Mapping[str, TrainingColumn]
    """The columns that the model takes, except pictures."""
    evaluation: EvaluationResult | None

    @property
    def scores(self) -> Scores | None:
        """Distribution of the answers to the evaluation split; None if the run has not kept it."""
        return self.evaluation.scores if self.evaluation else None


def read(record: RunRecord, version: int, *, ignored: Sequence[str]) -> Reference:
    """Read the reference of a version.

    Args:
        record: The record of the run that pushed it.
        version: The number of the version.
        ignored: The columns to ignore.

    Returns:
        The reference.

    Raises:
        UsageError: the artifacts of the run are gone, or it is a run of another pipeline.
    """
    folders = {
        "statistics": record.output("StatisticsGen", "statistics"),
        "schema": record.output("SchemaGen", "schema"),
        "model": record.output("Trainer", "model"),
    }
    if gone := [name for name, folder in folders.items() if folder is None]:
        raise UsageError(
            f"The run that pushed version {version} no longer has all of its artifacts. Received: {record.run_id}, "
            f"without {', '.join(gone)}. Run the pipeline again, so that a version has them."
        )
    statistics, schema_folder, model = (Path(str(folder)) for folder in folders.values())
    facts = read_facts(model / SERVING_MODEL)
    by_split = data_facts.read_statistics(statistics)
    if facts is None or TRAIN not in by_split:
        raise UsageError(
            f"The run that pushed version {version} has no training statistics for the columns of its model. Received: "
            f"{record.run_id}. Monitor a version that kubetfx's own pipeline has pushed."
        )
    schema = read_schema(schema_folder / SCHEMA)
    roles = {feature.name: role_of(feature) or "" for feature in schema.feature}
    domains = {domain.name: frozenset(domain.value) for domain in schema.string_domain}
    listed = {f.name: domains.get(f.domain, frozenset(f.string_domain.value)) for f in schema.feature}
    described = {one.name: one for one in data_facts.describe({TRAIN: by_split[TRAIN]}, schema=schema).columns}
    features = {data_facts.name_of(one): one for one in by_split[TRAIN].features}
    names = [n for n in facts.inputs if n in features and n not in ignored and n not in facts.image_columns]
    texts = _texts(record.output("ExampleValidator", "anomalies"))
    columns = {
        name: _column(
            features[name], described[name], facts, roles.get(name, ""), listed.get(name, frozenset()), texts.get(name)
        )
        for name in names
    }
    evaluation = record.output("Evaluator", "evaluation")
    result = read_result(evaluation) if evaluation is not None and (evaluation / EVALUATION).is_file() else None
    return Reference(version, record.run_id, facts, columns, result)


def _texts(anomalies: Path | None) -> dict[str, TrainingTexts]:
    """Return what is known of the texts of the training rows, by column."""
    if anomalies is None or not (anomalies / WORDS).is_file():  # an earlier version wrote none
        return {}
    found = [TextStatistics(**one) for one in json.loads((anomalies / TEXTS).read_text(encoding="utf-8"))]
    words = pq.read_table(anomalies / WORDS)
    return {
        one.column: TrainingTexts(one, words.filter(pc.equal(words["column"], one.column))["word"].combine_chunks())
        for one in found
        if one.split == TRAIN
    }


def _column(
    statistics: Any,
    column: Column,
    facts: ModelFacts,
    role: str,
    domain: frozenset[str],
    texts: TrainingTexts | None,
) -> TrainingColumn:
    is_text = facts.columns.get(column.name) == "string"
    edges, counts = np.zeros(0), np.zeros(0)
    frequencies: dict[str, float] = {}
    vocabulary: frozenset[str] | None = None
    if column.type != "date" and is_text and statistics.WhichOneof("stats") == "string_stats":
        frequencies = data_facts.frequencies_of(statistics)
        if role not in _ANY_VALUE:
            is_whole = len(frequencies) >= statistics.string_stats.unique
            vocabulary = domain or (frozenset(frequencies) if is_whole else None)
    elif column.type != "date" and not is_text and statistics.WhichOneof("stats") == "num_stats":
        buckets = data_facts.buckets_of(statistics)
        if buckets:
            edges = np.array([buckets[0][0], *(high for _, high, _ in buckets)])
            counts = np.array([count for *_, count in buckets])
    separator = facts.separators.get(column.name)
    return TrainingColumn(column.name, column, is_text, edges, counts, frequencies, vocabulary, separator, texts)
