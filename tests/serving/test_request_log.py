"""The request log: what REST and gRPC were asked, as TensorFlow Serving writes it down."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from kubetfx.artifacts import WARMUP_REQUESTS
from kubetfx.cli.app import main
from kubetfx.errors import UsageError
from kubetfx.serving.model_config import ModelConfig, read_model_config_file
from kubetfx.serving.prometheus import Metrics
from kubetfx.serving.request_log import RequestLog, RequestLogOptions
from kubetfx.serving.saved_model import SavedModel
from kubetfx.serving.served_version import ServedVersion
from kubetfx.serving.server import RunningServer, ServerOptions, serve_with_tf_serving
from kubetfx.serving.tensor_proto import from_array, to_array, to_bytes
from kubetfx.serving.warmup import warm_up
from kubetfx.storage import ObjectPath
from tests.ports import free_ports
from tests.serving.conftest import options, wait_until

ROOT = Path(__file__).parents[2]
MIXED = {"number": 1.5, "count": 3, "name": "Ann"}


def records(folder: Path) -> list[prediction_log_pb2.PredictionLog]:
    paths = sorted(folder.glob("*.tfrecord"))
    return [
        prediction_log_pb2.PredictionLog.FromString(record)
        for path in paths
        for record in tf.compat.v1.io.tf_record_iterator(str(path))
    ]


def example(x: float) -> example_pb2.Example:
    return tf.train.Example(features={"feature": {"x": {"float_list": {"value": [x]}}}})


def logging_server(folder: Path | ObjectPath, *models: ModelConfig, **changes: Any) -> RunningServer:
    log = RequestLogOptions(folder, **{"sampling_rate": 1.0, **changes})
    return RunningServer(options(*models, request_log=log))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, base_paths: dict[str, Path]) -> tuple[Path, str]:
    """A log of one request of each kind, and the server's metrics."""
    folder = tmp_path_factory.mktemp("log") / "new" / "folder"
    with (
        logging_server(folder, ModelConfig("kinds", base_paths["kinds"])) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.rest_port}", timeout=20) as rest,
    ):
        kinds = "/v1/models/kinds"
        assert rest.post(f"{kinds}:predict", json={"instances": [MIXED, MIXED | {"count": 4}]}).is_success
        body = {"signature_name": "classify", "examples": [{"x": 0.25}]}
        assert rest.post(f"{kinds}:classify", json=body).is_success
        body = {"signature_name": "regress", "context": {"x": 9.0}, "examples": [{"x": 1.0}, {"x": 2.0}]}
        assert rest.post(f"{kinds}:regress", json=body).is_success
        assert rest.post(f"{kinds}:predict", json={"instances": ["wrong"]}).status_code == 400
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            ask_over_grpc(channel)
        wait_until(lambda: len(records(folder)) == 7)
        page = rest.get("/monitoring/prometheus/metrics").text
    return folder, page


def ask_over_grpc(channel: grpc.Channel) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest(output_filter=["product"])
    request.model_spec.name = "kinds"
    request.model_spec.version.value = 1
    for name, values in (("number", np.array([2.0], np.float32)), ("count", np.array([5]))):
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    request.inputs["name"].CopyFrom(tf.make_tensor_proto([b"\xff"]))
    stub.Predict(request)
    classify = classification_pb2.ClassificationRequest()
    classify.model_spec.name, classify.model_spec.signature_name = "kinds", "classify"
    classify.input.example_list.examples.append(example(0.5))
    stub.Classify(classify)
    regress = regression_pb2.RegressionRequest()
    regress.model_spec.name, regress.model_spec.signature_name = "kinds", "regress"
    regress.input.example_list_with_context.context.CopyFrom(example(4.0))
    regress.input.example_list_with_context.examples.add()
    stub.Regress(regress)
    several = inference_pb2.MultiInferenceRequest()
    several.input.example_list.examples.append(example(0.125))
    for kind in ("classify", "regress"):
        task = several.tasks.add(method_name=f"tensorflow/serving/{kind}")
        task.model_spec.name, task.model_spec.signature_name = "kinds", kind
    stub.MultiInference(several)


def of_kind(folder: Path, kind: str) -> list[prediction_log_pb2.PredictionLog]:
    return [log for log in records(folder) if log.WhichOneof("log_type") == kind]


