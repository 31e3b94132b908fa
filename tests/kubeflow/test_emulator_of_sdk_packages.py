"""Packages of the kfp SDK in the emulator, beside what the sources of Kubeflow Pipelines 2.17.0 do with them.

docs/kubeflow-emulator.md names the source of each. The containers are processes that know nothing of kubetfx.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import pytest
import yaml
from kfp import compiler, dsl, kubernetes
from kfp.dsl import Artifact, Dataset, Input, Model, Output
from ml_metadata.proto.metadata_store_pb2 import Execution

from kubetfx.errors import CompileError
from kubetfx.kubeflow.emulation.task_results import TaskFailedError, TaskResult
from kubetfx.kubeflow.emulator import METADATA_STORE, Emulator
from kubetfx.kubeflow.executor_io import LAUNCHER_ROOT, local_path
from kubetfx.kubeflow.package_document import read_package
from tests.kubeflow.test_metadata_store import Recorded

IMAGE = "example.org/tool:1"
_SAY = """
import json, sys
out, *words = sys.argv[1:]
open(out, 'w').write(json.dumps(words) if len(words) != 1 else words[0])
"""
_FAIL = "import sys; sys.exit(int(sys.argv[1]))"
_COPY = "import sys; open(sys.argv[2], 'w').write(sys.argv[1])"
_CONCLUDE = "import json, sys; open(json.loads(sys.argv[1])['outputs']['outputFile'], 'w').write(sys.argv[2])"


def _python(script: str, *arguments: Any) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image=IMAGE, command=["python", "-c", script], args=list(arguments))


@dsl.container_component
def say(word: str, said: dsl.OutputPath(str)):  # type: ignore[valid-type]
    return _python(_SAY, said, word)


@dsl.container_component
def say_document(said: dsl.OutputPath(str), word: str = "nothing"):  # type: ignore[valid-type]
    return _python(_SAY, said, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER)


@dsl.container_component
def double(number: int, doubled: dsl.OutputPath(int)):  # type: ignore[valid-type]
    return _python("import sys; open(sys.argv[1], 'w').write(str(2 * int(sys.argv[2])))", doubled, number)


@dsl.container_component
def write(word: str, rows: Output[Dataset]):
    return _python(_COPY, word, rows.path)


@dsl.container_component
def read_all(rows: Input[list[Dataset]], said: dsl.OutputPath(str)):  # type: ignore[valid-type]
    return _python(_SAY, said, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER)


@dsl.container_component
def read_one(rows: Input[Dataset], said: dsl.OutputPath(str)):  # type: ignore[valid-type]
    return _python(_SAY, said, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER)


@dsl.container_component
def total(numbers: list, said: dsl.OutputPath(str)):  # type: ignore[valid-type, type-arg]
    return _python(_SAY, said, numbers)


@dsl.container_component
def take(model: Input[Model], said: dsl.OutputPath(str)):  # type: ignore[valid-type]
    return _python(_SAY, said, model.uri, model.path)


@dsl.container_component
def take_both(left: Input[Model], right: Input[Model]):
    return _python("", left.uri, right.uri)


@dsl.container_component
def take_if_any(said: dsl.OutputPath(str), model: Optional[Input[Model]] = None):  # type: ignore[valid-type] # noqa: UP045
    return _python(_SAY, said, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER)


@dsl.container_component
def conclude(rows: Output[Dataset], output: str):
    return _python(_CONCLUDE, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER, output)


@dsl.container_component
def fail(code: int):
    return _python(_FAIL, code)


@dsl.container_component
def notify(status: dsl.PipelineTaskFinalStatus, said: dsl.OutputPath(str)):  # type: ignore[valid-type]
    return _python(_SAY, said, status)


@dsl.container_component
def greet(said: dsl.OutputPath(str), name: Optional[str] = None):  # type: ignore[valid-type] # noqa: UP045
    return _python(_SAY, said, "hello", dsl.IfPresentPlaceholder("name", then=["dear", name], else_=["you"]))


class Run(NamedTuple):
    emulator: Emulator
    logs: dict[str, list[str]]
    commands: dict[str, list[Sequence[str]]]

    def said(self, name: str, key: str = "said") -> Any:
        (task,) = (task for task in self.emulator.tasks if task.name == name)
        return task.parameters[key]

    @property
    def states(self) -> dict[str, str]:
        return {task.name: task.state for task in self.emulator.tasks}


@pytest.fixture
def run(tmp_path: Path, launcher_root: Path) -> Callable[..., Run]:
    def run_package(
        pipeline: Any,
        *,
        run_id: str = "1",
        name: str | None = None,
        edit: Callable[..., None] = lambda *_: None,
        **arguments: Any,
    ) -> Run:
        """Run a package, whose documents were edited."""
        path = tmp_path / "package.yaml"
        compiler.Compiler().compile(pipeline, str(path), pipeline_name=name)
        documents = list(yaml.safe_load_all(path.read_text()))
        edit(*documents)
        path.write_text(yaml.safe_dump_all(documents))
        logs: dict[str, list[str]] = {}
        commands: dict[str, list[Sequence[str]]] = {}

        def command(line: Sequence[str], environment: Mapping[str, str], _: str, task: TaskResult) -> int:
            logs.setdefault(task.name, []).append(" ".join(line[3:]))
            commands.setdefault(task.name, []).append(line)
            words = [sys.executable, *line[1:]]
            process = subprocess.Popen(words, env={**os.environ, **environment})
            try:
                return process.wait(task.deadline_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return 137

        emulator = Emulator(read_package(path), root=launcher_root, run_id=run_id, run_command=command)
        try:
            emulator.run(arguments)
        except TaskFailedError as error:
            logs["failed"] = [error.task.name]
        return Run(emulator, logs, commands)

    return run_package


def recorded(launcher_root: Path) -> Recorded:
    return Recorded(launcher_root / METADATA_STORE)


# Loops


@dsl.pipeline(name="loops")
def loops(numbers: list = [3, 4]):  # type: ignore[type-arg] # noqa: B006
    with dsl.ParallelFor([1, 2]) as number:
        first = double(number=number)
        second = double(number=first.outputs["doubled"])
        written = write(word=f"row {number}")
    total(numbers=dsl.Collected(second.outputs["doubled"]))
    read_all(rows=dsl.Collected(written.outputs["rows"]))
    with dsl.ParallelFor(numbers) as number:
        double(number=number)


def test_loop_runs_once_per_item_and_what_it_wrote_is_collected(run):
    ran = run(loops)

    assert ran.said("total") == "[4,8]"
    document = json.loads(ran.said("read-all"))
    paths = [local_path(artifact["uri"]) for artifact in document["inputs"]["artifacts"]["rows"]["artifacts"]]
    assert [path.read_text() for path in paths] == ["row 1", "row 2"]
    assert [ran.said(f"double-3-{index}", "doubled") for index in (0, 1)] == [6.0, 8.0]


def test_everything_is_under_the_root_that_was_given_whatever_the_environment_says(
    run, launcher_root, tmp_path, monkeypatch
):
    monkeypatch.setenv(LAUNCHER_ROOT, str(tmp_path / "elsewhere"))
    ran = run(loops)
    again = run(loops, run_id="2")

    (row, _) = json.loads(ran.said("read-all"))["inputs"]["artifacts"]["rows"]["artifacts"]
    assert local_path(row["uri"], launcher_root).read_text() == "row 1"
    assert set(again.states.values()) == {"cached"}
    assert not (tmp_path / "elsewhere").exists()


@dsl.pipeline(name="nested-loops")
def nested_loops():
    with dsl.ParallelFor([{"a": "1", "b": [10, 20]}, {"a": "2", "b": [30]}]) as outer:
        with dsl.ParallelFor(outer.b) as inner:
            doubled = double(number=inner)
        say(word=outer.a)
    total(numbers=dsl.Collected(doubled.outputs["doubled"]))


def test_collected_loops_in_loops_make_one_flat_list_and_items_have_fields(run):
    ran = run(nested_loops)

    assert ran.said("total") == "[20,40,60]"
    assert [ran.said(f"say-{index}") for index in (0, 1)] == ["1", "2"]


@dsl.pipeline(name="bad-item")
def bad_item(codes: list = [0, 3, 0]):  # type: ignore[type-arg] # noqa: B006
    with dsl.ParallelFor(codes) as code:
        failing = fail(code=code).set_caching_options(False)
    say(word="after").after(failing)


@dsl.pipeline(name="bad-item-in-turn")
def bad_item_in_turn(codes: list = [0, 3, 0]):  # type: ignore[type-arg] # noqa: B006
    with dsl.ParallelFor(codes, parallelism=1) as code:
        fail(code=code).set_caching_options(False)


def test_iteration_that_fails_fails_the_loop_and_what_follows_does_not_run(run, launcher_root):
    assert run(bad_item).states == {"fail-0": "done", "fail-1": "failed", "fail-2": "done"}
    assert run(bad_item_in_turn, run_id="2").states == {"fail-0": "done", "fail-1": "failed"}
    executions = recorded(launcher_root).store.get_executions_by_type("system.DAGExecution")
    assert values_of("iteration_count", executions) == [3, 3]
    assert values_of("iteration_index", executions) == [0, 1, 2, 0, 1]


def values_of(name: str, executions: Sequence[Any]) -> list[int]:
    return [e.custom_properties[name].int_value for e in executions if name in e.custom_properties]


@dsl.pipeline(name="no-list")
def no_list(numbers: list = []):  # type: ignore[type-arg] # noqa: B006
    with dsl.ParallelFor(numbers) as number:
        doubled = double(number=number)
    total(numbers=dsl.Collected(doubled.outputs["doubled"]))


def test_empty_list_makes_no_iteration_and_what_collects_from_it_fails_in_the_driver(run):
    with pytest.raises(CompileError, match=r"total: A task collects .* of the loop for-loop-1, which had no items\."):
        run(no_list)


# Conditions and branches


@dsl.pipeline(name="branches")
def branches(number: int = 3, exact: float = 0.5, flag: bool = True):
    doubled = double(number=number)
    with dsl.If(doubled.outputs["doubled"] > 5, name="large"):
        large = say(word="large")
    with dsl.Elif(doubled.outputs["doubled"] == 4):
        middle = say(word="middle")
    with dsl.Else():
        small = say(word="small")
    say(word=dsl.OneOf(large.outputs["said"], middle.outputs["said"], small.outputs["said"]))
    with dsl.If(exact == 0.5), dsl.If(flag == True):  # noqa: E712
        say(word="both")


@pytest.mark.parametrize(("number", "word"), [(3, "large"), (2, "middle"), (1, "small")])
def test_branch_whose_condition_holds_runs_and_one_of_takes_its_output(run, number, word):
    ran = run(branches, number=number)

    assert ran.said("say-4") == word
    assert ran.said("say-5") == "both"


def test_task_under_two_conditions_runs_only_if_both_hold(run):
    assert "say-5" not in run(branches, flag=False).states


def test_end_of_a_task_reaches_all_dags_around_it(run, launcher_root):
    run(branches)

    executions = recorded(launcher_root).store.get_executions_by_type("system.DAGExecution")
    nested = [e for e in executions if "parent_dag_id" in e.custom_properties]
    assert len(nested) == 6
    assert {e.last_known_state for e in nested} == {Execution.COMPLETE, Execution.CANCELED}


def test_one_of_does_not_find_a_branch_that_came_from_the_cache(run):
    """The driver publishes what it takes from the cache, and does not bring the DAG around it to COMPLETE."""
    run(branches)

    with pytest.raises(CompileError, match=r"say-4: condition-branches-\d+: .*RUNNING.*caching of a task in each"):
        run(branches, run_id="2")


@dsl.pipeline(name="branches-with-artifacts")
def branches_with_artifacts(number: int = 3):
    with dsl.If(number > 5):
        large = write(word="large")
    with dsl.Elif(number == 4):
        middle = write(word="middle")
    with dsl.Else():
        small = write(word="small")
    read_one(rows=dsl.OneOf(large.outputs["rows"], middle.outputs["rows"], small.outputs["rows"]))


@pytest.mark.parametrize(("number", "word"), [(6, "large"), (4, "middle"), (1, "small")])
def test_one_of_takes_the_artifact_of_the_branch_that_ran(run, number, word):
    ran = run(branches_with_artifacts, number=number)

    (rows,) = json.loads(ran.said("read-one"))["inputs"]["artifacts"]["rows"]["artifacts"]
    assert local_path(rows["uri"]).read_text() == word


@dsl.pipeline(name="one-after-the-other")
def one_after_the_other(word: str):
    first = say(word=word)
    say(word="after").after(first)


def under_a_condition(spec: dict[str, Any], *_: Any) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    tasks["say"]["triggerPolicy"] = {"condition": "inputs.parameter_values['word'] == 'go'"}


def test_task_after_one_whose_condition_does_not_hold_does_not_run(run):
    assert run(one_after_the_other, edit=under_a_condition, word="go").states == {"say": "done", "say-2": "done"}
    assert run(one_after_the_other, edit=under_a_condition, word="stop", run_id="2").states == {}


# Nested pipelines and optional parameters


@dsl.pipeline(name="inner")
def inner(word: str = "default", name: Optional[str] = None) -> str:  # noqa: UP045
    said = say(word=word)
    greet(name=name)
    return said.outputs["said"]  # type: ignore[return-value]


@dsl.pipeline(name="outer")
def outer(name: Optional[str] = None):  # noqa: UP045
    say(word=inner(word="given", name="Ada").output)
    say(word=inner().output)
    greet(name=name)


def test_nested_pipeline_takes_defaults_and_none_and_hands_its_output_on(run):
    tasks = run(outer).emulator.tasks

    words = [task.parameters["said"] for task in tasks if task.title.startswith("say")]
    assert sorted(words) == ["default", "default", "given", "given"]
    greetings = sorted(json.loads(task.parameters["said"]) for task in tasks if task.title.startswith("greet"))
    assert greetings == [["hello", "dear", "Ada"], ["hello", "you"], ["hello", "you"]]


@dsl.pipeline(name="hands-none-on")
def hands_none_on(name: Optional[str] = None):  # noqa: UP045
    inner(name=name)


def test_parameter_without_a_value_does_not_reach_a_nested_pipeline(run):
    """The DAG's driver leaves it out, and the driver of a task in it does not find it."""
    with pytest.raises(CompileError, match=r"greet: The DAG around the task has no input parameter 'name'"):
        run(hands_none_on)


