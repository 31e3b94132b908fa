"""Exports the figures of a run as files to a fixed place: for DVC, and for other tools.

metrics.json, report.html, model_card.md     as beside the report
curves.json                                  a row per epoch: loss, validation_loss, ...
classes.json                                 a row per class: name, precision, recall, f1, support
importance.json                              a row per column: column, importance
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kubetfx.artifacts import CARD, METRICS_FILE, REPORT
from kubetfx.components.report import facts
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import UsageError
from kubetfx.run_record import RunRecord, run_folder
from kubetfx.storage import write_text

CURVES, CLASSES, IMPORTANCE = "curves.json", "classes.json", "importance.json"


def export(config: PipelineConfig, record: RunRecord, folder: Path) -> list[Path]:
    """Write the figures of a run.

    Args:
        config: The config of the pipeline.
        record: The record of a run that has a report.
        folder: is made if it does not exist; files of these names are replaced.

    Returns:
        The files.

    Raises:
        UsageError: the folder cannot be written, or the run has no report.
    """
    run = run_folder(config.workspace_path, record.run_id)
    found = facts.read(run)
    if found is None:
        raise UsageError(f"The run has no report. Received: run {record.run_id}, {record.state}. Take another run.")
    metrics = json.loads((run / METRICS_FILE).read_text(encoding="utf-8"))
    history = found.training.history if found.training else {}
    tables = {
        CURVES: _by_epoch(history),
        CLASSES: metrics["classes"],
        IMPORTANCE: [
            {"column": name, "importance": value} for name, value in sorted((metrics["importance"] or {}).items())
        ],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (METRICS_FILE, REPORT, CARD):
            shutil.copyfile(run / name, folder / name)
        for name, rows in tables.items():
            write_text(folder / name, json.dumps(rows, indent=1) + "\n")
    except OSError as error:
        raise UsageError(
            f"The figures cannot be written. Received: {folder} ({error.strerror}). Choose a folder that you may write "
            "to."
        ) from None
    return [folder / name for name in (METRICS_FILE, REPORT, CARD, *tables)]


def _by_epoch(history: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Return a row per epoch, with what is known of all epochs."""
    epochs = max(map(len, history.values()), default=0)
    whole = {name: values for name, values in history.items() if len(values) == epochs}
    return [{"epoch": i + 1, **{name: values[i] for name, values in whole.items()}} for i in range(epochs)]
