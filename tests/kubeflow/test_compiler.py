"""Packages: of the examples, of pipelines that only TFX made, and what cannot be one."""

import os
from pathlib import Path
from typing import Any

import jsonschema
import kfp.components
import pytest
from tfx.components.infra_validator.component import InfraValidator
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.components.common.manual_node import ManualNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.control_flow.for_each import ForEach
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.decorators import FinalStatusStr
from tfx.proto import infra_validator_pb2
from tfx.types import Channel, standard_artifacts
from tfx.types.channel_utils import union

from kubetfx.config.kubeflow import COMPONENTS
from kubetfx.config.loading import load_config
from kubetfx.errors import CompileError, ConfigError
from kubetfx.kubeflow import package as config_package
from kubetfx.kubeflow.compiler import write_package
from kubetfx.kubeflow.lint import lint
from kubetfx.kubeflow.package_document import digest
from kubetfx.pipeline import definition
from tests.kubeflow import taxi_pipeline
from tests.kubeflow.conftest import documents, specs
from tests.kubeflow.published_schemas import custom_resource_schema, schema
from tests.kubeflow.taxi_pipeline import Compare, Fail, Number, Read, Tell, Write, small, taxi

EXAMPLES = Path(__file__).parents[2] / "examples"
GOLDEN = Path(__file__).parent / "goldens" / "penguins.yaml"


@pytest.fixture
def example(monkeypatch, tmp_path):
    """Compile an example whose data is elsewhere, with digests that don't follow the code."""
    monkeypatch.setattr(definition, "_module_digest", lambda module: f"digest of {module}")
    monkeypatch.setattr(config_package, "code_digest", lambda: "digest of the code")

    def compile_example(name: str, *overrides: str, manifest: bool = False) -> tuple[Path, list[dict[str, Any]]]:
        elsewhere = ("data.path=/data", "serving.push_directory=/models/it", "workspace=/workspace")
        config = load_config(EXAMPLES / name / "pipeline.yaml", overrides=(*elsewhere, *overrides))
        path = tmp_path / f"{name}.yaml"
        write_package(config_package.compile_config(config).graph, path, kubernetes_manifest=manifest)
        return path, documents(path)

    return compile_example


def test_package_of_the_penguins_is_as_it_was(example):
    path, _ = example("penguins")

    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(path.read_text())
    assert path.read_text() == GOLDEN.read_text(), "UPDATE_GOLDEN=1 pytest rewrites the golden file"


def test_package_is_loaded_by_the_sdk(example):
    path, _ = example("penguins")

    loaded = kfp.components.load_component_from_file(str(path))

    assert loaded.name == "penguins"
    assert set(loaded.component_spec.inputs) == {"data_path", "epochs", "push_directory"}


def test_components_that_the_config_knows_are_those_of_the_pipelines():
    configs = [load_config(EXAMPLES / name / "pipeline.yaml") for name in ("penguins", "digits")]

    pipelines = [definition.create_pipeline(config) for config in configs]

    assert {node.id for pipeline in pipelines for node in pipeline.components} == set(COMPONENTS)


def test_run_parameters_have_defaults_and_reach_their_nodes(example):
    _, (package,) = example("penguins", "training.epochs=7")

    parameters = package["root"]["inputDefinitions"]["parameters"]
    assert {name: spec["defaultValue"] for name, spec in parameters.items()} == {
        "data_path": "/data",
        "epochs": 7.0,
        "push_directory": "/models/it",
    }
    takers = {
        name: [task for task, entry in package["root"]["dag"]["tasks"].items() if name in str(entry.get("inputs"))]
        for name in parameters
    }
    assert takers == {
        "data_path": ["resolve-table-example-gen", "table-example-gen"],
        "epochs": ["trainer"],
        "push_directory": ["pusher", "served-model-resolver"],
    }


def test_only_schema_2_1_and_system_types_are_written(example):
    path, (package,) = example("penguins")

    assert package["schemaVersion"] == "2.1.0"
    titles = {line.split(": ")[1] for line in path.read_text().splitlines() if "schemaTitle" in line}
    assert titles == {
        "system.Artifact",
        "system.ClassificationMetrics",
        "system.Dataset",
        "system.HTML",
        "system.Markdown",
        "system.Metrics",
        "system.Model",
    }
    assert path.read_text().count("{{") == len(package["deploymentSpec"]["executors"])  # the ExecutorInput alone


