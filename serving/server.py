"""The embedded server: both protocols over one data plane in one event loop, from start to drained stop.

serve(options)                      blocks until SIGTERM or SIGINT
with RunningServer(options) as s    the same in a thread, for tests and for a push that is verified in place
"""

import asyncio
import contextlib
import logging
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn
import uvloop

from kubetfx.errors import KubetfxError, UsageError
from kubetfx.serving.batching import BatchingParameters, read_batching_parameters_file
from kubetfx.serving.data_plane import DataPlane, DataPlaneOptions
from kubetfx.serving.grpc_server import GrpcOptions, GrpcServer
from kubetfx.serving.model_config import ModelConfig, read_model_config_file
from kubetfx.serving.prometheus import Metrics
from kubetfx.serving.request_log import RequestLog, RequestLogOptions
from kubetfx.serving.rest import RestApplication, RestOptions
from kubetfx.serving.status import ServingError
from kubetfx.serving.versions import ModelManager, VersionOptions

_LOG = logging.getLogger(__name__)

_TF_SERVING_BINARY = "tensorflow_model_server"
_TF_SERVING_IMAGE = "tensorflow/serving:latest"
_BACKLOG = 2048
_SWITCH_INTERVAL_SECONDS = 0.001
"""A fifth of Python's default: a thread that returns from a graph should not wait long for the event loop."""


@dataclass(frozen=True)
class ServerOptions:
    """What a server serves, and how."""

    models: tuple[ModelConfig, ...] = ()
    model_config_file: Path | None = None
    """A ModelServerConfig in protobuf's text format, instead of `models`."""
    model_config_file_poll_seconds: float = 0.0
    """Time between two looks at model_config_file. 0: it is read once."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 for all."""
    rest_port: int = 8501
    """0: any that is free."""
    grpc_port: int = 8500
    """0: any that is free."""
    enable_batching: bool = False
    """Whether rows of several requests are computed at once."""
    batching_parameters_file: Path | None = None
    """A BatchingParameters in protobuf's text format; needs enable_batching. None: its defaults."""
    drain_seconds: float = 30.0
    """Time that requests have to end after SIGTERM."""
    versions: VersionOptions = field(default_factory=VersionOptions)
    data_plane: DataPlaneOptions = field(default_factory=DataPlaneOptions)
    rest: RestOptions = field(default_factory=RestOptions)
    grpc: GrpcOptions = field(default_factory=GrpcOptions)
    request_log: RequestLogOptions = field(default_factory=RequestLogOptions)


