"""The report of a run in its workspace: runs/RUN_ID, from the facts of the node Report and the record of the run.

A run that did not reach that node has a report too: its facts are collected from the existing artifacts. The facts are
kept beside the report, so that runs can be compared after their artifacts are gone.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubetfx.artifacts import CARD, FACTS, METRICS_FILE, REPORT
from kubetfx.components.push import push_directory
from kubetfx.components.push.history import history_of
from kubetfx.components.report import card, facts, previous, render
from kubetfx.components.report import metrics_document as metrics
from kubetfx.components.report.collect import Sources, collect
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import StorageError
from kubetfx.run_record import REPORT_NODE, RunRecord, run_folder
from kubetfx.storage import write_text


def publish(
    config: PipelineConfig,
    record: RunRecord,
    *,
    examples_properties: Mapping[str, Any] | None = None,
    ask_model: bool = True,
) -> Path:
    """Write facts, report, metrics and model card of a run.

    Args:
        config: The config of the pipeline.
        record: how the run went.
        examples_properties: custom properties of the examples, for a run that has no facts.
        ask_model: whether such a run's model, if it has one, is asked for predictions.

    Returns:
        The report.
    """
    node_folder = record.output(REPORT_NODE, "report")
    found = facts.read(node_folder) if node_folder else None
    if found is None:
        sources = sources_of(record, examples_properties or {}, ask_model=ask_model)
        found = collect(sources, facts.Settings.of(config))
    folder = run_folder(config.workspace_path, record.run_id)
    write_text(folder / FACTS, found.model_dump_json())
    write_text(folder / CARD, card.markdown(found))
    write_text(folder / METRICS_FILE, metrics.document(found, record).model_dump_json(indent=1))
    write_text(folder / REPORT, render.report(found, record, history=_history(config, record)))
    return folder / REPORT


def _history(config: PipelineConfig, record: RunRecord) -> list[str]:
    """Return the events of the version that a run pushed; empty if the push directory cannot be read."""
    version = record.pushed_version or record.waiting_version
    if version is None:
        return []
    with contextlib.suppress(OSError, StorageError):
        pushed = push_directory.read_record(config.push_path, version)
        return history_of(pushed) if pushed else []
    return []


def facts_of(config: PipelineConfig, record: RunRecord) -> facts.Facts | None:
    """Return the facts about a run; None if it was killed before it had a report.

    Args:
        config: The config of the pipeline.
        record: how the run went.
    """
    return facts.read(run_folder(config.workspace_path, record.run_id))


def sources_of(record: RunRecord, properties: Mapping[str, Any], *, ask_model: bool) -> Sources:
    """Return the folders of a run's artifacts, as far as it got.

    Args:
        record: how the run went.
        properties: custom properties of the examples.
        ask_model: whether the model is asked for predictions.
    """
    statistics = record.output("StatisticsGen", "statistics")
    model = record.output("Trainer", "model") or record.output("FoldEnsemble", "model")
    return Sources(
        statistics=statistics,
        schema=record.output("AnomalyGate", "approved_schema") or record.output("SchemaGen", "schema"),
        anomalies=record.output("ExampleValidator", "anomalies"),
        examples=record.examples(with_rows=ask_model and model is not None),
        examples_properties=properties,
        model=model,
        ask_model=ask_model,
        evaluation=record.output("Evaluator", "evaluation"),
        tuning=record.output("Tuner", "tuner_results") or record.output("BestTrial", "tuner_results"),
        cross_validation=record.output("CrossValidation", "cross_validation"),
        pushed_version=record.pushed_version,
        previous=previous.find(statistics) if statistics else previous.Previous(),
    )