@dsl.pipeline(name="needed")
def needed(word: Optional[str] = None):  # noqa: UP045
    say(word=word)


def test_parameter_without_a_value_is_refused_where_one_is_needed(run):
    with pytest.raises(CompileError, match=r"say: The parameter word of the run has no value, and 'word' needs one"):
        run(needed)


# Placeholders and types


@dsl.container_component
def say_all(
    said: dsl.OutputPath(str),  # type: ignore[valid-type]
    integer: int,
    real: float,
    flag: bool,
    items: list,  # type: ignore[type-arg]
    tree: dict,  # type: ignore[type-arg]
):
    return _python(_SAY, said, integer, real, flag, items, tree, dsl.ConcatPlaceholder(["n=", integer]))


@dsl.pipeline(name="placeholders")
def placeholders(integer: int = 3, real: float = 1e-7, flag: bool = True):
    say_all(integer=integer, real=real, flag=flag, items=[1, "a", 2.5], tree={"b": {"c": 1}})
    say_document()


def test_placeholders_are_filled_as_the_driver_writes_values(run, launcher_root):
    ran = run(placeholders)

    words = json.loads(ran.said("say-all"))
    assert words[:5] == ["3", "1e-07", "true", '[1,"a",2.5]', '{"b":{"c":1}}']
    document = json.loads(ran.said("say-document"))
    assert document["inputs"]["parameterValues"] == {"word": "nothing"}  # the launcher adds the default
    assert document["outputs"]["parameters"]["said"]["outputFile"].endswith("/tmp/kfp/outputs/said")
    of_the_driver = recorded(launcher_root).executions("1")["say-document"].custom_properties["inputs"].struct_value
    assert dict(of_the_driver) == {}
    (logs,) = document["outputs"]["artifacts"]["executor-logs"]["artifacts"]
    assert logs["uri"].endswith("/executor-logs-0")
    assert document["outputs"]["outputFile"] == str(local_path(logs["uri"]).with_name("output_metadata.json"))