def serve(options: ServerOptions) -> None:
    """Serve until SIGTERM or SIGINT, and then let the requests under way end.

    Args:
        options: what to serve, and how.

    Raises:
        UsageError: the options are wrong, or a port is taken.
    """
    _allow_connections()
    server = RunningServer(options)

    def ask_to_stop(number: int, frame: object) -> None:
        del frame
        _LOG.info("%s: draining", signal.Signals(number).name)
        server.ask_to_stop()

    previous = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.start()
        server.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _allow_connections() -> None:
    """Let this process have as many connections at once as the system permits.

    Each is an open file, and the usual limit of 1,024 is meant for programs that call `select`.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tf_serving_command(options: ServerOptions) -> list[str]:
    """Write the command line of the real TensorFlow Serving: of its binary, or else of its container.

    Args:
        options: The options of the embedded server.

    Returns:
        The words of the command.

    Raises:
        UsageError: neither is installed, or the options have no equivalent.
    """
    flags = _tf_serving_flags(options)
    if binary := shutil.which(_TF_SERVING_BINARY):
        return [binary, *flags]
    docker = shutil.which("docker")
    if docker is None:
        raise UsageError(
            f"TensorFlow Serving is not installed: neither {_TF_SERVING_BINARY} nor docker is on PATH. Install it "
            "(https://www.tensorflow.org/tfx/serving/setup), or use the embedded server."
        )
    paths = [model.base_path for model in _configs(options)]
    paths += [path for path in (options.model_config_file, options.batching_parameters_file) if path]
    mounts = [f"--volume={path}:{path}:ro" for path in paths]
    container = ["run", "--rm", "--network=host", f"--entrypoint={_TF_SERVING_BINARY}", *mounts, _TF_SERVING_IMAGE]
    return [docker, *container, *flags]


def _refuse_request_log(options: ServerOptions) -> None:
    """Refuse a request log: TensorFlow Serving itself ends with "No request-logger-creator provided" if it has one."""
    if options.request_log.folder is not None:
        received = f"request_log.folder={options.request_log.folder}"
    elif logged := [config.name for config in _configs(options) if config.logging]:
        received = f"a logging_config of {', '.join(logged)}"
    else:
        return
    raise UsageError(
        f"TensorFlow Serving logs no requests, unless a request logger is compiled into it. Received: {received}. Take "
        "the embedded server, or leave the log out."
    )


def _tf_serving_flags(options: ServerOptions) -> list[str]:
    flags = [f"--port={options.grpc_port}", f"--rest_api_port={options.rest_port}"]
    if options.model_config_file:
        flags.append(f"--model_config_file={options.model_config_file}")
        if options.model_config_file_poll_seconds:
            flags.append(f"--model_config_file_poll_wait_seconds={round(options.model_config_file_poll_seconds)}")
    elif len(options.models) == 1:
        (model,) = options.models
        flags += [f"--model_name={model.name}", f"--model_base_path={model.base_path}"]
    else:
        raise UsageError(
            "TensorFlow Serving takes several models by `model_config_file` only. "
            f"Received: {len(options.models)} models."
        )
    if options.enable_batching:
        flags.append("--enable_batching=true")
        if options.batching_parameters_file:
            flags.append(f"--batching_parameters_file={options.batching_parameters_file}")
    return [*flags, f"--file_system_poll_wait_seconds={max(1, round(options.versions.poll_seconds))}"]


def serve_with_tf_serving(options: ServerOptions) -> int:
    """Run the real TensorFlow Serving until it ends.

    Args:
        options: The options of the embedded server.

    Returns:
        Its exit code.

    Raises:
        UsageError: requests are to be logged; or see `tf_serving_command`.
    """
    _refuse_request_log(options)
    return subprocess.run(tf_serving_command(options), check=False).returncode


@dataclass
class _Parts:
    """What runs inside the event loop."""

    plane: DataPlane
    http: "_HttpServer"
    grpc: GrpcServer
    listening: list["asyncio.Task[None]"] = field(default_factory=list)
    """Ends when the REST API has answered its last request."""
    polling: list["asyncio.Task[None]"] = field(default_factory=list)
    """Never ends by itself."""


class RunningServer:
    """A server in a thread of its own."""

    def __init__(self, options: ServerOptions) -> None:
        """Read the configuration; nothing runs yet.

        Args:
            options: what to serve, and how.

        Raises:
            UsageError: the configuration is wrong.
        """
        self._options = options
        self._configs = _configs(options)
        self._batching = _batching(options)
        self._metrics = Metrics()
        self._log = RequestLog(options.request_log, self._metrics)
        self.manager = ModelManager(self._configs, options.versions, on_load=self._metrics.observe_load)
        self.rest_port = 0
        self.grpc_port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._stop_asked = threading.Event()
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="serving", daemon=True)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Drain and stop."""
        self.ask_to_stop()
        self.wait()

    def start(self) -> None:
        """Load the models that there are, and listen.

        Raises:
            UsageError: a port is taken, or a label is wrong.
        """
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_SECONDS))
        self._thread.start()
        self._started.wait()
        if self._error:
            self._thread.join()
            raise self._error

    def ask_to_stop(self) -> None:
        """Begin to drain. May be called from anywhere, a signal handler included."""
        self._stop_asked.set()
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # it is over already
                self._loop.call_soon_threadsafe(self._stop.set)

    def wait(self) -> None:
        """Wait for the end."""
        while self._thread.is_alive():  # in slices, so that signals are handled
            self._thread.join(0.2)
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        options = self._options
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        for protocol, port in (("REST", options.rest_port), ("gRPC", options.grpc_port)):
            _bind(protocol, options.host, port).close()  # so that a taken port is reported before models are loaded
        parts = self._build()
        try:
            await self._load()
            await self._listen(parts)
            _LOG.info("REST at %s:%d, gRPC at %s:%d", options.host, self.rest_port, options.host, self.grpc_port)
            if options.model_config_file and options.model_config_file_poll_seconds > 0:
                parts.polling.append(
                    asyncio.create_task(self._poll_config_file(parts.plane, options.model_config_file))
                )
            self._started.set()
            if self._stop_asked.is_set():
                self._stop.set()
            await self._stop.wait()
        finally:
            await self._drain(parts)

    async def _listen(self, parts: _Parts) -> None:
        """Open the ports. Models are loaded by now: until then probes are refused."""
        options = self._options
        try:
            self.grpc_port = parts.grpc.bind(options.host, options.grpc_port)
        except OSError as error:
            raise _port_error("gRPC", options.host, options.grpc_port, error) from None
        rest_socket = _bind("REST", options.host, options.rest_port)
        try:
            rest_socket.listen(_BACKLOG)
        except OSError as error:
            rest_socket.close()
            raise _port_error("REST", options.host, options.rest_port, error) from None
        self.rest_port = int(rest_socket.getsockname()[1])
        parts.listening.append(asyncio.create_task(parts.http.serve(sockets=[rest_socket])))
        await parts.grpc.start()
        await parts.http.listening()

    def _build(self) -> _Parts:
        options = self._options
        self._log.configure(self._configs)
        plane = DataPlane(self.manager, replace(options.data_plane, batching=self._batching), self._metrics, self._log)
        http = _HttpServer(RestApplication(plane, options.rest), options)
        return _Parts(plane, http, GrpcServer(plane, options.grpc))

    async def _load(self) -> None:
        try:
            await asyncio.to_thread(self.manager.start)
        except ServingError as error:
            raise UsageError(
                f"{error.message}. Give labels to versions that are there, or pass "
                "`allow_labels_for_unavailable_versions=True`."
            ) from None
        for config in self._configs:
            if not self.manager.serves(config.name):
                _LOG.warning("model %s: no version is available yet under %s", config.name, config.base_path)

    async def _poll_config_file(self, plane: DataPlane, path: Path) -> None:
        known = self._configs
        while True:
            await asyncio.sleep(self._options.model_config_file_poll_seconds)
            try:
                configs = read_model_config_file(path)
                if configs != known:
                    await plane.reload(configs)
                    known = configs
            except (KubetfxError, ServingError) as error:
                _LOG.error("the model config file is not taken, what is served stays: %s", error)

    async def _drain(self, parts: _Parts) -> None:
        for task in parts.polling:
            task.cancel()
        parts.http.should_exit = True
        await asyncio.gather(parts.grpc.stop(self._options.drain_seconds), *parts.listening, return_exceptions=True)
        parts.plane.close()
        await asyncio.to_thread(self._log.close)
        await asyncio.to_thread(self.manager.stop)


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: `serve` has its own."""

    def __init__(self, application: RestApplication, options: ServerOptions) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                http="httptools",
                ws="none",
                lifespan="off",
                interface="asgi3",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=max(1, round(options.drain_seconds)),
                backlog=_BACKLOG,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture no signals."""
        yield

    async def listening(self) -> None:
        """Wait until connections are accepted."""
        while not self.started:
            await asyncio.sleep(0.005)


def _configs(options: ServerOptions) -> tuple[ModelConfig, ...]:
    if options.model_config_file:
        return read_model_config_file(options.model_config_file)
    if not options.models:
        raise UsageError(
            "There is no model to serve. Received: neither a model nor a model config file. "
            "Give `models` or `model_config_file`."
        )
    return options.models


def _batching(options: ServerOptions) -> BatchingParameters | None:
    if options.batching_parameters_file:
        if not options.enable_batching:
            raise UsageError("`batching_parameters_file` is given without `enable_batching=True`. Add it or drop it.")
        return read_batching_parameters_file(options.batching_parameters_file)
    return BatchingParameters() if options.enable_batching else options.data_plane.batching


def _bind(protocol: str, host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise _port_error(protocol, host, port, error) from None
    bound.setblocking(False)
    return bound


def _port_error(protocol: str, host: str, port: int, error: OSError) -> UsageError:
    return UsageError(
        f"The {protocol} port cannot be used: {error}. Received: {host}:{port}. "
        f"Stop whatever listens there (`ss -ltnp 'sport = :{port}'`), or choose another `{protocol.lower()}_port`."
    )
