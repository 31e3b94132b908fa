"""The result of a run, wherever it ran: its nodes, the evaluation, and the push."""

import html
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kubetfx.artifact_store import ROWS, ArtifactStore
from kubetfx.artifacts import SCHEMA, split_folder
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.section import nearest
from kubetfx.errors import UsageError
from kubetfx.run_record import NodeRecord, RunRecord

if TYPE_CHECKING:  # importing TFX takes seconds, and the first line is to be on the screen before that
    import pyarrow as pa

    from kubetfx.components.evaluation.cross_validated import CrossValidated
    from kubetfx.components.evaluation.evaluation_result import EvaluationResult

_COPY = re.compile(r"\.\d+$")
"""End of the id of a copy that a fan-out makes."""
NodeState = Literal["done", "cached", "failed", "interrupted", "skipped"]


def component_of(node_id: str) -> str:
    """Return the id without the number of a copy: FoldTrainer for FoldTrainer.3.

    Args:
        node_id: The id of a node.
    """
    return _COPY.sub("", node_id)


@dataclass(frozen=True)
class NodeResult:
    """How a node ended."""

    node_id: str
    state: NodeState
    seconds: float
    log_path: Path
    outputs: dict[str, list[str]] = field(default_factory=dict)
    """Folders by output key."""

    def record(self, *, upstream: Sequence[str]) -> NodeRecord:
        """Return the same for the record of the run.

        Args:
            upstream: ids of the nodes whose outputs it read.
        """
        return NodeRecord(
            id=self.node_id,
            state=self.state,
            seconds=round(self.seconds, 3),
            log=str(self.log_path),
            outputs=self.outputs,
            upstream=list(upstream),
        )


class RunMetrics(dict[str, float]):
    """Metrics by name. A missing one is an error that lists the existing ones."""

    def __missing__(self, name: str) -> float:
        raise UnknownMetricError(
            f"The run has no metric {name!r}.{nearest(name, list(self))} It has: {', '.join(self) or 'none'}."
        )


class UnknownMetricError(UsageError, KeyError):
    """A run is asked for a metric that it doesn't have."""

    def __str__(self) -> str:
        """Return the message itself, which KeyError would put in quotes."""
        return str(self.args[0])


