"""`kubetfx serve` and `kubetfx models`: a server of pushed models, and what it serves.

Nothing heavy is imported before a command runs.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kubetfx.cli.invocation import FormatOption, Overrides, load, naming_options, open_output
from kubetfx.errors import UsageError
from kubetfx.redirection import logged_to
from kubetfx.storage import Location, locate

if TYPE_CHECKING:
    from kubetfx.serving.request_log import RequestLogOptions

app = typer.Typer()
_PANEL = "Models"

MISSING_IN_REQUESTS = 'In a request a missing number is NaN, a missing text "", and every column is there.'
"""TensorFlow Serving refuses null, and keys that are left out."""
_MAX_NAMES = 5
"""Names of a signature's inputs or outputs that a table has room for."""
NOWHERE = Path(os.devnull)
"""Captures the lines about the machine that TensorFlow prints when it is imported."""
_ARGUMENTS = {
    "models": "--model-name and --model-base-path",
    "model_config_file": "--model-config-file",
    "batching_parameters_file": "--batching-parameters-file",
    "enable_batching=True": "--enable-batching",
    "allow_labels_for_unavailable_versions=True": "--allow-version-labels-for-unavailable-models",
    "rest": "--rest",
    "grpc": "--grpc",
    "rest_port": "--rest-port",
    "grpc_port": "--grpc-port",
    "request_log.folder": "--log-requests",
    "sampling_rate": "--sample",
}

RestOption = Annotated[str | None, typer.Option(metavar="URL", help="Ask a server over REST.", show_default=False)]
GrpcOption = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Ask a server over gRPC.", show_default=False)
]


