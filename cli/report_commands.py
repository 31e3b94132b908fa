"""The commands about past runs: report, runs, prune, compare, tensorboard.

Nothing heavy is imported before a command runs.
"""

import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubetfx import run_record
from kubetfx.artifacts import CARD, METRICS_FILE, REPORT
from kubetfx.cli.invocation import (
    MAX_SLICES,
    ConfigPath,
    FormatOption,
    Overrides,
    load,
    open_output,
    quoted,
    shown,
    shown_metrics,
)
from kubetfx.cli.output import Output
from kubetfx.config.durations import duration
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import TrackingError, UsageError
from kubetfx.pipeline import training_logs
from kubetfx.storage import write_text

if TYPE_CHECKING:
    from kubetfx.components.report.comparison import Comparison, Pair

app = typer.Typer()
_PANEL = "Runs and reports"

_MAX_METRICS = 4

_RunId = Annotated[
    str | None,
    typer.Option(
        "--run", metavar="ID", help="A run, or the beginning of its id. Default: the newest.", show_default=False
    ),
]


@app.command(rich_help_panel=_PANEL)
def report(
    config: ConfigPath,
    run: _RunId = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    export_to: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="FOLDER",
            help="Write report, metrics.json, curves and other figures there, as DVC reads them.",
            show_default=False,
        ),
    ] = None,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Print the path of a run's report; it is written first if the run was killed before it had one."""
    output = open_output(format)
    pipeline_config = load(config, overrides)
    record = run_record.find(pipeline_config.workspace_path, run)
    folder = run_record.run_folder(pipeline_config.workspace_path, record.run_id)
    path = folder / REPORT
    if not path.is_file() or record.state == "running":
        from kubetfx.components.report import run_report

        run_report.publish(pipeline_config, record, ask_model=False)
    if export_to is not None:
        from kubetfx.components.report.exported_figures import export

        export(pipeline_config, record, export_to)
        path = export_to / REPORT
    if open_it:
        _open(path, output)
    if format == "json":
        files = {"report": path, "metrics": path.parent / METRICS_FILE, "model_card": path.parent / CARD}
        output.document({"run_id": record.run_id, **{name: str(file) for name, file in files.items()}})
    else:
        output.text(shown(path))


def _open(path: Path, output: Output) -> None:
    if not webbrowser.open(path.resolve().as_uri()):
        output.say("No browser could be started here. Open the file yourself.", style="yellow")


@app.command(rich_help_panel=_PANEL)
def runs(config: ConfigPath, overrides: Overrides = None, format: FormatOption = "human") -> None:
    """List the runs with their metrics, versions and time, the newest first."""
    output = open_output(format)
    pipeline_config = load(config, overrides)
    records = list(run_record.read_all(pipeline_config.workspace_path))
    if format == "json":
        output.document({"runs": [_as_document(record, pipeline_config) for record in records]})
        return
    if not records:
        output.say(f"No run has been recorded yet. Start one: kubetfx run {quoted(config)}")
        return
    names = shown_metrics(pipeline_config, [record.metrics for record in records], at_most=_MAX_METRICS)
    rows = [
        [
            record.run_id,
            record.state.replace("_", " "),
            "" if record.pushed_version is None else str(record.pushed_version),
            *(f"{record.metrics[name]:.4g}" if name in record.metrics else "" for name in names),
            "" if record.seconds is None else f"{record.seconds:.1f} s",
        ]
        for record in records
    ]
    output.table(
        ["run", "end", "version ", *(f"{name} " for name in names), "time "],
        rows,
        whole_columns=("run", "version", "time", *names),
        optional_columns=[f"{name} " for name in names],
    )


