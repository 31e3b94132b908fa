"""What the executor of a task hands to an engine's workers: URIs of the bucket that the launcher copies from and to."""

import json
from pathlib import Path

import pytest

from kubetfx.engine.shared_places import folder_of, place_of
from kubetfx.errors import EngineError
from kubetfx.kubeflow.engine_session import session_of
from kubetfx.kubeflow.executor_io import LAUNCHER_ROOT, ExecutorInput, local_path
from kubetfx.kubeflow.task_spec import Node, TaskSpec
from kubetfx.storage import ObjectPath

SPEC = TaskSpec(modules={"my_metrics": ""})
FLINK = ("--runner=FlinkRunner", "--job_endpoint=flink:8099")


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(LAUNCHER_ROOT, str(tmp_path))
    return tmp_path


def node(*arguments: str) -> Node:
    return Node(
        id="Evaluator",
        executor="kubetfx.components.evaluator.Executor",
        beam_arguments=arguments,
        inputs={"model": ("model",)},
        outputs={"evaluation": "evaluation"},
    )


def input_under(place: str) -> ExecutorInput:
    def artifact(name: str) -> dict[str, object]:
        return {"artifacts": [{"name": name, "uri": f"{place}/{name}"}]}

    document = {
        "inputs": {"artifacts": {"model": artifact("model")}},
        "outputs": {
            "outputFile": "/tmp/output.json",
            "artifacts": {"evaluation": artifact("evaluation"), "executor-logs": artifact("executor-logs-0")},
        },
    }
    return ExecutorInput.from_json(json.dumps(document))


def test_workers_get_uris_and_what_an_earlier_try_left_is_removed(bucket: ObjectPath, root: Path) -> None:
    given = input_under(str(bucket))
    evaluation, model = local_path(f"{bucket}/evaluation"), local_path(f"{bucket}/model")
    (bucket / "evaluation" / "of-an-earlier-try").write_bytes(b"old")
    (bucket / "model" / "saved_model.pb").write_bytes(b"model")
    own = root / "graph"
    own.mkdir()
    (own / "saved_model.pb").write_bytes(b"graph")

    with session_of(node(*FLINK), SPEC, given, folder=root) as session:
        assert not (bucket / "evaluation").files()
        assert place_of(evaluation / "Split-eval") == f"{bucket}/evaluation/Split-eval"
        assert folder_of(model / "1") == f"{bucket}/model/1"
        assert place_of("/shared/data/a.csv") == "/shared/data/a.csv"
        uploaded = folder_of(own)
        assert uploaded.startswith(f"{session.shared}/")
        assert [info.path.name for info in (session.shared).files()] == ["saved_model.pb"]
        (bucket / "evaluation" / "by-a-worker").write_bytes(b"new")

    assert session.modules == ("my_metrics",)
    assert [info.path.name for info in bucket.files()] == ["by-a-worker", "saved_model.pb"]
    assert place_of(evaluation) == str(evaluation)


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ((), "s3://no-such-bucket-of-ours/root"),
        (("--runner=DirectRunner",), "s3://no-such-bucket-of-ours/root"),
        (FLINK, "minio://mlpipeline/v2/artifacts"),  # kfp-local: a folder stands for the store
    ],
    ids=["no engine", "this process", "kfp-local"],
)
def test_paths_stay_paths_where_they_are_seen(arguments: tuple[str, ...], place: str, root: Path) -> None:
    path = local_path(f"{place}/evaluation")

    with session_of(node(*arguments), SPEC, input_under(place), folder=root):
        assert place_of(path) == str(path)


def test_store_of_the_cluster_is_reached_at_the_address_in_the_environment(
    bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(LAUNCHER_ROOT, raising=False)
    place = str(bucket).replace("s3://", "minio://")

    with session_of(node(*FLINK), SPEC, input_under(place), folder=tmp_path):
        assert place_of(local_path(f"{place}/evaluation")) == f"{bucket}/evaluation"

    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with (
        pytest.raises(
            EngineError, match=rf"only the launcher knows\. Received: {place}/evaluation, and no AWS_ENDPOINT"
        ),
        session_of(node(*FLINK), SPEC, input_under(place), folder=tmp_path),
    ):
        pass


def test_root_that_is_no_bucket_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(LAUNCHER_ROOT, raising=False)
    with (
        pytest.raises(EngineError, match=r"no worker sees .* Received: pvc://x/evaluation\. Give the run a root in a"),
        session_of(node(*FLINK), SPEC, input_under("pvc://x"), folder=tmp_path),
    ):
        pass
