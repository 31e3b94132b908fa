"""Runs on a server of MLflow: what is sent, what waits where the server is down, and what is never stored."""

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest

import kubetfx
from kubetfx.artifacts import REPORT
from kubetfx.components.report.evaluation_facts import Evaluation, Metric
from kubetfx.components.report.facts import Facts, Settings, Training
from kubetfx.components.tracking import kubetfx_mlflow_loader, mlflow_sender, tracking_queue
from kubetfx.components.tracking.tracked_run import TrackedRun, write
from kubetfx.config.tracking_section import TrackingConfig
from kubetfx.errors import ConfigError, UsageError
from kubetfx.provenance import Code, GitState
from kubetfx.serving.model import Model
from tests.components.push.test_push_verification import FINE_ROWS, Export
from tests.components.tracking.mlflow_server import OLDER, MlflowServer, mlflow_server, python_with_mlflow
from tests.models.conftest import make_rows, multiclass, preprocess, regression, rows  # noqa: F401 - fixtures
from tests.ports import free_ports

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    folder = tmp_path / "tracking"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def saved_model(multiclass, tmp_path_factory) -> Path:  # noqa: F811
    from kubetfx.components.served_model_resolver import saved_model_path

    return saved_model_path([Export(multiclass, tmp_path_factory.mktemp("models")).model("fine", multiclass)])


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., TrackedRun]:
    files = tmp_path / "files"
    files.mkdir()
    (files / REPORT).write_text("<p>All is well.</p>")
    training = Training(
        epochs=3, history={"loss": [3.0, 2.0, 1.0], "val_loss": [3.5, 2.5, 1.5]}, seconds=[1, 1, 1], learning_rate=[]
    )
    evaluation = Evaluation(
        is_blessed=True, ranked_by="accuracy", metrics=[Metric(name="accuracy", value=0.9, served=0.8)]
    )
    facts = Facts(settings=Settings(name="shells", model_name="shells"), training=training, evaluation=evaluation)

    def make(run_id: str = "20261130-000000-aaa", **changes: object) -> TrackedRun:
        values = {
            "run_id": run_id,
            "name": "shells",
            "state": "pushed",
            "started_at": "2026-11-30T00:00:00Z",
            "ended_at": "2026-11-30T00:01:00Z",
            "experiment": "shells",
            "model_name": "shells",
            "facts": facts,
            "config": {"training": {"epochs": 3, "seed": None}, "data": {"label": "kind"}, "card": {"purpose": "x"}},
            "files": files,
            "code": Code(kubetfx="1", digest="abc", git=GitState(commit=COMMIT)),
            "version": 7,
        }
        return TrackedRun(**{**values, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture
def with_mlflow(monkeypatch) -> None:
    monkeypatch.setenv(tracking_queue.PYTHON, python_with_mlflow())


def waiting(queue: Path) -> list[str]:
    return [path.name for path in mlflow_sender.waiting(queue)]


@pytest.mark.long
def test_run_is_on_the_server_with_all_that_belongs_to_it(queue, run, saved_model, server, with_mlflow, tmp_path):
    write(queue, run(saved_model=saved_model, is_registered=True))

    sending = tracking_queue.send(queue, TrackingConfig(mlflow=server.url))

    assert sending.problem is None
    assert waiting(queue) == []
    assert sending.sent["20261130-000000-aaa"].startswith(f"{server.url}/#/experiments/")
    (found,) = server.runs("shells")
    data = found["data"]
    params = {one["key"]: one["value"] for one in data["params"]}
    assert params == {"training.epochs": "3", "data.label": "kind"}
    metrics = {one["key"]: one["value"] for one in data["metrics"]}
    assert metrics == {"train/loss": 1, "validation/loss": 1.5, "eval/accuracy": 0.9, "eval_of_served/accuracy": 0.8}
    tags = {one["key"]: one["value"] for one in data["tags"]}
    assert tags["kubetfx.verdict"] == "blessed"
    assert tags["kubetfx.version"] == "7"
    assert tags["mlflow.source.git.commit"] == COMMIT
    assert found["info"]["status"] == "FINISHED"
    run_id = found["info"]["run_id"]
    history = server.get("metrics/get-history", run_id=run_id, metric_key="validation/loss")["metrics"]
    assert [(one["step"], one["value"]) for one in history] == [(1, 3.5), (2, 2.5), (3, 1.5)]
    files = {one["path"] for one in server.get("artifacts/list", run_id=run_id)["files"]}
    assert {REPORT, "config.json"} <= files
    (version,) = server.get("registered-models/get", name="shells")["registered_model"]["latest_versions"]
    assert {one["key"]: one["value"] for one in version["tags"]}["kubetfx.run_id"] == "20261130-000000-aaa"
    _predicts(server, f"models:/shells/{version['version']}", saved_model, tmp_path)


def _predicts(server: MlflowServer, uri: str, saved_model: Path, folder: Path) -> None:
    """mlflow.pyfunc answers as the model does, where MLflow is importable beside TensorFlow."""
    mlflow = pytest.importorskip("mlflow", reason="needs the package mlflow-skinny (the extra `mlflow` of kubetfx)")
    mlflow.set_tracking_uri(server.url)
    frame = pd.DataFrame([{k: v for k, v in row.items() if k != "species"} for row in FINE_ROWS])
    found = mlflow.pyfunc.load_model(uri).predict(frame)
    expected = Model.load(saved_model).predict(frame)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_like=True)


@pytest.mark.long
def test_run_that_is_sent_again_is_the_same_run(queue, run, server, with_mlflow):
    """As after a kill of the sender, or a retry of a run that failed."""
    made = run("20261130-000000-bbb", experiment="again")
    write(queue, run("20261130-000000-bbb", experiment="again", state="failed", error="a fault", version=None))
    tracking_queue.send(queue, TrackingConfig(mlflow=server.url))
    write(queue, made)
    tracking_queue.send(queue, TrackingConfig(mlflow=server.url))

    (found,) = server.runs("again")
    assert found["info"]["status"] == "FINISHED"
    assert {one["key"]: one["value"] for one in found["data"]["tags"]}["kubetfx.state"] == "pushed"


@pytest.mark.long
def test_run_that_the_server_refuses_does_not_hold_up_others(queue, run, server, with_mlflow):
    write(queue, run("20261130-000000-ccc", experiment="refuses", config={"model": {"x": "y"}}))
    document = json.loads((queue / "20261130-000000-ccc" / "entry.json").read_text())
    document["metrics"][0]["key"] = "no*such?name"
    (queue / "20261130-000000-ccc" / "entry.json").write_text(json.dumps(document))
    write(queue, run("20261130-000000-ddd", experiment="refuses"))

    sending = tracking_queue.send(queue, TrackingConfig(mlflow=server.url))

    assert list(sending.sent) == ["20261130-000000-ddd"]
    assert waiting(queue) == ["20261130-000000-ccc"]
    assert sending.problem is not None
    assert "run 20261130-000000-ccc: " in sending.problem


@pytest.mark.long
def test_server_of_the_version_before_has_the_model_as_an_artifact(queue, run, saved_model, tmp_path, with_mlflow):
    with mlflow_server(tmp_path, OLDER) as server:
        write(queue, run(saved_model=saved_model, is_registered=True))

        sending = tracking_queue.send(queue, TrackingConfig(mlflow=server.url))

        assert sending.problem is None
        (found,) = server.runs("shells")
        listed = server.get("artifacts/list", run_id=found["info"]["run_id"], path="model")["files"]
        assert "model/MLmodel" in {one["path"] for one in listed}
        (version,) = server.get("registered-models/get", name="shells")["registered_model"]["latest_versions"]
        _predicts(server, f"models:/shells/{version['version']}", saved_model, tmp_path)


def test_server_that_is_down_is_told_at_once_and_the_run_waits(queue, run):
    (port,) = free_ports(1)
    write(queue, run())
    write(queue, run("20261130-000001-bbb"))

    started = time.monotonic()
    sending = tracking_queue.send(queue, TrackingConfig(mlflow=f"http://127.0.0.1:{port}"))

    assert time.monotonic() - started < 10  # a process of Python, and no MLflow
    assert waiting(queue) == ["20261130-000000-aaa", "20261130-000001-bbb"]
    assert "Connection refused" in str(sending)
    assert str(sending).startswith("Not sent to MLflow: it did not answer")
    assert str(sending).endswith("2 runs will be sent later, and nothing is lost.")


class _Server:
    """Answers every request in one way, and keeps what it was asked."""

    def __init__(self, status: int, seconds: float = 0) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(f"{self.path} {self.headers.get('Authorization')}")
                time.sleep(seconds)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def test_server_that_answers_500_is_told(queue, run):
    write(queue, run())

    sending = tracking_queue.send(queue, TrackingConfig(mlflow=_Server(500).url))

    assert "it answered 500" in str(sending)
    assert waiting(queue) == ["20261130-000000-aaa"]


def test_slow_server_delays_the_end_of_a_run_no_longer_than_was_said(queue, run):
    write(queue, run())

    started = time.monotonic()
    sending = tracking_queue.send(queue, TrackingConfig(mlflow=_Server(200, seconds=4).url), wait_seconds=1)

    assert time.monotonic() - started < 3
    assert str(sending) == "Being sent to MLflow in the background."
    assert waiting(queue) == ["20261130-000000-aaa"]
    time.sleep(4)  # the process ends by itself


def test_server_that_never_answers_is_given_up(queue, run, monkeypatch):
    write(queue, run())
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        sending = tracking_queue.send(queue, TrackingConfig(mlflow=f"http://127.0.0.1:{silent.getsockname()[1]}"))

    assert "timed out" in str(sending)


def test_what_to_install_is_said_where_mlflow_is_not(queue, run, monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "mlflow.py").write_text("raise ImportError('No module named mlflow')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "empty"))
    monkeypatch.delenv(tracking_queue.PYTHON, raising=False)
    write(queue, run())

    sending = tracking_queue.send(queue, TrackingConfig(mlflow=_Server(200).url))

    assert "needs the package mlflow-skinny, the extra `mlflow` of kubetfx" in str(sending)
    assert sys.executable in str(sending)
    assert waiting(queue) == ["20261130-000000-aaa"]


def test_password_is_looked_up_when_it_is_used_and_is_stored_nowhere(queue, run, monkeypatch, tmp_path):
    monkeypatch.setenv("TRACKING_PASSWORD", "geheimnis")
    server = _Server(500)
    tracking = TrackingConfig(mlflow=f"http://me:${{TRACKING_PASSWORD}}@127.0.0.1:{server.port}")
    write(queue, run())

    sending = tracking_queue.send(queue, tracking)

    assert "geheimnis" not in str(sending)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"geheimnis" not in kept
    monkeypatch.delenv("TRACKING_PASSWORD")
    assert "TRACKING_PASSWORD is not set" in str(tracking_queue.send(queue, tracking))
    assert waiting(queue) == ["20261130-000000-aaa"]


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        (
            {"mlflow": "mlflow.example:5000"},
            r"a URL of a server is needed, http://HOST:PORT\. Received: mlflow.example",
        ),
        (
            {"mlflow": "http://me:secret@host"},
            r"password would be stored in clear text\. Received: http://\.\.\.@host\.",
        ),
        ({"mlflow": "http://host", "token": "abc"}, r"token would be stored in clear text\. Received: a token\."),
        ({"mlflow": "http://host", "wait_seconds": -1}, "wait_seconds"),
    ],
)
def test_sections_that_do_not_fit_are_told(tmp_path, section, problem):
    with pytest.raises(ConfigError, match=problem) as told:
        kubetfx.PipelineConfig(name="a", data={"path": str(tmp_path), "label": "b"}, tracking=section)

    assert "secret" not in str(told.value)
    assert "abc" not in str(told.value)


