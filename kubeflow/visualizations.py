"""What a task shows in the pages of Kubeflow Pipelines: one function a page, from a node's artifacts to its content.

A page is HTML or Markdown text, self-contained, or the numbers of system.Metrics and system.ClassificationMetrics.
Which pages a node has goes by its executor and by the types of what it writes, so components that nobody here wrote
have some too. Heavy libraries are imported by the function that needs them.
"""

import html
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from tfx import types

SystemType = Literal["HTML", "Markdown", "Metrics", "ClassificationMetrics"]
Content = str | dict[str, Any]
"""Text of the one file, or the artifact's metadata."""

MAX_CLASSES = 50
"""A confusion matrix of more classes is no picture."""
MAX_ROWS = 200
"""Rows of a table in a page."""
ROC_THRESHOLDS = 100
SCORING_BATCH = 4_096

_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:16px;color:#202124}table{border-collapse:collapse}"
    "td,th{padding:4px 12px;text-align:left;border-bottom:1px solid #dadce0}td.n{text-align:right}"
    ".bad{color:#b3261e}.good{color:#146c2e}"
)
_COLORS = ("#1a73e8", "#e8710a")


@dataclass(frozen=True)
class NodeRun:
    """A node that has run: artifacts with local URIs, and exec properties."""

    id: str
    executor: str
    inputs: "Mapping[str, list[types.Artifact]]"
    outputs: "Mapping[str, list[types.Artifact]]"
    properties: Mapping[str, Any]

    def folder(self, type_name: str) -> Path | None:
        """Folder of the first output of a TFX type; None if there is none."""
        artifact = self.output(type_name)
        return Path(artifact.uri) if artifact is not None else None

    def output(self, type_name: str) -> "types.Artifact | None":
        """The first output of a TFX type."""
        found = (a for artifacts in self.outputs.values() for a in artifacts if a.type_name == type_name)
        return next(found, None)


def draw(kind: str, run: NodeRun) -> Content:
    """The content of a page."""
    return _PAGES[kind][1](run)


def system_type(kind: str) -> SystemType:
    """Type of Kubeflow Pipelines that a page has."""
    return _PAGES[kind][0]


def failed(kind: str, error: Exception) -> Content:
    """The page in place of one that could not be drawn."""
    if system_type(kind) in ("Metrics", "ClassificationMetrics"):
        return {}
    return f"This page could not be drawn: {html.escape(f'{type(error).__name__}: {error}')}. The log has more."


def kinds_of(executor: str, output_types: Mapping[str, str], *, task: str | None = None) -> list[str]:
    """The pages of a node.

    Args:
        executor: import path of its executor class.
        output_types: name of the TFX type by output key.
        task: `classification` or `regression`, of an Evaluator that says so.
    """
    kinds = [kind for name in output_types.values() for kind in _KINDS_OF_TYPE.get(name, ())]
    if executor == "components.evaluator.Executor" and task == "classification":
        kinds.append("classification_metrics")
    return list(dict.fromkeys(kinds)) or ["summary"]


def _table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{html.escape(header)}</th>" for header in headers)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows[:MAX_ROWS])
    more = f"<p>The first {MAX_ROWS} of {len(rows):,}.</p>" if len(rows) > MAX_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="n">{_number(value)}</td>'
    return f"<td>{html.escape(str(value))}</td>"


def _number(value: float) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "not defined"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.5g}"


def _page(title: str, *parts: str) -> str:
    heading = f"<h3>{html.escape(title)}</h3>"
    return f'<!doctype html><meta charset="utf-8"><style>{_STYLE}</style>{heading}{"".join(parts)}'


def _examples_page(run: NodeRun) -> Content:
    artifact = run.output("Examples")
    assert artifact is not None
    counts: dict[str, int] = json.loads(artifact.get_string_custom_property("num_examples") or "{}")
    total = sum(counts.values())
    splits = [f"| {name} | {count:,} | {count / total:.1%} |" for name, count in counts.items()]
    if not splits:
        splits = [f"| {name} | | |" for name in json.loads(artifact.split_names or "[]")]
    span = artifact.get_custom_property("span")
    lines = [f"### {run.id}", "", "| split | rows | share |", "|---|---|---|", *splits, ""]
    return "\n".join([*lines, f"Span: {span}" if span is not None else ""])


def _statistics_page(run: NodeRun) -> Content:
    from tensorflow_metadata.proto.v0 import statistics_pb2

    folder = run.folder("ExampleStatistics")
    assert folder is not None
    parts = []
    for file in sorted(folder.glob("Split-*/FeatureStats.pb")):
        (dataset,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read_bytes()).datasets
        rows = [_statistics_row(feature, dataset.num_examples) for feature in dataset.features]
        parts.append(f"<h4>{html.escape(file.parent.name)}: {dataset.num_examples:,} rows</h4>")
        parts.append(
            _table(["column", "type", "missing", "mean", "deviation", "min", "median", "max", "distinct", "top"], rows)
        )
    return _page("Statistics", *parts)


