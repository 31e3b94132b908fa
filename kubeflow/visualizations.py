"""Pages that Kubeflow Pipelines shows of a task: a function per page makes its content from a node's artifacts.

A page is self-contained HTML or Markdown, or the numbers of system.Metrics or system.ClassificationMetrics. A node's
executor and the types of its outputs decide which pages it has, so other people's components have some too.
components/report renders the pages. The function that needs a heavy library imports it.
"""

import html
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kubetfx.artifacts import (
    DECISION,
    EVAL,
    EVALUATION,
    IMAGE_NOTES,
    MODEL_FACTS,
    REPORT,
    SCHEMA,
    SERVING_MODEL,
    split_folder,
)

if TYPE_CHECKING:
    from tfx import types

_SystemType = Literal["HTML", "Markdown", "Metrics", "ClassificationMetrics"]
_Content = str | dict[str, Any]
"""Text of the artifact's only file, or the artifact's metadata."""

_MAX_SCORED_ROWS = 100_000
"""Rows of the evaluation split that the classification metrics are computed on, at most."""


@dataclass(frozen=True)
class NodeRun:
    """A node that has run: artifacts with local URIs, and exec properties."""

    id: str
    executor: str
    inputs: "Mapping[str, list[types.Artifact]]"
    outputs: "Mapping[str, list[types.Artifact]]"
    properties: Mapping[str, Any]

    def folder(self, type_name: str) -> Path:
        """Return the folder of the first output of a TFX type.

        Args:
            type_name: for example `Examples`.

        Raises:
            LookupError: there is none.
        """
        artifact = self.output(type_name)
        if artifact is None:
            raise LookupError(f"{self.id} wrote no {type_name}.")
        return Path(artifact.uri)

    def output(self, type_name: str) -> "types.Artifact | None":
        """Return the first output of a TFX type; None if there is none.

        Args:
            type_name: for example `Examples`.
        """
        found = (a for artifacts in self.outputs.values() for a in artifacts if a.type_name == type_name)
        return next(found, None)


def draw(kind: str, run: NodeRun) -> _Content:
    """Return the content of a page.

    Args:
        kind: The kind of the page.
        run: that it is about.
    """
    return _PAGES[kind][1](run)


def system_type(kind: str) -> _SystemType:
    """Return the type of Kubeflow Pipelines that a page has.

    Args:
        kind: The kind of the page.
    """
    return _PAGES[kind][0]


def failed(kind: str, error: Exception) -> _Content:
    """Return what is shown instead of a page that could not be drawn.

    Args:
        kind: The kind of the page.
        error: that drawing it ended with.
    """
    if system_type(kind) in ("Metrics", "ClassificationMetrics"):
        return {}
    return f"This page could not be drawn: {html.escape(f'{type(error).__name__}: {error}')}. The log has more."


def kinds_of(executor: str, output_types: Mapping[str, str], *, task: str | None = None) -> list[str]:
    """Return the kinds of the pages of a node.

    Args:
        executor: import path of its executor class.
        output_types: name of the TFX type by output key.
        task: `classification` or `regression`, of an Evaluator that says so.
    """
    kinds = [kind for name in output_types.values() for kind in _KINDS_OF_TYPE.get(name, ())]
    if executor == "kubetfx.components.evaluator.Executor" and task == "classification":
        kinds.append("classification_metrics")
    return list(dict.fromkeys(kinds)) or ["summary"]


def _examples_page(run: NodeRun) -> _Content:
    from kubetfx.components.report import markdown

    artifact = run.output("Examples")
    assert artifact is not None
    counts: dict[str, int] = json.loads(artifact.get_string_custom_property("num_examples") or "{}")
    rows_by_split = counts or dict.fromkeys(json.loads(artifact.split_names or "[]"))
    text = markdown.examples(run.id, rows_by_split, span=artifact.get_custom_property("span"))
    report = Path(artifact.uri) / IMAGE_NOTES
    if not report.is_file():
        return text
    return f"{text}\n{markdown.images(json.loads(report.read_text(encoding='utf-8')), list(counts))}"


