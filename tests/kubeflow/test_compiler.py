"""Packages of pipelines that only TFX made: tasks, their order, conditions and exit handlers."""

import pytest
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.decorators import FinalStatusStr
from tfx.types.channel_utils import union

from kubetfx.errors import CompileError
from kubetfx.kubeflow.lint import lint
from tests.kubeflow import taxi_pipeline
from tests.kubeflow.conftest import artifacts_taken, specs
from tests.kubeflow.taxi_pipeline import Compare, Number, Read, Tell, Write, small, taxi


def test_lint_finds_nothing_in_the_taxi_template_of_tfx(compiled, tmp_path):
    compiled(taxi())

    assert lint(tmp_path / "package.yaml") == []


def test_taxi_template_of_tfx_compiles(compiled):
    (package,) = compiled(taxi())

    tasks = package["root"]["dag"]["tasks"]
    assert set(tasks) == {
        "resolve-csv-example-gen",
        "csv-example-gen",
        "statistics-gen",
        "schema-gen",
        "example-validator",
        "transform",
        "trainer",
        "latest-blessed-model-resolver",
        "evaluator",
        "count-rows",
        "condition-1",
    }
    assert tasks["condition-1"]["triggerPolicy"]["condition"] == (
        "inputs.parameter_values['pipelinechannel--evaluator-condition_1'] == 'true'"
    )
    (pusher,) = package["components"]["comp-condition-1"]["dag"]["tasks"]
    assert pusher == "pusher"
    assert package["root"]["inputDefinitions"]["parameters"]["train_steps"]["defaultValue"] == 100.0
    assert package["root"]["inputDefinitions"]["parameters"]["data_root"]["defaultValue"] == "/taxi/data"
    resolver = specs(package)["latest-blessed-model-resolver"].nodes[0]
    assert "/taxi/serving" in resolver.properties["push_destination"].value
    override = specs(package)["trainer"].nodes[0].properties["train_args"].overrides[0]
    assert override.path == ("num_steps",)


def test_no_task_of_the_taxi_template_takes_an_artifact_twice(compiled):
    fuse = [["StatisticsGen", "SchemaGen", "ExampleValidator"], ["Transform", "Trainer", "Evaluator", "CountRows"]]
    for config in ({}, {"fuse": fuse}):
        (package,) = compiled(taxi(), config)

        taken = artifacts_taken(package)
        assert "comp-condition-1.pusher" in taken
        assert all(len(sources) == len(set(sources)) for sources in taken.values())
    (fused,) = (spec for spec in specs(package).values() if "Evaluator" in {node.id for node in spec.nodes})
    examples = {node.id: node.inputs["examples"] for node in fused.nodes}
    assert examples["Transform"] == examples["Evaluator"] == examples["CountRows"] == ("csv_example_gen_examples",)
    assert set(fused.inputs) == {"csv_example_gen_examples", "schema_gen_schema", "latest_blessed_model_resolver_model"}


def test_channel_under_two_keys_of_a_component_is_one_input(compiled, tmp_path):
    write = Write(text="x", times=1)
    model = write.outputs["model"]
    latest = Resolver(strategy_class=LatestArtifactStrategy, model=model).with_id("latest")
    number = Number(value=1)
    compare = Compare(left=model, right=latest.outputs["model"], times=number.outputs["number"])
    (package,) = compiled(small("p", write, latest, number, compare))

    assert list(package["root"]["dag"]["tasks"]["compare"]["inputs"]["artifacts"]) == ["left", "times"]
    assert specs(package)["compare"].nodes[0].inputs == {"left": ("left",), "right": ("left",), "times": ("times",)}
    assert lint(tmp_path / "package.yaml") == []


def test_union_has_each_artifact_once(compiled):
    one, two = (Write(text=name, times=1).with_id(name) for name in ("One", "Two"))
    both = union([one.outputs["model"], two.outputs["model"], one.outputs["model"]])
    (package,) = compiled(small("p", one, two, Read(model=both)))

    assert specs(package)["read"].nodes[0].inputs == {"model": ("model", "model_2")}
    assert len(package["root"]["dag"]["tasks"]["read"]["inputs"]["artifacts"]) == 2


def test_condition_about_outputs_whose_names_run_together_reads_both(compiled):
    one, two = Number(value=1).with_id("A.number"), Number(value=2).with_id("A_number")
    with Cond(one.outputs["number"].future()[0].value < two.outputs["number"].future()[0].value):
        write = Write(text="x", times=1)
    (package,) = compiled(small("p", one, two, write))

    taken = package["root"]["dag"]["tasks"]["predicate-1"]["inputs"]["artifacts"]
    assert {source["taskOutputArtifact"]["producerTask"] for source in taken.values()} == {"a-number", "a-number-2"}


def test_order_through_a_resolver_that_hands_on_is_kept(compiled):
    first, write = Number(value=1), Write(text="x", times=1)
    latest = Resolver(strategy_class=LatestArtifactStrategy, model=write.outputs["model"]).with_id("latest")
    latest.add_upstream_node(first)
    (package,) = compiled(small("p", first, write, latest, Read(model=latest.outputs["model"])))

    assert package["root"]["dag"]["tasks"]["read"]["dependentTasks"] == ["number", "write"]


