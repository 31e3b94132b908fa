"""Versions on disk and what becomes of them, at the manager and at a running server."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from kubetfx.artifacts import WARMUP_REQUESTS
from kubetfx.errors import UsageError
from kubetfx.serving import versions
from kubetfx.serving.model_config import (
    AllVersions,
    LatestVersions,
    ModelConfig,
    SpecificVersions,
    VersionPolicy,
    read_model_config_file,
)
from kubetfx.serving.saved_model import SavedModel
from kubetfx.serving.served_version import ServedVersion
from kubetfx.serving.server import RunningServer
from kubetfx.serving.status import Code, ServingError
from kubetfx.serving.version_state import State
from kubetfx.serving.versions import ModelManager, VersionOptions
from tests.serving.conftest import options, wait_until

MakeManager = Callable[..., ModelManager]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An empty base path."""
    path = tmp_path / "model"
    path.mkdir()
    return path


@pytest.fixture
def manage(base: Path) -> Iterator[MakeManager]:
    """Makes managers of one model at `base` that poll only when they are told to."""
    managers = []

    def make(policy: VersionPolicy | None = None, **changes: Any) -> ModelManager:
        config = ModelConfig("m", base, policy or LatestVersions(), changes.pop("labels", {}))
        made = ModelManager([config], VersionOptions(poll_seconds=0, **{"retry_seconds": 0, **changes}))
        managers.append(made)
        made.start()
        return made

    yield make
    for manager in managers:
        manager.stop()


def push(model: Path, base: Path, version: int | str) -> Path:
    """Put a version in place at once, as a push does."""
    aside = base / f".aside-{version}"
    shutil.copytree(model, aside)
    target = base / str(version)
    aside.rename(target)
    return target


def addend(manager: ModelManager, **which: Any) -> float:
    """What the version that answers adds."""
    version = manager.acquire("m", **which)
    try:
        signature = version.model.signatures["serving_default"]
        (result,) = version.model.run(
            [signature.inputs["x"].tensor_name], [np.zeros(1, np.float32)], [signature.outputs["y"].tensor_name]
        )
        return float(result[0])
    finally:
        version.release()


def states(manager: ModelManager) -> dict[int, str]:
    return {status.version: status.state.name for status in manager.statuses("m")}


def served(manager: ModelManager) -> set[int]:
    return {version for version, state in states(manager).items() if state == "AVAILABLE"}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (LatestVersions(), {10}),
        (LatestVersions(2), {9, 10}),
        (AllVersions(), {1, 9, 10}),
        (SpecificVersions(frozenset({1, 7})), {1}),
    ],
    ids=["latest", "latest_2", "all", "specific"],
)
def test_policy_chooses_versions_by_number(
    manage: MakeManager, base: Path, half_plus: Any, policy: VersionPolicy, expected: set[int]
) -> None:
    for version in (1, 9, 10):
        push(half_plus(2.0), base, version)
    (base / "notes").mkdir()
    (base / "11").write_text("a file is no version")
    (base / "12.tmp").mkdir()
    assert served(manage(policy)) == expected


def test_version_may_have_leading_zeros(manage: MakeManager, base: Path, half_plus: Any) -> None:
    push(half_plus(2.0), base, "00000123")
    assert served(manage()) == {123}


def test_new_version_takes_over_and_the_old_one_ends(manage: MakeManager, base: Path, half_plus: Any) -> None:
    push(half_plus(2.0), base, 1)
    manager = manage()
    assert addend(manager) == 2.0
    push(half_plus(3.0), base, 2)
    manager.poll()
    assert addend(manager) == 3.0
    wait_until(lambda: states(manager) == {2: "AVAILABLE", 1: "END"})
    with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(m, 1\)"):
        manager.acquire("m", version=1)


def test_version_in_use_is_unloaded_after_its_last_request(manage: MakeManager, base: Path, half_plus: Any) -> None:
    push(half_plus(2.0), base, 1)
    manager = manage()
    held = manager.acquire("m")
    push(half_plus(3.0), base, 2)
    manager.poll()
    assert states(manager)[1] == "UNLOADING"
    signature = held.model.signatures["serving_default"]
    held.model.run([signature.inputs["x"].tensor_name], [np.zeros(1, np.float32)], [signature.outputs["y"].tensor_name])
    held.release()
    wait_until(lambda: states(manager)[1] == "END")