def _statistics_page(run: NodeRun) -> _Content:
    from kubetfx.components.report import data_facts as data
    from kubetfx.components.report import render

    return render.statistics_page(data.describe(data.read_statistics(run.folder("ExampleStatistics"))))


def _schema_page(run: NodeRun) -> _Content:
    from kubetfx.components.report import data_facts as data
    from kubetfx.components.report import render
    from kubetfx.models.features import read_schema

    return render.schema_page(data.columns_of(read_schema(run.folder("Schema") / SCHEMA)))


def _anomalies_page(run: NodeRun) -> _Content:
    from kubetfx.components.report import data_facts as data
    from kubetfx.components.report import render

    return render.anomalies_page(data.anomalies(run.folder("ExampleAnomalies")))


def _features_page(run: NodeRun) -> _Content:
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    from kubetfx.components.report import render

    folder = run.folder("TransformGraph")
    text = (folder / "transformed_metadata" / SCHEMA).read_text(encoding="utf-8")
    schema = text_format.Parse(text, schema_pb2.Schema())
    rows = []
    for feature in schema.feature:
        shape = " x ".join(str(dimension.size) for dimension in feature.shape.dim)
        rows.append([feature.name, schema_pb2.FeatureType.Name(feature.type).lower(), shape])
    assets = sorted(path.name for path in (folder / "transform_fn" / "assets").glob("*"))
    notes = [f"Vocabularies: {', '.join(assets)}"] if assets else []
    return render.table_page("Features", ["feature", "type", "shape of a row"], rows, notes=notes)


def _model_page(run: NodeRun) -> _Content:
    from kubetfx.components.report import render
    from kubetfx.components.report import training_facts as training

    artifact = run.output("Model")
    if artifact is None:
        return render.text_page("Model", "None: no version is served.")
    folder = Path(artifact.uri)
    found = training.read(folder)
    if found:
        return render.training_page(found)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    version = artifact.get_custom_property("version")
    served = f"Version {version}, which is served now. " if version else ""
    return render.text_page("Model", f"{served}{size:,} bytes.")


def _metrics(run: NodeRun) -> _Content:
    """Return the overall metrics of the candidate.

    Those of the served model are `served_...`, those of a baseline `constant_...` and `linear_...`.
    """
    numbers: dict[str, Any] = {}
    for prefix, metrics in _overall(run).items():
        numbers |= {f"{prefix}{name}": value for name, value in metrics.items() if math.isfinite(value)}
    blessing = run.output("ModelBlessing")
    if blessing is not None:
        numbers["blessed"] = float(blessing.get_int_custom_property("blessed"))
    return numbers


def _overall(run: NodeRun) -> Mapping[str, Mapping[str, float]]:
    """Return metrics over all rows by the prefix of their names. TFMA's files lack those of images."""
    from kubetfx.components.evaluation import evaluation_result

    folder = run.folder("ModelEvaluation")
    if (folder / EVALUATION).is_file():
        found = evaluation_result.read_result(folder)
        simple = {f"{name}_": metrics for name, metrics in found.simple_metrics.items()}
        return {"": found.metrics, "served_": found.baseline_metrics, **simple}
    overall = _metrics_by_slice(run).get("", {})
    return {"served_" if model == "baseline" else "": metrics for model, metrics in overall.items()}


def _metrics_by_slice(run: NodeRun) -> dict[str, dict[str, dict[str, float]]]:
    """Return metric values by slice, by name of the model, and by name of the metric."""
    import tensorflow_model_analysis as tfma

    by_slice: dict[str, dict[str, dict[str, float]]] = {}
    for record in tfma.load_metrics(str(run.folder("ModelEvaluation"))):
        keys = []
        for key in record.slice_key.single_slice_keys:
            value = getattr(key, key.WhichOneof("kind") or "bytes_value")
            keys.append(f"{key.column}={value.decode(errors='replace') if isinstance(value, bytes) else value}")
        models = by_slice.setdefault(", ".join(keys), {})
        for entry in record.metric_keys_and_values:
            if not entry.key.is_diff and entry.value.WhichOneof("type") == "double_value":
                models.setdefault(entry.key.model_name, {})[entry.key.name] = entry.value.double_value.value
    return by_slice


