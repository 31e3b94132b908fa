"""`kubetfx tune`.

Nothing heavy is imported before the command runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubetfx.cli.invocation import ConfigPath, FormatOption, Overrides, command_line, load, open_output, quoted, shown
from kubetfx.cli.output import Output
from kubetfx.config.yaml_text import in_one_line
from kubetfx.pipeline.interruption import interrupt_once

if TYPE_CHECKING:
    from kubetfx.components.tuning.tuning_results import TuningResults
    from kubetfx.config.pipeline import PipelineConfig

app = typer.Typer()


@app.command()
def tune(
    config: ConfigPath,
    overrides: Overrides = None,
    write: Annotated[
        bool, typer.Option("--write", help="Put the best values into the file; its comments stay.")
    ] = False,
    katib_manifest: Annotated[
        Path | None,
        typer.Option(
            "--katib-manifest",
            help="Write a Katib Experiment of the search here, and search nothing.",
            show_default=False,
        ),
    ] = None,
    format: FormatOption = "human",
) -> None:
    """Search for better settings, which the validation split judges. After a kill the same command goes on."""
    output = open_output(format)

    from kubetfx.pipeline import tuning_run

    pipeline_config = tuning_run.with_tuning(load(config, overrides))
    if katib_manifest is not None:
        from kubetfx.kubeflow.katib import write_experiment

        write_experiment(pipeline_config, katib_manifest)
        if format == "json":
            output.document({"manifest": str(katib_manifest)})
        output.say(f"Wrote {shown(katib_manifest)}. Next: kubectl apply --filename {quoted(katib_manifest)}")
        return
    output.say(f"{pipeline_config.name}: {config} in {shown(pipeline_config.workspace_path)}")
    interrupt_once()
    try:
        found = tuning_run.tune(pipeline_config, progress=output, command=command_line())
    except KeyboardInterrupt:
        output.end()
        so_far = tuning_run.results_so_far(pipeline_config)
        if so_far is not None:
            _show(so_far, pipeline_config, output, path=config, write=write, report=None)
        raise
    _show(found.results, pipeline_config, output, path=config, write=write, report=found.run.report_path)


def _show(
    results: "TuningResults",
    config: "PipelineConfig",
    output: Output,
    *,
    path: Path,
    write: bool,
    report: Path | None,
) -> None:
    if write:
        from kubetfx.config.yaml_edit import write_values

        write_values(path, results.best_settings)
    if output.format == "json":
        document = results.model_dump(mode="json")
        output.document({**document, "written": write, "report": str(report) if report else None})
        return
    _print(results, config, output)
    if write:
        output.say(f"Wrote the best values into {shown(path)}. Next: kubetfx run {quoted(path)}")
    elif report:
        again = "kubetfx tune " + quoted(path)
        output.say(f"To put them into the file: {again} --write, with the same options; it searches no further.")
    if report:
        output.say(f"Report: {shown(report)}")


def _print(results: "TuningResults", config: "PipelineConfig", output: Output) -> None:
    from kubetfx.components.evaluation.evaluation_result import format_metric

    best, own = results.best_trial, results.default_trial
    assert best is not None
    assert best.value is not None
    counts = {state: results.count(state) for state in ("pruned", "failed")}
    ended = "".join(f", {number} {state}" for state, number in counts.items() if number)
    than = f", and {format_metric(own.value)} with the settings of the file" if own and own.value is not None else ""
    output.say(
        f"{results.metric} on the validation rows: {format_metric(best.value)} at best{than}. "
        f"{len(results.trials)} {'trial' if len(results.trials) == 1 else 'trials'}{ended}."
    )
    if not best.settings:
        output.say("The settings of the file are the best.")
    for reason in dict.fromkeys(one.error for one in results.trials if one.error):
        output.say(f"A trial failed: {reason}", style="yellow")
    columns = ["setting", "file", "best", "importance "][: 4 if results.importance else 3]
    rows = [
        [key, _shown_value(_value_of(config, key)), _shown_value(value), _share(results.importance.get(key))]
        for key, value in results.best_settings.items()
    ]
    output.table(columns, [row[: len(columns)] for row in rows])


def _value_of(config: "PipelineConfig", dotted: str) -> Any:
    from kubetfx.config.dotted_keys import keys_of

    value: Any = config
    for key in keys_of(dotted):
        value = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
    return list(value) if isinstance(value, tuple) else value


def _shown_value(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else in_one_line(value)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
