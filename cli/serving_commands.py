"""The commands around pushed models: `kubetfx predict`, `batch-predict`, `serve`, `models`, `versions`, `rollback`.

Nothing heavy is imported before a command runs.
"""

import csv
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kubetfx.cli.invocation import ConfigPath, FormatOption, Overrides, load, open_output, shown
from kubetfx.cli.output import Output
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.serving import EndpointConfig
from kubetfx.errors import KubetfxError, PushError, RequestError, UsageError
from kubetfx.redirection import logged_to
from kubetfx.storage import Location

if TYPE_CHECKING:
    from kubetfx.components.push.push_directory import PushRecord
    from kubetfx.serving.bulk import BulkResult, Progress
    from kubetfx.serving.client import GrpcClient, RestClient
    from kubetfx.serving.offline import Prediction

app = typer.Typer()
_PANEL = "Models"

METRICS_SHOWN = 3
PROGRESS_SECONDS = 10.0
"""Between two lines about a bulk prediction that nobody watches on a terminal."""
_NOWHERE = Path(os.devnull)
"""Where goes what TensorFlow says about the machine when it is imported."""

RestOption = Annotated[str | None, typer.Option(metavar="URL", help="Ask a server over REST.", show_default=False)]
GrpcOption = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Ask a server over gRPC.", show_default=False)
]


