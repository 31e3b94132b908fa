"""The part of a run that is sent, as a self-contained folder: artifacts of the run may be gone when it is sent."""

import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from kubetfx.artifacts import CARD, METRICS_FILE, REPORT
from kubetfx.components.data.span_store import link
from kubetfx.components.report.facts import Facts, Training
from kubetfx.components.tracking.mlflow_sender import ENTRY, FILES, MODEL, RUN_TAG
from kubetfx.config.references import redacted
from kubetfx.provenance import Code
from kubetfx.serving.model_facts import ModelFacts, read_facts
from kubetfx.version import library_version

_CONFIG, _ORIGIN = "config.json", "origin.json"
_SECTIONS = ("data", "features", "model", "training", "tuning", "evaluation")
"""Sections of the config, whose values become parameters."""
_LONGEST = 500
"""Characters of a parameter: servers before 2.9 take no more."""
_NOT_IN_NAMES = re.compile(r"[^\w\-. /]")
_KILLED, _FAILED, _FINISHED = "KILLED", "FAILED", "FINISHED"
_STATUS = {"interrupted": _KILLED, "failed": _FAILED, "stopped_by_anomalies": _FAILED}


@dataclass(frozen=True)
class TrackedRun:
    """A run, wherever it ran."""

    run_id: str
    name: str
    """Name of the pipeline."""
    state: str
    """As in the record of a run."""
    started_at: str
    """UTC, ISO 8601."""
    ended_at: str
    experiment: str
    model_name: str
    facts: Facts
    config: Mapping[str, Any]
    files: Path
    """Folder with the report, the model card and metrics.json."""
    is_registered: bool = False
    saved_model: Path | None = None
    """Folder; None: the run made none."""
    code: Code | None = None
    error: str | None = None
    version: int | None = None
    """That it pushed, or that waits for approval."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Others."""


def write(folder: Path, run: TrackedRun) -> Path:
    """Write a run for the sender, whole or not at all.

    Args:
        folder: where runs wait.
        run: the run.

    Returns:
        The folder of the run.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    aside, target = folder / f".{run.run_id}.partial", folder / run.run_id
    shutil.rmtree(aside, ignore_errors=True)
    try:
        (aside / FILES).mkdir(parents=True)
        for name in (REPORT, CARD, METRICS_FILE):
            if (run.files / name).is_file():
                shutil.copyfile(run.files / name, aside / FILES / name)
        (aside / FILES / _CONFIG).write_text(json.dumps(run.config, indent=1), encoding="utf-8")
        if run.facts.origin:
            (aside / FILES / _ORIGIN).write_text(run.facts.origin.model_dump_json(indent=1), encoding="utf-8")
        if run.saved_model:
            _link_tree(run.saved_model, aside / MODEL)
        (aside / ENTRY).write_text(json.dumps(_document(run), indent=1), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return target


def _link_tree(source: Path, target: Path) -> None:
    """Hard-link each file, so that the model takes no second place on the disk."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            link(path, place)
    for empty in (path for path in source.rglob("*") if path.is_dir()):
        (target / empty.relative_to(source)).mkdir(parents=True, exist_ok=True)


def _document(run: TrackedRun) -> dict[str, Any]:
    started = _milliseconds(run.started_at)
    return {
        "run_id": run.run_id,
        "run_name": run.run_id,
        "experiment": run.experiment,
        "register": run.model_name if run.is_registered and run.version else None,
        "status": _STATUS.get(run.state, _FINISHED),
        "start_time": started,
        "end_time": _milliseconds(run.ended_at),
        "params": dict(_params(run)),
        "tags": dict(_tags(run)),
        "metrics": list(_metrics(run, started)),
        "model": _model(run.saved_model) if run.saved_model else None,
    }


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1e3)