@dataclass(frozen=True)
class RunResult:
    """How a run ended that executed all its nodes."""

    run_id: str
    nodes: list[NodeResult]
    evaluation: "EvaluationResult | None"
    """None where the pipeline has no Evaluator of kubetfx."""
    pushed_version: int | None
    """None if nothing was pushed: the model was not blessed, or the pipeline has no Pusher."""
    is_new_version: bool
    """Whether this run pushed it."""
    excluded_columns: dict[str, str]
    """Columns that are not used as features, with the reason."""
    warnings: list[str]
    """Anomalies of the data that the config lets pass."""
    report_path: Path | None = None
    """The report as an HTML file."""
    notes: list[str] = field(default_factory=list)
    """About images, which model `model.kind: auto` took, and a training that had too few epochs."""
    examples_uri: str | None = None
    """URI of the rows."""
    waiting_version: int | None = None
    """Version that waits for approval, and that no server sees until then."""
    cross_validation_path: Path | None = None
    """Folder of cross_validation.json and predictions.parquet; None without `evaluation.cross_validation`."""
    artifacts: ArtifactStore | None = None
    """Where the outputs of the nodes are."""

    @property
    def changed(self) -> bool:
        """Whether any node was executed."""
        return any(node.state == "done" for node in self.nodes)

    @property
    def blessed(self) -> bool:
        """Whether the model reached every threshold; without an Evaluator of kubetfx, whether it was pushed."""
        return self.pushed_version is not None if self.evaluation is None else self.evaluation.is_blessed

    @property
    def metrics(self) -> RunMetrics:
        """Metrics of the model on the evaluation split, by name; empty without an Evaluator of kubetfx."""
        return RunMetrics({} if self.evaluation is None else self.evaluation.metrics)

    @property
    def examples_path(self) -> Path | None:
        """Folder of the rows that the model was trained and evaluated on, a folder per split.

        From a bucket they are fetched.
        """
        return self.artifacts.find(self.examples_uri) if self.artifacts and self.examples_uri else None

    @property
    def cross_validation(self) -> "CrossValidated | None":
        """Metrics of the folds; None without `evaluation.cross_validation`."""
        from kubetfx.components.evaluation import cross_validated

        return cross_validated.read(self.cross_validation_path) if self.cross_validation_path else None

    def __str__(self) -> str:
        """Return a summary in a few lines."""
        from kubetfx.components.evaluation.evaluation_result import COUNT, format_metric

        version = self.pushed_version
        came = "nothing was pushed" if version is None else f"version {version} is pushed"
        if version is not None and not self.is_new_version:
            came = f"version {version} is still served"
        found = [f"{name} {format_metric(value)}" for name, value in self.metrics.items() if name != COUNT]
        failures = self.evaluation.failures if self.evaluation else []
        report = [f"Report: {self.report_path}"] if self.report_path else []
        return "\n".join([f"Run {self.run_id}: {came}.", *([", ".join(found)] if found else []), *failures, *report])

    def examples(self, split: str = "eval") -> "pa.Table":
        """Read the rows of a split, as the model was trained or evaluated on them.

        Args:
            split: `train`, `validation` or `eval`.

        Returns:
            An Arrow table with a column per column of the data; `to_pandas()` makes a frame of it.

        Raises:
            UsageError: the run has no such split.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        from kubetfx.models.examples import files_in

        examples = self.examples_path
        folder = examples / split_folder(split) if examples else None
        if folder is None or not folder.is_dir():
            splits = sorted(path.name for path in examples.glob(ROWS)) if examples else []
            known = ", ".join(name.removeprefix("Split-") for name in splits) or "none"
            raise UsageError(f"There is no such split. Received: {split!r}. The run has: {known}.")
        return pa.concat_tables([pq.ParquetFile(file).read() for file in files_in(folder)])

    def _repr_html_(self) -> str:
        """Return the report, in a notebook: a frame without access to the page around it."""
        if self.report_path is None or not self.report_path.is_file():
            return f"<pre>{html.escape(str(self))}</pre>"
        page = html.escape(self.report_path.read_text(encoding="utf-8"), quote=True)
        style = "width: 100%; height: 40em; border: 1px solid #8884"
        return f'<iframe sandbox srcdoc="{page}" style="{style}" title="Report of run {self.run_id}"></iframe>'


def summarize(
    config: PipelineConfig,
    record: RunRecord,
    *,
    nodes: Sequence[NodeResult],
    pushed_version: int | None,
    versions_before: Collection[int],
    waiting_version: int | None = None,
) -> RunResult:
    """Read a run's result from the artifacts that its record names.

    Args:
        config: The config of the pipeline that ran.
        record: The record of the run, with the outputs of all its nodes; of several with one key, that of the last node
            counts, and the copies of a fan-out do so where no other node has it.
        nodes: how each of them ended.
        pushed_version: version that the Pusher pushed, or found to be pushed already.
        versions_before: versions that the push directory had before the run.
        waiting_version: version that waits for approval.

    Returns:
        The result, without the path of a report.
    """
    from kubetfx.components.evaluation.evaluation_result import read_result

    ranked = sorted(record.nodes, key=lambda node: not _COPY.search(node.id))
    uris = {key: found[0] for node in ranked for key, found in node.outputs.items() if found}

    def folder(key: str) -> Path | None:
        return config.artifacts.find(uris[key], with_rows=False) if key in uris else None

    schema = folder("approved_schema") or folder("schema")
    evaluation, anomalies, examples, model_run = map(folder, ("evaluation", "anomalies", "examples", "model_run"))
    return RunResult(
        run_id=record.run_id,
        nodes=list(nodes),
        evaluation=read_result(evaluation) if evaluation else None,
        pushed_version=pushed_version,
        is_new_version=pushed_version is not None and pushed_version not in versions_before,
        warnings=_warnings(config, anomalies) if anomalies else [],
        excluded_columns=_excluded_columns(schema) if schema else {},
        notes=_notes(examples, model_run) if examples and model_run else [],
        examples_uri=uris.get("examples"),
        waiting_version=waiting_version,
        cross_validation_path=folder("cross_validation"),
        artifacts=config.artifacts,
    )


def _notes(examples: Path, model_run: Path) -> list[str]:
    from kubetfx.components.data.image_notes import read_notes
    from kubetfx.components.report import training_facts

    training = training_facts.read(model_run)
    of_model = [training.taken] if training and training.taken else []
    cut_short = training_facts.cut_short(training) if training else None
    return [*read_notes(examples, model_run), *of_model, *([cut_short] if cut_short else [])]


def _warnings(config: PipelineConfig, anomalies: Path) -> list[str]:
    from kubetfx.components.anomaly_gate import read_anomalies

    folders = {path.name.removeprefix("Split-"): path for path in sorted(anomalies.glob(ROWS))}
    return [str(anomaly) for anomaly in read_anomalies(folders, config.validation) if anomaly.action == "warn"]


def _excluded_columns(schema: Path) -> dict[str, str]:
    from kubetfx.models.features import read_features, read_schema

    return read_features(read_schema(schema / SCHEMA)).excluded