def _evaluation_page(run: NodeRun) -> _Content:
    """Return verdict and reasons, metrics, slices."""
    from kubetfx.components.report import render, verdict

    if run.executor == "kubetfx.components.evaluator.Executor":
        evaluation = verdict.read(run.folder("ModelEvaluation"))
        assert evaluation is not None
        return render.evaluation_page(evaluation)
    by_slice = _metrics_by_slice(run)
    names = sorted({name for models in by_slice.values() for metrics in models.values() for name in metrics})
    rows = [
        [slice_name or "all rows", model, *(metrics.get(name, math.nan) for name in names)]
        for slice_name, models in sorted(by_slice.items())
        for model, metrics in models.items()
    ]
    blessing = run.output("ModelBlessing")
    blessed = blessing.get_int_custom_property("blessed") == 1 if blessing is not None else None
    notes = [] if blessed is None else ["Blessed." if blessed else "Not blessed."]
    return render.table_page("Evaluation", ["slice", "model", *names], rows, notes=notes)


def _classification_metrics(run: NodeRun) -> _Content:
    """Return confusion matrix and ROC of the candidate on the evaluation split."""
    from kubetfx.components.evaluation import evaluation_result
    from kubetfx.components.evaluation.row_sample import draw
    from kubetfx.components.report import predictions
    from kubetfx.components.report import quality_facts as quality
    from kubetfx.components.served_model_resolver import saved_model_path
    from kubetfx.models.asked_model import AskedModel
    from kubetfx.models.examples import files_in

    files = files_in(Path(run.inputs["examples"][0].uri) / split_folder(EVAL))
    sample = draw(files, rows=_MAX_SCORED_ROWS, seed=0)
    assert sample is not None  # an ExampleGen refuses a split without a row
    folder = run.folder("ModelEvaluation")
    result = evaluation_result.read_result(folder) if (folder / EVALUATION).is_file() else None
    model = AskedModel(saved_model_path(run.inputs["model"]), optimize_graph=False)
    try:
        predicted = predictions.predict(model, sample.rows, weight=result.weight if result else None)
    finally:
        model.close()
    found = quality.describe(
        predicted, total_rows=sample.total_rows, seed=0, confusion=result.confusion if result else ()
    )
    metadata: dict[str, Any] = {
        "confidenceMetrics": [
            {"confidenceThreshold": threshold, "falsePositiveRate": false_positives, "recall": recall}
            for threshold, false_positives, recall in found.roc_thresholds
        ]
    }
    if found.confusion:
        metadata["confusionMatrix"] = {
            "annotationSpecs": [{"displayName": name} for name in found.classes],
            "rows": [{"row": row} for row in found.confusion],
        }
    return metadata


def _fold_metrics(run: NodeRun) -> _Content:
    """Return the metrics of the model of a fold on what the fold held out."""
    from kubetfx.components.evaluation import cross_validated

    return dict(cross_validated.read_fold(run.folder("FoldEvaluation")).metrics)


def _cross_validation_metrics(run: NodeRun) -> _Content:
    """Return the mean of each metric, and its standard deviation as `..._deviation`."""
    from kubetfx.components.evaluation import cross_validated

    numbers: dict[str, Any] = {}
    for name, spread in cross_validated.read(run.folder("CrossValidationResult")).metrics.items():
        numbers[name] = spread.mean
        if spread.deviation is not None:
            numbers[f"{name}_deviation"] = spread.deviation
    return numbers


