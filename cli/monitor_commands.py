"""`kubetfx monitor`: compares a log of requests with the version that answered them.

Nothing heavy is imported before a command runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kubetfx.cli.invocation import ConfigPath, FormatOption, Overrides, load, naming_options, open_output, shown
from kubetfx.cli.output import Output
from kubetfx.errors import AnomaliesError

if TYPE_CHECKING:
    from kubetfx.components.monitoring.findings import ColumnFinding
    from kubetfx.pipeline.monitoring import MonitorResult

app = typer.Typer()
_PANEL = "Models"
_MAX_COLUMNS = 20
_ARGUMENTS = {"requests": "--requests", "labels": "--labels", "key": "--key"}


@app.command(rich_help_panel=_PANEL)
def monitor(
    config: ConfigPath,
    requests: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="The log. Default: monitoring.requests of the config.", show_default=False),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(help="Default: the one that most of the newest requests were answered by.", show_default=False),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labels that have arrived since.", show_default=False)
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Joins labels and requests; may be given several times."),
    ] = None,
    output_folder: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Folder of page and metrics. Default: in the workspace."),
    ] = None,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Compare logged requests with the training rows; exit code 3 if a bound of `monitoring` is exceeded."""
    output = open_output(format)
    pipeline_config = load(config, overrides)
    output.begin("Reading the requests")

    from kubetfx.pipeline.monitoring import monitor as look

    with naming_options(_ARGUMENTS):
        found = look(
            pipeline_config, requests, version=version, labels=labels, key=tuple(key or ()), folder=output_folder
        )
    output.end()
    if format == "json":
        output.document(found.document)
    else:
        _print(found, output)
    if found.crossed:
        raise typer.Exit(AnomaliesError.exit_code)


def _print(found: "MonitorResult", output: Output) -> None:
    output.say(f"Version {found.version}: {found.rows:,} rows, from {found.since} to {found.until}")
    ranked = sorted(found.findings.columns, key=lambda one: (not one.crossed, -(one.skew.value if one.skew else 0)))
    rows = [_row(one) for one in ranked[:_MAX_COLUMNS]]
    output.table(["column", "skew ", "drift ", "missing ", "unseen ", ""], rows)
    if len(ranked) > _MAX_COLUMNS:
        output.say(f"and {len(ranked) - _MAX_COLUMNS} more columns, which are nearer")
    answers = found.findings.answers
    if answers is not None:
        far = ["" if one is None else f"{one.value:.3g}" for one in (answers.skew, answers.drift)]
        output.say(f"Answers: {far[0] or 'not known'} from the evaluation split, {far[1] or 'not known'} over time")
    if (quality := found.findings.quality) is not None:
        cells = [
            [
                one.name,
                f"{one.value:.4g}",
                f"{one.interval.lower:.4g} – {one.interval.upper:.4g}" if one.interval else "",
                "" if one.pushed is None else f"{one.pushed:.4g}",
            ]
            for one in quality.overall
        ]
        title = f"Quality of {quality.rows:,} rows"
        output.table(["metric", "served ", "95 % interval ", "when pushed "], cells, title=title)
    for note in found.notes:
        output.say(note, style="yellow")
    for crossing in found.crossed:
        output.say(f"Crossed: {crossing}.", style="red")
    output.say(f"Page: {shown(found.page)}")
    output.say(f"Metrics: {shown(found.metrics)}")


def _row(one: "ColumnFinding") -> list[str]:
    distances = ["" if d is None else f"{d.value:.3g} / {d.threshold:g}" for d in (one.skew, one.drift)]
    unseen = "" if one.unseen is None else f"{one.unseen:.1%}"
    return [one.name, *distances, f"{one.missing:.1%}", unseen, ", ".join(one.crossed).upper() or "ok"]