@app.command(rich_help_panel=_PANEL)
def serve(  # noqa: PLR0913, PLR0917 - the options of a command
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="pipeline.yaml", show_default=False)] = None,
    model_name: Annotated[str, typer.Option(help="Without a config: name of the model for clients.")] = "default",
    model_base_path: Annotated[
        Path | None, typer.Option(help="Without a config: folder of numbered versions.", show_default=False)
    ] = None,
    model_config_file: Annotated[
        Path | None, typer.Option(help="Several models: a ModelServerConfig as text.", show_default=False)
    ] = None,
    model_config_file_poll_wait_seconds: Annotated[
        float, typer.Option(help="Seconds between two reads; 0: it is read once.")
    ] = 0.0,
    rest_port: Annotated[int, typer.Option(help="Port of REST; 0: any that is free.")] = 8501,
    grpc_port: Annotated[int, typer.Option(help="Port of gRPC; 0: any that is free.")] = 8500,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    engine: Annotated[
        Literal["embedded", "tf-serving"], typer.Option(help="tf-serving: the real binary, or its container.")
    ] = "embedded",
    enable_batching: Annotated[
        bool, typer.Option("--enable-batching", help="Compute rows of several requests at once.")
    ] = False,
    batching_parameters_file: Annotated[
        Path | None, typer.Option(help="BatchingParameters as text, with --enable-batching.", show_default=False)
    ] = None,
    file_system_poll_wait_seconds: Annotated[float, typer.Option(help="Seconds between two looks for versions.")] = 1.0,
    allow_version_labels_for_unavailable_models: Annotated[
        bool,
        typer.Option(
            "--allow-version-labels-for-unavailable-models", help="Take a label for a version that is not there yet."
        ),
    ] = False,
    max_concurrent_requests: Annotated[
        int, typer.Option(min=1, help="Requests at a time; more are refused: 429, RESOURCE_EXHAUSTED.")
    ] = 1024,
    num_session_threads: Annotated[
        int, typer.Option(min=0, help="Threads that call graphs; 0: four for each core.")
    ] = 0,
    max_body_bytes: Annotated[int, typer.Option(min=1, help="Maximum number of bytes in a request.")] = 128 * 2**20,
    rest_api_timeout_in_ms: Annotated[int, typer.Option(min=1, help="Milliseconds to answer a request in.")] = 30_000,
    rest_api_enable_cors_support: Annotated[
        bool, typer.Option("--rest-api-enable-cors-support", help="Let web pages of other hosts ask.")
    ] = False,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Log each request with its status and time.")
    ] = False,
    log_requests: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Write sampled requests with their answers there.", show_default=False),
    ] = None,
    sample: Annotated[
        float | None, typer.Option(help="Share of the requests, with --log-requests.", show_default="0.1")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Serve pushed models over TensorFlow Serving's REST and gRPC; new versions are picked up as they are pushed."""
    output = open_output("human")
    labels: dict[str, int] = {}
    if config:
        pipeline_config = load(config, overrides)
        model_name = pipeline_config.model_name
        labels = _labels(pipeline_config.push_path)
        model_base_path = _on_this_machine(pipeline_config.push_path, context)
        if pipeline_config.data.format != "images":
            output.say(MISSING_IN_REQUESTS)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    output.begin("Loading the server")
    with logged_to(NOWHERE):
        from kubetfx.serving.data_plane import DataPlaneOptions
        from kubetfx.serving.grpc_server import GrpcOptions
        from kubetfx.serving.log_lines import log_to_standard_error
        from kubetfx.serving.model_config import LatestVersions, ModelConfig, SpecificVersions
        from kubetfx.serving.rest import RestOptions
        from kubetfx.serving.server import ServerOptions, serve_with_tf_serving
        from kubetfx.serving.server import serve as serve_embedded
        from kubetfx.serving.versions import VersionOptions

    output.end()
    log_to_standard_error()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls the SavedModel loader deprecated at each load
    with naming_options(_ARGUMENTS):
        request_log = _request_log(log_requests, sample)
    policy = SpecificVersions(frozenset(labels.values())) if labels else LatestVersions()
    served = (ModelConfig(model_name, model_base_path.absolute(), policy, labels),) if model_base_path else ()
    options = ServerOptions(
        models=served,
        model_config_file=model_config_file and model_config_file.absolute(),
        model_config_file_poll_seconds=model_config_file_poll_wait_seconds,
        host=host,
        rest_port=rest_port,
        grpc_port=grpc_port,
        enable_batching=enable_batching,
        batching_parameters_file=batching_parameters_file and batching_parameters_file.absolute(),
        versions=VersionOptions(
            poll_seconds=file_system_poll_wait_seconds,
            allow_labels_for_unavailable_versions=allow_version_labels_for_unavailable_models or bool(labels),
        ),
        data_plane=DataPlaneOptions(
            max_concurrent_requests=max_concurrent_requests, num_session_threads=num_session_threads
        ),
        rest=RestOptions(
            max_body_bytes=max_body_bytes,
            timeout_seconds=rest_api_timeout_in_ms / 1000,
            enable_cors=rest_api_enable_cors_support,
            access_log=access_log,
        ),
        grpc=GrpcOptions(max_message_bytes=max_body_bytes, access_log=access_log),
        request_log=request_log,
    )
    with naming_options(_ARGUMENTS):
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
    """Show the models of a server: versions, states, and the signatures of the newest that is available."""
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
    with logged_to(NOWHERE):
        from kubetfx.serving.client import connect
        from kubetfx.serving.predict_client import ClientOptions, Target
        from kubetfx.serving.version_state import State

    with naming_options(_ARGUMENTS), connect(rest, grpc, ClientOptions(retry_seconds=0)) as client:
        names = [model_name] if model_name else client.model_names()
        statuses = {name: client.status(name) for name in names}
        signatures = {
            (name, status.version): client.signatures(Target(name, version=status.version))
            for name, versions in statuses.items()
            for status in versions
            if status.state is State.AVAILABLE
        }
    if format == "json":
        output.document(
            {
                name: [
                    {
                        "version": status.version,
                        "state": status.state.name,
                        "error": status.error.message if status.error else None,
                        "signatures": {key: asdict(s) for key, s in signatures.get((name, status.version), {}).items()},
                    }
                    for status in versions
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
    newest = {name: max((version for n, version in signatures if n == name), default=0) for name in statuses}
    for (name, version), found in signatures.items():
        for key, signature in sorted(found.items()) if version == newest[name] else ():
            output.text(f"{name} {key}: {_listed(signature.inputs)} -> {_listed(signature.outputs)}")


def _listed(types: Mapping[str, str]) -> str:
    names = [f"{name} {dtype.removeprefix('DT_').lower()}" for name, dtype in types.items()]
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _request_log(folder: str | None, rate: float | None) -> "RequestLogOptions":
    from kubetfx.serving.request_log import RequestLogOptions

    if folder is None:
        if rate is not None:
            raise UsageError(
                f"--sample is given without --log-requests. Received: --sample {rate:g}. Say where the requests are to "
                "be written: --log-requests DIR."
            )
        return RequestLogOptions()
    try:
        place = locate(folder)
    except ValueError as error:
        raise UsageError(f"--log-requests: {error}. Name a folder, or one in a bucket.") from None
    if isinstance(place, Path):
        place = place.absolute()
    return RequestLogOptions(place) if rate is None else RequestLogOptions(place, rate)


def _labels(push_directory: Location) -> dict[str, int]:
    """Return versions by label, which the last server knew."""
    from kubetfx.components.push.labels import numbers, read_labels

    return numbers(read_labels(push_directory))


def _on_this_machine(push_directory: Location, context: typer.Context) -> Path:
    """Return the folder itself, or for a bucket a copy that is kept up to date until the command ends."""
    if isinstance(push_directory, Path):
        return push_directory
    from kubetfx.components.push.mirror import mirrored

    return Path(context.with_resource(mirrored(push_directory)))