def _cross_validation_page(run: NodeRun) -> _Content:
    from kubetfx.components.evaluation import cross_validated
    from kubetfx.components.report import render

    return render.cross_validation_page(cross_validated.read(run.folder("CrossValidationResult")))


def _report_page(run: NodeRun) -> _Content:
    """Return the report as the component Report has rendered it."""
    return (run.folder("RunReport") / REPORT).read_text(encoding="utf-8")


def _push_page(run: NodeRun) -> _Content:
    from kubetfx.components.report import markdown

    artifact = run.output("PushedModel")
    if artifact is None:
        return markdown.push(version=None)
    version = artifact.get_string_custom_property("pushed_version")
    destination = artifact.get_string_custom_property("pushed_destination")
    return markdown.push(version=version, destination=destination, takes_images=_is_of_images(run))


def _decision_page(run: NodeRun) -> _Content:
    """Return the reason for a run, or against it."""
    from kubetfx.components.report import markdown

    artifact = run.output("RetrainDecision")
    assert artifact is not None
    why = (Path(artifact.uri) / DECISION).read_text(encoding="utf-8")
    return markdown.decision(why, is_run=bool(artifact.get_int_custom_property("retrain")))


def _is_of_images(run: NodeRun) -> bool:
    """Return whether the model that was pushed takes encoded images."""
    models = run.inputs.get("model") or ()
    facts = Path(models[0].uri) / SERVING_MODEL / MODEL_FACTS if models else Path()
    return facts.is_file() and bool(json.loads(facts.read_text(encoding="utf-8")).get("image"))


def _summary(run: NodeRun) -> _Content:
    from kubetfx.components.report import markdown

    rows = []
    for key, artifacts in run.outputs.items():
        for artifact in artifacts:
            values = {
                name: getattr(value, value.WhichOneof("value") or "string_value")
                for values in (artifact.mlmd_artifact.properties, artifact.mlmd_artifact.custom_properties)
                for name, value in values.items()
            }
            properties = ", ".join(f"{name}: {str(value)[:80]}" for name, value in sorted(values.items()))
            rows.append((key, artifact.type_name, properties))
    return markdown.artifacts(run.id, rows)


_PAGES: Mapping[str, tuple[_SystemType, Callable[[NodeRun], _Content]]] = {
    "examples_page": ("Markdown", _examples_page),
    "statistics_page": ("HTML", _statistics_page),
    "schema_page": ("HTML", _schema_page),
    "anomalies_page": ("HTML", _anomalies_page),
    "features_page": ("HTML", _features_page),
    "model_page": ("HTML", _model_page),
    "metrics": ("Metrics", _metrics),
    "evaluation_page": ("HTML", _evaluation_page),
    "classification_metrics": ("ClassificationMetrics", _classification_metrics),
    "fold_metrics": ("Metrics", _fold_metrics),
    "cross_validation_metrics": ("Metrics", _cross_validation_metrics),
    "cross_validation_page": ("HTML", _cross_validation_page),
    "push_page": ("Markdown", _push_page),
    "decision_page": ("Markdown", _decision_page),
    "report_page": ("HTML", _report_page),
    "summary": ("Markdown", _summary),
}
"""Type of Kubeflow Pipelines and function that draws it, by kind of page."""

_KINDS_OF_TYPE: Mapping[str, tuple[str, ...]] = {
    "Examples": ("examples_page",),
    "ExampleStatistics": ("statistics_page",),
    "Schema": ("schema_page",),
    "ExampleAnomalies": ("anomalies_page",),
    "TransformGraph": ("features_page",),
    "Model": ("model_page",),
    "ModelEvaluation": ("metrics", "evaluation_page"),
    "FoldEvaluation": ("fold_metrics",),
    "CrossValidationResult": ("cross_validation_metrics", "cross_validation_page"),
    "PushedModel": ("push_page",),
    "RetrainDecision": ("decision_page",),
    "RunReport": ("report_page",),
}
"""Kinds of pages by TFX type of an output. A node without any of these types has a summary."""
