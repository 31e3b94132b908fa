"""Collects the facts of a run from its artifacts, as far as they exist.

A part that cannot be made is omitted with the reason: a report must not fail a run whose model is served.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from absl import logging
from tensorflow_metadata.proto.v0 import schema_pb2

from kubetfx.arrays import Array
from kubetfx.artifacts import EVAL, REQUEST, SCHEMA, SERVING_MODEL, TABLE_PROFILE, split_folder
from kubetfx.components.data import table_profile
from kubetfx.components.data.image_notes import notes_on
from kubetfx.components.evaluation import cross_validated
from kubetfx.components.evaluation.evaluation_result import Interval
from kubetfx.components.report import data_facts, training_facts, verdict
from kubetfx.components.report.evaluation_facts import Evaluation, Metric, Slice
from kubetfx.components.report.facts import Data, Facts, Push, Quality, Settings
from kubetfx.components.report.previous import Previous
from kubetfx.components.tuning import tuning_results
from kubetfx.models.features import TEXT, read_features, read_schema
from kubetfx.provenance import read_origin

if TYPE_CHECKING:  # opening a report needs neither
    import pyarrow as pa

    from kubetfx.components.report.predictions import Predictions

MAX_SLICE_INTERVALS = 100

T = TypeVar("T")


@dataclass(frozen=True)
class Sources:
    """Folders of a run's artifacts; None if the run did not get that far."""

    statistics: Path | None = None
    schema: Path | None = None
    anomalies: Path | None = None
    examples: Path | None = None
    examples_properties: Mapping[str, Any] = field(default_factory=dict)
    """Custom properties of the examples: span and fingerprint."""
    model: Path | None = None
    ask_model: bool = True
    """Whether to predict with the model, if there is one."""
    evaluation: Path | None = None
    cross_validation: Path | None = None
    tuning: Path | None = None
    served_version: int | None = None
    pushed_version: int | None = None
    pushed_destination: str | None = None
    previous: Previous = field(default_factory=Previous)

    @property
    def saved_model(self) -> Path | None:
        """Folder of the SavedModel."""
        folder = self.model / SERVING_MODEL if self.model else None
        return folder if folder and folder.is_dir() else None


def collect(sources: Sources, settings: Settings) -> Facts:
    """Return the facts of a run. A part that cannot be made is left out with its reason.

    Args:
        sources: where its artifacts are.
        settings: The settings of its config.
    """
    return _Collector(sources, settings).collect()