def _statistics_row(feature: Any, num_examples: int) -> list[object]:
    name = feature.name or ".".join(feature.path.step)
    kind = {0: "int", 1: "float", 2: "text"}.get(feature.type, "other")
    number, text = feature.num_stats, feature.string_stats
    common = text.common_stats if feature.WhichOneof("stats") == "string_stats" else number.common_stats
    missing = f"{1 - common.num_non_missing / num_examples:.1%}" if num_examples else ""
    if feature.WhichOneof("stats") == "num_stats":
        return [name, kind, missing, number.mean, number.std_dev, number.min, number.median, number.max, "", ""]
    top = ", ".join(f"{value.value} ({value.frequency:,.0f})" for value in text.top_values[:3])
    return [name, kind, missing, "", "", "", "", "", int(text.unique), top]


def _schema_page(run: NodeRun) -> Content:
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    folder = run.folder("Schema")
    assert folder is not None
    schema = text_format.Parse((folder / "schema.pbtxt").read_text(encoding="utf-8"), schema_pb2.Schema())
    rows = [
        [
            feature.name,
            schema_pb2.FeatureType.Name(feature.type).lower(),
            "always" if feature.presence.min_fraction >= 1 else "may be missing",
            feature.domain,
            ", ".join(feature.annotation.tag),
            "; ".join(feature.annotation.comment),
        ]
        for feature in schema.feature
    ]
    return _page("Schema", _table(["column", "type", "presence", "domain", "used as", "why"], rows))


def _anomalies_page(run: NodeRun) -> Content:
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    folder = run.folder("ExampleAnomalies")
    assert folder is not None
    rows = []
    for file in sorted(folder.glob("Split-*/SchemaDiff.pb")):
        document = anomalies_pb2.Anomalies.FromString(file.read_bytes())
        for name, info in sorted(document.anomaly_info.items()):
            severity = anomalies_pb2.AnomalyInfo.Severity.Name(info.severity).lower()
            rows.append([file.parent.name.removeprefix("Split-"), name, severity, info.description])
    if not rows:
        return _page("Anomalies", '<p class="good">None: the data fits the schema.</p>')
    return _page("Anomalies", _table(["split", "column", "severity", "what"], rows))


def _features_page(run: NodeRun) -> Content:
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    folder = run.folder("TransformGraph")
    assert folder is not None
    text = (folder / "transformed_metadata" / "schema.pbtxt").read_text(encoding="utf-8")
    schema = text_format.Parse(text, schema_pb2.Schema())
    rows = []
    for feature in schema.feature:
        shape = " x ".join(str(dimension.size) for dimension in feature.shape.dim)
        rows.append([feature.name, schema_pb2.FeatureType.Name(feature.type).lower(), shape])
    assets = sorted(path.name for path in (folder / "transform_fn" / "assets").glob("*"))
    vocabularies = f"<p>Vocabularies: {html.escape(', '.join(assets))}</p>" if assets else ""
    return _page("Features", _table(["feature", "type", "shape of a row"], rows), vocabularies)


def _model_page(run: NodeRun) -> Content:
    folder = run.folder("Model")
    if folder is None:
        return _page("Model", "<p>None: no version is served.</p>")
    file = folder / "history.json"
    if not file.is_file():
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        artifact = run.output("Model")
        version = artifact.get_custom_property("version") if artifact is not None else None
        served = f"Version {version}, which is served now. " if version else ""
        return _page("Model", f"<p>{served}{size:,} bytes.</p>")
    document = json.loads(file.read_text(encoding="utf-8"))
    history: dict[str, list[float]] = document["history"]
    parts = [f"<p>{document['epochs']} epochs; the best was {document.get('best_epoch', '?')}.</p>"]
    for name in sorted(name for name in history if not name.startswith("val_")):
        lines = {"training": history[name], "validation": history.get(f"val_{name}", [])}
        parts.append(f"<h4>{html.escape(name)}</h4>{_curves(lines)}")
    return _page("Training", *parts)


