"""What pipeline.yaml files compile to: the examples, what each config changes, and the modules that travel."""

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import kfp.components
import pytest
from tfx.components import CsvExampleGen

import kubetfx
from kubetfx.config.beam_section import BeamConfig
from kubetfx.config.kubeflow_section import COMPONENTS
from kubetfx.config.loading import load_config
from kubetfx.errors import CompileError, ConfigError
from kubetfx.kubeflow import compilation
from kubetfx.kubeflow import package as config_package
from kubetfx.kubeflow.compiler import write_package
from kubetfx.kubeflow.lint import lint
from kubetfx.kubeflow.package_document import digest
from kubetfx.pipeline import chosen_definition, definition
from kubetfx.pipeline.fan_out import distinct_nodes
from tests.kubeflow.conftest import artifacts_taken, documents, specs
from tests.kubeflow.published_schemas import custom_resource_schema, schema

EXAMPLES = Path(__file__).parents[2] / "examples"

GOLDEN = Path(__file__).parent / "goldens" / "penguins.yaml"


@pytest.fixture
def example(monkeypatch, tmp_path):
    """Compile an example whose data is elsewhere, with digests that don't follow the code."""
    monkeypatch.setattr(definition, "module_digest", lambda module: f"digest of {module}")
    monkeypatch.setattr(config_package, "code_digest", lambda: "digest of the code")

    def compile_example(name: str, *overrides: str, manifest: bool = False) -> tuple[Path, list[dict[str, Any]]]:
        elsewhere = ("data.path=/data", "serving.push_directory=/models/it", "workspace=/workspace")
        config = load_config(EXAMPLES / name / "pipeline.yaml", overrides=(*elsewhere, *overrides))
        path = tmp_path / f"{name}.yaml"
        write_package(config_package.compile_config(config)[0], path, kubernetes_manifest=manifest)
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
    tuning = "tuning={parallel: 2, storage: 'postgresql://db.example/studies'}"
    overrides = {
        "penguins": ["evaluation.cross_validation.folds=2", "model.ensemble=folds", tuning],
        "digits": [
            "training.warm_start=served",
            "retrain={on: [new_span]}",
            "tracking={mlflow: 'http://mlflow.example:5000'}",
        ],
    }
    configs = [load_config(EXAMPLES / name / "pipeline.yaml", overrides=own) for name, own in overrides.items()]

    pipelines = [chosen_definition.pipeline_of(c, in_cluster=True, retrain_gate=c.retrain is not None) for c in configs]

    assert {name for pipeline in pipelines for name in distinct_nodes(pipeline)} == set(COMPONENTS)


def test_tuners_side_by_side_are_iterations_of_one_loop_with_the_pod_of_the_trainer(example):
    path, documents = example(
        "penguins",
        "tuning={parallel: 3, storage: 'postgresql://me:${DB_PASSWORD}@db.example/studies'}",
        "kubeflow.resources={Trainer: {cpu: 4, secrets: [{name: database, env: {password: DB_PASSWORD}}]}}",
    )
    package = documents[0]

    (loop,) = [task for task in package["root"]["dag"]["tasks"].values() if "parameterIterator" in task]
    items = [json.loads(item) for item in json.loads(loop["parameterIterator"]["items"]["raw"])]
    assert [item["index"] for item in items] == [0, 1, 2]
    executors = package["deploymentSpec"]["executors"]
    cores = {name: one["container"].get("resources", {}).get("cpuRequest") for name, one in executors.items()}
    assert cores["exec-tuner"] == cores["exec-trainer"] == 4
    assert cores["exec-best-trial"] is None
    assert r"postgresql://me:\u0024{DB_PASSWORD}@db.example/studies" in path.read_text()
    assert not list(lint(path))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["tuning.parallel=2"],
            r"tuning\.parallel: tasks on Kubeflow pull trials from a database",
        ),
        (
            ["tuning.storage=postgresql://me:${DB_PASSWORD}@db.example/studies"],
            r"tuning\.storage: the pods will not have the environment variable DB_PASSWORD",
        ),
    ],
    ids=["no storage", "no secret"],
)
def test_search_that_pods_cannot_make_is_told(tmp_path, overrides, message):
    config = load_config(EXAMPLES / "penguins" / "pipeline.yaml", overrides=overrides)
    with pytest.raises(ConfigError, match=message):
        kubetfx.compile(config, tmp_path / "package.yaml")


def test_folds_are_iterations_of_one_loop_with_the_pods_of_the_steps_whose_work_they_do(example):
    path, documents = example(
        "penguins",
        "evaluation.cross_validation.folds=3",
        "evaluation.cross_validation.parallel=2",
        "kubeflow.resources={Trainer: {cpu: 4}, FoldTransform: {cpu: 2}}",
    )
    package = documents[0]

    (loop,) = [task for task in package["root"]["dag"]["tasks"].values() if "parameterIterator" in task]
    assert loop["iteratorPolicy"] == {"parallelismLimit": 2}
    items = [json.loads(item) for item in json.loads(loop["parameterIterator"]["items"]["raw"])]
    assert [item["fold"] for item in items] == [0, 1, 2]
    executors = package["deploymentSpec"]["executors"]
    cores = {name: one["container"].get("resources", {}).get("cpuRequest") for name, one in executors.items()}
    assert cores["exec-trainer"] == cores["exec-fold-trainer"] == 4
    assert cores["exec-fold-transform"] == 2
    assert cores["exec-transform"] is None
    assert lint(path) == []


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