def test_removed_version_ends_and_nothing_is_served(manage: MakeManager, base: Path, half_plus: Any) -> None:
    version = push(half_plus(2.0), base, 1)
    manager = manage()
    shutil.rmtree(version)
    manager.poll()
    wait_until(lambda: states(manager) == {1: "END"})
    with pytest.raises(ServingError, match=r"Servable not found for request: Latest\(m\)"):
        manager.acquire("m")


def test_removal_of_the_newest_brings_the_one_before_back(manage: MakeManager, base: Path, half_plus: Any) -> None:
    push(half_plus(2.0), base, 1)
    newest = push(half_plus(3.0), base, 2)
    manager = manage()
    assert addend(manager) == 3.0
    shutil.rmtree(newest)
    manager.poll()
    assert addend(manager) == 2.0


def test_base_path_that_vanishes_leaves_what_is_served(manage: MakeManager, base: Path, half_plus: Any) -> None:
    push(half_plus(2.0), base, 1)
    manager = manage()
    away = base.rename(base.with_name("away"))
    manager.poll()
    assert addend(manager) == 2.0
    away.rename(base)
    push(half_plus(3.0), base, 2)
    manager.poll()
    assert addend(manager) == 3.0


def test_base_path_may_come_later(manage: MakeManager, base: Path, half_plus: Any) -> None:
    base.rmdir()
    manager = manage()
    with pytest.raises(ServingError, match="Could not find any versions of model m") as caught:
        manager.statuses("m")
    assert caught.value.code is Code.NOT_FOUND
    base.mkdir()
    push(half_plus(2.0), base, 1)
    manager.poll()
    assert addend(manager) == 2.0


def break_empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def break_graph(path: Path) -> None:
    file = path / "saved_model.pb"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def break_variables(path: Path) -> None:
    (file,) = (path / "variables").glob("variables.data*")
    file.write_bytes(file.read_bytes()[:3])


def lose_variables(path: Path) -> None:
    shutil.rmtree(path / "variables")


def lose_index(path: Path) -> None:
    (path / "variables" / "variables.index").unlink()


@pytest.mark.parametrize("harm", [break_empty, break_graph, break_variables, lose_variables, lose_index])
def test_broken_version_is_never_served_and_loads_once_it_is_whole(
    manage: MakeManager, base: Path, half_plus: Any, harm: Callable[[Path], None]
) -> None:
    push(half_plus(2.0), base, 1)
    manager = manage()
    broken = base / "2"
    shutil.copytree(half_plus(3.0), broken)
    harm(broken)
    manager.poll()
    assert addend(manager) == 2.0
    status = {status.version: status for status in manager.statuses("m")}[2]
    assert status.state in (State.START, State.END)
    assert status.error is not None
    shutil.rmtree(broken)
    push(half_plus(3.0), base, 2)
    manager.poll()
    assert addend(manager) == 3.0


def test_failed_load_is_not_tried_again_before_its_time_unless_it_changes(
    manage: MakeManager, base: Path, half_plus: Any
) -> None:
    broken = push(half_plus(2.0), base, 1)
    file = broken / "saved_model.pb"
    content = file.read_bytes()
    file.write_bytes(b"\xff")
    manager = manage(retry_seconds=3600)
    assert states(manager) == {1: "END"}
    file.write_bytes(content)
    manager.poll()
    assert addend(manager) == 2.0


