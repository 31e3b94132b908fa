"""`python -m serving`: the embedded server by itself."""

import argparse
import logging
import sys
from pathlib import Path

from pipeline.errors import KubetfxError
from serving.data_plane import DataPlaneOptions
from serving.grpc_server import GrpcOptions
from serving.model_config import ModelConfig
from serving.rest import RestOptions
from serving.server import ServerOptions, serve, serve_with_tf_serving
from serving.versions import VersionOptions


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve.

    Returns:
        The exit code.
    """
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls the SavedModel loader deprecated at each load
    try:
        options = _options(parsed)
        if parsed.engine == "tf-serving":
            return serve_with_tf_serving(options)
        serve(options)
    except KubetfxError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _options(parsed: argparse.Namespace) -> ServerOptions:
    models = (ModelConfig(parsed.model_name, parsed.model_base_path),) if parsed.model_base_path else ()
    return ServerOptions(
        models=models,
        model_config_file=parsed.model_config_file,
        model_config_file_poll_seconds=parsed.model_config_file_poll_wait_seconds,
        host=parsed.host,
        rest_port=parsed.rest_port,
        grpc_port=parsed.grpc_port,
        enable_batching=parsed.enable_batching,
        batching_parameters_file=parsed.batching_parameters_file,
        versions=VersionOptions(
            poll_seconds=parsed.file_system_poll_wait_seconds,
            allow_labels_for_unavailable_versions=parsed.allow_version_labels_for_unavailable_models,
        ),
        data_plane=DataPlaneOptions(
            max_concurrent_requests=parsed.max_concurrent_requests, num_session_threads=parsed.num_session_threads
        ),
        rest=RestOptions(
            max_body_bytes=parsed.max_body_bytes,
            timeout_seconds=parsed.rest_api_timeout_in_ms / 1000,
            enable_cors=parsed.rest_api_enable_cors_support,
            log_requests=parsed.log_requests,
        ),
        grpc=GrpcOptions(max_message_bytes=parsed.max_body_bytes, log_requests=parsed.log_requests),
    )


def _absolute(path: str) -> Path:
    return Path(path).absolute()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving", description="Serve SavedModels over TensorFlow Serving's REST and gRPC."
    )
    add = parser.add_argument
    add("--model-name", default="default", help="name that clients ask for")
    add("--model-base-path", type=_absolute, help="folder of numbered versions")
    add("--model-config-file", type=_absolute, help="several models: a ModelServerConfig in protobuf's text format")
    add("--model-config-file-poll-wait-seconds", type=float, default=0, help="0: the file is read once")
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for all")
    add("--rest-port", type=int, default=8501)
    add("--grpc-port", type=int, default=8500)
    add("--engine", choices=("embedded", "tf-serving"), default="embedded", help="tf-serving: the real binary")
    add("--enable-batching", action="store_true", help="one call of the graph for the rows of many requests")
    add("--batching-parameters-file", type=_absolute, help="BatchingParameters in protobuf's text format")
    add("--file-system-poll-wait-seconds", type=float, default=1.0, help="time between two looks for new versions")
    add("--allow-version-labels-for-unavailable-models", action="store_true")
    add("--max-concurrent-requests", type=int, default=1024, help="more are refused: 429, RESOURCE_EXHAUSTED")
    add("--num-session-threads", type=int, default=0, help="threads that call graphs; 0: four for each core")
    add("--max-body-bytes", type=int, default=128 * 2**20, help="of a request")
    add("--rest-api-timeout-in-ms", type=int, default=30_000)
    add("--rest-api-enable-cors-support", action="store_true")
    add("--log-requests", action="store_true", help="log each request with its status and time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