class _Collector:
    def __init__(self, sources: Sources, settings: Settings) -> None:
        self._sources = sources
        self._settings = settings
        self._problems: list[str] = []
        self._schema: schema_pb2.Schema | None = None

    def collect(self) -> Facts:
        sources = self._sources
        self._schema = self._part("Schema", lambda folder: read_schema(folder / SCHEMA), sources.schema)
        data = self._part("Data", self._data) if sources.statistics or sources.anomalies else None
        training = self._part("Training", training_facts.read, sources.model)
        evaluation = self._part("Evaluation", verdict.read, sources.evaluation)
        tuning = self._part("Tuning", tuning_results.read, sources.tuning)
        cross_validation = self._part("Cross-validation", cross_validated.read, sources.cross_validation)
        saved_model = sources.saved_model if sources.ask_model else None
        confusion = evaluation.confusion if evaluation else []
        found = self._part("Quality", self._quality, sources.examples, saved_model, confusion)
        quality = None
        if found:
            quality, sample = found
            add = functools.partial(with_intervals, total_rows=quality.total_rows, seed=self._settings.seed)
            arguments = (evaluation, sample.predictions, sample.rows_by_slice)
            evaluation = self._part("Intervals", add, *arguments) or evaluation
            if training and training.calibration:
                measured = self._part("Calibration", training.calibration.measured, sample.predictions)
                training = training.model_copy(update={"calibration": measured or training.calibration})
        push = self._part("Push", self._push, sources.saved_model)
        return Facts(
            settings=self._settings,
            label=data_facts.label_of(self._schema) if self._schema else None,
            data=data,
            training=training,
            evaluation=evaluation,
            cross_validation=cross_validation,
            tuning=tuning,
            quality=quality,
            push=push,
            origin=self._part("Files", read_origin, sources.examples),
            problems=self._problems,
        )

    def _part(self, name: str, make: Callable[..., T], *arguments: Any) -> T | None:
        """Return a part; None if its source is missing, or if it cannot be made."""
        if any(argument is None for argument in arguments):
            return None
        try:
            return make(*arguments)
        except Exception as error:
            logging.exception("The part %s of the report cannot be made.", name)
            self._problems.append(f"{name}: {type(error).__name__}: {error}")
            return None

    def _data(self) -> Data:
        sources, settings = self._sources, self._settings
        statistics = data_facts.read_statistics(sources.statistics) if sources.statistics else {}
        earlier = sources.previous
        previous = data_facts.read_statistics(earlier.statistics) if earlier.statistics else None
        data = data_facts.describe(statistics, schema=self._schema, previous=previous, config=settings.report)
        found = data_facts.anomalies(sources.anomalies, settings.validation) if sources.anomalies else None
        distinct = _distinct(sources.examples)
        columns = [column.model_copy(update={"distinct": distinct.get(column.name)}) for column in data.columns]
        rows = json.loads(sources.examples_properties.get("num_examples") or "{}")
        splits = [one.model_copy(update={"rows": int(rows.get(one.name, one.rows))}) for one in data.splits]
        total = sum(one.rows for one in splits)
        return data.model_copy(
            update={
                "rows": total,
                "splits": splits,
                "sampled_rows": data.rows if data.rows < total else None,
                "columns": columns,
                "anomalies": found,
                "label_noise": data_facts.label_noise(sources.anomalies) if sources.anomalies else None,
                "texts": data_facts.texts(sources.anomalies) if sources.anomalies else [],
                "notes": _notes(sources.examples) if sources.examples else [],
                "compared_with": earlier.run_id if previous else None,
                "not_compared_because": None if previous else earlier.missing_because or None,
                **dict(data_facts.spans(sources.examples_properties)),
            }
        )

    def _push(self, saved_model: Path) -> Push:
        from kubetfx.components.push.push_directory import model_digest

        sources = self._sources
        request = saved_model / REQUEST
        return Push(
            version=sources.pushed_version,
            destination=sources.pushed_destination,
            served_version=sources.served_version,
            request=_on_one_line(request) if request.is_file() else None,
            model_digest=model_digest(saved_model),
        )

    def _quality(
        self, examples: Path, saved_model: Path, confusion: Sequence[Sequence[int | float]]
    ) -> "tuple[Quality, _Predicted] | None":
        """Return facts about predictions, and the predictions themselves."""
        from kubetfx.components.evaluation import intervals
        from kubetfx.components.evaluation.row_sample import draw
        from kubetfx.components.report import predictions as predicting
        from kubetfx.components.report import quality_facts as quality
        from kubetfx.models.asked_model import AskedModel
        from kubetfx.models.examples import files_in

        seed = self._settings.seed
        files = files_in(examples / split_folder(EVAL))
        sample = draw(files, rows=self._settings.report.rows, seed=seed)
        if sample is None:
            return None
        positions, text = self._positions(), self._longest_text(sample.rows)
        model = AskedModel(saved_model, optimize_graph=False, with_raw_columns=positions is None or text is not None)
        try:
            weight = read_features(self._schema).weight if self._schema else None
            predictions = predicting.predict(model, sample.rows, weight=weight)
            found = quality.describe(predictions, total_rows=sample.total_rows, seed=seed, confusion=confusion)
            if len(model.facts.inputs) > 1 and found.sample_rows >= intervals.MIN_ROWS:
                add = functools.partial(self._with_importance, model, sample, predictions, positions)
                found = self._part("Importance", add, found) or found
            if model.facts.image and model.facts.classes:
                add = functools.partial(_with_mistakes, sample, predictions, model.facts.image_columns[0])
                found = self._part("Mistakes", add, found) or found
            if text is not None:
                add = functools.partial(self._with_texts, model, sample, predictions, text)
                found = self._part("Words", add, found) or found
            rows = _rows_by_slice(sample, predictions, self._settings.evaluation.sliced)
        finally:
            model.close()
        return found, _Predicted(predictions, rows)

    def _positions(self) -> Mapping[str, Sequence[tuple[str, int]]] | None:
        """Return the features of each column; None for the user's own network, for which they are unknown."""
        if self._settings.module or self._schema is None:
            return None
        from kubetfx.models.network import feature_positions

        return feature_positions(read_features(self._schema))

    def _longest_text(self, rows: "pa.RecordBatch") -> str | None:
        """Return the column of text with the most words; None where no column has text."""
        from kubetfx.components.data.word_counts import num_words

        names = read_features(self._schema).names(TEXT) if self._schema else ()
        return max(names, key=lambda name: (num_words(rows.column(name)), name), default=None)

    def _with_texts(self, model: Any, sample: Any, predictions: Any, column: str, found: Quality) -> Quality:
        from kubetfx.components.report import text_facts

        settings = self._settings
        described = text_facts.describe(
            model,
            sample.rows,
            predictions,
            column=column,
            seed=settings.seed,
            cleaning=None if settings.module else settings.cleaning,
            is_costly=settings.is_text_costly,
        )
        return found.model_copy(update={"texts": described})

    def _with_importance(self, model: Any, sample: Any, predictions: Any, positions: Any, found: Quality) -> Quality:
        from kubetfx.components.report import predictions as predicting

        importance, rows, repetitions = predicting.importance(
            model, sample, predictions, positions=positions, seed=self._settings.seed
        )
        return found.model_copy(
            update={
                "importance": importance,
                "importance_metric": "cross_entropy" if predictions.classes else "root_mean_squared_error",
                "importance_rows": rows,
                "importance_repetitions": repetitions,
            }
        )


