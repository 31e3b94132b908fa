"""The server as a process: start, ports, signals."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from kubetfx.cli.app import main
from kubetfx.errors import UsageError
from kubetfx.serving.batching import BatchingParameters
from kubetfx.serving.data_plane import DataPlaneOptions
from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.server import RunningServer, ServerOptions, tf_serving_command
from tests.ports import free_ports
from tests.serving.conftest import options, wait_until

ROOT = Path(__file__).parents[2]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kubetfx", "serve", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"},
    )


@pytest.fixture(scope="module")
def process(base_paths: dict[str, Path]) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    rest_port, grpc_port = free_ports(2)
    ports = (f"--rest-port={rest_port}", f"--grpc-port={grpc_port}")
    arguments = ("--model-name=kinds", f"--model-base-path={base_paths['kinds']}", "--access-log")
    with start(*arguments, *ports) as made:
        try:
            wait_until(lambda: made.poll() is not None or is_up(rest_port), seconds=60)
            yield made, rest_port, grpc_port
        finally:
            if made.poll() is None:
                made.kill()


def is_up(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v1/models/kinds").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("taken", ["rest", "grpc"])
def test_second_server_on_a_port_says_which(
    process: tuple[subprocess.Popen[str], int, int], base_paths: dict[str, Path], taken: str
) -> None:
    _, rest_port, grpc_port = process
    ports = {"rest_port": rest_port if taken == "rest" else 0, "grpc_port": grpc_port if taken == "grpc" else 0}
    port = rest_port if taken == "rest" else grpc_port
    second = RunningServer(options(ModelConfig("kinds", base_paths["kinds"]), **ports))
    with pytest.raises(
        UsageError, match=f"port cannot be used: .* Received: 127.0.0.1:{port}.*choose another `{taken}_port`"
    ):
        second.start()


def test_sigterm_ends_what_is_under_way_and_then_the_process(process: tuple[subprocess.Popen[str], int, int]) -> None:
    server, rest_port, _ = process
    url = f"http://127.0.0.1:{rest_port}/v1/models/kinds"
    slow: list[httpx.Response] = []
    body = {"signature_name": "slow", "instances": [8000]}
    thread = threading.Thread(target=lambda: slow.append(httpx.post(f"{url}:predict", json=body, timeout=60)))
    idle = cpu_seconds(server)
    thread.start()
    wait_until(lambda: cpu_seconds(server) > idle + 0.1)  # it is at work on the request
    server.send_signal(signal.SIGTERM)
    thread.join(60)
    assert slow[0].status_code == 200
    assert server.wait(30) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    log = server.stderr.read() if server.stderr else ""
    assert "SIGTERM: draining" in log
    assert "REST POST /v1/models/kinds:predict 200" in log
    assert "Traceback" not in log


def cpu_seconds(process: subprocess.Popen[str]) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Error: There is no model to serve."),
        (
            ["--model-base-path=/x", "--batching-parameters-file=/x"],
            "Error: --batching-parameters-file is given without",
        ),
        (["--model-config-file=/none"], "Error: --model-config-file is not a ModelServerConfig"),
        (["--model-base-path=/x", "--engine=tf-serving"], "Error: TensorFlow Serving is not installed"),
    ],
)
def test_wrong_command_line_is_explained(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", ["kubetfx", "serve", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert message in capfd.readouterr().err


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Puts a program of a name on an otherwise empty PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name: str) -> str:
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        return str(program)

    return put


ONE_MODEL = ServerOptions(models=(ModelConfig("m", Path("/models/m")),), enable_batching=True)
FLAGS = [
    "--port=8500",
    "--rest_api_port=8501",
    "--model_name=m",
    "--model_base_path=/models/m",
    "--enable_batching=true",
    "--file_system_poll_wait_seconds=1",
]


def test_real_server_gets_the_same_flags(on_path: Callable[[str], str]) -> None:
    on_path("docker")
    binary = on_path("tensorflow_model_server")
    assert tf_serving_command(ONE_MODEL) == [binary, *FLAGS]
    assert "--model_config_file=/f" in tf_serving_command(replace(ONE_MODEL, model_config_file=Path("/f")))
    with pytest.raises(UsageError, match="takes several models by `model_config_file` only"):
        tf_serving_command(replace(ONE_MODEL, models=ONE_MODEL.models * 2))


def test_container_stands_in_for_a_binary_that_is_not_there(on_path: Callable[[str], str]) -> None:
    docker = on_path("docker")
    command = tf_serving_command(ONE_MODEL)
    assert command[:3] == [docker, "run", "--rm"]
    assert "--volume=/models/m:/models/m:ro" in command
    assert command[-len(FLAGS) - 1 :] == ["tensorflow/serving:latest", *FLAGS]


def test_batched_server_answers_like_any_other(base_paths: dict[str, Path]) -> None:
    plane = DataPlaneOptions(batching=BatchingParameters(max_batch_size=8))
    batched = options(ModelConfig("kinds", base_paths["kinds"]), data_plane=plane)
    with RunningServer(batched) as running, httpx.Client(base_url=f"http://127.0.0.1:{running.rest_port}") as client:

        def ask(value: Any) -> httpx.Response:
            return client.post("/v1/models/kinds:predict", json={"signature_name": "floats", "instances": value})

        assert ask([1, 2]).json() == {"predictions": [1.0, 2.0]}
        assert ask([1] * 9).json() == {"error": "Task size 9 is larger than maximum input batch size 8"}


def test_stopping_twice_is_harmless(base_paths: dict[str, Path]) -> None:
    running = RunningServer(options(ModelConfig("kinds", base_paths["kinds"])))
    running.start()
    for _ in range(2):
        running.ask_to_stop()
        running.wait()
