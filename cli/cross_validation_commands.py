"""The command `cross-validate`, which measures how much scores vary.

Nothing heavy is imported before it runs.
"""

from typing import TYPE_CHECKING, Any

import typer

from kubetfx.artifacts import OUT_OF_FOLD
from kubetfx.cli.invocation import ConfigPath, FormatOption, Overrides, command_line, load, open_output, shown
from kubetfx.cli.output import Output
from kubetfx.config.metric_catalogue import label_of

if TYPE_CHECKING:
    from kubetfx.components.evaluation.cross_validated import CrossValidated, Spread

app = typer.Typer()

_DEFAULT = "evaluation.cross_validation.folds=5"


@app.command("cross-validate", rich_help_panel="Runs and reports")
def cross_validate(config: ConfigPath, overrides: Overrides = None, format: FormatOption = "human") -> None:
    """Train and evaluate on folds of the whole table, and print how far the scores spread. Nothing is pushed."""
    output = open_output(format)
    pipeline_config = load(config, overrides)
    if pipeline_config.evaluation.cross_validation is None:
        pipeline_config = load(config, [*(overrides or ()), _DEFAULT])
    output.say(f"{pipeline_config.name}: {config} in {shown(pipeline_config.workspace_path)}")

    from kubetfx.pipeline import running

    result = running.run(pipeline_config, until="CrossValidation", progress=output, command=command_line())
    folder, found = result.cross_validation_path, result.cross_validation
    assert folder is not None  # the pipeline has the node, or the run has failed
    assert found is not None
    if format == "json":
        output.document(
            {
                "run": result.run_id,
                "rule": found.rule,
                "metrics": {name: vars(spread) for name, spread in found.metrics.items()},
                "folds": [vars(one) for one in found.folds],
                "notes": found.notes,
                "predictions": str(folder / OUT_OF_FOLD),
                "report": str(result.report_path) if result.report_path else None,
            }
        )
        return
    _print(found, output)
    output.say(f"Predictions for all rows: {shown(folder / OUT_OF_FOLD)}")
    if result.report_path:
        output.say(f"Report: {shown(result.report_path)}")


def _print(found: "CrossValidated", output: Output) -> None:
    for note in found.notes:
        output.say(note, style="yellow")
    output.say(f"{found.rule}.")
    rows = [_row(name, spread) for name, spread in found.metrics.items()]
    output.table(
        ["metric", "mean", "deviation", "95 % interval", "lowest", "highest"],
        [[*row, *_ends(found, name)] for row, name in zip(rows, found.metrics, strict=True)],
    )


def _row(name: str, spread: "Spread") -> list[Any]:
    from kubetfx.components.evaluation.evaluation_result import format_metric

    deviation = "" if spread.deviation is None else format_metric(spread.deviation)
    between = ""
    if spread.lower is not None and spread.upper is not None:
        between = f"{format_metric(spread.lower)} to {format_metric(spread.upper)}"
    return [label_of(name), format_metric(spread.mean), deviation, between]


def _ends(found: "CrossValidated", name: str) -> list[str]:
    from kubetfx.components.evaluation.evaluation_result import format_metric

    values = [one.metrics[name] for one in found.folds if name in one.metrics]
    return [format_metric(min(values)), format_metric(max(values))]