@dsl.container_component
def run_what_is_written(rows: Output[Dataset]):
    return dsl.ContainerSpec(image=IMAGE, command=[rows.path, "-c", _COPY], args=["word", rows.path])


@dsl.pipeline(name="first-word")
def first_word():
    run_what_is_written()


def test_first_word_of_the_command_keeps_its_placeholder_of_a_path(run):
    ((first, *others),) = run(first_word).commands["run-what-is-written"]

    assert first == "{{$.outputs.artifacts['rows'].path}}"
    assert others[-1].endswith("/rows")


@dsl.pipeline(name="anything-as-text")
def anything_as_text(items: list = [[1, 2.5], {"b": 1}, True, 3, "é"]):  # type: ignore[type-arg] # noqa: B006
    with dsl.ParallelFor(items) as item:
        say_document(word=item)


def test_value_for_a_parameter_that_is_text_becomes_json(run):
    ran = run(anything_as_text)

    words = [json.loads(ran.said(f"say-document-{n}"))["inputs"]["parameterValues"]["word"] for n in range(5)]
    assert words == ["[1,2.5]", '{"b":1}', "true", "3", "é"]


@dsl.pipeline(name="one-of-two")
def one_of_two(number: int = 3):
    double(number=number)


def with_literals(spec: dict[str, Any], *_: Any) -> None:
    spec["components"]["comp-double"]["inputDefinitions"]["parameters"]["number"]["literals"] = [3, 4]


