"""A verified push, on a server that runs: models as the Trainer exports them, one with a wrong transform graph."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import keras
import pytest
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from kubetfx.artifacts import EVALUATION
from kubetfx.components.evaluation import golden
from kubetfx.components.push import push_verification
from kubetfx.components.push.push_directory import push, read_record, versions
from kubetfx.components.push.push_verification import Verification
from kubetfx.components.pusher import Executor
from kubetfx.components.served_model_resolver import saved_model_path
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.serving_section import EndpointConfig
from kubetfx.errors import PushError
from kubetfx.models.export import export_model
from kubetfx.models.network import build_model
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.serving.model_config import AllVersions
from kubetfx.serving.model_config import ModelConfig as ServedModel
from kubetfx.serving.server import RunningServer
from kubetfx.serving.status import Code, ServingError
from kubetfx.serving.version_state import State, VersionStatus
from tests.models.conftest import make_rows, multiclass, preprocess, regression, rows, to_block, write_split  # noqa: F401 - fixtures
from tests.ports import free_ports
from tests.serving.conftest import options, wait_until

FINE_ROWS = [{name: value for name, value in row.items() if name not in ("sex", "mass")} for row in make_rows()]
WRONG_ROWS = [{**row, "bill": None if row["bill"] is None else row["bill"] * 10} for row in FINE_ROWS]


class Export:
    """Exports of one network, which differ in nothing but the preprocessing that they carry."""

    def __init__(self, right, folder: Path, *, model: keras.Model | None = None, examples_of: list = FINE_ROWS) -> None:
        self._right = right
        self._folder = folder
        self._model = model or self._classifier(right)
        self._split = folder / "Split-eval"
        write_split(self._split, examples_of)

    def _classifier(self, right) -> keras.Model:
        keras.utils.set_random_seed(1)
        network = build_model(right.output, model=ModelConfig(hidden_units=(8,)), features=right.config, num_outputs=3)
        return keras.Model(network.input, keras.layers.Softmax()(network.output))

    def model(self, name: str, preprocessed) -> standard_artifacts.Model:
        artifact = standard_artifacts.Model()
        artifact.uri = str(self._folder / name)
        path = Path(path_utils.serving_model_dir(artifact.uri))
        warmup_rows = to_block(FINE_ROWS[:3])
        export_model(
            self._model, Preprocessing(preprocessed.output), preprocessed.features, path, warmup_rows=warmup_rows
        )
        return artifact

    def evaluation(self, model: standard_artifacts.Model) -> standard_artifacts.ModelEvaluation:
        artifact = standard_artifacts.ModelEvaluation()
        artifact.uri = str(Path(model.uri) / "evaluation")
        Path(artifact.uri).mkdir()
        golden_rows = golden.predict_golden_rows(
            str(self._split),
            number=40,
            transform_graph=self._right.output.transform_savedmodel_dir.removesuffix("/transform_fn"),
            saved_model=saved_model_path([model]),
        )
        golden.write(golden_rows, Path(artifact.uri))
        (Path(artifact.uri) / EVALUATION).write_text('{"metrics": {"accuracy": 0.9}}')
        return artifact


@pytest.fixture(scope="module")
def artifacts(multiclass, preprocess, tmp_path_factory):  # noqa: F811
    """By name: a right and a wrong model, each with its evaluation."""
    export = Export(multiclass, tmp_path_factory.mktemp("models"))
    wrong = preprocess(WRONG_ROWS, label="species", vocabulary_size=10, hash_buckets=16)
    models = {"right": export.model("right", multiclass), "wrong": export.model("wrong", wrong)}
    return {name: (model, export.evaluation(model)) for name, model in models.items()}


def endpoint_of(server: RunningServer, **changes) -> EndpointConfig:
    both = {"rest": f"http://127.0.0.1:{server.rest_port}", "grpc": f"127.0.0.1:{server.grpc_port}"}
    return EndpointConfig(**{**both, "timeout_seconds": 20, **changes})


def execute(artifacts, served: Path, endpoint: EndpointConfig, *, version: int) -> None:
    model, evaluation = artifacts
    Executor().Do(
        {"model": [model], "evaluation": [evaluation]},
        {"pushed_model": [standard_artifacts.PushedModel()]},
        {
            "push_directory": str(served),
            "version": version,
            "model_name": "penguins",
            "endpoint": endpoint.model_dump_json(),
            "keep_versions": 1,
        },
    )


def available(server: RunningServer) -> list[str]:
    answer = httpx.get(f"http://127.0.0.1:{server.rest_port}/v1/models/penguins").json()
    statuses = answer.get("model_version_status", [])
    return [status["version"] for status in statuses if status["state"] == "AVAILABLE"]


def test_right_model_is_pushed_and_recorded_as_verified(artifacts, served, server):
    execute(artifacts["right"], served, endpoint_of(server), version=7)

    assert available(server) == ["7"]
    assert read_record(served, 7).verified_at is not None


@pytest.mark.parametrize("left_out", ["rest", "grpc"])
def test_model_with_a_wrong_transform_graph_is_caught_and_rolled_back(artifacts, served, server, left_out):
    execute(artifacts["right"], served, endpoint_of(server), version=7)

    protocol = "gRPC" if left_out == "rest" else "REST"
    message = (
        rf"Version 8 was withdrawn: over {protocol} the server's answers differ "
        r"from the Evaluator's offline predictions\. "
        r"Received: row \d+ of 40, the probability of '\w+' is .*, and offline it is .*tolerance 0\.0001"
        r".* The server is back on version 7\."
    )
    with pytest.raises(PushError, match=message):
        execute(artifacts["wrong"], served, endpoint_of(server, **{left_out: None}), version=8)

    assert versions(served) == [7]
    assert available(server) == ["7"]


def test_wrong_model_that_is_the_first_leaves_nothing(artifacts, served, server):
    with pytest.raises(PushError, match="No version is served now, as before"):
        execute(artifacts["wrong"], served, endpoint_of(server), version=7)

    assert list(served.iterdir()) == []


def test_version_that_was_pushed_and_not_yet_verified_is_verified(artifacts, served, server):
    """As after a kill between the two."""
    push(saved_model_path([artifacts["wrong"][0]]), served, version=7, replaced_version=None, to_be_verified=True)

    with pytest.raises(PushError, match="answers differ"):
        execute(artifacts["wrong"], served, endpoint_of(server), version=7)

    assert versions(served) == []


def test_model_that_the_server_cannot_load_is_withdrawn(artifacts, served, server, tmp_path):
    execute(artifacts["right"], served, endpoint_of(server), version=7)
    broken = standard_artifacts.Model()
    broken.uri = str(tmp_path / "broken")
    folder = Path(path_utils.serving_model_dir(broken.uri))
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text("no model")

    with pytest.raises(PushError, match=r"Version 8 was withdrawn: the server .*The server is back on version 7"):
        execute((broken, artifacts["right"][1]), served, endpoint_of(server, timeout_seconds=3), version=8)

    assert available(server) == ["7"]


def test_error_of_a_load_that_was_cut_does_not_count_until_it_lasts(served, server, monkeypatch):
    failed = VersionStatus(8, State.END, ServingError(Code.NOT_FOUND, "no saved_model.pb"))
    answers = [[failed], [failed], [VersionStatus(8, State.AVAILABLE)]]
    monkeypatch.setattr(Verification, "_status", lambda *_: answers[0] if len(answers) == 1 else answers.pop(0))
    verification = Verification(endpoint_of(server), "penguins", served)

    verification.wait_until_served(8)
    assert len(answers) == 1

    answers[:] = [[failed]]
    monkeypatch.setattr(push_verification, "SETTLED_SECONDS", 0.3)
    with pytest.raises(PushError, match=r"could not load it: no saved_model\.pb"):
        verification.wait_until_served(8)


def test_server_that_watches_another_directory_is_told_apart(artifacts, served, server, tmp_path):
    elsewhere = tmp_path / "elsewhere"

    with pytest.raises(
        PushError, match=rf"did not report it AVAILABLE.*Received: no version of this model.*{elsewhere}"
    ):
        execute(artifacts["right"], elsewhere, endpoint_of(server, timeout_seconds=1), version=7)

    assert versions(elsewhere) == []


def test_server_that_is_gone_is_told_and_the_version_waits_for_the_next_run(artifacts, served, server):
    endpoint = endpoint_of(server, grpc=None, timeout_seconds=1)
    server.ask_to_stop()
    server.wait()

    message = rf"Version 7 could not be verified: {endpoint.rest} did not answer: .* was not withdrawn\. The next run"
    with pytest.raises(PushError, match=message):
        execute(artifacts["right"], served, endpoint, version=7)

    assert versions(served) == [7]
    assert read_record(served, 7).is_pending


@pytest.mark.parametrize("status", [403, 502])
def test_version_is_not_withdrawn_for_what_a_proxy_says(artifacts, served, status, monkeypatch):
    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(status)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        endpoint = EndpointConfig(rest="http://models.example:8501", timeout_seconds=1)
        with pytest.raises(PushError, match=rf"could not be verified: .*something on the way answered {status} "):
            execute(artifacts["right"], served, endpoint, version=7)
        proxy.shutdown()

    assert versions(served) == [7]


def test_interrupted_verification_withdraws_the_version(artifacts, served, server, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(push_verification.Verification, "_compare", interrupt)
    with pytest.raises(KeyboardInterrupt):
        execute(artifacts["right"], served, endpoint_of(server), version=7)

    assert versions(served) == []


def test_version_that_the_server_has_is_not_removed(artifacts, served):
    """The policy keeps one version, and the server has two."""
    model = ServedModel("penguins", served, policy=AllVersions())
    with RunningServer(options(model)) as server:
        execute(artifacts["right"], served, endpoint_of(server), version=7)
        push(saved_model_path([artifacts["right"][0]]), served, version=8, replaced_version=7)
        wait_until(lambda: sorted(available(server)) == ["7", "8"])

        execute(artifacts["right"], served, endpoint_of(server), version=8)

    assert versions(served) == [7, 8]


def test_version_that_was_good_before_is_not_taken_away_by_a_server_that_is_gone(artifacts, served, server):
    execute(artifacts["right"], served, endpoint_of(server), version=7)
    endpoint = endpoint_of(server, timeout_seconds=1)
    server.ask_to_stop()
    server.wait()

    with pytest.raises(
        PushError, match=r"Version 7 could not be verified again: .* did not answer: .* It was not withdrawn"
    ):
        execute(artifacts["right"], served, endpoint, version=7)

    assert versions(served) == [7]


def test_other_version_whose_verification_was_killed_is_withdrawn(artifacts, served, server):
    execute(artifacts["right"], served, endpoint_of(server), version=7)
    push(saved_model_path([artifacts["wrong"][0]]), served, version=8, replaced_version=7, to_be_verified=True)

    execute(artifacts["right"], served, endpoint_of(server), version=9)

    assert versions(served) == [9]
    assert read_record(served, 9).replaced_version == 7


def test_server_that_starts_late_is_waited_for(artifacts, served):
    ports = dict(zip(("rest_port", "grpc_port"), free_ports(2), strict=True))
    late = RunningServer(options(ServedModel("penguins", served), **ports))
    endpoint = EndpointConfig(
        rest=f"http://127.0.0.1:{ports['rest_port']}", grpc=f"127.0.0.1:{ports['grpc_port']}", timeout_seconds=30
    )
    timer = threading.Timer(4, late.start)
    timer.start()
    try:
        execute(artifacts["right"], served, endpoint, version=7)
    finally:
        timer.join()
        late.ask_to_stop()
        late.wait()

    assert read_record(served, 7).verified_at is not None


def test_regression_is_verified_over_both_protocols(regression, served, server, tmp_path):  # noqa: F811
    network = build_model(
        regression.output, model=ModelConfig(hidden_units=(8,)), features=regression.config, num_outputs=1
    )
    values = keras.Model(network.input, keras.layers.Rescaling(scale=800.0, offset=4_000.0)(network.output))
    export = Export(regression, tmp_path / "models", model=values, examples_of=make_rows())
    model = export.model("regression", regression)

    execute((model, export.evaluation(model)), served, endpoint_of(server), version=7)

    assert read_record(served, 7).verified_at is not None


def test_what_is_available_is_asked_of_the_server(artifacts, served, server):
    execute(artifacts["right"], served, endpoint_of(server), version=7)

    assert Verification(endpoint_of(server), "penguins", served).available() == {7}
