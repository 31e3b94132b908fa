"""`kubetfx predict` and `kubetfx batch-predict`: predictions of a pushed model.

Nothing heavy is imported before a command runs.
"""

import csv
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubetfx.artifacts import IMAGE_PATH
from kubetfx.cli.invocation import ConfigPath, FormatOption, Overrides, load, naming_options, open_output, quoted, shown
from kubetfx.cli.output import Output
from kubetfx.cli.serve_commands import NOWHERE, GrpcOption, RestOption
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import RequestError, UsageError
from kubetfx.redirection import logged_to

if TYPE_CHECKING:
    from kubetfx.serving.bulk import BulkResult, Progress

app = typer.Typer()
_PANEL = "Models"

_PROGRESS_SECONDS = 10.0
"""Time between two lines about a bulk prediction, where the output is not a terminal."""
_ARGUMENTS = {
    "input": "--input",
    "output": "--output",
    "columns": "--columns",
    "force=True": "--force",
    "rest": "--rest",
    "grpc": "--grpc",
    "version": "--model-version",
    "label": "--version-label",
}


@app.command(rich_help_panel=_PANEL)
def predict(  # noqa: PLR0913, PLR0917 - the options of a command
    config: ConfigPath,
    rows: Annotated[
        str,
        typer.Option(
            metavar="PATH|URL",
            help="A table's file, folder or URL, or JSON, with the model's columns; or images.",
            show_default=False,
        ),
    ],
    rest: RestOption = None,
    grpc: GrpcOption = None,
    model_version: Annotated[
        int | None, typer.Option(help="A version, instead of the newest.", show_default=False)
    ] = None,
    version_label: Annotated[
        str | None, typer.Option(help="With a server: the label of the version.", show_default=False)
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="With a server: rows per request.")] = 256,
    timeout_seconds: Annotated[
        float, typer.Option(help="With a server: seconds for a request, and for it to become available.")
    ] = 30.0,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Predict with a pushed model, in this process or on a server."""
    output = open_output(format)
    pipeline_config = load(config, overrides)
    if rest or grpc:
        from kubetfx.serving.remote_model import Client

        output.begin("Asking the server")
        with _saying_how_to_serve(config), naming_options(_ARGUMENTS):
            with logged_to(NOWHERE):
                client = Client(
                    pipeline_config.model_name,
                    rest=rest,
                    grpc=grpc,
                    version=model_version,
                    label=version_label,
                    batch_size=batch_size,
                    timeout_seconds=timeout_seconds,
                )
            with client:
                predictions = client.predict(rows, csv=pipeline_config.data.csv_options).to_pylist()
    elif version_label is not None:
        raise UsageError("--version-label needs a server. Received: neither --rest nor --grpc. Give one of them.")
    else:
        from kubetfx.pipeline.pushed_models import pushed_version

        model_version = pushed_version(
            pipeline_config.push_path, model_version, how_to_push=f"kubetfx run {quoted(config)}"
        )
        predictions = _predict_here(pipeline_config, model_version, rows, output)
    output.end()
    _print_predictions(predictions, pipeline_config.model_name, model_version, output)


@contextmanager
def _saying_how_to_serve(config: Path) -> Iterator[None]:
    """Say what to do where no server listens."""
    try:
        yield
    except RequestError as error:
        if not error.is_answer:
            error.args = (f"{error}. If no server runs there, start one: kubetfx serve {quoted(config)}",)
        raise


@app.command(rich_help_panel=_PANEL)
def batch_predict(  # noqa: PLR0913, PLR0917 - the options of a command
    config: ConfigPath,
    input: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="PATH|URL",
            help="A table's file with the model's columns, a folder or a URL of such; or a folder of images.",
            show_default=False,
        ),
    ],
    output_path: Annotated[
        str, typer.Option("--output", metavar="PARQUET", help="File to write, atomically.", show_default=False)
    ],
    model_version: Annotated[
        int | None, typer.Option(help="A version, instead of the newest.", show_default=False)
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(help="Columns of the input to copy to the output; once per column, or with commas."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Rows per batch. Default: 4096; for images 32.", show_default=False),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start again, and replace an output of another input or model.")
    ] = False,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Predict a whole table or folder of images with a pushed model, on Beam (section `beam`).

    Finished blocks are kept beside the output: the same command after a break does only the rest. Rows that cannot be
    predicted are in OUTPUT.errors.parquet, with their reasons.
    """
    output = open_output(format)
    pipeline_config = load(config, overrides)

    from kubetfx.components.push import push_directory
    from kubetfx.pipeline.pushed_models import pushed_version

    model_version = pushed_version(
        pipeline_config.push_path, model_version, how_to_push=f"kubetfx run {quoted(config)}"
    )

    output.begin("Loading the model")
    record = push_directory.read_record(pipeline_config.push_path, model_version)
    pipeline_config.workspace_path.mkdir(parents=True, exist_ok=True)
    with (
        logged_to(pipeline_config.workspace_path / "batch_predict.log"),
        push_directory.version_here(pipeline_config.push_path, model_version) as saved_model,
    ):
        from kubetfx.serving import bulk

        job = bulk.BulkJob(
            saved_model=saved_model,
            model_name=pipeline_config.model_name,
            model_version=model_version,
            model_digest=record.model_digest if record else push_directory.model_digest(saved_model),
            input=input,
            output=Path(output_path),
            columns=tuple(dict.fromkeys(name for entry in columns or () for name in _column_names(entry))),
            batch_size=batch_size,
            csv=pipeline_config.data.csv_options,
            beam_options=tuple(pipeline_config.beam.command_line),
            beam_timeout=pipeline_config.beam.timeout,
            force=force,
        )
        with naming_options(_ARGUMENTS):
            result = bulk.predict(job, report=_BulkProgress(output))
    output.end()
    _print_bulk_result(result, output)