def test_lost_file_is_looked_for_once_more_and_then_not_before_its_time(
    manage: MakeManager, base: Path, half_plus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_index(push(half_plus(2.0), base, 1))
    manager = manage(retry_seconds=3600)
    manager.poll()
    assert states(manager) == {1: "END"}
    monkeypatch.setattr(versions, "SavedModel", lambda *_: pytest.fail("it is not loaded again"))
    manager.poll()
    assert states(manager) == {1: "END"}


def test_version_that_is_taken_away_while_it_is_loaded_is_loaded_as_soon_as_it_is_back(
    manage: MakeManager, base: Path, half_plus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, aside = push(half_plus(2.0), base, 1), base / ".aside"

    def load_what_goes(path: Path) -> Any:
        path.rename(aside)
        return SavedModel(path)

    monkeypatch.setattr(versions, "SavedModel", load_what_goes)
    manager = manage(retry_seconds=3600)
    assert states(manager) == {1: "START"}
    monkeypatch.undo()
    aside.rename(version)
    manager.poll()
    assert addend(manager) == 2.0


def test_version_written_while_polled_is_served_only_when_whole(base: Path, half_plus: Any) -> None:
    push(half_plus(2.0), base, 1)
    with RunningServer(options(ModelConfig("m", base))) as running:
        source = half_plus(3.0)
        seen = set()
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            target = base / "2" / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            content = file.read_bytes()
            with target.open("wb") as stream:
                for half in (content[: len(content) // 2], content[len(content) // 2 :]):
                    seen.add(predict(running, 0))
                    stream.write(half)
                    stream.flush()
                    running.manager.poll()
        wait_until(lambda: predict(running, 0) == 3.0)
    assert seen == {2.0}


def predict(server: RunningServer, x: float, **options: Any) -> float:
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/m:predict"
    response = httpx.post(url, json={"instances": [x]}, timeout=20)
    assert response.status_code == 200, response.text
    return float(response.json()["predictions"][0])


@pytest.mark.parametrize("swaps", [50, pytest.param(500, marks=pytest.mark.long)])
def test_swaps_under_load_fail_no_request(base: Path, half_plus: Any, swaps: int) -> None:
    """The base path holds one link at a time, so that a swap costs no copy."""
    models = [half_plus(2.0), half_plus(3.0)]
    (base / "1").symlink_to(models[0])
    done = threading.Event()
    failures: list[str] = []
    counts: list[int] = []

    def ask(port: int) -> None:
        answers = 0
        with httpx.Client(timeout=30) as client:
            while not done.is_set():
                response = client.post(f"http://127.0.0.1:{port}/v1/models/m:predict", content=b'{"instances": [0]}')
                answers += 1
                if response.status_code != 200 or response.json()["predictions"] not in ([2.0], [3.0]):
                    failures.append(response.text)
        counts.append(answers)

    with RunningServer(options(ModelConfig("m", base), versions=VersionOptions(poll_seconds=0))) as running:
        clients = [threading.Thread(target=ask, args=(running.rest_port,)) for _ in range(2)]
        for client in clients:
            client.start()
        for version in range(2, swaps + 2):
            (base / str(version)).symlink_to(models[version % 2])
            running.manager.poll()
            (base / str(version - 1)).unlink()
        done.set()
        for client in clients:
            client.join()
        newest = running.manager.acquire("m")
        assert newest.version == swaps + 1
        newest.release()
    assert failures == []
    assert sum(counts) > swaps


def test_many_ended_versions_are_forgotten(manage: MakeManager, base: Path, half_plus: Any) -> None:
    manager = manage()
    model = manager._models["m"]
    for version in range(1, 101):
        (base / str(version)).symlink_to(half_plus(2.0))
        manager.poll()
        (base / str(version)).unlink()
        manager.poll()
        wait_until(lambda version=version: model.statuses[version].state is State.END)
    assert len(manager.statuses("m")) <= 65


def warm(path: Path, *logs: prediction_log_pb2.PredictionLog) -> None:
    file = path / WARMUP_REQUESTS
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def warm_up_log(value: Any) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="m"))
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(value))
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))


def test_version_whose_warm_up_fails_is_not_served(manage: MakeManager, base: Path, half_plus: Any) -> None:
    push(half_plus(2.0), base, 1)
    manager = manage()
    aside = base.parent / "aside"
    shutil.copytree(half_plus(3.0), aside)
    warm(aside, warm_up_log("text"))
    push(aside, base, 2)
    manager.poll()
    assert addend(manager) == 2.0
    status = {status.version: status for status in manager.statuses("m")}[2]
    assert "Expects arg[0] to be float but string is provided" in str(status.error)