def test_training_takes_the_served_model_where_it_starts_from_it(example):
    _, (package,) = example("penguins", "training.warm_start=served")

    tasks = package["root"]["dag"]["tasks"]
    assert "enableCache" not in tasks["warm-start-model"]["cachingOptions"]
    base = tasks["trainer"]["inputs"]["artifacts"]["base_model"]["taskOutputArtifact"]
    assert base == {"outputArtifactKey": "served_model", "producerTask": "warm-start-model"}
    pushed = {"componentInputParameter": "push_directory"}
    users = [name for name, task in tasks.items() if pushed in task.get("inputs", {}).get("parameters", {}).values()]
    assert users == ["pusher", "served-model-resolver", "warm-start-model"]


def test_first_task_of_a_recurring_run_decides_whether_there_are_others(tmp_path):
    path = tmp_path / "package.yaml"
    config = load_config(EXAMPLES / "penguins" / "pipeline.yaml", overrides=["retrain={on: [new_span], at_most: 1d}"])

    kubetfx.compile(config, path, retrain_gate=True)

    assert lint(path) == []
    package = documents(path)[0]
    tasks = package["root"]["dag"]["tasks"]
    assert set(tasks) == {"retrain-gate", "condition-1"}
    assert "enableCache" not in tasks["retrain-gate"]["cachingOptions"]
    assert set(tasks["retrain-gate"]["inputs"]["parameters"]) == {"data_path", "push_directory"}
    inner = package["components"]["comp-condition-1"]["dag"]["tasks"]
    assert {"table-example-gen", "trainer", "pusher", "report", "retrain-end"} <= set(inner)
    assert "report" in inner["retrain-end"]["dependentTasks"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"does what the section `retrain` says\. Received: no section retrain"),
        (["retrain={on: [new_span]}", "definition=mine:pipeline"], r"Received: definition: mine:pipeline"),
        (
            ["retrain={on: [drift]}", "monitoring={requests: log}"],
            r"drift is found where the runs are recorded.*Received: on: \[drift\]",
        ),
    ],
)
def test_gate_that_cannot_be_is_refused_in_words(tmp_path, overrides, message):
    config = load_config(EXAMPLES / "penguins" / "pipeline.yaml", overrides=overrides)
    with pytest.raises(ConfigError, match=message):
        kubetfx.compile(config, tmp_path / "package.yaml", retrain_gate=True)


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
        "kubeflow.pod_security=restricted",
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
        assert pod["securityContext"] == {"runAsNonRoot": True}
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


def test_own_source_travels_with_the_task_that_looks_for_data_and_with_the_one_that_reads_it(tmp_path):
    (tmp_path / "my_source.py").write_text("def read(config):\n    yield from ()\n")
    config = tmp_path / "pipeline.yaml"
    config.write_text("name: p\ndata: {path: d, label: y, source: 'my_source:read'}\n")
    config_package.compile_to_file(load_config(config), tmp_path / "out.yaml")

    (package,) = documents(tmp_path / "out.yaml")

    tasks = {name for name, spec in specs(package).items() if "my_source" in spec.modules}
    assert tasks == {"resolve-table-example-gen", "table-example-gen"}


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
    assert compile_module("kubetfx.models.network")[0] == {}
    assert compile_module("yaml")[0] == {}


@pytest.mark.long
@pytest.mark.parametrize("fuse", ["none", "light"])
@pytest.mark.parametrize("name", ["penguins", "flights", "digits", "seedlings"])
def test_no_task_of_an_example_takes_an_artifact_twice(example, name, fuse):
    _, (package, *_) = example(name, f"kubeflow.fuse={fuse}")

    taken = artifacts_taken(package)
    assert len(taken["root.served-model-resolver-evaluator-pusher-report" if fuse == "light" else "root.report"]) > 3
    assert all(len(sources) == len(set(sources)) for sources in taken.values())


def test_component_of_others_on_an_engine_whose_workers_do_not_see_its_pod_is_refused(tmp_path):
    config = load_config(EXAMPLES / "penguins" / "pipeline.yaml")
    elsewhere = {"runner": "FlinkRunner", "endpoint": "flink:8099", "environment": {"type": "DOCKER", "config": "i"}}
    with_engine = config.model_copy(update={"beam": BeamConfig.model_validate(elsewhere)})
    compilation.compile(with_engine, tmp_path / "package.yaml")
    pipeline = kubetfx.create_pipeline(with_engine)
    pipeline.components = [*pipeline.components, CsvExampleGen("/data").with_id("Theirs")]

    with pytest.raises(ConfigError, match=r"Theirs is not a component of kubetfx: .* FlinkRunner at flink:8099 do not"):
        compilation.compile(with_engine, tmp_path / "refused.yaml", pipeline=pipeline)
    assert not (tmp_path / "refused.yaml").exists()