def test_every_component_shows_something(example):
    _, (package,) = example("penguins")

    shown = {"system.ClassificationMetrics", "system.HTML", "system.Markdown", "system.Metrics"}
    for name, component_spec in package["components"].items():
        outputs = component_spec["outputDefinitions"].get("artifacts", {})
        titles = {entry["artifactType"]["schemaTitle"] for entry in outputs.values()}
        assert titles & shown or name.startswith("comp-resolve-"), name


def test_regression_has_no_confusion_matrix(example):
    _, (package,) = example("penguins", "model.task=regression", "evaluation={}", "data.label=body_mass_g")

    assert "ClassificationMetrics" not in str(package["components"]["comp-evaluator"])


def test_what_looks_at_data_or_served_versions_is_never_cached(example):
    _, (package,) = example("penguins")

    tasks = package["root"]["dag"]["tasks"]
    never = {name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache")}
    assert never == {"resolve-table-example-gen", "served-model-resolver", "pusher", "report"}


def test_fingerprint_of_the_data_is_an_input_of_what_reads_it(example):
    _, (package,) = example("penguins")

    inputs = package["root"]["dag"]["tasks"]["table-example-gen"]["inputs"]["parameters"]
    assert inputs["driver_output"]["taskOutputParameter"]["producerTask"] == "resolve-table-example-gen"


def test_flights_give_the_trainer_its_gpu_and_no_other_task_anything(example):
    _, (package, platform) = example("flights")

    executors = package["deploymentSpec"]["executors"]
    resources = {name: e["container"]["resources"] for name, e in executors.items() if "resources" in e["container"]}
    assert set(resources) == {"exec-trainer"}
    assert resources["exec-trainer"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert resources["exec-trainer"]["accelerator"]["resourceCount"] == "1"
    assert resources["exec-trainer"]["resourceCpuLimit"] == "4"
    assert resources["exec-trainer"]["resourceCpuRequest"] == "2"
    assert resources["exec-trainer"]["resourceMemoryLimit"] == "16Gi"
    assert resources["exec-trainer"]["resourceMemoryRequest"] == "8Gi"

    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(pods) == {"exec-trainer"}
    pod = pods["exec-trainer"]
    assert pod["nodeSelector"]["labels"] == {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["pvcMount"][0]["mountPath"] == "/scratch"
    assert pod["pvcMount"][0]["constant"] == "training-scratch"
    assert pod["secretAsEnv"][0]["keyToEnv"] == [{"secretKey": "token", "envVar": "TRACKING_TOKEN"}]
    assert pod["emptyDirMounts"] == [
        {"volumeName": "shared-memory", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "2Gi"}
    ]
    assert pod["activeDeadlineSeconds"] == "7200"

    tasks = package["root"]["dag"]["tasks"]
    policies = {name: task["retryPolicy"] for name, task in tasks.items() if "retryPolicy" in task}
    assert policies == {
        "trainer": {
            "maxRetryCount": 2,
            "backoffDuration": "120s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": "604800s",
        }
    }


@pytest.mark.parametrize(
    ("overrides", "required"),
    [((), "true"), (("training.require_gpu=false",), "false"), (("kubeflow.resources={}",), "null")],
    ids=["it has one", "it has one and need not", "it has none"],
)
def test_trainer_must_find_the_gpu_that_it_was_given(example, overrides, required):
    _, documents = example("flights", *overrides)

    custom_config = specs(documents[0])["trainer"].nodes[0].properties["custom_config"].value
    assert f'"require_gpu": {required}' in custom_config


def test_what_holds_for_every_component_is_on_every_task(example):
    _, (package, platform) = example(
        "penguins",
        "kubeflow.every_component={cpu: 1, env: {A: b}, volumes: [{claim: data, mount_path: /data}], "
        "labels: {team: birds}, annotations: {why: not}, config_maps: [{name: c, mount_path: /etc/c}], "
        "secrets: [{name: s, mount_path: /etc/s}]}",
        "kubeflow.image_pull_policy=Always",
        "kubeflow.image_pull_secrets=[registry]",
        "kubeflow.image=registry.example/it:1",
        "kubeflow.resources={Trainer: {memory: 2Gi, env: {C: d}}}",
    )

    executors = package["deploymentSpec"]["executors"]
    for name, executor in executors.items():
        container = executor["container"]
        pod = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][name]
        assert container["image"] == "registry.example/it:1"
        assert container["resources"]["resourceCpuLimit"] == "1"
        assert {"name": "A", "value": "b"} in container["env"]
        assert pod["pvcMount"][0]["constant"] == "data"
        assert pod["podMetadata"] == {"labels": {"team": "birds"}, "annotations": {"why": "not"}}
        assert pod["imagePullPolicy"] == "Always"
        assert pod["imagePullSecret"][0]["secretName"] == "registry"
        assert pod["configMapAsVolume"][0]["mountPath"] == "/etc/c"
        assert pod["secretAsVolume"][0]["mountPath"] == "/etc/s"
    trainer = executors["exec-trainer"]["container"]
    assert trainer["resources"]["resourceMemoryLimit"] == "2Gi"
    assert len(trainer["env"]) == 2


def test_driver_of_example_gen_has_its_pod_but_for_the_gpu(example):
    _, (package, platform) = example(
        "penguins",
        "kubeflow.resources={TableExampleGen: {cpu: 2, memory: 2Gi, gpu: {}, volumes: [{claim: d, mount_path: /data}], "
        "secrets: [{name: s, env: {k: KEY}}], retries: {count: 3}}}",
    )

    for label in ("exec-resolve-table-example-gen", "exec-table-example-gen"):
        resources = package["deploymentSpec"]["executors"][label]["container"]["resources"]
        assert (resources["resourceCpuLimit"], resources["resourceMemoryLimit"]) == ("2", "2Gi")
        assert ("accelerator" in resources) == (label == "exec-table-example-gen")
        pod = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]
        assert pod["pvcMount"][0]["constant"] == "d"
        assert pod["secretAsEnv"][0]["secretName"] == "s"
    tasks = package["root"]["dag"]["tasks"]
    assert {name for name, task in tasks.items() if "retryPolicy" in task} == {
        "resolve-table-example-gen",
        "table-example-gen",
    }


def test_fused_components_are_one_task(example):
    _, (package,) = example("penguins", "kubeflow.fuse=light")

    assert set(package["root"]["dag"]["tasks"]) == {
        "resolve-table-example-gen",
        "table-example-gen",
        "statistics-gen-schema-gen-example-validator-anomaly-gate",
        "transform",
        "trainer",
        "served-model-resolver-evaluator-pusher-report",
    }
    spec = specs(package)["served-model-resolver-evaluator-pusher-report"]
    assert [node.id for node in spec.nodes] == ["ServedModelResolver", "Evaluator", "Pusher", "Report"]
    assert set(spec.inputs) == {
        "anomaly_gate_approved_schema",
        "example_validator_anomalies",
        "statistics_gen_statistics",
        "table_example_gen_examples",
        "trainer_model",
        "transform_transform_graph",
    }
    assert {node.id: node.inputs.get("model") for node in spec.nodes} == dict.fromkeys(
        ("ServedModelResolver", "Evaluator", "Pusher", "Report"), ("trainer_model",)
    )


def test_fused_components_cannot_ask_for_different_pods(example):
    with pytest.raises(CompileError, match="Evaluator, Pusher share a task, and ask for different pods"):
        example("penguins", "kubeflow.fuse=light", "kubeflow.resources={Evaluator: {cpu: 2}, Pusher: {cpu: 1}}")


def test_what_waits_for_a_task_in_between_cannot_be_fused_around_it(example):
    with pytest.raises(CompileError, match="wait for each other"):
        example("penguins", "kubeflow.fuse=[[Transform, Evaluator]]")


def test_manifest_is_a_pipeline_and_a_version_of_it(example):
    _, (pipeline, version) = example("penguins", manifest=True)

    assert pipeline["kind"] == "Pipeline"
    assert version["kind"] == "PipelineVersion"
    assert version["apiVersion"] == "pipelines.kubeflow.org/v2beta1"
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"] == "penguins"
    assert version["spec"]["pipelineSpec"]["schemaVersion"] == "2.1.0"


def test_version_of_another_package_is_another_resource(example):
    names = [
        [resource["metadata"]["name"] for resource in example("penguins", override, manifest=True)[1]]
        for override in ("training.epochs=7", "training.epochs=7", "training.epochs=8")
    ]

    assert names[0] == names[1]
    assert [resource[0] for resource in names] == ["penguins"] * 3
    assert names[0][1] != names[2][1]


def test_version_in_a_manifest_has_the_name_that_uploading_the_package_gives_it(example):
    path, _ = example("penguins")
    package_digest = digest(path)
    _, (_, version) = example("penguins", manifest=True)

    assert version["metadata"]["name"] == f"penguins-{package_digest}"


@pytest.mark.parametrize("name", ["penguins", "flights"])
def test_manifest_fits_the_resources_of_kubeflow_pipelines(example, name):
    definitions = {
        "Pipeline": schema("kfp-pipelines-crd.yaml"),
        "PipelineVersion": schema("kfp-pipelineversions-crd.yaml"),
    }
    _, resources = example(name, manifest=True)

    for resource in resources:
        version = resource["apiVersion"].split("/")[1]
        jsonschema.validate(resource, custom_resource_schema(definitions[resource["kind"]], version))


@pytest.mark.parametrize("manifest", [False, True], ids=["package", "manifest"])
@pytest.mark.parametrize("name", ["penguins", "flights"])
@pytest.mark.parametrize("fuse", ["none", "light"])
def test_lint_finds_nothing_in_what_is_written(example, name, fuse, manifest):
    path, _ = example(name, f"kubeflow.fuse={fuse}", manifest=manifest)

    assert lint(path) == []


def test_lint_finds_nothing_in_the_taxi_template_of_tfx(compiled, tmp_path):
    compiled(taxi())

    assert lint(tmp_path / "package.yaml") == []


@pytest.fixture
def compile_module(tmp_path, monkeypatch):
    """Compile a config with a module of the user's own; what travels with the Trainer, and the package's text."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def compile_with(module: str, **files: str) -> tuple[dict[str, str], str]:
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/', 1)}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        (tmp_path / "pipeline.yaml").write_text(f"name: p\ndata: {{path: d, label: y}}\nmodel: {{module: {module}}}\n")
        path = tmp_path / "out.yaml"
        config_package.compile_to_file(load_config(tmp_path / "pipeline.yaml"), path)
        (package,) = documents(path)
        return dict(specs(package)["trainer"].modules), path.read_text()

    return compile_with


def test_module_beside_the_config_travels_with_what_it_imports_and_nothing_else(compile_module):
    network = "import my_helper\nTEXT = '{{$.inputs}}'\n"
    helper = "def f():\n    from my_layers import X\n    import json\n"
    modules, text = compile_module(
        "my_network", my_network=network, my_helper=helper, my_layers="import my_helper\nX = 1\n", my_secret="KEY = 1\n"
    )

    assert modules == {"my_helper": helper, "my_layers": "import my_helper\nX = 1\n", "my_network": network}
    assert "{{$.inputs" not in text


def test_package_as_the_model_s_module_is_refused(compile_module):
    message = r"model\.module: a package cannot travel to a container.* Received: my_package"
    with pytest.raises(ConfigError, match=message):
        compile_module("my_package", my_package____init__="")
    with pytest.raises(ConfigError, match=message):
        compile_module("my_package.inner", my_package____init__="", my_package__inner="")
    with pytest.raises(ConfigError, match=r"which imports the package my_package beside it"):
        compile_module("my_other", my_package____init__="", my_other="from my_package.inner import x\n")


def test_module_that_is_no_python_names_its_line(compile_module):
    with pytest.raises(ConfigError, match=r"model\.module is not valid Python\. Received: .*my_broken\.py, line 2: "):
        compile_module("my_broken", my_broken="x = 1\ndef\n")


def test_module_of_kubetfx_and_installed_ones_do_not_travel(compile_module):
    assert compile_module("kubetfx.models.tabular")[0] == {}
    assert compile_module("yaml")[0] == {}


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


def artifacts_taken(package: dict[str, Any]) -> dict[str, list[str]]:
    """What each task takes, by its DAG and name."""
    dags = {"root": package["root"], **package["components"]}
    return {
        f"{name}.{task}": [str(source) for source in entry.get("inputs", {}).get("artifacts", {}).values()]
        for name, component in dags.items()
        for task, entry in component.get("dag", {}).get("tasks", {}).items()
    }


@pytest.mark.parametrize("fuse", ["none", "light"])
@pytest.mark.parametrize("name", ["penguins", "flights", "digits", "seedlings"])
def test_no_task_of_an_example_takes_an_artifact_twice(example, name, fuse):
    _, (package, *_) = example(name, f"kubeflow.fuse={fuse}")

    taken = artifacts_taken(package)
    assert len(taken["root.served-model-resolver-evaluator-pusher-report" if fuse == "light" else "root.report"]) > 3
    assert all(len(sources) == len(set(sources)) for sources in taken.values())


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


def test_order_through_a_resolver_that_hands_on_is_kept(compiled):
    first, write = Number(value=1), Write(text="x", times=1)
    latest = Resolver(strategy_class=LatestArtifactStrategy, model=write.outputs["model"]).with_id("latest")
    latest.add_upstream_node(first)
    (package,) = compiled(small("p", first, write, latest, Read(model=latest.outputs["model"])))

    assert package["root"]["dag"]["tasks"]["read"]["dependentTasks"] == ["number", "write"]


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


@pytest.mark.parametrize(
    ("letter", "fits"), [("x", 100_000), ("<", 15_000), ('"', 25_000)], ids=["plain", "as Go escapes it", "quotes"]
)
def test_task_whose_argument_is_too_long_to_start_a_process_is_refused(compiled, letter, fits):
    compiled(small("p", Fail(reason=letter * fits)))

    message = r"Fail: what the task does is too long .* bytes, more than 122,880; the longest are Fail\.reason with "
    with pytest.raises(CompileError, match=message):
        compiled(small("p", Fail(reason=letter * fits * 3)))


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


def ask_for_the_final_status() -> Any:
    return Tell(path="/tmp/it", status=FinalStatusStr())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (ask_for_the_final_status, r"Tell: takes the final status .*status=FinalStatusStr\..*exit_handler"),
        (wait_for_a_person, r"Look: a task .* cannot wait for a person\. Received: ManualNode\. Take it out"),
        (start_a_server_in_docker, r"InfraValidator: starts a server by Docker.*Take it out"),
        (outside, r"Number: the executor cannot be imported in a container\. Received: .*top level"),
        (read_something_unknown, r"Read: the input 'model' is looked up in ML Metadata.*Importer"),
        (resolve_blessed_without_a_pusher, r"Resolver.*: the latest blessed model is the newest version .*no Pusher"),
        (resolve_latest_of_other_runs, r"Resolver.*: a cluster has no ML Metadata.*LatestArtifactStrategy"),
    ],
    ids=[
        "final status",
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


def test_loop_over_artifacts_names_the_node_and_the_loop(compiled):
    write = Write(text="x", times=1)
    with ForEach(write.outputs["model"]) as model:
        read = Read(model=model)
    with pytest.raises(
        CompileError, match=r"Read: stands in a ForEach, and only Cond can be expressed\. Take the node"
    ):
        compiled(small("p", write, read))


def test_names_stay_short_enough_for_argo(compiled, tmp_path):
    ids = [f"{'many_words_' * 12}{number}" for number in range(2)]
    example_gens = [taxi_pipeline.CsvExampleGen(input_base="/x").with_id(node_id) for node_id in ids]
    numbers = [Number(value=number).with_id(f"Number{number}{'x' * 50}") for number in range(3)]
    compiled(small("p", *example_gens, *numbers), {"fuse": [[number.id for number in numbers]]})

    assert lint(tmp_path / "package.yaml") == []


def test_taking_from_a_node_outside_the_pipeline_is_refused(compiled):
    with pytest.raises(CompileError, match=r"Read: takes 'model' of 'Write', which is not in the pipeline"):
        compiled(small("p", take_from_elsewhere()))


def test_taking_from_under_another_condition_is_refused(compiled):
    number = Number(value=1)
    with Cond(number.outputs["number"].future()[0].value == 1):
        write = Write(text="x", times=1)
    with pytest.raises(CompileError, match=r"Read: takes what Write makes, which is under a condition"):
        compiled(small("p", number, write, Read(model=write.outputs["model"])))


def test_container_component_is_refused(compiled):
    from tfx.dsl.component.experimental.container_component import create_container_component

    container = create_container_component(name="Shell", image="busybox", command=["true"])
    with pytest.raises(CompileError, match=r"Shell: its executor is a container of its own"):
        compiled(small("p", container()))


def test_unknown_component_in_the_config_suggests_the_nearest(compiled):
    with pytest.raises(
        CompileError, match=r"kubeflow\.resources: the pipeline has no component 'Nmber'\. Did you mean"
    ):
        compiled(small("p", Number(value=1)), {"resources": {"Nmber": {"cpu": 1}}})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("model", "model"), ("lambda", "lambda_"), ("1st", "n_1st"), ("condition_1", "condition_1"), ("text", "text")],
)
def test_runtime_parameter_may_be_called_as_anything_else_is(compiled, tmp_path, name, expected):
    write = Write(text=RuntimeParameter(name, str, "x"), times=1)
    with Cond(write.outputs["model"].future()[0].uri == "/somewhere"):
        number = Number(value=1)
    (package,) = compiled(small("p", write, number))

    (parameter,) = package["root"]["inputDefinitions"]["parameters"]
    assert parameter == expected
    inputs = package["root"]["dag"]["tasks"]["write"]["inputs"]["parameters"]
    assert inputs[parameter]["componentInputParameter"] == parameter
    assert specs(package)["write"].nodes[0].properties["text"].overrides[0].parameter == parameter
    outputs = package["components"]["comp-write"]["outputDefinitions"]
    assert (len(outputs["artifacts"]), len(outputs["parameters"])) == (2, 1)
    assert lint(tmp_path / "package.yaml") == []


@pytest.mark.parametrize(
    ("components", "handler", "message"),
    [
        (
            lambda: [taxi_pipeline.CsvExampleGen(input_base=RuntimeParameter("driver-output", str, "/x"))],
            None,
            r"CsvExampleGen: the RuntimeParameter 'driver_output' has a name that its task needs",
        ),
        (
            lambda: [Number(value=1)],
            lambda: Tell(path=RuntimeParameter("status", str, "/x"), status=FinalStatusStr()),
            r"Tell: the RuntimeParameter 'status' has a name that its task needs",
        ),
        (
            lambda: [Fail(reason=RuntimeParameter("\u7406\u7531", str, "x"))],
            None,
            r"Fail: a RuntimeParameter's name needs an ASCII letter or digit\. Received: '\u7406\u7531'",
        ),
    ],
    ids=["of the driver", "final status", "no ASCII"],
)
def test_runtime_parameter_with_a_name_that_cannot_be_names_the_node(compiled, components, handler, message):
    with pytest.raises(CompileError, match=message):
        compiled(small("p", *components()), exit_handler=handler and handler())


def test_pipeline_whose_name_has_no_ascii_letter_is_refused(compiled):
    with pytest.raises(CompileError, match=r"name needs an ASCII letter or digit.* Received: '\u7ba1\u9053'"):
        compiled(small("\u7ba1\u9053", Number(value=1)))


def test_text_that_only_looks_like_a_runtime_parameter_is_left_alone(compiled):
    text = 'say "RuntimeParameter" and {no JSON'
    document = '{"say":"\\"RuntimeParameter\\"",  "n": 1}'
    (package,) = compiled(small("p", Fail(reason=text), Fail(reason=document).with_id("Second")))

    assert specs(package)["fail"].nodes[0].properties["reason"].value == text
    assert specs(package)["second"].nodes[0].properties["reason"].value == document


def test_node_called_driver_of_another_has_another_name_than_its_driver(compiled, tmp_path):
    (package,) = compiled(small("p", Number(value=1).with_id("Trainer"), Number(value=2).with_id("TrainerDriver")))

    assert set(package["root"]["dag"]["tasks"]) == {"trainer", "trainer-driver-task"}
    assert lint(tmp_path / "package.yaml") == []


def test_runtime_parameter_with_two_defaults_is_refused(compiled):
    first = Fail(reason=RuntimeParameter("reason", str, "a")).with_id("First")
    second = Fail(reason=RuntimeParameter("reason", str, "b")).with_id("Second")
    with pytest.raises(CompileError, match=r"Second: the RuntimeParameter 'reason' has another type or default"):
        compiled(small("p", first, second))