def test_value_that_is_none_of_the_literals_fails_in_the_driver(run):
    assert run(one_of_two, edit=with_literals, number=4).said("double", "doubled") == 8
    with pytest.raises(CompileError, match=r"double: The parameter 'number' is to be one of \[3,4\]. Received: 5\."):
        run(one_of_two, edit=with_literals, number=5, run_id="2")


@dsl.pipeline(name="settings-of-the-pod")
def settings_of_the_pod():
    say_document()


def with_the_task_s_settings(spec: dict[str, Any], *_: Any) -> None:
    definition = {"parameterType": "TASK_CONFIG", "isOptional": True}
    spec["components"]["comp-say-document"]["inputDefinitions"]["parameters"]["settings"] = definition
    given = {"parameters": {"settings": {"componentInputParameter": "nowhere"}}}
    spec["root"]["dag"]["tasks"]["say-document"]["inputs"] = given


def test_settings_of_the_task_are_not_looked_up(run):
    document = json.loads(run(settings_of_the_pod, edit=with_the_task_s_settings).said("say-document"))

    assert document["inputs"]["parameterValues"] == {"word": "nothing"}


@dsl.pipeline(name="hands-on")
def hands_on():
    read_one(rows=write(word="x").outputs["rows"])


def test_input_artifact_has_no_type_and_the_id_of_ml_metadata_as_its_name(run, launcher_root):
    (rows,) = json.loads(run(hands_on).said("read-one"))["inputs"]["artifacts"]["rows"]["artifacts"]

    (stored,) = recorded(launcher_root).store.get_artifacts_by_uri(rows["uri"])
    assert rows == {
        "name": str(stored.id),
        "uri": stored.uri,
        "type": {"instanceSchema": ""},
        "metadata": {"display_name": "rows", "store_session_info": '{"Provider": "minio", "Params": {}}'},
    }