def test_order_without_data_is_kept(compiled):
    first, second = Number(value=1).with_id("First"), Number(value=2).with_id("Second")
    second.add_upstream_node(first)
    (package,) = compiled(small("p", first, second))

    assert package["root"]["dag"]["tasks"]["second"]["dependentTasks"] == ["first"]


def test_example_gen_and_its_driver_wait_for_what_comes_before(compiled):
    fetch, example_gen = Number(value=1).with_id("Fetch"), taxi_pipeline.CsvExampleGen(input_base="/x")
    example_gen.add_upstream_node(fetch)
    (package,) = compiled(small("p", example_gen, fetch))

    tasks = package["root"]["dag"]["tasks"]
    assert tasks["resolve-csv-example-gen"]["dependentTasks"] == ["fetch"]
    assert tasks["csv-example-gen"]["dependentTasks"] == ["fetch", "resolve-csv-example-gen"]


def test_example_gen_under_a_condition_is_there_with_its_driver(compiled):
    number = Number(value=1)
    with Cond(number.outputs["number"].future()[0].value == 1):
        example_gen = taxi_pipeline.CsvExampleGen(input_base="/x")
    (package,) = compiled(small("p", number, example_gen))

    inner = package["components"]["comp-condition-1"]["dag"]["tasks"]
    assert set(inner) == {"resolve-csv-example-gen", "csv-example-gen"}


def test_exit_handler_takes_the_final_status(compiled):
    handler = Tell(path=RuntimeParameter("path", str, "/tmp/it"), status=FinalStatusStr())
    (package,) = compiled(small("p", Number(value=1)), exit_handler=handler)

    tasks = package["root"]["dag"]["tasks"]
    assert tasks["tell"]["inputs"]["parameters"]["status"]["taskFinalStatus"]["producerTask"] == "exit-handler-1"
    assert tasks["tell"]["inputs"]["parameters"]["path"]["componentInputParameter"] == "path"
    assert tasks["tell"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def test_exit_handler_has_the_pod_that_the_config_gives_it(compiled):
    handler = Tell(path="/tmp/it", status=FinalStatusStr())
    (package,) = compiled(small("p", Number(value=1)), {"resources": {"Tell": {"cpu": 2}}}, exit_handler=handler)

    executors = package["deploymentSpec"]["executors"]
    assert executors["exec-tell"]["container"]["resources"]["resourceCpuLimit"] == "2"
    assert "resources" not in executors["exec-number"]["container"]


def test_exit_handler_with_outputs_is_refused(compiled):
    with pytest.raises(CompileError, match=r"Text: an exit handler has no outputs.* Received: text\."):
        compiled(small("p", Number(value=1)), exit_handler=taxi_pipeline.Text(value="x"))


def test_condition_about_several_nodes_is_a_task_of_its_own(compiled):
    one, two = Number(value=1).with_id("One"), Number(value=2).with_id("Two")
    with Cond(one.outputs["number"].future()[0].value < two.outputs["number"].future()[0].value):
        write = Write(text="x", times=1)
    (package,) = compiled(small("p", one, two, write))

    assert set(specs(package)["predicate-1"].inputs) == {"one_number", "two_number"}


def test_condition_about_several_nodes_is_not_taken_from_the_cache_of_other_code(compiled):
    one, two = Number(value=1).with_id("One"), Number(value=2).with_id("Two")
    with Cond(one.outputs["number"].future()[0].value < two.outputs["number"].future()[0].value):
        write = Write(text="x", times=1)
    (package,) = compiled(small("p", one, two, write), code="abc")

    assert specs(package)["predicate-1"].code == "abc"


def test_names_stay_short_enough_for_argo(compiled, tmp_path):
    ids = [f"{'many_words_' * 12}{number}" for number in range(2)]
    example_gens = [taxi_pipeline.CsvExampleGen(input_base="/x").with_id(node_id) for node_id in ids]
    numbers = [Number(value=number).with_id(f"Number{number}{'x' * 50}") for number in range(3)]
    compiled(small("p", *example_gens, *numbers), {"fuse": [[number.id for number in numbers]]})

    assert lint(tmp_path / "package.yaml") == []


def test_taking_from_under_another_condition_is_refused(compiled):
    number = Number(value=1)
    with Cond(number.outputs["number"].future()[0].value == 1):
        write = Write(text="x", times=1)
    with pytest.raises(CompileError, match=r"Read: takes what Write makes, which is under a condition"):
        compiled(small("p", number, write, Read(model=write.outputs["model"])))


def test_unknown_component_in_the_config_suggests_the_nearest(compiled):
    with pytest.raises(
        CompileError, match=r"kubeflow\.resources: the pipeline has no component 'Nmber'\. Did you mean"
    ):
        compiled(small("p", Number(value=1)), {"resources": {"Nmber": {"cpu": 1}}})


def test_pipeline_whose_name_has_no_ascii_letter_is_refused(compiled):
    with pytest.raises(CompileError, match=r"name needs an ASCII letter or digit.* Received: '\u7ba1\u9053'"):
        compiled(small("\u7ba1\u9053", Number(value=1)))


def test_node_called_driver_of_another_has_another_name_than_its_driver(compiled, tmp_path):
    (package,) = compiled(small("p", Number(value=1).with_id("Trainer"), Number(value=2).with_id("TrainerDriver")))

    assert set(package["root"]["dag"]["tasks"]) == {"trainer", "trainer-driver-task"}
    assert lint(tmp_path / "package.yaml") == []
