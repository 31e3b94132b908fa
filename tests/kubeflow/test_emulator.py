"""Packages of small components, run with the documents of the open-source driver and launcher."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.decorators import FinalStatusStr
from tfx.proto import example_diff_pb2, example_gen_pb2
from tfx.types import Channel, standard_artifacts

from kubetfx.config.kubeflow_section import KubeflowConfig
from kubetfx.errors import CompileError, UsageError
from kubetfx.kubeflow.compiler import Extras, compile_pipeline, write_package
from kubetfx.kubeflow.emulation.task_results import TaskFailedError
from kubetfx.kubeflow.emulator import Emulator
from kubetfx.kubeflow.executor_io import local_path
from kubetfx.kubeflow.package_document import read_package
from tests.kubeflow.conftest import InThisProcess
from tests.kubeflow.taxi_pipeline import (
    Compare,
    CsvExampleGen,
    Fail,
    Judge,
    Number,
    Pusher,
    Read,
    RemoveLog,
    Repeat,
    Sample,
    Tell,
    Text,
    Write,
    WriteProperty,
    imported_schema,
    small,
)


def states(emulator: Emulator) -> dict[str, str]:
    return {task.title: task.state for task in emulator.tasks}


def value_of(emulator: Emulator, title: str, key: str) -> str:
    (task,) = (task for task in emulator.tasks if task.title == title)
    return (local_path(task.artifacts[key]["uri"]) / "value").read_text()


def test_dynamic_property_takes_the_value_of_an_earlier_task(run):
    number = Number(value=3)
    write = Write(text="ab", times=number.outputs["number"].future()[0].value)
    emulator, _ = run(small("dynamic", number, write, Read(model=write.outputs["model"])))

    assert value_of(emulator, "Read", "text") == "ababab"


@pytest.mark.parametrize("fuse", [[], [["Number", "Text", "Repeat"]]], ids=["a task each", "one task"])
def test_function_component_takes_values_of_earlier_ones(run, fuse):
    number, text = Number(value=2), Text(value="é {{x}} ")
    repeat = Repeat(text=text.outputs["text"], times=number.outputs["number"])

    emulator, _ = run(small("values", number, text, repeat), config=KubeflowConfig(fuse=fuse))

    (artifact,) = (entry for slot, entry in emulator.tasks[-1].artifacts.items() if slot.endswith("repeated"))
    assert (local_path(artifact["uri"]) / "value").read_text() == "é {{x}} é {{x}} "


def test_example_gen_takes_its_place_from_an_earlier_task(run, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("a,b\n" + "1,x\n" * 20)
    place = Text(value=str(tmp_path / "data"))
    _, tasks = run(small("placed", place, CsvExampleGen(input_base=place.outputs["text"].future()[0].value)))

    chosen = json.loads(tasks.seen["CsvExampleGen driver"][1]["parameterValues"]["driver_output"])
    assert "num_files:1" in chosen["execProperties"]["input_fingerprint"]["stringValue"]
    assert "CsvExampleGen" in tasks.seen


def test_newest_span_is_read_and_a_newer_one_is_no_cache_hit(run, tmp_path):
    def example_gen() -> Any:
        split = example_gen_pb2.Input.Split(name="all", pattern="span-{SPAN}/v{VERSION}/*")
        return CsvExampleGen(input_base=str(tmp_path / "data"), input_config=example_gen_pb2.Input(splits=[split]))

    def write(folder: str) -> None:
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "table.csv").write_text("a\n1\n")

    def span_and_version(tasks: InThisProcess) -> tuple[int, int]:
        metadata = tasks.seen["CsvExampleGen"][1]["artifacts"]["examples"]["artifacts"][0]["metadata"]
        return metadata["span"], metadata["version"]

    for folder in ("span-9/v1", "span-10/v1", "span-10/v2"):
        write(folder)
    _, tasks = run(small("spans", example_gen()))
    assert span_and_version(tasks) == (10, 2)

    unchanged, _ = run(small("spans", example_gen()), run_id="2")
    assert states(unchanged) == {"CsvExampleGen driver": "done", "CsvExampleGen": "cached"}

    write("span-11/v1")
    _, tasks = run(small("spans", example_gen()), run_id="3")
    assert span_and_version(tasks) == (11, 1)


def test_message_arrives_as_a_message(run):
    config = example_diff_pb2.ExampleDiffConfig(
        paired_example_skew=example_diff_pb2.PairedExampleSkew(skew_sample_size=5)
    )
    emulator, _ = run(small("messages", Sample(config)))

    assert value_of(emulator, "Sample", "result") == "5 5"


def test_latest_blessed_model_is_looked_for_where_an_earlier_task_says(run, tmp_path):
    (tmp_path / "pushed" / "7").mkdir(parents=True)
    (tmp_path / "pushed" / "7" / "saved_model.pb").write_text("model")
    place = Text(value=json.dumps({"filesystem": {"base_directory": str(tmp_path / "pushed")}}))
    latest = Resolver(strategy_class=LatestBlessedModelStrategy, model=Channel(type=standard_artifacts.Model)).with_id(
        "latest"
    )
    pusher = Pusher(model=latest.outputs["model"], push_destination=place.outputs["text"].future()[0].value)
    emulator, _ = run(small("latest_there", place, latest, pusher))

    (resolved,) = (task for task in emulator.tasks if task.title == "latest")
    assert resolved.artifacts["model"]["metadata"]["version"] == 7


def test_runtime_parameter_comes_as_a_double_and_arrives_as_what_it_is(run):
    emulator, tasks = run(small("parameters", Number(value=RuntimeParameter("how many", int, 2))), how_many=5)

    assert '"parameterValues":{"how_many":5}' in tasks.seen["Number"][0]
    assert value_of(emulator, "Number", "number") == "5"


@pytest.mark.parametrize(("value", "state"), [(1, "done"), (2, None)], ids=["holds", "does not hold"])
def test_conditional_node_runs_if_its_predicate_holds(run, value, state):
    number = Number(value=value)
    with Cond(number.outputs["number"].future()[0].value == 1):
        write = Write(text="x", times=1)
        read = Read(model=write.outputs["model"])
    emulator, tasks = run(small("conditional", number, write, read))

    assert tasks.seen["Number"][1]["parameterValues"] == {"condition_1": "true" if state else "false"}
    assert states(emulator).get("Read") == state


@pytest.mark.parametrize(("blessed", "state"), [(1, "done"), (0, None)], ids=["blessed", "not blessed"])
def test_condition_on_a_property_of_an_artifact_gates_as_in_the_taxi_template(run, blessed, state):
    judge = Judge(blessed=blessed)
    with Cond(judge.outputs["blessing"].future()[0].custom_property("blessed") == 1):
        write = Write(text="x", times=1)
    emulator, _ = run(small("gate", judge, write))

    assert states(emulator) == {"Judge": "done"} | ({"Write": state} if state else {})


def test_nested_conditions_must_both_hold(run):
    one, two = Number(value=1).with_id("One"), Number(value=2).with_id("Two")
    with Cond(one.outputs["number"].future()[0].value == 1):
        outer = Write(text="x", times=1).with_id("Outer")
        with Cond(two.outputs["number"].future()[0].value == 1):
            inner = Write(text="x", times=1).with_id("Inner")
    emulator, _ = run(small("nested", one, two, outer, inner))

    assert states(emulator) == {"One": "done", "Two": "done", "Outer": "done"}


def test_predicate_about_several_nodes_is_evaluated_by_a_task(run):
    one, two = Number(value=1).with_id("One"), Number(value=2).with_id("Two")
    with Cond(one.outputs["number"].future()[0].value < two.outputs["number"].future()[0].value):
        write = Write(text="x", times=1)
    emulator, _ = run(small("several", one, two, write))

    assert states(emulator)["Predicate 1"] == "done"
    assert states(emulator)["Write"] == "done"


def test_exit_handler_is_told_of_success(run, tmp_path):
    handler = Tell(path=str(tmp_path / "told"), status=FinalStatusStr())
    _, tasks = run(small("good", Number(value=1)), extras=Extras(exit_handler=handler))

    (asked,) = json.loads(tasks.seen["Tell"][0])["inputs"]["parameterValues"].values()
    assert asked["state"] == "COMPLETE"  # the driver has ML Metadata's words
    status = json_format.Parse((tmp_path / "told").read_text(), pipeline_spec_pb2.PipelineTaskFinalStatus())
    assert status.state == "SUCCEEDED"
    assert re.fullmatch("good-[0-9a-f]{5}", status.pipeline_job_resource_name)  # the workflow's name


def test_exit_handler_is_told_of_failure_and_what_follows_does_not_run(run, tmp_path):
    handler = Tell(path=str(tmp_path / "told"), status=FinalStatusStr())
    fail, number = Fail(reason="for a test"), Number(value=1)
    number.add_upstream_node(fail)
    tasks = InThisProcess()

    with pytest.raises(TaskFailedError, match="Fail ended with exit status 1"):
        run(small("bad", fail, number), extras=Extras(exit_handler=handler), tasks=tasks)

    assert set(tasks.seen) == {"Tell"}
    assert json.loads((tmp_path / "told").read_text())["state"] == "FAILED"


def test_imported_artifact_is_copied_into_the_run_with_its_properties(run, tmp_path):
    source = tmp_path / "schema"
    (source / "inner").mkdir(parents=True)
    (source / "schema.pbtxt").write_text("feature { name: 'a' type: INT }")
    (source / "inner" / "x").write_text("y")
    emulator, tasks = run(small("import", imported_schema(str(source))))

    (task,) = emulator.tasks
    folder = local_path(task.artifacts["result"]["uri"])
    assert (folder / "schema.pbtxt").read_text() == "feature { name: 'a' type: INT }"
    assert (folder / "inner" / "x").read_text() == "y"
    metadata = tasks.seen["schema_importer"][1]["artifacts"]["result"]["artifacts"][0]["metadata"]
    assert (metadata["origin"], metadata["age"]) == ("by hand", 3)


def test_imported_file_lies_in_the_artifacts_folder(run, tmp_path):
    source = tmp_path / "schema.pbtxt"
    source.write_text("feature { name: 'a' type: INT }")
    emulator, _ = run(small("import", imported_schema(str(source))))

    (task,) = emulator.tasks
    assert (local_path(task.artifacts["result"]["uri"]) / "schema.pbtxt").read_text() == source.read_text()


def test_importer_that_finds_nothing_says_so(run):
    tasks = InThisProcess()
    with pytest.raises(TaskFailedError):
        run(small("import", imported_schema("/no/such/schema")), tasks=tasks)

    assert "An Importer finds nothing to import. Received: /no/such/schema." in str(tasks.errors["schema_importer"])


def test_latest_blessed_model_is_the_newest_pushed_version(run, tmp_path):
    from tfx.components.pusher.component import Pusher

    def pipeline() -> Any:
        resolver = Resolver(
            strategy_class=LatestBlessedModelStrategy,
            model=Channel(type=standard_artifacts.Model),
            model_blessing=Channel(type=standard_artifacts.ModelBlessing),
        ).with_id("resolver")
        write = Write(text="new", times=1)
        pusher = Pusher(
            model=write.outputs["model"],
            model_blessing=resolver.outputs["model_blessing"],
            push_destination={"filesystem": {"base_directory": str(tmp_path / "serving")}},
        )
        return small("blessed", resolver, write, pusher)

    emulator, _ = run(pipeline())
    assert emulator.tasks[0].artifacts["model"]["metadata"]["empty"] == "true"

    shutil.rmtree(tmp_path / "serving")
    for version in ("2", "10", "not a version"):
        (tmp_path / "serving" / version).mkdir(parents=True)
        (tmp_path / "serving" / version / "saved_model.pb").write_text(version)
    emulator, _ = run(pipeline())
    model = emulator.tasks[0].artifacts["model"]
    assert (local_path(model["uri"]) / "Format-Serving" / "saved_model.pb").read_text() == "10"
    assert model["metadata"]["version"] == 10.0


def test_unchanged_tasks_come_from_the_cache_and_changed_ones_do_not(run):
    def pipeline(text: str) -> Any:
        write = Write(text=text, times=1)
        return small("cached", write, Read(model=write.outputs["model"]))

    assert set(states(run(pipeline("a"))[0]).values()) == {"done"}
    assert set(states(run(pipeline("a"))[0]).values()) == {"cached"}
    assert set(states(run(pipeline("b"))[0]).values()) == {"done"}
    assert set(states(run(pipeline("a"), extras=Extras(code="other"))[0]).values()) == {"done"}


def test_task_without_its_log_is_refused_as_the_driver_would_at_the_next_cache_hit(run):
    with pytest.raises(CompileError, match="RemoveLog: removed the launcher's log"):
        run(small("log", RemoveLog()))


def test_property_that_later_tasks_cannot_be_told_is_refused(run):
    tasks = InThisProcess()
    with pytest.raises(TaskFailedError):
        run(small("long", WriteProperty(length=20_000)), tasks=tasks)

    assert "The properties of the output 'model' are more than" in str(tasks.errors["WriteProperty"])
    assert "Received: 20," in str(tasks.errors["WriteProperty"])


def test_argument_that_linux_does_not_take_names_the_task(run):
    class InAProcess(InThisProcess):
        def __call__(self, command: Any, *_: Any) -> int:
            return subprocess.run(["true", *command, "x" * 150_000], check=True).returncode

    with pytest.raises(CompileError, match=r"Write: its arguments are longer .* Received: an argument of [\d,]+ by"):
        run(small("long", Write(text="x", times=1)), tasks=InAProcess())


def test_task_whose_files_are_gone_runs_again(run):
    def pipeline() -> Any:
        write = Write(text="a", times=1)
        return small("gone", write, Read(model=write.outputs["model"]))

    emulator, _ = run(pipeline())
    shutil.rmtree(local_path(emulator.tasks[0].artifacts["model"]["uri"]))

    assert states(run(pipeline())[0])["Write"] == "done"
    assert states(run(pipeline())[0]) == {"Write": "cached", "Read": "cached"}


def test_task_that_is_not_cached_leaves_nothing_in_the_cache(run, tmp_path, launcher_root):
    handler = Tell(path=str(tmp_path / "told"), status=FinalStatusStr())
    run(small("handled", Number(value=1)), extras=Extras(exit_handler=handler))

    assert len(list((launcher_root / "cache").rglob("*.json"))) == 1


def test_old_runs_go_but_for_what_later_ones_took_from_the_cache(run, launcher_root):
    def pipeline(text: str) -> Any:
        return small("old", Number(value=1), Write(text=text, times=1))

    for run_id, text in enumerate("abcd", start=1):
        emulator, _ = run(pipeline(text), run_id=str(run_id))
    emulator.remove_old_runs(keep=2)

    artifacts = launcher_root / "minio/mlpipeline/v2/artifacts/old"
    assert sorted(str(folder.relative_to(artifacts)) for folder in artifacts.glob("*/*")) == [
        "1/number",
        "3/write",
        "4/write",
    ]
    assert len(list((launcher_root / "cache").rglob("*.json"))) == 3
    assert set(states(run(pipeline("c"), run_id="5")[0]).values()) == {"cached"}
    assert states(run(pipeline("a"), run_id="6")[0]) == {"Number": "cached", "Write": "done"}


def test_uris_of_the_object_store_stand_in_properties_in_place_of_local_paths(run):
    emulator, _ = run(small("uris", Write(text="a", times=1)))

    (task,) = emulator.tasks
    assert task.artifacts["model"]["metadata"]["where"] == task.artifacts["model"]["uri"]
    assert task.artifacts["model"]["uri"].startswith("minio://mlpipeline/v2/artifacts/uris/")


def test_unknown_run_parameter_is_refused(run):
    with pytest.raises(UsageError, match=r"no run parameter 'epoch'"):
        run(small("p", Number(value=1)), epoch=1)


def test_required_run_parameter_is_asked_for(run):
    with pytest.raises(UsageError, match=r"The run parameter 'how_many' has no default"):
        run(small("p", Number(value=RuntimeParameter("how_many", int))))


def test_nodes_that_do_the_same_have_artifacts_of_their_own_also_from_the_cache(run):
    def pipeline() -> Any:
        left, right = (Write(text="ab", times=1).with_id(name) for name in ("Left", "Right"))
        number = Number(value=1)
        compare = Compare(left=left.outputs["model"], right=right.outputs["model"], times=number.outputs["number"])
        return small("alike", left, right, number, compare)

    run(pipeline())
    emulator, _ = run(pipeline(), run_id="2")

    assert set(states(emulator).values()) == {"cached"}


def test_package_of_an_earlier_kubetfx_is_refused_before_a_task_runs(tmp_path, launcher_root):
    path = tmp_path / "package.yaml"
    write_package(compile_pipeline(small("earlier", Number(value=3)), KubeflowConfig()), path)
    path.write_text(path.read_text().replace("kubetfx.kubeflow.entrypoint", "kubeflow.entrypoint"))
    tasks = InThisProcess()

    with pytest.raises(UsageError, match=r"exec-number\.container\.command, .*earlier kubetfx.* Compile it again"):
        Emulator(read_package(path), root=launcher_root, run_id="1", run_command=tasks).run({})
    assert tasks.seen == {}