def test_each_record_says_model_version_time_and_sampling(asked: tuple[Path, str]) -> None:
    for log in records(asked[0]):
        metadata = log.log_metadata
        assert (metadata.model_spec.name, metadata.model_spec.version.value) == ("kinds", 1)
        assert metadata.model_spec.signature_name
        assert metadata.sampling_config.sampling_rate == 1
        assert metadata.saved_model_tags == ["serve"]
        assert abs(metadata.timestamp_secs - time.time()) < 300


def test_predict_over_rest_is_the_request_that_grpc_would_have_brought(asked: tuple[Path, str]) -> None:
    log = of_kind(asked[0], "predict_log")[0].predict_log
    inputs = {name: to_array(tensor, name).tolist() for name, tensor in log.request.inputs.items()}
    assert inputs == {"number": [1.5, 1.5], "count": [3, 4], "name": [b"Ann", b"Ann"]}
    outputs = {name: to_array(tensor, name).tolist() for name, tensor in log.response.outputs.items()}
    assert outputs["product"] == [4.5, 6.0]
    assert outputs["pair"] == [[1.5, -1.5], [1.5, -1.5]]
    assert outputs["greeting"] == [b"hello Ann", b"hello Ann"]
    assert outputs["positive"] == [True, True]
    assert log.request.model_spec.name == "kinds"
    assert log.response.model_spec.version.value == 1


def test_predict_over_grpc_keeps_its_filter_and_odd_bytes(asked: tuple[Path, str]) -> None:
    log = of_kind(asked[0], "predict_log")[1].predict_log
    assert log.request.output_filter == ["product"]
    assert to_array(log.request.inputs["name"], "name").tolist() == [b"\xff"]
    assert list(log.response.outputs) == ["product"]
    assert to_array(log.response.outputs["product"], "product").tolist() == [10.0]


def test_examples_are_logged_with_their_context(asked: tuple[Path, str]) -> None:
    over_rest, over_grpc = (log.classify_log for log in of_kind(asked[0], "classify_log"))
    assert over_rest.request.input.example_list.examples[0] == example(0.25)
    (answer,) = over_grpc.response.result.classifications
    assert [(each.label, each.score) for each in answer.classes] == [("low", 0.5), ("high", 0.5)]
    over_rest_r, over_grpc_r = (log.regress_log for log in of_kind(asked[0], "regress_log"))
    assert list(over_rest_r.request.input.example_list.examples) == [example(1.0), example(2.0)]
    assert [each.value for each in over_rest_r.response.result.regressions] == [2.5, 3.0]
    assert over_grpc_r.request.input.example_list.examples[0] == example(4.0)
    (several,) = (log.multi_inference_log for log in of_kind(asked[0], "multi_inference_log"))
    assert [task.model_spec.signature_name for task in several.request.tasks] == ["classify", "regress"]
    assert several.response.results[1].regression_result.regressions[0].value == 2.0625


def test_what_failed_is_not_logged_and_the_page_counts_the_rest(asked: tuple[Path, str]) -> None:
    assert len(records(asked[0])) == 7
    page = asked[1]
    assert "# TYPE :tensorflow:serving:request_log_count counter" in page
    assert ':tensorflow:serving:request_log_count{model_name="kinds",status_code="OK"} 7.0' in page


def test_log_serves_as_warm_up_of_the_model(asked: tuple[Path, str], kinds: Path, tmp_path: Path) -> None:
    shutil.copytree(kinds, tmp_path / "1")
    (file,) = asked[0].glob("*.tfrecord")
    (tmp_path / "1" / WARMUP_REQUESTS).parent.mkdir(exist_ok=True)
    shutil.copy(file, tmp_path / "1" / WARMUP_REQUESTS)
    with SavedModel(tmp_path / "1") as model:
        assert warm_up(model, tmp_path / "1") == 7


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.5, -2], np.float32),
        np.array(7),
        np.zeros((0, 3), np.float64),
        np.array([[1, 2], [3, 4]], np.int32),
        np.array([True, False]),
        np.array([1.5], np.float16),
        np.array([b"x" * 300, b""], object),
        np.array([1 + 2j], np.complex64),
    ],
)
def test_bytes_of_a_tensor_are_those_of_its_message(array: np.ndarray) -> None:
    proto = tf.make_tensor_proto(array).__class__
    written, expected = proto.FromString(to_bytes(array)), proto()
    from_array(array, expected)
    assert (written.dtype, written.tensor_shape) == (expected.dtype, expected.tensor_shape)
    np.testing.assert_array_equal(tf.make_ndarray(written), tf.make_ndarray(expected))


# Sampling, rotation, drops


@pytest.fixture
def version(kinds: Path) -> Iterator[ServedVersion]:
    with SavedModel(kinds) as model:
        yield ServedVersion("a/model", 3, model)