@app.command(rich_help_panel=_PANEL)
def predict(  # noqa: PLR0913, PLR0917 - the options of a command
    config: ConfigPath,
    rows: Annotated[
        Path, typer.Option(help="CSV, JSON or JSON lines with the model's columns; or images.", show_default=False)
    ],
    rest: RestOption = None,
    grpc: GrpcOption = None,
    model_version: Annotated[
        int | None, typer.Option(help="A version, instead of the newest.", show_default=False)
    ] = None,
    version_label: Annotated[
        str | None, typer.Option(help="Of a server: the version with a label.", show_default=False)
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Of a server: rows a request.")] = 256,
    timeout_seconds: Annotated[
        float, typer.Option(help="Of a server: for a request, and for it to become available.")
    ] = 30.0,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Predict with a pushed model: by itself, or by asking the server that serves it."""
    output = open_output(format)
    pipeline_config = load(config, overrides)
    if model_version is not None and version_label is not None:
        raise UsageError("--model-version and --version-label say different things. Give one of them.")
    if rest or grpc:
        with logged_to(_NOWHERE):
            from kubetfx.serving.client import ClientOptions, Target

        options = ClientOptions(batch_size, timeout_seconds, retry_seconds=timeout_seconds)
        target = Target(pipeline_config.model_name, version=model_version, label=version_label)
        output.begin("Asking the server")
        with _client(rest, grpc, options) as client:
            predictions = _ask_server(client, target, rows, pipeline_config)
    elif version_label is not None:
        raise UsageError("Labels are a server's. Received: --version-label without --rest or --grpc.")
    else:
        model_version = _pushed_version(pipeline_config, model_version, config_path=config)
        predictions = _predict_offline(pipeline_config, model_version, rows, output)
    output.end()

    from kubetfx.serving import image_requests as image_rows

    _print_predictions(predictions, pipeline_config.model_name, model_version, output, names=image_rows.names_of(rows))


@app.command(rich_help_panel=_PANEL)
def batch_predict(  # noqa: PLR0913, PLR0917 - the options of a command
    config: ConfigPath,
    input: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="DIR|CSV|PARQUET",
            help="A file with the model's columns, a folder of such files, or a folder of images.",
            show_default=False,
        ),
    ],
    output_path: Annotated[
        str, typer.Option("--output", metavar="PARQUET", help="File to write, whole or not at all.", show_default=False)
    ],
    model_version: Annotated[
        int | None, typer.Option(help="A version, instead of the newest.", show_default=False)
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(help="Columns of the input to copy to the output; once a column, or with commas."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Rows that the model is given at once. Default: 4096, of images 32.", show_default=False
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start anew, and replace an output of another input or model.")
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
    model_version = _pushed_version(pipeline_config, model_version, config_path=config)

    from kubetfx.components.push import push_directory

    output.begin("Loading the model")
    record = push_directory.read_record(pipeline_config.push_path, model_version)
    pipeline_config.workspace_path.mkdir(parents=True, exist_ok=True)
    with (
        logged_to(pipeline_config.workspace_path / "batch_predict.log"),
        version_here(pipeline_config, model_version) as saved_model,
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
            missing_values=pipeline_config.data.missing_values,
            beam_options=tuple(pipeline_config.beam.options),
            force=force,
        )
        result = bulk.predict(job, report=_BulkProgress(output))
    output.end()
    _print_bulk_result(result, output)


@app.command(rich_help_panel=_PANEL)
def serve(  # noqa: PLR0913, PLR0917 - the options of a command
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="pipeline.yaml", show_default=False)] = None,
    model_name: Annotated[str, typer.Option(help="Without a config: name that clients ask for.")] = "default",
    model_base_path: Annotated[
        Path | None, typer.Option(help="Without a config: folder of numbered versions.", show_default=False)
    ] = None,
    model_config_file: Annotated[
        Path | None, typer.Option(help="Several models: a ModelServerConfig as text.", show_default=False)
    ] = None,
    model_config_file_poll_wait_seconds: Annotated[float, typer.Option(help="0: the file is read once.")] = 0.0,
    rest_port: Annotated[int, typer.Option(help="0: any that is free.")] = 8501,
    grpc_port: Annotated[int, typer.Option(help="0: any that is free.")] = 8500,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    engine: Annotated[
        Literal["embedded", "tf-serving"], typer.Option(help="tf-serving: the real binary, or its container.")
    ] = "embedded",
    enable_batching: Annotated[bool, typer.Option(help="Compute rows of several requests at once.")] = False,
    batching_parameters_file: Annotated[
        Path | None, typer.Option(help="BatchingParameters as text, with --enable-batching.", show_default=False)
    ] = None,
    file_system_poll_wait_seconds: Annotated[float, typer.Option(help="Time between two looks for versions.")] = 1.0,
    allow_version_labels_for_unavailable_models: Annotated[
        bool, typer.Option(help="Take a label for a version that is not there yet.")
    ] = False,
    max_concurrent_requests: Annotated[int, typer.Option(min=1, help="More are refused: 429, RESOURCE_EXHAUSTED.")] = (
        1024
    ),
    num_session_threads: Annotated[int, typer.Option(min=0, help="That call graphs; 0: four for each core.")] = 0,
    max_body_bytes: Annotated[int, typer.Option(min=1, help="Of a request.")] = 128 * 2**20,
    rest_api_timeout_in_ms: Annotated[int, typer.Option(min=1, help="For one request.")] = 30_000,
    rest_api_enable_cors_support: Annotated[bool, typer.Option(help="Let web pages of other hosts ask.")] = False,
    log_requests: Annotated[bool, typer.Option(help="Log each request with its status and time.")] = False,
    overrides: Overrides = None,
) -> None:
    """Serve pushed models over TensorFlow Serving's REST and gRPC; new versions are picked up as they are pushed."""
    output = open_output("human")
    if config:
        pipeline_config = load(config, overrides)
        model_name = pipeline_config.model_name
        model_base_path = _on_this_machine(pipeline_config.push_path, context)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    output.begin("Loading the server")
    from kubetfx.serving.data_plane import DataPlaneOptions
    from kubetfx.serving.grpc_server import GrpcOptions
    from kubetfx.serving.model_config import ModelConfig
    from kubetfx.serving.rest import RestOptions
    from kubetfx.serving.server import ServerOptions, serve_with_tf_serving
    from kubetfx.serving.server import serve as serve_embedded
    from kubetfx.serving.versions import VersionOptions

    output.end()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls the SavedModel loader deprecated at each load
    options = ServerOptions(
        models=(ModelConfig(model_name, model_base_path.absolute()),) if model_base_path else (),
        model_config_file=model_config_file and model_config_file.absolute(),
        model_config_file_poll_seconds=model_config_file_poll_wait_seconds,
        host=host,
        rest_port=rest_port,
        grpc_port=grpc_port,
        enable_batching=enable_batching,
        batching_parameters_file=batching_parameters_file and batching_parameters_file.absolute(),
        versions=VersionOptions(
            poll_seconds=file_system_poll_wait_seconds,
            allow_labels_for_unavailable_versions=allow_version_labels_for_unavailable_models,
        ),
        data_plane=DataPlaneOptions(
            max_concurrent_requests=max_concurrent_requests, num_session_threads=num_session_threads
        ),
        rest=RestOptions(
            max_body_bytes=max_body_bytes,
            timeout_seconds=rest_api_timeout_in_ms / 1000,
            enable_cors=rest_api_enable_cors_support,
            log_requests=log_requests,
        ),
        grpc=GrpcOptions(max_message_bytes=max_body_bytes, log_requests=log_requests),
    )
    if engine == "tf-serving":
        raise typer.Exit(serve_with_tf_serving(options))
    serve_embedded(options)


@app.command(rich_help_panel=_PANEL)
def models(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="Only the model of a pipeline.yaml.", show_default=False)
    ] = None,
    rest: RestOption = None,
    grpc: GrpcOption = None,
    model_name: Annotated[str | None, typer.Option(help="Only this model.", show_default=False)] = None,
    format: FormatOption = "human",
) -> None:
    """Show the models of a server: versions and states."""
    output = open_output(format)
    if config:
        pipeline_config = load(config, None)
        model_name = model_name or pipeline_config.model_name
        endpoint = pipeline_config.serving.endpoint
        if endpoint and not (rest or grpc):
            rest, grpc = (endpoint.rest, None) if endpoint.rest else (None, endpoint.grpc)
    if not model_name and not rest:
        raise UsageError(
            "No gRPC call lists a server's models. Name one: --model-name NAME, or CONFIG; or give --rest URL."
        )
    with logged_to(_NOWHERE):
        from kubetfx.serving.client import ClientOptions

    with _client(rest, grpc, ClientOptions(retry_seconds=0)) as client:
        names = [model_name] if model_name else client.model_names()  # type: ignore[union-attr]
        statuses = {name: client.status(name) for name in names}
    if format == "json":
        output.document(
            {
                name: [
                    {"version": s.version, "state": s.state.name, "error": s.error.message if s.error else None}
                    for s in versions
                ]
                for name, versions in statuses.items()
            }
        )
        return
    rows = [
        [name, str(status.version), status.state.name, status.error.message if status.error else ""]
        for name, versions in statuses.items()
        for status in versions
    ]
    output.table(["model", "version ", "state", "error"], rows)


