import time
from pathlib import Path

import pytest
from tfx.orchestration.portable.data_types import ExecutionInfo
from tfx.types import standard_artifacts

from kubetfx.artifacts import EVALUATION
from kubetfx.components.push.push_directory import push, read_record, roll_back, versions
from kubetfx.components.pusher import NOT_BLESSED, Driver, Executor
from kubetfx.components.served_model_resolver import saved_model_path
from kubetfx.errors import PushError
from kubetfx.storage import ObjectPath


@pytest.fixture
def served(tmp_path) -> Path:
    return tmp_path / "served"


def blessing(*, blessed: bool) -> standard_artifacts.ModelBlessing:
    artifact = standard_artifacts.ModelBlessing()
    artifact.set_int_custom_property("blessed", int(blessed))
    return artifact


def choose_version(model, served: Path | ObjectPath, *, blessed: bool = True) -> int:
    info = ExecutionInfo(
        input_dict={"model": [model], "model_blessing": [blessing(blessed=blessed)]},
        exec_properties={"push_directory": str(served)},
    )
    return Driver(None).run(info).exec_properties["version"].int_value


def execute(
    model, served: Path | ObjectPath, *, version: int, keep_versions: int = 0, folder: Path | None = None
) -> list[standard_artifacts.PushedModel]:
    output = {"pushed_model": [standard_artifacts.PushedModel()]}
    evaluation = standard_artifacts.ModelEvaluation()
    evaluation.uri = str((folder or served.parent) / "evaluation")
    Path(evaluation.uri).mkdir(exist_ok=True)
    (Path(evaluation.uri) / EVALUATION).write_text('{"metrics": {"accuracy": 0.75, "auc": NaN}}')
    properties = {
        "push_directory": str(served),
        "version": version,
        "model_name": "m",
        "endpoint": "",
        "keep_versions": keep_versions,
    }
    Executor().Do({"model": [model], "evaluation": [evaluation]}, output, properties)
    return output["pushed_model"]


def test_model_that_is_not_blessed_gets_no_version(make_model, served):
    assert choose_version(make_model("new"), served, blessed=False) == NOT_BLESSED


def test_model_that_is_not_blessed_is_not_pushed(make_model, served):
    push(saved_model_path([make_model("old")]), served, version=9, replaced_version=None)

    assert execute(make_model("new"), served, version=NOT_BLESSED) == []
    assert versions(served) == [9]


def test_first_version_is_the_time(make_model, served):
    assert abs(choose_version(make_model("new"), served) - time.time()) < 5


def test_another_model_gets_a_version_above_the_newest(make_model, served):
    future = int(time.time()) + 1_000_000
    push(saved_model_path([make_model("old")]), served, version=future, replaced_version=None)

    assert choose_version(make_model("new"), served) == future + 1


def test_model_that_is_served_keeps_its_version(make_model, served):
    model = make_model("old")
    push(saved_model_path([model]), served, version=9, replaced_version=None)

    assert choose_version(model, served) == 9


def test_pusher_takes_a_bucket_for_a_push_directory(make_model, bucket, tmp_path):
    first, second = make_model("first"), make_model("second")
    assert abs(choose_version(first, bucket) - time.time()) < 5

    execute(first, bucket, version=9, folder=tmp_path)
    assert choose_version(first, bucket) == 9
    (pushed,) = execute(second, bucket, version=10, folder=tmp_path, keep_versions=1)

    assert versions(bucket) == [10]
    assert read_record(bucket, 10).replaced_version == 9
    assert pushed.get_string_custom_property("pushed_destination") == f"{bucket}/10"


def test_model_that_was_served_earlier_gets_a_new_version(make_model, served):
    """It is to be served again, and Serving serves the highest number."""
    first = make_model("first")
    push(saved_model_path([first]), served, version=9, replaced_version=None)
    push(saved_model_path([make_model("second")]), served, version=10, replaced_version=9)

    assert choose_version(first, served) > 10


def test_model_whose_version_was_deleted_gets_a_new_one(make_model, served):
    import shutil

    model = make_model("first")
    push(saved_model_path([model]), served, version=9, replaced_version=None)
    shutil.rmtree(served / "9")

    assert choose_version(model, served) > 9


def test_push_is_recorded_with_what_it_replaced(make_model, served):
    push(saved_model_path([make_model("old")]), served, version=9, replaced_version=None)

    (pushed,) = execute(make_model("new"), served, version=10)

    assert pushed.get_string_custom_property("pushed_version") == "10"
    assert pushed.get_string_custom_property("pushed_destination") == str(served / "10")
    assert (served / "10" / "saved_model.pb").read_text() == "new"
    assert (served / "9" / "saved_model.pb").read_text() == "old"
    assert read_record(served, 10).replaced_version == 9
    assert read_record(served, 10).metrics == {"accuracy": 0.75}


def test_version_that_is_there_already_is_left_alone(make_model, served):
    model = make_model("first")
    push(saved_model_path([model]), served, version=9, replaced_version=4)

    (pushed,) = execute(model, served, version=9)

    assert pushed.get_string_custom_property("pushed_version") == "9"
    assert versions(served) == [9]
    assert read_record(served, 9).replaced_version == 4


def test_push_that_fails_leaves_what_is_served(make_model, served):
    push(saved_model_path([make_model("old")]), served, version=9, replaced_version=None)
    (served / "10").write_text("in the way")

    with pytest.raises(PushError, match="Version 10 exists"):
        execute(make_model("new"), served, version=10)

    assert versions(served) == [9]


def test_model_that_was_rolled_back_is_not_pushed_again(make_model, served):
    rejected = make_model("rejected")
    push(saved_model_path([make_model("old")]), served, version=9, replaced_version=None)
    push(saved_model_path([rejected]), served, version=10, replaced_version=9)
    roll_back(served, to=9)

    version = choose_version(rejected, served)
    assert version > 10  # a number of its own, so that the cache does not answer for it
    with pytest.raises(PushError, match=r"version 10, which was rolled back.*by rolling back to version 10"):
        execute(rejected, served, version=version)
    assert versions(served) == [9]


def test_old_versions_are_removed_by_the_push_that_makes_them_too_many(make_model, served):
    for version in (7, 8, 9):
        push(saved_model_path([make_model(str(version))]), served, version=version, replaced_version=None)

    execute(make_model("new"), served, version=10, keep_versions=2)

    assert versions(served) == [9, 10]


def test_all_versions_are_kept_by_default(make_model, served):
    for version in (7, 8, 9):
        push(saved_model_path([make_model(str(version))]), served, version=version, replaced_version=None)

    execute(make_model("new"), served, version=10)

    assert versions(served) == [7, 8, 9, 10]