def _on_one_line(request: Path) -> str:
    """Return JSON as one line of text, which preserves NaN: JSON lacks it, but TensorFlow Serving accepts it."""
    return json.dumps(json.loads(request.read_text(encoding="utf-8")), ensure_ascii=False)


def _with_mistakes(sample: Any, predictions: Any, column: str, found: Quality) -> Quality:
    from kubetfx.components.report import mistakes

    number, shown = mistakes.describe(sample.rows, predictions, column)
    return found.model_copy(update={"num_mistakes": number, "mistakes": shown})


def with_intervals(
    evaluation: Evaluation,
    predictions: "Predictions",
    rows_by_slice: Mapping[str, Array],
    *,
    total_rows: int,
    seed: int,
) -> Evaluation:
    """Return the evaluation with an interval for each metric, and for the metric that slices are ranked by.

    Args:
        evaluation: as it was read.
        predictions: for a sample of the evaluation split.
        rows_by_slice: positions among them by name of the slice.
        total_rows: The number of rows of the evaluation split.
        seed: The seed of the bootstrap.
    """
    from kubetfx.components.evaluation import intervals
    from kubetfx.components.evaluation.metric_registry import find_metric

    def interval_of(name: str, predictions: "Predictions", value: float, total_rows: int) -> Interval | None:
        return intervals.interval(find_metric(name), predictions, value=value, total_rows=total_rows, seed=seed)

    def of_metric(metric: Metric) -> Metric:
        if metric.interval:
            return metric
        interval = interval_of(metric.name, predictions, metric.value, total_rows)
        return metric.model_copy(update={"interval": interval})

    def of_slice(entry: Slice) -> Slice:
        rows = rows_by_slice.get(entry.name)
        if entry.interval or entry.value is None or rows is None:
            return entry
        own = predictions.of(rows)
        interval = interval_of(evaluation.ranked_by, own, entry.value, entry.rows)
        return entry.model_copy(update={"interval": interval})

    slices = evaluation.slices
    return evaluation.model_copy(
        update={
            "metrics": [of_metric(metric) for metric in evaluation.metrics],
            "slices": [*map(of_slice, slices[:MAX_SLICE_INTERVALS]), *slices[MAX_SLICE_INTERVALS:]],
        }
    )


@dataclass(frozen=True)
class _Predicted:
    """Predictions for a sample, with the positions of each slice's rows."""

    predictions: "Predictions"
    rows_by_slice: Mapping[str, Array]


def _notes(examples: Path) -> list[str]:
    has_profile = (examples / TABLE_PROFILE).is_file()
    return [*(table_profile.read(examples).notes if has_profile else []), *notes_on(examples)]


def _distinct(examples: Path | None) -> dict[str, int | None]:
    """Number of distinct values by column, as the scan of the table counted them."""
    if examples is None or not (examples / TABLE_PROFILE).is_file():
        return {}
    columns = table_profile.read(examples).columns
    return {column.name: column.num_distinct or column.num_decimals or None for column in columns}


def _rows_by_slice(sample: Any, predictions: "Predictions", kinds: Sequence[tuple[str, ...]]) -> dict[str, Array]:
    """Return positions among the predictions by name of the slice."""
    from kubetfx.components.evaluation.slices import cells_of, rows_by_slice, slice_name

    rows = sample.rows.take(np.flatnonzero(predictions.known))
    known = [kind for kind in kinds if set(kind) <= set(rows.schema.names)]
    cells = {name: cells_of(rows.column(name)) for kind in known for name in kind}
    return {slice_name(key): positions for key, positions in rows_by_slice(known, cells)}