@app.command(rich_help_panel=_PANEL)
def versions(config: ConfigPath, overrides: Overrides = None, format: FormatOption = "human") -> None:
    """List what was pushed: when, with which metrics, and which version is served."""
    output = open_output(format)
    pipeline_config = load(config, overrides)

    from kubetfx.components.push import push_directory

    directory = pipeline_config.push_path
    pushed = push_directory.versions(directory)
    served = _served_versions(pipeline_config, pushed, output)
    entries = []
    for version in sorted([*pushed, *push_directory.rolled_back_versions(directory)], reverse=True):
        state = "rolled back" if version not in pushed else "unknown" if served is None else "kept"
        if served and version in served:
            state = "served"
        entries.append((version, state, push_directory.read_record(directory, version)))
    if format == "json":
        documents = [
            {**(record.model_dump() if record else {}), "version": version, "state": state}
            for version, state, record in entries
        ]
        output.document({"model_name": pipeline_config.model_name, "versions": documents})
        return
    if not entries:
        output.say(f"No model was pushed yet. Push one: kubetfx run {config}")
        return
    shown = _metrics_shown(pipeline_config, [record for _, _, record in entries if record])
    columns = ["version ", "pushed", "state", "verified", *(f"{name} " for name in shown)]
    output.table(columns, [_version_row(version, state, record, shown) for version, state, record in entries])