def log_one(log: RequestLog, version: ServedVersion, size: int = 1) -> bool:
    sampled = log.sample(version, "")
    if sampled is not None:
        sampled.predict({"x": np.zeros(size, np.float32)}, (), {"y": np.zeros(size, np.float32)})
    return sampled is not None


def test_a_tenth_is_sampled_and_said(tmp_path: Path, version: ServedVersion) -> None:
    log = RequestLog(RequestLogOptions(tmp_path), Metrics())
    log.configure([])
    sampled = sum(log_one(log, version) for _ in range(3000))
    log.close()
    assert 200 < sampled < 400  # 300, give or take six standard deviations
    written = records(tmp_path)
    assert len(written) == sampled
    assert {each.log_metadata.sampling_config.sampling_rate for each in written} == {0.1}
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"a_model"}


def test_files_end_by_size_and_by_age(tmp_path: Path, version: ServedVersion) -> None:
    log = RequestLog(RequestLogOptions(tmp_path, 1.0, max_file_bytes=1000, max_file_seconds=0.3), Metrics())
    log.configure([])
    for _ in range(5):
        log_one(log, version, 200)  # 800 bytes each in request and answer
    log_one(log, version)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 6)
    time.sleep(0.8)
    log_one(log, version)
    log.close()
    assert len(list(tmp_path.iterdir())) == 7
    assert len(records(tmp_path)) == 7


def test_full_queue_drops_and_counts(tmp_path: Path, version: ServedVersion) -> None:
    metrics = Metrics()
    log = RequestLog(RequestLogOptions(tmp_path, 1.0, max_queued_bytes=3000), metrics)
    for _ in range(10):  # nobody writes yet
        log_one(log, version)
    log.configure([])
    log.close()
    assert len(records(tmp_path)) == 5
    page = metrics.page().decode()
    assert ':tensorflow:serving:request_log_count{model_name="a/model",status_code="RESOURCE_EXHAUSTED"} 5.0' in page
    assert ':tensorflow:serving:request_log_count{model_name="a/model",status_code="OK"} 5.0' in page


