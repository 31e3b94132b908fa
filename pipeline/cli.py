"""The `kubetfx` command: parses, calls one function, prints through pipeline/output.py."""

import os
import shlex
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline.config import PipelineConfig, load_config
from pipeline.errors import KubetfxError, NodeFailedError, NotBlessedError, UsageError
from pipeline.output import Format, Output

if TYPE_CHECKING:
    from components.evaluator import EvaluationResult
    from pipeline.local_runner import RunResult

MAX_SLICES = 10
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="From a table to a served model: one YAML file, every TFX component.",
    epilog="Exit codes: 0 pushed, or nothing new to push; 1 failure; 2 usage, config or data; 3 stopped by anomalies "
    "of the data; 4 not blessed.",
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="pipeline.yaml", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Put a value over the file's, for example training.epochs=3."),
]
FormatOption = Annotated[Format, typer.Option("--format", help="json: one document on stdout, and nothing else.")]


@app.command()
def run(config: ConfigPath, overrides: Overrides = None, format: FormatOption = "human") -> None:
    """Run the pipeline on this machine; nodes whose inputs did not change are taken from the cache."""
    output = _open_output(format)
    pipeline_config = _load(config, overrides)
    output.say(f"{pipeline_config.name}: {config} in {_shown(pipeline_config.workspace_path)}")

    from pipeline import preflight
    from pipeline.local_runner import LocalRunner

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt_once)
    output.begin("Checking the data")
    profile = preflight.check(pipeline_config)
    output.end()
    output.say(f"Data: {profile.num_rows:,} rows, {len(profile.columns)} columns")
    result = LocalRunner(pipeline_config, output).run()
    if result.pushed_version is None:
        if format == "human":
            _print_metrics(result, output)
        raise NotBlessedError(
            "The model was not pushed, because it missed a threshold:\n"
            + "\n".join(f"  {failure}" for failure in result.evaluation.failures),
            run=_as_document(result, pipeline_config),
        )
    _print_result(result, pipeline_config, output, config_path=config)