@app.command(rich_help_panel=_PANEL)
def rollback(
    config: ConfigPath,
    to: Annotated[
        int | None,
        typer.Option(help="The version to serve. Default: the one before what is served now.", show_default=False),
    ] = None,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Move serving back to an earlier version, or on again to one that was rolled back."""
    output = open_output(format)
    pipeline_config = load(config, overrides)

    from kubetfx.components.push import push_directory

    directory = pipeline_config.push_path
    target = _rollback_target(directory, to)
    newest = max(push_directory.versions(directory), default=None)
    if target == newest:
        raise UsageError(f"Version {target} is the newest already. See what there is: kubetfx versions {config}")
    push_directory.roll_back(directory, to=target)
    if pipeline_config.serving.endpoint:
        with logged_to(_NOWHERE):
            from kubetfx.components.push.push_verification import Verification

        output.begin("Waiting for the server")
        verification = Verification(pipeline_config.serving.endpoint, pipeline_config.model_name, directory)
        try:
            verification.wait_until_served(target)
        except KubetfxError as error:
            raise PushError(
                f"Version {target} is the newest in {directory} now, and the server has not followed: {error} "
                f"Don't roll back again; see what it does: kubetfx models {config}"
            ) from error
        output.end()
    if format == "json":
        output.document({"model_name": pipeline_config.model_name, "version": target, "rolled_back_from": newest})
        return
    is_back = "The server serves" if pipeline_config.serving.endpoint else "Servers of this directory go to"
    output.say(f"{is_back} {pipeline_config.model_name} version {target} (before: {newest}).", style="green")
    if newest:
        output.say(f"To undo it: kubetfx rollback {config} --to {newest}")


def _on_this_machine(push_directory: Location, context: typer.Context) -> Path:
    """The folder itself, or one that is kept like the bucket until the command ends."""
    if isinstance(push_directory, Path):
        return push_directory
    from kubetfx.components.push.mirror import mirrored

    return Path(context.with_resource(mirrored(push_directory)))


def _client(rest: str | None, grpc: str | None, options: Any) -> "AbstractContextManager[RestClient | GrpcClient]":
    if bool(rest) == bool(grpc):
        raise UsageError("One server is asked over one protocol. Give either --rest URL or --grpc HOST:PORT.")
    from kubetfx.serving.client import GrpcClient, RestClient

    return RestClient(rest, options) if rest else GrpcClient(grpc or "", options)


def _ask_server(
    client: "RestClient | GrpcClient", target: Any, rows: Path, config: PipelineConfig
) -> "list[Prediction]":
    from kubetfx.serving import image_requests as image_rows
    from kubetfx.serving import offline
    from kubetfx.serving.status import Code

    columns = offline.read_rows(rows, client.input_dtypes(target), missing_values=config.data.missing_values)
    asked = offline.to_client_rows(columns)
    predictions: list[Prediction] = []
    try:
        for answer in client.predict(target, asked):
            predictions.append(offline.to_prediction(answer))
    except RequestError as error:
        names = image_rows.names_of(rows)
        if names is None or error.code != Code.INVALID_ARGUMENT:
            raise
        for number in range(len(predictions), len(asked)):  # one of the request that was refused
            try:
                list(client.predict(target, [asked[number]]))
            except RequestError as refusal:
                if refusal.code != Code.INVALID_ARGUMENT:
                    raise
                raise offline.refusal(number, refusal.reason, name=names[number]) from refusal
        raise
    return predictions


def _predict_offline(config: PipelineConfig, version: int, rows: Path, output: Output) -> "list[Prediction]":
    from kubetfx.serving import offline

    output.begin("Loading the model")
    config.workspace_path.mkdir(parents=True, exist_ok=True)
    with logged_to(config.workspace_path / "predict.log"), version_here(config, version) as saved_model:
        return offline.predict(saved_model, rows, missing_values=config.data.missing_values)


@contextmanager
def version_here(config: PipelineConfig, version: int) -> Iterator[Path]:
    """The SavedModel of a version; that of a bucket is copied, and the copy goes at the end."""
    from kubetfx.components.push import push_directory

    saved_model = push_directory.version_path(config.push_path, version)
    if isinstance(saved_model, Path):
        yield saved_model
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / str(version)
        push_directory.copy_version(config.push_path, version, copy)
        yield copy


def _column_names(entry: str) -> list[str]:
    """`a,b` as two names; quotes keep a comma within one, as in CSV."""
    return [name.strip() for name in next(csv.reader([entry]), []) if name.strip()]


class _BulkProgress:
    """Rows and rows a second: in the spinner on a terminal, a line now and then elsewhere."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._told = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        rows = f"{progress.num_rows:,} of {progress.total_rows:,} rows ({progress.num_rows / progress.total_rows:.0%})"
        line = f"{rows}, {progress.rows_per_second:,.0f} rows/s"
        if self._output.update(line):
            return
        if time.monotonic() - self._told >= PROGRESS_SECONDS:
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


def _pushed_version(config: PipelineConfig, version: int | None, *, config_path: Path) -> int:
    from kubetfx.components.push import push_directory

    pushed = push_directory.versions(config.push_path)
    if not pushed:
        raise UsageError(f"No model was pushed yet. Received: {config.push_path}. Push one: kubetfx run {config_path}")
    if version is not None and version not in pushed:
        raise UsageError(f"There is no such version. Received: {version}. There are: {', '.join(map(str, pushed))}.")
    return version or pushed[-1]


def _print_predictions(
    predictions: "list[Prediction]", model_name: str, version: int | None, output: Output, *, names: list[str] | None
) -> None:
    if output.format == "json":
        documents = [{key: value for key, value in asdict(p).items() if value is not None} for p in predictions]
        if names:
            documents = [{"path": name, **document} for name, document in zip(names, documents, strict=True)]
        output.document({"model_name": model_name, "version": version, "predictions": documents})
    elif predictions[0].value is not None:
        output.table(["row ", "value "], [[str(n), f"{p.value:.6g}"] for n, p in enumerate(predictions, start=1)])
    else:
        first = names or [str(number) for number in range(1, len(predictions) + 1)]
        cells = [[name, p.label or "", f"{p.score:.4f}"] for name, p in zip(first, predictions, strict=True)]
        output.table(["image" if names else "row ", "label", "score "], cells)


def _served_versions(config: PipelineConfig, pushed: list[int], output: Output) -> set[int] | None:
    """What the server says, None if it does not answer; where none is named, the newest, which servers serve unless
    told otherwise."""
    endpoint: EndpointConfig | None = config.serving.endpoint
    if endpoint is None:
        return set(pushed[-1:])
    with logged_to(_NOWHERE):
        from kubetfx.components.push.push_verification import Verification

    try:
        return Verification(endpoint, config.model_name, config.push_path).available()
    except RequestError as error:
        output.say(f"What is served is not known: {error}", style="yellow")
        return None


def _metrics_shown(config: PipelineConfig, records: "list[PushRecord]") -> list[str]:
    names = dict.fromkeys([*config.evaluation.thresholds, *(name for r in records for name in r.metrics)])
    return [name for name in names if name != "example_count"][:METRICS_SHOWN]


def _version_row(version: int, state: str, record: "PushRecord | None", metrics: list[str]) -> list[str]:
    if record is None:
        return [str(version), "not by kubetfx", state, "", *("" for _ in metrics)]
    values = [f"{record.metrics[name]:.4g}" if name in record.metrics else "" for name in metrics]
    return [str(version), record.pushed_at, state, record.verified_at or "", *values]


def _rollback_target(directory: Location, to: int | None) -> int:
    from kubetfx.components.push import push_directory

    pushed = push_directory.versions(directory)
    rolled_back = push_directory.rolled_back_versions(directory)
    if to is not None:
        if to not in pushed and to not in rolled_back:
            there = ", ".join(map(str, [*pushed, *rolled_back])) or "none"
            raise UsageError(f"There is no such version in {directory}. Received: {to}. There are: {there}.")
        return to
    if len(pushed) < 2:
        there = ", ".join(map(str, pushed)) or "no version"
        raise UsageError(f"There is no version to go back to in {directory}. Received: {there}.")
    record = push_directory.read_record(directory, pushed[-1])
    replaced = record.replaced_version if record else None
    return replaced if replaced in pushed else pushed[-2]