def test_folder_that_vanishes_is_said_once_and_written_again(
    tmp_path: Path, version: ServedVersion, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubetfx.serving.request_log._RETRY_SECONDS", 0.5)
    folder = tmp_path / "log"
    metrics = Metrics()
    log = RequestLog(RequestLogOptions(folder, 1.0), metrics)
    folder.rmdir()
    folder.write_text("in the way")
    log.configure([])
    for _ in range(20):
        log_one(log, version)
    wait_until(lambda: "cannot be written" in caplog.text)
    folder.unlink()
    time.sleep(0.6)
    log_one(log, version)
    wait_until(lambda: "written again" in caplog.text)
    log.close()
    assert caplog.text.count("the request log cannot be written") == 1
    assert "20 requests are not in it" in caplog.text
    assert len(records(folder)) == 1
    assert 'status_code="UNAVAILABLE"} 20.0' in metrics.page().decode()


@pytest.mark.long
def test_full_disk_costs_the_log_and_no_request(base_paths: dict[str, Path], tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces, to mount a small disk")
    mount, output = tmp_path / "small", tmp_path / "output"
    mount.mkdir()
    output.touch()
    rest_port, grpc_port = free_ports(2)
    arguments = [f"--model-base-path={base_paths['kinds']}", f"--rest-port={rest_port}", f"--grpc-port={grpc_port}"]
    arguments += [f"--log-requests={mount}/log", "--sample=1"]
    serve = shlex.join([sys.executable, "-m", "kubetfx", "serve", *arguments])
    script = f"mount -t tmpfs -o size=200k tmpfs {mount} && exec {serve} 2> {output}"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    with subprocess.Popen(["unshare", "-rm", "sh", "-c", script], cwd=ROOT, env=env) as process:
        try:
            url = f"http://127.0.0.1:{rest_port}"
            wait_until(lambda: process.poll() is not None or "REST at" in output.read_text(), seconds=60)
            instances = [MIXED | {"name": "x" * 1000}] * 20
            with httpx.Client(base_url=url, timeout=20) as rest:
                for _ in range(30):
                    assert rest.post("/v1/models/default:predict", json={"instances": instances}).is_success
                wait_until(lambda: "No space left on device" in output.read_text())
                page = rest.get("/monitoring/prometheus/metrics").text
                assert rest.post("/v1/models/default:predict", json={"instances": instances}).is_success
            assert 'request_log_count{model_name="default",status_code="UNAVAILABLE"}' in page
        finally:
            process.terminate()
    assert output.read_text().count("the request log cannot be written") == 1
    assert "Traceback" not in output.read_text()


# Buckets


def test_bucket_has_whole_files(bucket: ObjectPath, version: ServedVersion, tmp_path: Path) -> None:
    log = RequestLog(RequestLogOptions(bucket / "requests", 1.0), Metrics())
    log.configure([])
    for _ in range(3):
        log_one(log, version)
    log.close()
    (found,) = (bucket / "requests").files()
    assert found.path.name.startswith("a_model-")
    found.path.download(tmp_path / "copy.tfrecord")
    assert len(records(tmp_path)) == 3


def test_bucket_that_is_not_there_is_an_error_at_the_start(bucket: ObjectPath) -> None:
    with pytest.raises(Exception, match="no-such-bucket"):
        RequestLog(RequestLogOptions(ObjectPath("s3", "no-such-bucket/log")), Metrics())


# LoggingConfig


def model_config(base: Path, logging: str) -> str:
    config = f'name: "kinds" base_path: "{base}" model_platform: "tensorflow" {logging}'
    return f"model_config_list {{ config {{ {config} }} }}"


def logging_config(prefix: Path | str, rate: float, kind: str = "") -> str:
    collector = f'log_collector_config {{ type: "{kind}" filename_prefix: "{prefix}" }}'
    return f"logging_config {{ {collector} sampling_config {{ sampling_rate: {rate} }} }}"


def test_logging_config_of_a_file_is_followed_and_reloaded(base_paths: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(model_config(base_paths["kinds"], logging_config(tmp_path / "first" / "kinds", 1)))
    with RunningServer(options(model_config_file=file)) as server:
        predict = f"http://127.0.0.1:{server.rest_port}/v1/models/kinds:predict"
        assert httpx.post(predict, json={"instances": [MIXED]}).is_success
        request = model_management_pb2.ReloadConfigRequest()
        config = request.config.model_config_list.config.add(name="kinds", model_platform="tensorflow")
        config.base_path = str(base_paths["kinds"])
        config.logging_config.log_collector_config.filename_prefix = str(tmp_path / "second" / "kinds")
        config.logging_config.sampling_config.sampling_rate = 1
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request)
            assert httpx.post(predict, json={"instances": [MIXED, MIXED]}).is_success
            config.ClearField("logging_config")
            model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request)
        assert httpx.post(predict, json={"instances": [MIXED]}).is_success
    assert [len(records(tmp_path / folder)) for folder in ("first", "second")] == [1, 1]
    (log,) = records(tmp_path / "second")
    assert log.predict_log.request.inputs["name"].tensor_shape.dim[0].size == 2


@pytest.mark.parametrize(
    ("logging", "message"),
    [
        (logging_config(Path("/log/x"), 1.5), "sampling_rate of model kinds has to be from 0 to 1. Received: 1.5"),
        (logging_config(Path("/log/x"), 1, "kafka"), "Cannot find LogCollector::Factory for type: kafka"),
        ("logging_config { }", "log_collector_config of model kinds has no filename_prefix"),
        (logging_config("ftp://x", 1), "filename_prefix of model kinds is not a place for files"),
    ],
)
def test_wrong_logging_config_is_explained(logging: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(model_config(tmp_path, logging))
    with pytest.raises(UsageError) as refused:
        read_model_config_file(file)
    assert message in str(refused.value)


def test_tensorflow_serving_itself_is_not_asked_for_a_log(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(model_config(tmp_path, logging_config(tmp_path / "x", 1)))
    for chosen in (
        ServerOptions(model_config_file=file),
        ServerOptions(models=(ModelConfig("m", tmp_path),), request_log=RequestLogOptions(tmp_path)),
    ):
        with pytest.raises(UsageError, match="logs no requests, unless a request logger is compiled into it"):
            serve_with_tf_serving(chosen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sample=0.5"], "Error: --sample is given without --log-requests."),
        (["--log-requests=x", "--sample=0"], "Error: --sample is a share of the requests, above 0 and up to 1."),
        (["--log-requests=x", "--sample=10"], "Received: 10."),
        (["--log-requests=ftp://x"], "Error: --log-requests: a folder of this machine is needed"),
        (["--log-requests=/dev/null/x"], "Error: --log-requests cannot be written"),
    ],
)
def test_wrong_options_are_explained(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["kubetfx", "serve", "--model-base-path=/x", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert message in " ".join(capfd.readouterr().err.split())