@app.command(rich_help_panel=_PANEL)
def prune(
    config: ConfigPath,
    keep: Annotated[int, typer.Option(min=1, help="Number of newest runs to keep.")] = 5,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Remove only runs older than this: 30d, 12h, 2w.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed, and remove nothing.")
    ] = False,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Remove old runs: records, logs, and artifacts that no other run uses; never what is served."""
    output = open_output(format)
    try:
        age = duration(older_than) if older_than else None
    except ValueError as error:
        raise UsageError(f"--older-than: {error}.") from None

    from kubetfx.pipeline import pruning

    removed = pruning.prune(load(config, overrides), keep=keep, older_than=age, dry_run=dry_run)
    if format == "json":
        output.document({"removed": removed.runs, "kept": removed.kept_runs, "bytes": removed.num_bytes})
        return
    if removed.runs:
        output.text("\n".join(removed.runs))
    output.say(f"{'Would go' if dry_run else 'Removed'}: {removed}.")


@app.command(rich_help_panel=_PANEL)
def compare(
    config: ConfigPath,
    first: Annotated[str, typer.Argument(metavar="RUN", help="A run, or the beginning of its id.")],
    second: Annotated[str, typer.Argument(metavar="RUN", help="The run to compare with it.")],
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Show two runs side by side: metrics, slices, config; a page has the curves of both in one figure."""
    output = open_output(format)
    pipeline_config = load(config, overrides)
    workspace = pipeline_config.workspace_path
    records = [run_record.find(workspace, run_id) for run_id in (first, second)]

    from kubetfx.components.report import comparison, render, run_report

    sides = [comparison.Side(record, run_report.facts_of(pipeline_config, record)) for record in records]
    found = comparison.compare(*sides)
    path = workspace / "comparisons" / f"{records[0].run_id}..{records[1].run_id}.html"
    write_text(path, render.comparison(found))
    if open_it:
        _open(path, output)
    if format == "json":
        output.document({**_comparison_document(found), "page": str(path)})
        return
    _print_comparison(found, output)
    output.say(f"With the curves: {shown(path)}")


def _comparison_document(found: "Comparison") -> dict[str, Any]:
    return {
        "runs": [found.first.record.run_id, found.second.record.run_id],
        **{
            name: {pair.name: [pair.first, pair.second] for pair in pairs}
            for name, pairs in (("metrics", found.metrics), ("training", found.training), ("slices", found.slices))
        },
        "slices_by": found.slices_by,
        "has_other_data": found.has_other_data,
        "config": {one.key: [one.first, one.second] for one in found.config},
    }


def _print_comparison(found: "Comparison", output: Output) -> None:
    sides = (found.first.record, found.second.record)
    rows = [[side.run_id, side.state.replace("_", " "), str(side.pushed_version or "")] for side in sides]
    output.table(["run", "end", "version "], rows, whole_columns=("run", "version"))
    if found.has_other_data:
        output.say("The data changed between the runs: the metrics are of other rows.", style="yellow")
    for title, pairs in (
        ("Metrics", found.metrics),
        ("Training", found.training),
        (f"Slices by {found.slices_by}, what changed most for the worse first", found.slices[:MAX_SLICES]),
    ):
        if pairs:
            cells = [[pair.name, *map(_number, (pair.first, pair.second)), _change(pair)] for pair in pairs]
            output.table(["", "first ", "second ", "change "], cells, title=title)
    if found.config:
        differences = [[one.key, one.first, one.second] for one in found.config]
        output.table(["key", "first", "second"], differences, title="Config")
    else:
        output.say("The configs are the same.")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _change(pair: "Pair") -> str:
    if pair.difference is None:
        return ""
    word = "" if pair.is_better is None else " better" if pair.is_better else " worse"
    return f"{pair.difference:+.4g}{word}"


@app.command(rich_help_panel=_PANEL)
def track(
    config: ConfigPath,
    folder: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Where runs wait. Default: the workspace.", show_default=False),
    ] = None,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Send the runs that wait for MLflow; each run does so by itself at its end."""
    output = open_output(format)
    pipeline_config = load(config, overrides)
    output.begin("Sending")

    from kubetfx.pipeline import tracking

    sending = tracking.track(pipeline_config, folder=folder)
    output.end()
    if format == "json":
        output.document({"sent": sending.sent, "waiting": sending.waiting, "problem": sending.problem})
    for run_id, url in sending.sent.items():
        output.say(f"{run_id}: {url}")
    if sending.problem:
        if format == "json":
            raise typer.Exit(1)
        raise TrackingError(str(sending))
    if not sending.sent:
        output.say("No run waits.")


@app.command(rich_help_panel=_PANEL)
def tensorboard(
    config: ConfigPath,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "localhost",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 6006,
    overrides: Overrides = None,
) -> None:
    """Start TensorBoard on the trainings of all runs; Ctrl-C ends it."""
    output = open_output("human")
    logs = training_logs.link_logs(load(config, overrides).workspace_path)
    output.say(f"TensorBoard on {shown(logs)}")
    arguments = ["--logdir", str(logs), "--host", host, "--port", str(port)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}  # it reads files
    os.environ |= {name: os.environ.get(name, value) for name, value in quiet.items()}
    os.execv(sys.executable, [sys.executable, "-m", "tensorboard.main", *arguments])


def _as_document(record: run_record.RunRecord, config: PipelineConfig) -> dict[str, Any]:
    path = run_record.run_folder(config.workspace_path, record.run_id) / REPORT
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