def _curves(lines: Mapping[str, Sequence[float]], *, width: int = 560, height: int = 200) -> str:
    """Lines over the epochs, as SVG."""
    values = [value for line in lines.values() for value in line if math.isfinite(value)]
    if not values:
        return "<p>No finite value.</p>"
    low, high = min(values), max(values)
    spread = (high - low) or 1.0
    steps = max(len(line) for line in lines.values()) - 1 or 1
    parts = []
    for (name, line), color in zip(lines.items(), _COLORS, strict=False):
        points = " ".join(
            f"{60 + (width - 70) * index / steps:.1f},{10 + (height - 40) * (1 - (value - low) / spread):.1f}"
            for index, value in enumerate(line)
            if math.isfinite(value)
        )
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{points}"/>')
        if line:
            x = 60 + 110 * len(parts) / 2
            parts.append(f'<text x="{x:.0f}" y="{height - 4}" fill="{color}" font-size="12">{html.escape(name)}</text>')
    labels = "".join(
        f'<text x="54" y="{y}" font-size="11" text-anchor="end">{value:.4g}</text>'
        for y, value in ((14, high), (height - 26, low))
    )
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}">{labels}{"".join(parts)}</svg>'


def _metrics(run: NodeRun) -> Content:
    """The overall metrics of the candidate; those of the served model as `served_...`."""
    overall = _metrics_by_slice(run).get("", {})
    numbers: dict[str, Any] = {}
    for model, metrics in overall.items():
        prefix = "served_" if model == "baseline" else ""
        numbers |= {f"{prefix}{name}": value for name, value in metrics.items() if math.isfinite(value)}
    blessing = run.output("ModelBlessing")
    if blessing is not None:
        numbers["blessed"] = float(blessing.get_int_custom_property("blessed"))
    return numbers


def _metrics_by_slice(run: NodeRun) -> dict[str, dict[str, dict[str, float]]]:
    """Metric values by name, by name of the model, by slice."""
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


def _evaluation_page(run: NodeRun) -> Content:
    """Verdict and reasons, metrics, slices."""
    by_slice = _metrics_by_slice(run)
    overall = by_slice.pop("", {})
    candidate = next((metrics for model, metrics in overall.items() if model != "baseline"), {})
    served = overall.get("baseline", {})
    rows = [[name, value, served.get(name, "")] for name, value in sorted(candidate.items())]
    parts = [_verdict(run), _table(["metric", "value", "served"], rows)]
    if by_slice:
        names = sorted(candidate)
        slices = [
            [name, *(next(iter(models.values()), {}).get(metric, math.nan) for metric in names)]
            for name, models in sorted(by_slice.items())
        ]
        parts.append(f"<h4>Slices</h4>{_table(['slice', *names], slices)}")
    return _page("Evaluation", *parts)


def _verdict(run: NodeRun) -> str:
    blessing = run.output("ModelBlessing")
    if blessing is None:
        return ""
    is_blessed = blessing.get_int_custom_property("blessed") == 1
    verdict = '<p class="good">Blessed.</p>' if is_blessed else '<p class="bad">Not blessed.</p>'
    if run.executor != "components.evaluator.Executor":
        return verdict
    from components.evaluator import read_evaluation
    from pipeline.config import EvaluationConfig

    folder = run.folder("ModelEvaluation")
    assert folder is not None
    config = EvaluationConfig.model_validate_json(run.properties["evaluation_config"])
    result = read_evaluation(folder, config, task=run.properties["task"])
    reasons = [
        f'<li class="{"good" if check.passed else "bad"}">{html.escape(str(check))}</li>' for check in result.checks
    ]
    if result.not_compared_because:
        reasons.append(f"<li>Not compared with what is served: {html.escape(result.not_compared_because)}.</li>")
    return f"{verdict}<ul>{''.join(reasons)}</ul>"


def _classification_metrics(run: NodeRun) -> Content:
    """Confusion matrix and ROC of the candidate on the evaluation split."""
    from components.evaluator import EVALUATION_SPLIT
    from components.served_model_resolver import saved_model_path

    files = sorted((Path(run.inputs["examples"][0].uri) / f"Split-{EVALUATION_SPLIT}").iterdir())
    classes, labels, probabilities = score(saved_model_path(run.inputs["model"]), files)
    metadata: dict[str, Any] = {"confidenceMetrics": roc_curve(labels, probabilities)}
    if len(classes) <= MAX_CLASSES:
        metadata["confusionMatrix"] = confusion_matrix(classes, labels, probabilities)
    return metadata


def score(model_path: Path, files: Sequence[Path]) -> "tuple[tuple[str, ...], np.ndarray, np.ndarray]":
    """Ask a model that kubetfx exported about labelled examples.

    Args:
        model_path: folder of the SavedModel.
        files: gzipped TFRecord files of examples.

    Returns:
        Names of the classes; labels (rows,) int64, the index of the class; probabilities (rows, classes) float32. Rows
        whose label is no class are left out.
    """
    import numpy as np
    import tensorflow as tf

    from models.export import read_facts
    from models.features import LABEL

    facts = read_facts(model_path)
    if facts is None:
        raise ValueError("the model was not exported by kubetfx")
    model = tf.saved_model.load(str(model_path))
    labels, probabilities = [], []
    for batch in tf.data.TFRecordDataset([str(file) for file in files], "GZIP").batch(SCORING_BATCH):
        labels.append(model.signatures["transform_features"](examples=batch)[LABEL].numpy().reshape(-1))
        probabilities.append(model.signatures["serving_examples"](examples=batch)["probabilities"].numpy())
    all_labels, all_probabilities = np.concatenate(labels), np.concatenate(probabilities)
    is_known = all_labels >= 0
    return facts.classes, all_labels[is_known], all_probabilities[is_known]