@dsl.pipeline(name="given-nothing")
def given_nothing():
    take_if_any()


def test_optional_artifact_that_is_not_given_is_not_in_the_document(run):
    document = json.loads(run(given_nothing).said("take-if-any"))

    assert document["inputs"].get("artifacts", {}) == {}


@dsl.pipeline(name="concluded")
def concluded(output: str):
    conclude(output=output)


def test_first_of_several_artifacts_counts_and_an_unknown_field_fails_the_task(run):
    rows = [{"metadata": {"number": number}} for number in (1, 2)]
    ran = run(concluded, output=json.dumps({"artifacts": {"rows": {"artifacts": rows}}}))

    (task,) = ran.emulator.tasks
    assert task.artifacts["rows"]["metadata"]["number"] == 1.0
    with pytest.raises(CompileError, match="conclude: the launcher refuses the field 'parameters'"):
        run(concluded, run_id="2", output='{"parameters": {}}')


@dsl.pipeline(name="names")
def names():
    say(word=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER)
    say(word=dsl.PIPELINE_TASK_NAME_PLACEHOLDER)
    say(word=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
    say(word=f"not {dsl.PIPELINE_TASK_NAME_PLACEHOLDER} in a text")


def test_placeholders_of_the_run_are_filled_where_they_are_the_whole_value(run):
    ran = run(names)

    assert re.fullmatch("names-[0-9a-f]{5}", ran.said("say"))
    assert (ran.said("say-2"), ran.said("say-3")) == ("say-2", "1")
    assert ran.said("say-4") == "not {{$.pipeline_task_name}} in a text"


def test_parameter_of_another_type_fails_in_the_driver(run, tmp_path):
    path = tmp_path / "typed.yaml"

    @dsl.pipeline(name="typed")
    def typed(number: int = 3):
        double(number=number)

    compiler.Compiler().compile(typed, str(path))
    emulator = Emulator(read_package(path), root=tmp_path / "root", run_id="1", run_command=lambda *_: 0)
    with pytest.raises(CompileError, match=r"double: The parameter 'number' is to be NUMBER_INTEGER. Received: 'x'"):
        emulator.run({"number": "x"})


@dsl.container_component
def write_nothing(number: dsl.OutputPath(int)):  # type: ignore[valid-type]
    return _python("", number)


@dsl.container_component
def write_text(number: dsl.OutputPath(int)):  # type: ignore[valid-type]
    return _python(_SAY, number, "5.0")


@pytest.mark.parametrize(
    ("component", "reason"),
    [
        (write_nothing, r"has not written the output parameter 'number', and the launcher fails the task"),
        (write_text, r"cannot read an output parameter. Expected NUMBER_INTEGER, received: '5.0'"),
    ],
)
def test_output_parameter_that_the_launcher_cannot_read_fails_the_task(run, component, reason):
    @dsl.pipeline(name="broken")
    def broken():
        component()

    with pytest.raises(CompileError, match=reason):
        run(broken)


# Importers


@dsl.pipeline(name="imports")
def imports(reimported: str = "gs://models/2"):
    first = dsl.importer(artifact_uri="gs://models/1", artifact_class=Model, metadata={"rows": 3})
    again = dsl.importer(artifact_uri=reimported, artifact_class=Model, reimport=True)
    take(model=first.output)
    take(model=again.output)


def test_importer_records_an_artifact_and_finds_it_again_unless_told_not_to(run, launcher_root):
    first = run(imports)
    second = run(imports, run_id="2")

    assert json.loads(first.said("take")) == ["gs://models/1", str(launcher_root / "gcs/models/1")]
    ids = [{t.name: t.artifacts["artifact"]["name"] for t in r.emulator.tasks if t.artifacts} for r in (first, second)]
    assert ids[0]["importer"] == ids[1]["importer"]
    assert ids[0]["importer-2"] != ids[1]["importer-2"]
    (stored,) = recorded(launcher_root).store.get_artifacts_by_uri("gs://models/1")
    session = json.loads(stored.custom_properties["store_session_info"].string_value)
    assert session == {"Provider": "gs", "Params": {"fromEnv": "true"}}
    assert second.states["take"] == "cached"
    assert second.states["take-2"] == "done"


@pytest.mark.parametrize(("uri", "folder"), [("minio://a/b", "minio"), ("s3://a/b", "s3"), ("gs://a/b", "gcs")])
def test_path_of_a_uri_is_below_the_folder_of_its_scheme(run, launcher_root, uri, folder):
    words = json.loads(run(imports, reimported=uri).said("take-2"))

    assert words == [uri, str(launcher_root / folder / "a" / "b")]


def test_importer_of_another_pipeline_finds_nothing_of_the_first(run):
    names = [
        {task.name: task.artifacts["artifact"]["name"] for task in ran.emulator.tasks if task.artifacts}["importer"]
        for ran in (run(imports), run(imports, run_id="2", name="other"))
    ]

    assert names[0] != names[1]


@dsl.pipeline(name="import-nowhere")
def import_nowhere(place: str = "/models/1"):
    dsl.importer(artifact_uri=place, artifact_class=Artifact)


def test_importer_of_a_path_is_refused(run):
    with pytest.raises(CompileError, match=r"importer: an importer takes the URI of an object store. Received: '/mode"):
        run(import_nowhere)


# Failures, retries, timeouts, exit tasks


@dsl.pipeline(name="retried")
def retried():
    fail(code=3).set_retry(2)


def test_each_try_has_a_log_of_its_own_and_the_exit_code_is_the_containers(run, launcher_root):
    ran = run(retried)

    (task,) = ran.emulator.tasks
    assert (task.state, task.exit_code, len(ran.logs["fail"])) == ("failed", 3, 3)
    store = recorded(launcher_root).store
    (execution,) = store.get_executions_by_type("system.ContainerExecution")
    logs = [store.get_artifacts_by_id([e.artifact_id])[0] for e in store.get_events_by_execution_ids([execution.id])]
    assert [log.uri.rpartition("/")[2] for log in logs] == ["executor-logs-0", "executor-logs-1", "executor-logs-2"]
    assert all(local_path(log.uri).is_file() for log in logs)


@dsl.container_component
def fail_with_document(code: int, rows: Output[Dataset]):
    return _python(_FAIL, code, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER)


@dsl.pipeline(name="retried-with-document")
def retried_with_document():
    fail_with_document(code=3).set_retry(1)


def test_each_try_has_the_same_document_but_for_the_log(run):
    lines = run(retried_with_document).commands["fail-with-document"]

    first, second = (json.loads(line[-1]) for line in lines)
    places = [document["outputs"]["artifacts"].pop("executor-logs")["artifacts"][0] for document in (first, second)]
    assert first == second
    assert places[0].pop("uri").removesuffix("0") == places[1].pop("uri").removesuffix("1")
    assert places[0] == places[1]


@dsl.pipeline(name="timed")
def timed():
    task = say(word="late")
    kubernetes.set_timeout(task, seconds=20)


def test_timeout_of_a_task_reaches_whoever_runs_it(run):
    assert run(timed).emulator.tasks[0].deadline_seconds == 20


@dsl.container_component
def wait(seconds: int):
    return _python("import sys, time; time.sleep(int(sys.argv[1]))", seconds)


@dsl.pipeline(name="slow")
def slow(seconds: int = 90):
    with dsl.ExitHandler(notify()):
        waiting = wait(seconds=seconds).set_retry(2)
        kubernetes.set_timeout(waiting, seconds=900)
        say(word="after").after(waiting)


def ended_after(seconds: int) -> Callable[..., None]:
    def edit(spec: dict[str, Any], *platforms: dict[str, Any]) -> None:
        kubernetes = platforms[0]["platforms"]["kubernetes"]
        kubernetes["pipelineConfig"] = {"activeDeadlineSeconds": seconds}

    return edit


def test_deadline_of_the_pipeline_ends_the_task_that_runs_and_nothing_begins_after_it(run):
    started = time.monotonic()
    ran = run(slow, edit=ended_after(2))

    assert ran.states == {"wait": "failed", "notify": "failed"}
    assert set(ran.commands) == {"wait"}
    assert len(ran.commands["wait"]) == 1  # no try after it
    assert time.monotonic() - started < 60
    assert set(run(slow, edit=ended_after(600), seconds=0, run_id="2").states.values()) == {"done"}


@dsl.pipeline(name="handled")
def handled(code: int = 0):
    with dsl.ExitHandler(notify()):
        first = fail(code=code)
        say(word="after").after(first)


@pytest.mark.parametrize(("code", "state"), [(0, "COMPLETE"), (3, "FAILED")])
def test_exit_task_runs_whatever_happened_and_is_told_what(run, code, state):
    ran = run(handled, code=code)

    status = json.loads(ran.said("notify"))
    assert (status["state"], status["pipelineTaskName"]) == (state, "exit-handler-1")
    assert status["pipelineJobResourceName"].startswith("handled-")
    assert ("say" in ran.states) == (code == 0)


def test_exit_task_of_a_run_from_the_cache_is_told_that_it_is_running(run):
    """Only launchers bring the state of a DAG on, and none ran."""
    run(handled)
    assert json.loads(run(handled, run_id="2").said("notify"))["state"] == "RUNNING"


# The cache


@dsl.pipeline(name="keyed")
def keyed(word: str = "a", claim: str = "data"):
    kubernetes.mount_pvc(say(word=word), pvc_name=claim, mount_path="/data")
    say(word=word).set_caching_options(False)
    write(word=word)


def test_cache_asks_for_parameters_and_volumes_and_not_for_the_run(run):
    run(keyed)

    assert run(keyed, run_id="2").states == {"say": "cached", "say-2": "done", "write": "cached"}
    assert run(keyed, run_id="3", word="b").states == {"say": "done", "say-2": "done", "write": "done"}
    assert run(keyed, run_id="4", claim="other").states == {"say": "done", "say-2": "done", "write": "cached"}


def test_cache_is_one_of_the_pipelines_name(run, tmp_path):
    run(keyed)
    compiler.Compiler().compile(keyed, str(tmp_path / "renamed.yaml"), pipeline_name="renamed")
    renamed = read_package(tmp_path / "renamed.yaml")
    emulator = Emulator(renamed, root=tmp_path / "launcher", run_id="2", run_command=lambda *_: 1)

    with pytest.raises(TaskFailedError):
        emulator.run({})


@dsl.pipeline(name="shared-disk", pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="1Gi")))
def shared_disk():
    say(word=dsl.WORKSPACE_PATH_PLACEHOLDER)
    write(word="x")