def _predict_here(config: PipelineConfig, version: int, rows: str, output: Output) -> list[dict[str, Any]]:
    from kubetfx.components.push.push_directory import version_here
    from kubetfx.serving.model import Model, to_prediction

    output.begin("Loading the model")
    config.workspace_path.mkdir(parents=True, exist_ok=True)
    with (
        logged_to(config.workspace_path / "predict.log"),
        version_here(config.push_path, version) as saved_model,
        Model.load(saved_model) as model,
    ):
        answers = model.predict(rows, csv=config.data.csv_options).to_pylist()
    return [{key: answer[key] for key in (IMAGE_PATH,) if key in answer} | to_prediction(answer) for answer in answers]


def _column_names(entry: str) -> list[str]:
    """Return the two names of `a,b`; quotes keep a comma within one, as in CSV."""
    return [name.strip() for name in next(csv.reader([entry]), []) if name.strip()]


class _BulkProgress:
    """Rows and rows per second: in the spinner on a terminal, a line now and then elsewhere."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._told = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        rows = f"{progress.num_rows:,} of {progress.total_rows:,} rows ({progress.num_rows / progress.total_rows:.0%})"
        line = f"{rows}, {progress.rows_per_second:,.0f} rows/s"
        if self._output.update(line):
            return
        if time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self._told = time.monotonic()
            self._output.say(line)


def _print_bulk_result(result: "BulkResult", output: Output) -> None:
    num_predictions = result.num_rows - result.num_errors
    rate = (result.num_rows - result.num_rows_before) / result.seconds if result.seconds else None
    if output.format == "json":
        output.document(
            {
                "output": str(result.path),
                "errors_output": str(result.errors_path) if result.errors_path else None,
                "rows": result.num_rows,
                "predictions": num_predictions,
                "errors": result.num_errors,
                "rows_of_an_earlier_run": result.num_rows_before,
                "seconds": result.seconds,
                "rows_per_second": rate,
                "workers": result.workers,
            }
        )
        return
    if rate is None:
        output.say("It is all there: the output is of this very input and model.")
    elif result.num_rows_before:
        output.say(f"{result.num_rows_before:,} rows were finished by an earlier run.")
    speed = f", {rate:,.0f} rows/s" if rate is not None else ""
    speed += f" in {result.workers}" if result.workers else ""
    output.say(f"{result.num_rows:,} rows: {num_predictions:,} predictions, {result.num_errors:,} errors{speed}")
    if result.errors_path:
        output.say(f"Rows without a prediction, and why: {shown(result.errors_path)}", style="yellow")
    output.text(shown(result.path))


def _print_predictions(predictions: list[dict[str, Any]], model_name: str, version: int | None, output: Output) -> None:
    if output.format == "json":
        output.document({"model_name": model_name, "version": version, "predictions": predictions})
        return
    is_image = IMAGE_PATH in predictions[0]
    names = [prediction.get(IMAGE_PATH, str(number)) for number, prediction in enumerate(predictions, start=1)]
    first = "image" if is_image else "row "
    if "value" in predictions[0]:
        cells = [[name, f"{p['value']:.6g}"] for name, p in zip(names, predictions, strict=True)]
        output.table([first, "value "], cells)
    else:
        cells = [[name, p["label"], f"{p['score']:.4f}"] for name, p in zip(names, predictions, strict=True)]
        output.table([first, "label", "score "], cells)
