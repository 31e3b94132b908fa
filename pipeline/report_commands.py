"""The commands that look back: report, runs, compare, tensorboard.

Nothing heavy is imported before a command runs.
"""

import webbrowser
from typing import Annotated, Any

import typer

from pipeline import run_record
from pipeline.command import ConfigPath, FormatOption, Overrides, load, open_output, shown
from pipeline.config import PipelineConfig

app = typer.Typer()

RunId = Annotated[
    str | None,
    typer.Option(
        "--run", metavar="ID", help="A run, or the beginning of its id. Default: the newest.", show_default=False
    ),
]


@app.command()
def report(
    config: ConfigPath,
    run: RunId = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Print the path of a run's report; it is written where the run was killed before it had one."""
    output = open_output(format)
    pipeline_config = load(config, overrides)
    record = run_record.find(pipeline_config.workspace_path, run)
    folder = run_record.run_folder(pipeline_config.workspace_path, record.run_id)
    path = folder / run_record.REPORT
    if not path.is_file():
        _write_report(pipeline_config, record)
    if open_it:
        webbrowser.open(path.resolve().as_uri())
    if format == "json":
        files = {"report": path, "metrics": folder / run_record.METRICS, "model_card": folder / run_record.CARD}
        output.document({"run_id": record.run_id, **{name: str(file) for name, file in files.items()}})
    else:
        output.text(shown(path))


def _write_report(config: PipelineConfig, record: run_record.RunRecord) -> None:
    from components.report import run_report

    run_report.publish(config, record, ask_model=False)


@app.command()
def runs(config: ConfigPath, overrides: Overrides = None, format: FormatOption = "human") -> None:
    """List the runs with their metrics, versions and time, the newest first."""
    output = open_output(format)
    pipeline_config = load(config, overrides)
    records = run_record.read_all(pipeline_config.workspace_path)
    if format == "json":
        output.document({"runs": [_as_document(record, pipeline_config) for record in records]})
        return
    if not records:
        output.say(f"No run has been recorded yet. Start one: kubetfx run {config}")
        return
    names = _shown_metrics(records, pipeline_config)
    rows = [
        [
            record.run_id,
            record.state.replace("_", " "),
            "" if record.pushed_version is None else str(record.pushed_version),
            *(_metric(record, name) for name in names),
            "" if record.seconds is None else f"{record.seconds:.1f} s",
        ]
        for record in records
    ]
    output.table(["run", "end", "version ", *(f"{name} " for name in names), "time "], rows)


MAX_METRICS = 4


def _shown_metrics(records: list[run_record.RunRecord], config: PipelineConfig) -> list[str]:
    """Those that have a threshold first."""
    known = dict.fromkeys([*config.evaluation.thresholds, *(name for record in records for name in record.metrics)])
    found = {name for record in records for name in record.metrics}
    return [name for name in known if name in found and name != "example_count"][:MAX_METRICS]


def _metric(record: run_record.RunRecord, name: str) -> str:
    value = record.metrics.get(name)
    return "" if value is None else f"{value:.4g}"


def _as_document(record: run_record.RunRecord, config: PipelineConfig) -> dict[str, Any]:
    path = run_record.run_folder(config.workspace_path, record.run_id) / run_record.REPORT
    return {
        "run_id": record.run_id,
        "state": record.state,
        "started_at": record.started_at,
        "seconds": record.seconds,
        "metrics": record.metrics,
        "pushed_version": record.pushed_version,
        "error": record.error,
        "report": str(path) if path.is_file() else None,
    }