def test_warm_up_requests_of_each_kind_are_replayed(manage: MakeManager, base: Path, kinds: Path) -> None:
    aside = base.parent / "aside"
    shutil.copytree(kinds, aside)
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(1)
    classify = classification_pb2.ClassificationRequest(
        model_spec=model_pb2.ModelSpec(name="m", signature_name="classify")
    )
    classify.input.example_list.examples.append(example)
    regress = regression_pb2.RegressionRequest(model_spec=model_pb2.ModelSpec(name="m", signature_name="regress"))
    regress.input.example_list.examples.append(example)
    warm(
        aside,
        prediction_log_pb2.PredictionLog(classify_log=prediction_log_pb2.ClassifyLog(request=classify)),
        prediction_log_pb2.PredictionLog(regress_log=prediction_log_pb2.RegressLog(request=regress)),
    )
    push(aside, base, 1)
    assert served(manage()) == {1}
    shutil.rmtree(base / "1")
    warm(
        aside,
        prediction_log_pb2.PredictionLog(session_run_log=prediction_log_pb2.SessionRunLog()),
    )
    push(aside, base, 2)
    other = manage()
    assert "Unsupported log_type for warmup" in str(other.statuses("m")[0].error)


def test_damaged_warm_up_file_keeps_a_version_from_being_served(
    manage: MakeManager, base: Path, half_plus: Any
) -> None:
    version = push(half_plus(2.0), base, 1)
    warm(version, warm_up_log(1.0))
    file = version / WARMUP_REQUESTS
    file.write_bytes(file.read_bytes()[:-2])
    manager = manage()
    assert states(manager) == {1: "END"}


def test_label_names_a_version_and_can_be_moved_to_a_loaded_one_only(
    manage: MakeManager, base: Path, half_plus: Any
) -> None:
    push(half_plus(2.0), base, 1)
    push(half_plus(3.0), base, 2)
    manager = manage(AllVersions())
    manager.reload([ModelConfig("m", base, AllVersions(), {"stable": 1})])
    assert addend(manager, label="stable") == 2.0
    with pytest.raises(ServingError, match="Request to assign label to version 3 of model m, which is not currently"):
        manager.reload([ModelConfig("m", base, AllVersions(), {"stable": 3})])
    assert addend(manager, label="stable") == 2.0
    manager.reload([ModelConfig("m", base, AllVersions(), {"stable": 2})])
    assert addend(manager, label="stable") == 3.0
    with pytest.raises(ServingError, match="Unrecognized servable version label: canary"):
        manager.acquire("m", label="canary")


def test_label_for_a_version_that_is_not_loaded_needs_permission(
    manage: MakeManager, base: Path, half_plus: Any
) -> None:
    push(half_plus(2.0), base, 1)
    with pytest.raises(ServingError, match="not currently available for inference"):
        manage(labels={"stable": 1})
    manager = manage(labels={"stable": 1}, allow_labels_for_unavailable_versions=True)
    assert addend(manager, label="stable") == 2.0


def reload_request(*models: tuple[str, Path]) -> model_management_pb2.ReloadConfigRequest:
    request = model_management_pb2.ReloadConfigRequest()
    for name, path in models:
        request.config.model_config_list.config.add(name=name, base_path=str(path), model_platform="tensorflow")
    return request


def other_platform(
    request: model_management_pb2.ReloadConfigRequest,
) -> model_management_pb2.ReloadConfigRequest:
    request.config.model_config_list.config[0].model_platform = "torch"
    return request