def test_sending_by_hand_needs_a_server(tmp_path):
    config = kubetfx.PipelineConfig(name="a", data={"path": str(tmp_path), "label": "b"})
    with pytest.raises(UsageError, match=r"no server to send runs to\. Received: no tracking"):
        kubetfx.track(config)


def test_half_an_entry_is_not_sent(queue, run, monkeypatch):
    """The disk is full, or the run is killed while it writes."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kubetfx.components.tracking.tracked_run._document", full)
    with pytest.raises(OSError, match="No space left"):
        write(queue, run())

    assert list(queue.iterdir()) == []


@pytest.mark.parametrize("kind", ["classifier", "regression"])
@pytest.mark.long
def test_loader_of_mlflow_answers_as_the_model(kind, saved_model, regression, tmp_path):  # noqa: F811
    """Missing cells, missing columns and other columns among them."""
    path = saved_model
    if kind == "regression":
        import keras

        from kubetfx.components.served_model_resolver import saved_model_path
        from kubetfx.config.model_section import ModelConfig
        from kubetfx.models.network import build_model

        network = build_model(
            regression.output, model=ModelConfig(hidden_units=(8,)), features=regression.config, num_outputs=1
        )
        export = Export(regression, tmp_path, model=keras.Model(network.input, network.output), examples_of=make_rows())
        path = saved_model_path([export.model("regression", regression)])
    frame = pd.DataFrame(make_rows() if kind == "regression" else FINE_ROWS).drop(columns=["species"], errors="ignore")

    found = kubetfx_mlflow_loader._load_pyfunc(str(path)).predict(frame)

    expected = Model.load(path).predict(frame)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_like=True)


def test_sender_needs_nothing_of_kubetfx():
    text = Path(mlflow_sender.__file__).read_text() + Path(kubetfx_mlflow_loader.__file__).read_text()
    assert "import kubetfx" not in text
    assert "from kubetfx" not in text
