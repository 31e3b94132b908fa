"""What an executor sees of artifacts in a bucket, and what is left of it."""

from pathlib import Path
from typing import Any

import pytest
from tfx.orchestration.portable.data_types import ExecutionInfo
from tfx.proto.orchestration.execution_result_pb2 import ExecutorOutput
from tfx.types import standard_artifacts

from kubetfx.artifact_store import ArtifactStore, is_whole
from kubetfx.engine.shared_places import place_of, scratch_in
from kubetfx.pipeline.node_files import run_here
from kubetfx.storage import ObjectPath


@pytest.fixture
def store(bucket: ObjectPath, tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(tmp_path, bucket)
    store.begin(tmp_path / "metadata.sqlite")
    return store


@pytest.fixture
def info(store: ArtifactStore) -> ExecutionInfo:
    """Of a node that reads examples in the bucket, and writes a model."""
    examples, model = standard_artifacts.Examples(), standard_artifacts.Model()
    examples.uri, model.uri = f"{store.root}/ExampleGen/examples/1", f"{store.root}/Trainer/model/2"
    for name in ("profile.json", "Split-train/data.parquet"):
        (store.place / "ExampleGen" / "examples" / "1" / name).write_text("rows")
    system = f"{store.root}/Trainer/.system"
    return ExecutionInfo(
        execution_id=2,
        input_dict={"examples": [examples]},
        output_dict={"model": [model]},
        execution_output_uri=f"{system}/executor_execution/2/executor_output.pb",
        stateful_working_dir=f"{system}/stateful_working_dir/x",
        tmp_dir=f"{system}/executor_execution/2/.temp/",
    )


def said(info: Any) -> ExecutorOutput:
    """What TFX makes of an executor's outputs."""
    output = ExecutorOutput()
    artifact = output.output_artifacts["model"].artifacts.add()
    artifact.CopyFrom(info.output_dict["model"][0].mlmd_artifact)
    artifact.custom_properties["of"].string_value = info.input_dict["examples"][0].uri
    artifact.custom_properties["words"].string_value = "as they are"
    return output


def test_executor_works_on_paths_and_the_launcher_on_uris(store: ArtifactStore, info: ExecutionInfo) -> None:
    seen: list[Any] = []

    def run(here: Any) -> ExecutorOutput:
        seen.append(here)
        examples, model = Path(here.input_dict["examples"][0].uri), Path(here.output_dict["model"][0].uri)
        assert (examples / "Split-train" / "data.parquet").read_text() == "rows"
        (model / "saved_model.pb").write_text("model")
        Path(here.tmp_dir, "x").touch()
        return said(here)

    output = run_here(store, info, run)

    (artifact,) = output.output_artifacts["model"].artifacts
    assert artifact.uri == info.output_dict["model"][0].uri == f"{store.root}/Trainer/model/2"
    assert artifact.custom_properties["of"].string_value == f"{store.root}/ExampleGen/examples/1"
    assert artifact.custom_properties["words"].string_value == "as they are"
    assert (store.place / "Trainer" / "model" / "2" / "saved_model.pb").read_text() == "model"
    (here,) = seen
    assert not Path(here.tmp_dir).exists()
    assert not Path(here.stateful_working_dir).exists()
    assert is_whole(store.folder / "Trainer" / "model" / "2")


def test_failed_executor_leaves_nothing(store: ArtifactStore, info: ExecutionInfo) -> None:
    def run(here: Any) -> ExecutorOutput:
        Path(here.output_dict["model"][0].uri, "half").touch()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run_here(store, info, run)

    assert not (store.folder / "Trainer" / "model" / "2").exists()
    assert not (store.place / "Trainer").is_dir()
    assert list((store.folder / "Trainer" / "model").iterdir()) == []


def test_rows_stay_in_the_bucket_where_workers_go_through_them(store: ArtifactStore, info: ExecutionInfo) -> None:
    def run(here: Any) -> ExecutorOutput:
        examples, model = Path(here.input_dict["examples"][0].uri), Path(here.output_dict["model"][0].uri)
        assert [path.name for path in examples.rglob("*")] == ["profile.json"]
        assert place_of(examples / "Split-train") == f"{store.root}/ExampleGen/examples/1/Split-train"
        assert scratch_in(model) == f"{store.root}/Trainer/.system/executor_execution/2/.temp"
        (store.place / "Trainer" / "model" / "2" / "by a worker").write_text("x")
        (model / "by this process").touch()
        return said(here)

    run_here(store, info, run, has_workers=True)

    model = store.folder / "Trainer" / "model" / "2"
    assert not is_whole(model)
    assert {path.name for path in store.find(f"{store.root}/Trainer/model/2").iterdir()} == {
        "by a worker",
        "by this process",
    }
    assert is_whole(model)
    assert place_of(model) == str(model)


def test_workspace_in_a_folder_is_left_alone(tmp_path: Path, info: ExecutionInfo) -> None:
    assert run_here(ArtifactStore(tmp_path), info, lambda here: here) is info
