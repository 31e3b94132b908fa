"""What each kind of TFX's nodes becomes, and which of them cannot be expressed."""

from typing import Any

import pytest
from tfx.components.infra_validator.component import InfraValidator
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.components.common.manual_node import ManualNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.context_managers.dsl_context import DslContext
from tfx.dsl.context_managers.dsl_context_manager import DslContextManager
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.proto import infra_validator_pb2
from tfx.types import Channel, standard_artifacts

from kubetfx.errors import CompileError
from tests.kubeflow import taxi_pipeline
from tests.kubeflow.conftest import specs
from tests.kubeflow.taxi_pipeline import Number, Read, Write, small, taxi


def test_dynamic_property_is_resolved_from_an_input(compiled):
    number = Number(value=3)
    (package,) = compiled(small("p", number, Write(text="x", times=number.outputs["number"].future()[0].value)))

    inputs = package["root"]["dag"]["tasks"]["write"]["inputs"]["artifacts"]
    assert inputs["number_number"]["taskOutputArtifact"] == {"producerTask": "number", "outputArtifactKey": "number"}


def test_resolver_of_this_runs_artifacts_hands_them_on(compiled):
    write = Write(text="x", times=1)
    latest = Resolver(strategy_class=LatestArtifactStrategy, model=write.outputs["model"]).with_id("latest")
    (package,) = compiled(small("p", write, latest, Read(model=latest.outputs["model"])))

    assert set(package["root"]["dag"]["tasks"]) == {"write", "read"}


@pytest.mark.parametrize(("reimport", "is_cached"), [(True, None), (False, True)])
def test_importer_that_imports_anew_is_not_cached(compiled, reimport, is_cached):
    importer = Importer(source_uri="/x", artifact_type=standard_artifacts.Schema, reimport=reimport).with_id("Schema")
    (package,) = compiled(small("p", importer))

    assert package["root"]["dag"]["tasks"]["schema"]["cachingOptions"].get("enableCache") is is_cached


def test_pusher_of_tfx_does_not_push_the_same_model_again(compiled):
    (package,) = compiled(taxi())

    (pusher,) = package["components"]["comp-condition-1"]["dag"]["tasks"].values()
    assert pusher["cachingOptions"] == {"enableCache": True}
    resolver = package["root"]["dag"]["tasks"]["latest-blessed-model-resolver"]
    assert resolver["cachingOptions"] == {}


def test_module_file_on_this_machine_travels_with_the_package(compiled, tmp_path):
    from tfx.components.transform.component import Transform

    from tests.kubeflow.taxi_pipeline import imported_schema

    (tmp_path / "preprocessing.py").write_text("def preprocessing_fn(inputs):\n    return inputs\n")
    importer = imported_schema("/somewhere")
    transform = Transform(
        examples=taxi_pipeline.CsvExampleGen(input_base="/x").outputs["examples"],
        schema=importer.outputs["result"],
        module_file=str(tmp_path / "preprocessing.py"),
    )
    example_gen = taxi_pipeline.CsvExampleGen(input_base="/x")
    transform.inputs["examples"] = example_gen.outputs["examples"]
    (package,) = compiled(small("p", importer, example_gen, transform))

    spec = specs(package)["transform"]
    assert spec.nodes[0].module_files == {"module_file": "preprocessing"}
    assert "def preprocessing_fn" in spec.modules["preprocessing"]


def outside() -> Any:
    """A component whose executor cannot be imported: it is defined inside a function."""

    class Executor(base_executor.EmptyExecutor):
        pass

    number = Number(value=1)
    number.executor_spec = executor_spec.ExecutorClassSpec(Executor)
    return number


def read_something_unknown() -> Any:
    return Read(model=Channel(type=standard_artifacts.Model))


def resolve_blessed_without_a_pusher() -> Any:
    return Resolver(strategy_class=LatestBlessedModelStrategy, model=Channel(type=standard_artifacts.Model))


def resolve_latest_of_other_runs() -> Any:
    return Resolver(strategy_class=LatestArtifactStrategy, model=Channel(type=standard_artifacts.Model))


def take_from_elsewhere() -> Any:
    return Read(model=Write(text="x", times=1).outputs["model"])


def wait_for_a_person() -> Any:
    return ManualNode(description="Look at it.").with_id("Look")


def start_a_server_in_docker() -> Any:
    serving = infra_validator_pb2.ServingSpec(
        tensorflow_serving=infra_validator_pb2.TensorFlowServing(tags=["latest"]),
        local_docker=infra_validator_pb2.LocalDockerConfig(),
    )
    return InfraValidator(model=Channel(type=standard_artifacts.Model), serving_spec=serving)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (wait_for_a_person, r"Look: a task .* cannot wait for a person\. Received: ManualNode\. Take it out"),
        (start_a_server_in_docker, r"InfraValidator: starts a server by Docker.*Take it out"),
        (outside, r"Number: the executor cannot be imported in a container\. Received: .*top level"),
        (read_something_unknown, r"Read: the input 'model' is looked up in ML Metadata.*Importer"),
        (resolve_blessed_without_a_pusher, r"Resolver.*: the latest blessed model is the newest version .*no Pusher"),
        (resolve_latest_of_other_runs, r"Resolver.*: a cluster has no ML Metadata.*LatestArtifactStrategy"),
    ],
    ids=[
        "manual node",
        "infra validator",
        "executor in a function",
        "artifact query",
        "no pusher",
        "other runs",
    ],
)
def test_what_cannot_be_expressed_names_the_node_and_says_what_to_do(compiled, make, message):
    with pytest.raises(CompileError, match=message):
        compiled(small("p", make()))


class Elsewhere(DslContext):
    pass


class InAnotherContext(DslContextManager[None]):
    def create_context(self) -> Elsewhere:
        return Elsewhere()

    def enter(self, context: DslContext) -> None:
        pass


def test_context_that_is_not_known_names_the_node_and_the_context(compiled):
    with InAnotherContext():
        write = Write(text="x", times=1)
    with pytest.raises(CompileError, match=r"Write: is in a Elsewhere, and only Cond, ForEach and fan_out can be"):
        compiled(small("p", write))


def test_container_component_is_refused(compiled):
    from tfx.dsl.component.experimental.container_component import create_container_component

    container = create_container_component(name="Shell", image="busybox", command=["true"])
    with pytest.raises(CompileError, match=r"Shell: its executor is a container of its own"):
        compiled(small("p", container()))


def test_taking_from_a_node_outside_the_pipeline_is_refused(compiled):
    with pytest.raises(CompileError, match=r"Read: takes 'model' of 'Write', which is not in the pipeline"):
        compiled(small("p", take_from_elsewhere()))