@app.command()
def predict(
    config: ConfigPath,
    rows: Annotated[Path, typer.Option(help="CSV, JSON or JSON lines with the model's columns.", show_default=False)],
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Predict with the newest pushed model, without a server."""
    output = _open_output(format)
    pipeline_config = _load(config, overrides)

    from components import push_directory
    from pipeline.local_runner import logged_to
    from serving import offline

    versions = push_directory.versions(pipeline_config.push_path)
    if not versions:
        raise UsageError(
            f"No model was pushed yet. Received: {pipeline_config.push_path}. Push one: kubetfx run {config}"
        )
    saved_model = push_directory.version_path(pipeline_config.push_path, versions[-1])
    output.begin("Loading the model")
    pipeline_config.workspace_path.mkdir(parents=True, exist_ok=True)
    with logged_to(pipeline_config.workspace_path / "predict.log"):
        predictions = offline.predict(saved_model, rows, missing_values=pipeline_config.data.missing_values)
    output.end()
    if format == "json":
        output.document(
            {
                "model_name": pipeline_config.model_name,
                "version": versions[-1],
                "predictions": [
                    {key: value for key, value in asdict(prediction).items() if value is not None}
                    for prediction in predictions
                ],
            }
        )
    elif predictions[0].value is not None:
        rows_of_table = [[str(number), f"{p.value:.6g}"] for number, p in enumerate(predictions, start=1)]
        output.table(["row ", "value "], rows_of_table)
    else:
        rows_of_table = [[str(n), p.label or "", f"{p.score:.4f}"] for n, p in enumerate(predictions, start=1)]
        output.table(["row ", "label", "score "], rows_of_table)


@app.command()
def init(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A CSV or Parquet file, a folder of them, or a glob.")],
    label: Annotated[str, typer.Option(help="The column to predict.", show_default=False)],
    output_path: Annotated[Path, typer.Option("--output", help="File to write.")] = Path("pipeline.yaml"),
    format: FormatOption = "human",
) -> None:
    """Look at a table, and write a commented pipeline.yaml for it."""
    output = _open_output(format)

    from pipeline import scaffold

    scaffold.write_config(data, label=label, path=output_path)
    if format == "json":
        output.document({"config": str(output_path)})
    output.say(f"Wrote {output_path}. Next: kubetfx run {output_path}")


@app.command()
def serve(  # noqa: PLR0913, PLR0917 - the options of a command
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="pipeline.yaml", show_default=False)] = None,
    model_name: Annotated[str, typer.Option(help="Without a config: name that clients ask for.")] = "default",
    model_base_path: Annotated[
        Path | None, typer.Option(help="Without a config: folder of numbered versions.", show_default=False)
    ] = None,
    model_config_file: Annotated[
        Path | None, typer.Option(help="Several models: a ModelServerConfig as text.", show_default=False)
    ] = None,
    rest_port: Annotated[int, typer.Option(help="0: any that is free.")] = 8501,
    grpc_port: Annotated[int, typer.Option(help="0: any that is free.")] = 8500,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    engine: Annotated[
        Literal["embedded", "tf-serving"], typer.Option(help="tf-serving: the real binary, or its container.")
    ] = "embedded",
    enable_batching: Annotated[bool, typer.Option(help="Compute rows of several requests at once.")] = False,
    overrides: Overrides = None,
) -> None:
    """Serve pushed models over TensorFlow Serving's REST and gRPC; new versions are picked up as they are pushed."""
    output = _open_output("human")
    if config:
        pipeline_config = _load(config, overrides)
        model_name, model_base_path = pipeline_config.model_name, pipeline_config.push_path
    import logging

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    output.begin("Loading the server")
    from serving.model_config import ModelConfig
    from serving.server import ServerOptions, serve_with_tf_serving
    from serving.server import serve as serve_embedded

    output.end()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    options = ServerOptions(
        models=(ModelConfig(model_name, model_base_path.absolute()),) if model_base_path else (),
        model_config_file=model_config_file,
        host=host,
        rest_port=rest_port,
        grpc_port=grpc_port,
        enable_batching=enable_batching,
    )
    if engine == "tf-serving":
        raise typer.Exit(serve_with_tf_serving(options))
    serve_embedded(options)


@app.command()
def schema() -> None:
    """Print the JSON schema of pipeline.yaml, for editors."""
    Output("json").document(PipelineConfig.model_json_schema())


def main() -> None:
    """The console script: runs a command and ends with its exit code."""
    try:
        app()
    except KubetfxError as error:
        _output.error(_explain(error), exit_code=error.exit_code, details=_details(error))
        sys.exit(error.exit_code)
    except Exception as error:  # not foreseen: it is ours to mend, and the user needs the traceback to report it
        message = f"{type(error).__name__}: {error}. This is a fault of kubetfx; please report it with this traceback."
        _output.error(f"{message}\n{traceback.format_exc()}", exit_code=1, details={"type": type(error).__name__})
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            message = "Interrupted. What was finished is kept; the same command goes on from there."
            _output.error(message, exit_code=INTERRUPTED)
        raise


_output = Output("human")
"""The running command's output, for the error that ends it."""


def _open_output(format: Format) -> Output:
    global _output  # noqa: PLW0603
    _output = Output(format, stderr=os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace"))
    return _output


def _interrupt_once(number: int, frame: object) -> None:
    """Ctrl-C, or a request to terminate: the running node is cleaned up. A second one ends the process at once."""
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_DFL)
    raise KeyboardInterrupt


def _load(path: Path, overrides: list[str] | None) -> PipelineConfig:
    config = load_config(path, overrides=overrides or ())
    if config.model.module:
        sys.path.append(str(path.resolve().parent))
    return config


def _explain(error: KubetfxError) -> str:
    if not isinstance(error, NodeFailedError):
        return str(error)
    again = shlex.join(["kubetfx", *sys.argv[1:]])
    return f"{error}\n  Its log: {_shown(error.log_path)}\n  To go on from there: {again}"


def _details(error: KubetfxError) -> dict[str, Any]:
    details: dict[str, Any] = {"type": type(error).__name__}
    if isinstance(error, NodeFailedError):
        details |= {"node": error.node_id, "log": str(error.log_path)}
    if isinstance(error, NotBlessedError):
        details["run"] = error.run
    return details


def _print_result(result: "RunResult", config: PipelineConfig, output: Output, *, config_path: Path) -> None:
    if output.format == "json":
        output.document(_as_document(result, config))
        return
    _print_metrics(result, output)
    if not result.changed:
        output.say("Nothing changed: every node was taken from the cache.")
    if result.pushed_version is not None:
        verb = "Pushed" if result.is_new_version else "Still served:"
        output.say(
            f"{verb} {config.model_name} version {result.pushed_version} in {_shown(config.push_path)}", style="green"
        )
        output.say(f"Next: kubetfx predict {config_path} --rows ROWS.csv; kubetfx serve {config_path}")


def _print_metrics(result: "RunResult", output: Output) -> None:
    for column, reason in result.excluded_columns.items():
        output.say(f"Not used as a feature: {column}, {reason}")
    for warning in result.warnings:
        output.say(f"Anomaly: {warning}", style="yellow")
    if result.evaluation.not_compared_because:
        reason = result.evaluation.not_compared_because
        output.say(f"Not compared with what is served: {reason}.", style="yellow")
    output.table(["metric", "value ", "served ", "threshold", ""], _metric_rows(result.evaluation))
    if result.evaluation.slices:
        _print_slices(result.evaluation, output)


def _metric_rows(evaluation: "EvaluationResult") -> list[list[str]]:
    from components.evaluator import format_metric

    rows = []
    for name, value in evaluation.metrics.items():
        served = evaluation.baseline_metrics.get(name)
        checks = [check for check in evaluation.checks if check.metric == name]
        bounds = "; ".join(check.describe_bound() for check in checks)
        verdict = "" if not checks else "ok" if all(check.passed for check in checks) else "MISSED"
        rows.append([name, format_metric(value), "" if served is None else format_metric(served), bounds, verdict])
    return rows


def _print_slices(evaluation: "EvaluationResult", output: Output) -> None:
    """The slices by the first metric, the weakest first."""
    from components.evaluator import format_metric, weakest_slices

    metric, slices = weakest_slices(evaluation)
    shown = slices[:MAX_SLICES]
    rows = [[name, format_metric(values["example_count"]), format_metric(values[metric])] for name, values in shown]
    title = (
        f"Slices, the weakest {len(shown)} of {len(slices)}"
        if len(shown) < len(slices)
        else "Slices, the weakest first"
    )
    output.table(["slice", "rows ", f"{metric} "], rows, title=title)


def _as_document(result: "RunResult", config: PipelineConfig) -> dict[str, Any]:
    return {
        "name": config.name,
        "run_id": result.run_id,
        "changed": result.changed,
        "nodes": [
            {"id": node.node_id, "state": node.state, "seconds": round(node.seconds, 3), "log": str(node.log_path)}
            for node in result.nodes
        ],
        "metrics": result.evaluation.metrics,
        "served_metrics": result.evaluation.baseline_metrics,
        "slices": result.evaluation.slices,
        "checks": [asdict(check) for check in result.evaluation.checks],
        "excluded_columns": result.excluded_columns,
        "warnings": result.warnings,
        "not_compared_because": result.evaluation.not_compared_because,
        "blessed": result.evaluation.is_blessed,
        "pushed_version": result.pushed_version,
        "is_new_version": result.is_new_version,
        "push_directory": str(config.push_path),
    }


def _shown(path: Path) -> str:
    """Relative to where the user is, when that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
