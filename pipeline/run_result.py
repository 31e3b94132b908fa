"""How a run ended, wherever it ran: its nodes, what the evaluation found, what was pushed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kubetfx.artifacts import SCHEMA
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.run_record import NodeRecord

if TYPE_CHECKING:  # importing TFX takes seconds, and the first line is to be on the screen before that
    from kubetfx.components.evaluation.evaluation_result import EvaluationResult

NodeState = Literal["done", "cached", "failed", "interrupted"]


@dataclass(frozen=True)
class NodeResult:
    """How a node ended."""

    node_id: str
    state: NodeState
    seconds: float
    log_path: Path
    outputs: dict[str, list[str]] = field(default_factory=dict)
    """URIs by output key."""

    def record(self, *, upstream: Sequence[str]) -> NodeRecord:
        """For the record of the run.

        Args:
            upstream: nodes whose outputs it read.
        """
        return NodeRecord(
            id=self.node_id,
            state=self.state,
            seconds=round(self.seconds, 3),
            log=str(self.log_path),
            outputs=self.outputs,
            upstream=list(upstream),
        )


@dataclass(frozen=True)
class RunResult:
    """How a run ended that executed all its nodes."""

    run_id: str
    nodes: list[NodeResult]
    evaluation: "EvaluationResult"
    pushed_version: int | None
    """None if the model was not blessed."""
    is_new_version: bool
    """Whether this run put it there."""
    excluded_columns: dict[str, str]
    """Columns that are not used as features, with the reason."""
    warnings: list[str]
    """Anomalies of the data that the config lets pass."""
    report_path: Path | None = None
    """The HTML file that says all that the run found out."""
    notes: list[str] = field(default_factory=list)
    """Of images: what was left out, which are copies, and how long training waited for them."""

    @property
    def changed(self) -> bool:
        """Whether any node was executed."""
        return any(node.state == "done" for node in self.nodes)


@dataclass(frozen=True)
class ResultFolders:
    """Where a run left what its result is read from: folders of artifacts."""

    evaluation: Path
    anomalies: Path
    schema: Path
    pushed_version: int | None
    images: tuple[Path, Path] | None = None
    """Of images: the examples, and what the training left."""


def summarize(
    config: PipelineConfig,
    artifacts: ResultFolders,
    *,
    run_id: str,
    nodes: Sequence[NodeResult],
    versions_before: Collection[int],
) -> RunResult:
    """Read a run's result from its artifacts.

    Args:
        config: of the pipeline that ran.
        artifacts: where its artifacts are.
        run_id: of the run.
        nodes: how each of them ended.
        versions_before: versions that the push directory had before the run.
    """
    from kubetfx.components.anomaly_gate import read_anomalies
    from kubetfx.components.data.image_notes import read_notes
    from kubetfx.components.evaluation.evaluation_result import read_result
    from kubetfx.models.features import read_features, read_schema

    folders = {path.name.removeprefix("Split-"): path for path in sorted(artifacts.anomalies.glob("Split-*"))}
    anomalies = read_anomalies(folders, config.validation)
    version = artifacts.pushed_version
    return RunResult(
        run_id=run_id,
        nodes=list(nodes),
        evaluation=read_result(artifacts.evaluation),
        pushed_version=version,
        is_new_version=version is not None and version not in versions_before,
        warnings=[str(anomaly) for anomaly in anomalies if anomaly.action == "warn"],
        excluded_columns=read_features(read_schema(artifacts.schema / SCHEMA)).excluded,
        notes=read_notes(*artifacts.images) if artifacts.images else [],
    )