def confusion_matrix(classes: Sequence[str], labels: "np.ndarray", probabilities: "np.ndarray") -> dict[str, Any]:
    """As system.ClassificationMetrics holds it: a row a true class, a column a predicted one."""
    import numpy as np

    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    return {
        "annotationSpecs": [{"displayName": name} for name in classes],
        "rows": [{"row": row} for row in counts.tolist()],
    }


def roc_curve(labels: "np.ndarray", probabilities: "np.ndarray") -> list[dict[str, float]]:
    """As system.ClassificationMetrics holds it, at evenly spaced thresholds, the highest first.

    Of the second class where there are two; where there are more, of all classes against the rest together.
    """
    import numpy as np

    num_classes = probabilities.shape[1]
    is_class = np.eye(num_classes, dtype=bool)[labels]
    columns = [1] if num_classes == 2 else list(range(num_classes))
    truth, scores = is_class[:, columns].ravel(), probabilities[:, columns].ravel()
    positives, negatives = max(int(truth.sum()), 1), max(int((~truth).sum()), 1)
    return [
        {
            "confidenceThreshold": float(threshold),
            "recall": float((scores[truth] >= threshold).sum() / positives),
            "falsePositiveRate": float((scores[~truth] >= threshold).sum() / negatives),
        }
        for threshold in np.linspace(1, 0, ROC_THRESHOLDS + 1)
    ]


def _push_page(run: NodeRun) -> Content:
    artifact = run.output("PushedModel")
    if artifact is None:
        return "### Not pushed\n\nThe model is not blessed. What is served is unchanged.\n"
    version = artifact.get_string_custom_property("pushed_version")
    destination = artifact.get_string_custom_property("pushed_destination")
    directory, _, last = destination.rstrip("/").rpartition("/")
    base = directory if last == version else destination
    name = base.rstrip("/").rpartition("/")[2]
    return (
        f"### Version {version} is pushed\n\n"
        f"- To: `{destination}`\n"
        f"- TensorFlow Serving serves it with `--model_name={name} --model_base_path={base}`\n\n"
        "Call it with one row or several, each with the columns of the table by name:\n\n"
        f"    curl -d '{{\"instances\": [{{...}}]}}' http://HOST:8501/v1/models/{name}:predict\n"
    )


def _summary(run: NodeRun) -> Content:
    lines = [f"### {run.id}", "", "| output | type | properties |", "|---|---|---|"]
    for key, artifacts in run.outputs.items():
        for artifact in artifacts:
            values = {
                name: getattr(value, value.WhichOneof("value") or "string_value")
                for values in (artifact.mlmd_artifact.properties, artifact.mlmd_artifact.custom_properties)
                for name, value in values.items()
            }
            text = ", ".join(f"{name}: {str(value)[:80]}" for name, value in sorted(values.items()))
            lines.append(f"| {key} | {artifact.type_name} | {text.replace('|', '&#124;')} |")
    return "\n".join([*lines, ""])


_PAGES: Mapping[str, tuple[SystemType, Callable[[NodeRun], Content]]] = {
    "examples_page": ("Markdown", _examples_page),
    "statistics_page": ("HTML", _statistics_page),
    "schema_page": ("HTML", _schema_page),
    "anomalies_page": ("HTML", _anomalies_page),
    "features_page": ("HTML", _features_page),
    "model_page": ("HTML", _model_page),
    "metrics": ("Metrics", _metrics),
    "evaluation_page": ("HTML", _evaluation_page),
    "classification_metrics": ("ClassificationMetrics", _classification_metrics),
    "push_page": ("Markdown", _push_page),
    "summary": ("Markdown", _summary),
}
"""By kind: which type of Kubeflow Pipelines shows it, and what draws it."""

_KINDS_OF_TYPE: Mapping[str, tuple[str, ...]] = {
    "Examples": ("examples_page",),
    "ExampleStatistics": ("statistics_page",),
    "Schema": ("schema_page",),
    "ExampleAnomalies": ("anomalies_page",),
    "TransformGraph": ("features_page",),
    "Model": ("model_page",),
    "ModelEvaluation": ("metrics", "evaluation_page"),
    "PushedModel": ("push_page",),
}
"""By TFX type of an output. What is written without one of these has a summary."""