def test_task_that_mounts_the_workspace_of_its_run_is_not_cached(run):
    """The claim's name has that of the workflow, and so is another in each run."""
    first = run(shared_disk)

    assert first.said("say") == "/kfp-workspace"
    assert run(shared_disk, run_id="2").states == {"say": "done", "write": "cached"}


def test_two_components_that_do_the_same_share_an_entry(run):
    @dsl.container_component
    def tell(word: str, said: dsl.OutputPath(str)):  # type: ignore[valid-type]
        return _python(_SAY, said, word)

    @dsl.pipeline(name="same")
    def same(word: str = "a"):
        say(word=word)
        tell(word=word).set_caching_options(True, cache_key="its own")

    assert run(same).states == {"say": "done", "tell": "cached"}


# Volumes


@dsl.pipeline(name="volumes")
def volumes():
    claim = kubernetes.CreatePVC(pvc_name_suffix="-data", access_modes=["ReadWriteOnce"], size="1Gi")
    task = say(word=claim.outputs["name"])
    kubernetes.mount_pvc(task, pvc_name=claim.outputs["name"], mount_path="/data")
    kubernetes.DeletePVC(pvc_name=claim.outputs["name"]).after(task)


def test_volume_has_a_new_name_in_each_run_and_what_mounts_it_is_not_cached(run):
    names = [run(volumes, run_id=run_id).said("say") for run_id in "12"]

    assert all(re.fullmatch(r"[0-9a-f-]{36}-data", name) for name in names)
    assert names[0] != names[1]


# The table


def test_each_row_of_the_table_has_a_test():
    page = Path(__file__).parents[2] / "docs" / "kubeflow-emulator.md"
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if re.match(r"\| (?!Kubeflow|-)", line)]
    named = [re.findall(r"((?:\.\./cluster/)?test_\w+\.py)::(test_\w+)", row.split("|")[-2]) for row in rows]

    assert len(rows) > 50
    assert all(named)
    missing = [
        test
        for tests in named
        for file, test in tests
        if f"def {test}(" not in (Path(__file__).parent / file).read_text(encoding="utf-8")
    ]
    assert not missing