def _params(run: TrackedRun) -> Iterator[tuple[str, str]]:
    for section in _SECTIONS:
        yield from _flat(section, run.config.get(section))
    tuning = run.facts.tuning
    if tuning and tuning.best_trial:
        yield from ((_name(f"tuned.{key}"), str(value)[:_LONGEST]) for key, value in tuning.best_trial.settings.items())


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}", inner)
    elif value not in (None, [], ""):
        yield _name(key), (value if isinstance(value, str) else json.dumps(value))[:_LONGEST]


def _name(text: str) -> str:
    return _NOT_IN_NAMES.sub("_", text)[:250]


def _tags(run: TrackedRun) -> Iterator[tuple[str, str]]:
    evaluation = run.facts.evaluation
    yield RUN_TAG, run.run_id
    yield "kubetfx.pipeline", run.name
    yield "kubetfx.state", run.state
    if evaluation:
        yield "kubetfx.verdict", "blessed" if evaluation.is_blessed else "not blessed"
        if evaluation.failures:
            yield "kubetfx.missed", "\n".join(evaluation.failures)[:4_000]
    if run.version:
        yield "kubetfx.version", str(run.version)
    if run.error:
        yield "kubetfx.error", redacted(run.error)[:4_000]
    if run.code:
        yield "kubetfx.code", run.code.digest
        if run.code.git:
            yield "mlflow.source.git.commit", run.code.git.commit
    yield "mlflow.source.name", run.name
    yield from run.tags.items()


def _metrics(run: TrackedRun, started: int) -> Iterator[dict[str, Any]]:
    """Yield the metrics of each epoch with its number, and then those of the evaluation."""
    for training in _trainings(run.facts.training):
        kind = "" if training is run.facts.training else f"{training.kind}/"
        ends = [started + round(1e3 * sum(training.seconds[: epoch + 1])) for epoch in range(training.epochs)]
        for name, values in {**training.history, "learning_rate": training.learning_rate}.items():
            split = "validation" if name.startswith("val_") else "train"
            key = _name(f"{kind}{split}/{name.removeprefix('val_')}")
            for epoch, value in enumerate(values):
                at = ends[epoch] if epoch < len(ends) else started
                yield from _metric(key, value, at, step=epoch + 1)
    end = _milliseconds(run.ended_at)
    for metric in run.facts.evaluation.metrics if run.facts.evaluation else ():
        yield from _metric(_name(f"eval/{metric.name}"), metric.value, end)
        if metric.served is not None:
            yield from _metric(_name(f"eval_of_served/{metric.name}"), metric.served, end)


def _trainings(training: Training | None) -> Iterator[Training]:
    if training:
        yield training
        if training.beside:
            yield training.beside


def _metric(key: str, value: float, at: int, *, step: int = 0) -> Iterator[dict[str, Any]]:
    if math.isfinite(value):
        yield {"key": key, "value": value, "timestamp": at, "step": step}


def _model(saved_model: Path) -> dict[str, Any]:
    """Return the facts about a model for MLflow: its columns, and its loader."""
    facts = read_facts(saved_model)
    tensorflow = f"tensorflow=={library_version('tensorflow')}"
    requirements = [tensorflow, *(f"{name}=={library_version(name)}" for name in ("numpy", "pandas"))]
    return {
        "inputs": [{"name": name, "type": _type(facts, name), "required": False} for name in facts.inputs]
        if facts
        else [],
        "outputs": _outputs(facts) if facts else [],
        "requirements": requirements,
    }


def _type(facts: ModelFacts, name: str) -> str:
    if name in facts.image_columns:
        return "binary"
    if facts.columns.get(name) == "string" and name not in facts.separators:
        return "string"
    return "any"  # MLflow accepts neither a whole number for a fractional one, nor a missing value for a whole one


def _outputs(facts: ModelFacts) -> list[dict[str, Any]]:
    names = {"value": "double"} if not facts.classes else {"label": "string", "score": "double"}
    names |= {f"probabilities.{one}": "double" for one in facts.classes}
    return [{"name": name, "type": kind, "required": True} for name, kind in names.items()]
