from pathlib import Path

import pytest
from tfx.orchestration.portable.data_types import ExecutionInfo
from tfx.types import standard_artifacts

from kubetfx.components.push.push_directory import push
from kubetfx.components.served_model_resolver import NO_VERSION, Driver, Executor, baseline_version, saved_model_path


@pytest.fixture
def served(tmp_path) -> Path:
    return tmp_path / "served"


def push_model(model, served: Path, *, version: int, replaced: int | None = None) -> None:
    push(saved_model_path([model]), served, version=version, replaced_version=replaced)


def test_first_candidate_has_no_baseline(make_model, served):
    assert baseline_version(served, candidate=saved_model_path([make_model("new")])) is None


def test_baseline_is_the_newest_version(make_model, served):
    push_model(make_model("first"), served, version=9)
    push_model(make_model("second"), served, version=10, replaced=9)

    assert baseline_version(served, candidate=saved_model_path([make_model("new")])) == 10


def test_baseline_of_the_served_model_is_the_one_that_it_replaced(make_model, served):
    first, second = make_model("first"), make_model("second")
    push_model(first, served, version=9)
    push_model(second, served, version=10, replaced=9)

    assert baseline_version(served, candidate=saved_model_path([second])) == 9


def test_baseline_of_the_only_model_ever_served_is_none(make_model, served):
    model = make_model("first")
    push_model(model, served, version=9)

    assert baseline_version(served, candidate=saved_model_path([model])) is None


def test_model_that_was_served_earlier_is_compared_with_what_is_served_now(make_model, served):
    first = make_model("first")
    push_model(first, served, version=9)
    push_model(make_model("second"), served, version=10, replaced=9)

    assert baseline_version(served, candidate=saved_model_path([first])) == 10


def test_baseline_in_a_bucket_is_found_and_copied(make_model, bucket, tmp_path):
    first, second = make_model("first"), make_model("second")
    push_model(first, bucket, version=9)
    push_model(second, bucket, version=10, replaced=9)
    (bucket / "11" / "variables" / "index").write_text("half of a push")
    info = ExecutionInfo(input_dict={"model": [make_model("new")]}, exec_properties={"push_directory": str(bucket)})

    version = Driver(None).run(info).exec_properties["served_version"].int_value
    served_model = standard_artifacts.Model()
    served_model.uri = str(tmp_path / "served_model")
    Executor().Do({}, {"served_model": [served_model]}, {"push_directory": str(bucket), "served_version": version})

    assert version == 10
    assert served_model.get_int_custom_property("version") == 10
    assert (saved_model_path([served_model]) / "saved_model.pb").read_text() == "second"
    assert baseline_version(bucket, candidate=saved_model_path([second])) == 9


def test_version_of_somebody_else_is_a_baseline_too(make_model, served):
    (served / "11").mkdir(parents=True)
    (served / "11" / "saved_model.pb").write_text("theirs")

    assert baseline_version(served, candidate=saved_model_path([make_model("new")])) == 11


def resolve(model, served: Path) -> int:
    info = ExecutionInfo(
        input_dict={"model": [model]} if model else {}, exec_properties={"push_directory": str(served)}
    )
    return Driver(None).run(info).exec_properties["served_version"].int_value


def test_driver_puts_the_version_into_the_key_of_the_cache(make_model, served):
    assert resolve(make_model("new"), served) == NO_VERSION
    push_model(make_model("first"), served, version=9)
    assert resolve(make_model("newer"), served) == 9


def test_before_there_is_a_candidate_the_newest_version_is_served(make_model, served):
    assert resolve(None, served) == NO_VERSION
    push_model(make_model("first"), served, version=9)
    push_model(make_model("second"), served, version=10, replaced=9)
    assert resolve(None, served) == 10


def execute(served: Path, *, version: int, uri: Path) -> dict[str, list]:
    artifact = standard_artifacts.Model()
    artifact.uri = str(uri)
    output = {"served_model": [artifact]}
    Executor().Do({}, output, {"push_directory": str(served), "served_version": version})
    return output


def test_served_version_is_copied_into_the_run(make_model, served, tmp_path):
    push_model(make_model("first"), served, version=9)

    (artifact,) = execute(served, version=9, uri=tmp_path / "out")["served_model"]

    assert artifact.get_int_custom_property("version") == 9
    assert (saved_model_path([artifact]) / "saved_model.pb").read_text() == "first"


@pytest.mark.parametrize("version", [NO_VERSION, 12], ids=["nothing served", "version that went away"])
def test_without_a_served_version_there_is_no_artifact(served, tmp_path, version):
    assert execute(served, version=version, uri=tmp_path / "out") == {"served_model": []}
