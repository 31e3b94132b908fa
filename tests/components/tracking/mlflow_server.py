"""A real server of MLflow on loopback, with SQLite behind it, in an environment of its own."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.ports import free_ports

START_SECONDS = 600
"""It imports a lot, on a machine that may be busy."""
PYTHON = "KUBETFX_TEST_MLFLOW"
"""Environment variable with the Python of an environment that has `mlflow`, for example /opt/mlflow/bin/python."""
URL = "KUBETFX_TEST_MLFLOW_URL"
"""Environment variable with the address of an empty server that runs already, for tests again and again."""
OLDER = "KUBETFX_TEST_MLFLOW_2"
"""The same with `mlflow<3`."""


@dataclass(frozen=True)
class MlflowServer:
    url: str
    folder: Path

    def get(self, call: str, **arguments: str) -> dict:
        answer = httpx.get(f"{self.url}/api/2.0/mlflow/{call}", params=arguments, trust_env=False, timeout=60)
        return dict(answer.raise_for_status().json())

    def runs(self, experiment: str) -> list[dict]:
        found = self.get("experiments/get-by-name", experiment_name=experiment)["experiment"]["experiment_id"]
        body = {"experiment_ids": [found]}
        answer = httpx.post(f"{self.url}/api/2.0/mlflow/runs/search", json=body, trust_env=False, timeout=60)
        return list(answer.raise_for_status().json().get("runs", []))


def python_with_mlflow(variable: str = PYTHON) -> str:
    """The Python of an environment with MLflow; skips the test where there is none."""
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"needs an environment with mlflow: uv venv M; uv pip install mlflow; {variable}=M/bin/python")
    return python


@contextlib.contextmanager
def mlflow_server(folder: Path, variable: str = PYTHON) -> Iterator[MlflowServer]:
    python = python_with_mlflow(variable)
    if variable == PYTHON and URL in os.environ:
        yield MlflowServer(os.environ[URL], folder)
        return
    (port,) = free_ports(1)
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "kept")]
    quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": ""}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([*command, *store], stdout=log, stderr=log, env=quiet, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/health", trust_env=False).is_success:
                    break
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.3)
        yield MlflowServer(url, folder)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(120)