def test_reload_config_adds_and_drops_models(tmp_path: Path, half_plus: Any) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        push(half_plus(2.0), tmp_path / name, 1)
    with (
        RunningServer(options(ModelConfig("a", tmp_path / "a"))) as running,
        grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel,
    ):
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        wanted = reload_request(("b", tmp_path / "b"))
        wanted.metric_names.extend(["/tensorflow/serving/request_count", "/no/such/metric"])
        response = stub.HandleReloadConfigRequest(wanted, timeout=20)
        assert response.status.error_code == 0
        assert [(metric.name, metric.int64_value_increase) for metric in response.metric] == [
            ("/tensorflow/serving/request_count", 0),
            ("/no/such/metric", 0),
        ]
        url = f"http://127.0.0.1:{running.rest_port}/v1/models"
        assert httpx.get(f"{url}/b").json()["model_version_status"][0]["state"] == "AVAILABLE"
        assert httpx.get(f"{url}/a").status_code == 404
        for request, code, message in (
            (
                other_platform(reload_request(("b", tmp_path / "b"))),
                grpc.StatusCode.INVALID_ARGUMENT,
                "Illegal to change a model's platform. For model b platform was tensorflow and new platform requested "
                "is torch",
            ),
            (
                other_platform(reload_request(("new", tmp_path / "b"))),
                grpc.StatusCode.INVALID_ARGUMENT,
                "Model new requests unsupported platform torch",
            ),
            (reload_request(("c", tmp_path / "c")), grpc.StatusCode.UNKNOWN, "1 model(s) did not become available"),
            (reload_request(("b", Path("x"))), grpc.StatusCode.INVALID_ARGUMENT, "to have an absolute path or URI"),
            (
                reload_request(*[("b", tmp_path)] * 2),
                grpc.StatusCode.INVALID_ARGUMENT,
                "Illegal to list model b multiple",
            ),
            (
                model_management_pb2.ReloadConfigRequest(),
                grpc.StatusCode.INVALID_ARGUMENT,
                "ServerModelConfig type not",
            ),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                stub.HandleReloadConfigRequest(request, timeout=20)
            assert caught.value.code() is code
            assert message in caught.value.details()


CONFIG = """
model_config_list {{
  config {{ name: 'a' base_path: '{path}' model_platform: 'tensorflow'
    model_version_policy {{ specific {{ versions: 42 versions: 43 }} }}
    version_labels {{ key: 'stable' value: 42 }} }}
  config {{ name: 'b' base_path: '{path}' model_platform: 'tensorflow' model_version_policy {{ all {{}} }} }}
  config {{ name: 'c' base_path: '{path}' model_platform: 'tensorflow'
    model_version_policy {{ latest {{ num_versions: 2 }} }} }}
}}
"""


def test_model_config_file_is_tensorflow_servings(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(CONFIG.format(path=tmp_path))
    assert read_model_config_file(file) == (
        ModelConfig("a", tmp_path, SpecificVersions(frozenset({42, 43})), {"stable": 42}),
        ModelConfig("b", tmp_path, AllVersions()),
        ModelConfig("c", tmp_path, LatestVersions(2)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "not a ModelServerConfig in protobuf's text format"),
        (
            "model_config_list { config { name: 'a' base_path: 'relative' model_platform: 'tensorflow' } }",
            "absolute path",
        ),
        ("model_config_list { config { name: 'a' base_path: '/x' } }", "Illegal setting neither"),
        (
            "model_config_list { config { name: 'a' base_path: '/x' model_platform: 'torch' } }",
            "unsupported platform torch",
        ),
        ("model_config_list { config { base_path: '/x' model_platform: 'tensorflow' } }", "has no name"),
        ("", "ServerModelConfig type not supported"),
    ],
)
def test_wrong_model_config_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "models.config"
    file.write_text(text)
    with pytest.raises(UsageError, match="Received: ") as caught:
        read_model_config_file(file)
    assert message in str(caught.value)


def test_config_file_is_polled(tmp_path: Path, half_plus: Any) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        push(half_plus(2.0), tmp_path / name, 1)
    file = tmp_path / "models.config"
    text = "model_config_list {{ config {{ name: '{0}' base_path: '{1}/{0}' model_platform: 'tensorflow' }} }}"
    file.write_text(text.format("a", tmp_path))
    polled = options(model_config_file=file, model_config_file_poll_seconds=0.05)
    with RunningServer(polled) as running:
        assert running.manager.serves("a")
        file.write_text("broken {")
        aside = tmp_path / "aside"
        aside.write_text(text.format("b", tmp_path))
        os.replace(aside, file)
        wait_until(lambda: running.manager.serves("b") and not running.manager.has("a"))


def test_version_is_held_until_released() -> None:
    class Model:
        closed = False

        def close(self) -> None:
            self.closed = True

    model = Model()
    version = ServedVersion("m", 1, model)  # type: ignore[arg-type]
    assert version.acquire()
    thread = threading.Thread(target=version.retire)
    thread.start()
    wait_until(lambda: not version.acquire() or bool(version.release()))
    version.retain()
    version.release()
    assert not model.closed
    version.release()
    thread.join(20)
    assert model.closed
