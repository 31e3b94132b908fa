"""`kubetfx init --dvc`: a dvc.yaml beside pipeline.yaml, in which the pipeline is a stage of DVC."""

import os
import shlex
from pathlib import Path

import yaml

from kubetfx.artifacts import CARD, METRICS_FILE, REPORT
from kubetfx.components.report.exported_figures import CLASSES, CURVES, IMPORTANCE
from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.data_state import before_patterns
from kubetfx.errors import UsageError
from kubetfx.storage import is_url

DVC_FILE = "dvc.yaml"
RESULTS = "results"
"""Folder beside pipeline.yaml with the figures of the newest run."""

_HEADER = """\
# The pipeline as a stage of DVC. Run: dvc repro; then: dvc metrics diff, dvc plots show, dvc push
# Change it as you like: kubetfx does not write it again.
"""


def write_dvc(config_path: Path) -> tuple[Path, list[str]]:
    """Write dvc.yaml beside a pipeline.yaml.

    Args:
        config_path: The path of pipeline.yaml.

    Returns:
        The file, and notes for the user, a sentence each.

    Raises:
        ConfigError: pipeline.yaml is wrong.
        UsageError: there is a dvc.yaml, or it cannot be written.
    """
    path = config_path.resolve().parent / DVC_FILE
    if path.exists():
        raise UsageError(f"{path} exists and is not overwritten. Remove it, or add the stage by hand.")
    config = load_config(config_path)
    document, notes = _document(config, config_path)
    text = _HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None
    return path, notes


def _document(config: PipelineConfig, config_path: Path) -> tuple[dict[str, object], list[str]]:
    notes: list[str] = []
    name = config_path.name
    figures = {file: f"{RESULTS}/{file}" for file in (METRICS_FILE, REPORT, CARD, CURVES, CLASSES, IMPORTANCE)}
    outs: list[object] = [figures[REPORT], {figures[CARD]: {"cache": False}}]
    if isinstance(config.push_path, Path):
        # DVC deletes the outputs of a stage before it runs, and the served model is the next one's baseline.
        outs.insert(0, {_relative(config.push_path, config.folder): {"persist": True}})
    else:
        notes.append(f"The models are in a bucket, which DVC does not track: {config.push_path}.")
    stage: dict[str, object] = {
        "cmd": [shlex.join(["kubetfx", "run", name]), shlex.join(["kubetfx", "report", name, "--export", RESULTS])],
        "deps": _dependencies(config, notes),
        "params": [{name: None}],
        "outs": outs,
        "metrics": [{figures[METRICS_FILE]: {"cache": False}}],
        "plots": [{figures[file]: {"cache": False}} for file in (CURVES, CLASSES, IMPORTANCE)],
    }
    if not stage["deps"]:
        del stage["deps"]
    plots = [{"loss": {"x": "epoch", "y": {figures[CURVES]: ["loss", "val_loss"]}, "template": "linear"}}]
    if config.model.task == "classification":
        plots.append({"f1": {"x": "f1", "y": {figures[CLASSES]: "name"}, "template": "bar_horizontal"}})
    plots.append(
        {"importance": {"x": "importance", "y": {figures[IMPORTANCE]: "column"}, "template": "bar_horizontal"}}
    )
    return {"stages": {"train": stage}, "plots": plots}, notes


def _dependencies(config: PipelineConfig, notes: list[str]) -> list[str]:
    """Return files and folders that a run reads, besides pipeline.yaml."""
    found = []
    data = config.data
    if data.source is not None or (is_url(data.path) is False and "://" in data.path):
        notes.append(
            f"DVC does not see when this data changes: {data.path}. Let DVC run the stage by force for new rows."
        )
    elif is_url(data.path):
        found.append(data.path)
    else:
        found.append(_relative(before_patterns(Path(data.path)), config.folder))
    for file in (data.schema_file, config.model.weights, config.features.text_encoder.pretrained):
        if file and Path(file).exists():
            found.append(_relative(Path(file), config.folder))
    for module in config.own_modules.values():
        top = config.folder / module.partition(".")[0]
        found += [_relative(place, config.folder) for place in (top, top.with_suffix(".py")) if place.exists()]
    return list(dict.fromkeys(found))


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path, folder)
