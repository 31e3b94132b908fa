import copy
import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from kubetfx.errors import UsageError
from kubetfx.kubeflow import lint as linter
from kubetfx.kubeflow.lint_rules.containers import TFX_ENTRYPOINT
from tests.kubeflow import sdk_packages

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "exec-train"
Document = dict[str, Any]


@pytest.fixture(scope="module")
def kitchen_sink(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("packages") / "kitchen-sink.yaml"
    compiler.Compiler().compile(sdk_packages.kitchen_sink, str(path))
    return path


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory) -> Document:
    path = tmp_path_factory.mktemp("packages") / "two-steps.yaml"
    compiler.Compiler().compile(sdk_packages.two_steps, str(path))
    return yaml.safe_load(path.read_text())


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    def write(*documents: Document) -> Path:
        path = tmp_path / "pipeline.yaml"
        path.write_text(yaml.safe_dump_all(documents))
        return path

    return write


def test_packages_of_the_sdk_are_clean(kitchen_sink):
    assert linter.lint(kitchen_sink) == []


def test_artifact_that_a_task_takes_twice_is_found_at_any_depth(tmp_path):
    """Given twice to a DAG, taken twice within it, under two names of a DAG that hands it out, and imported twice."""
    path = tmp_path / "package.yaml"
    compiler.Compiler().compile(sdk_packages.everything_twice, str(path))

    findings = linter.lint(path)

    assert {(finding.rule, finding.severity) for finding in findings} == {("artifact-twice", "error")}
    assert {finding.place for finding in findings} == {
        "components.comp-condition-1.dag.tasks.compare.inputs.artifacts.right",
        "components.comp-hand-on.dag.tasks.compare.inputs.artifacts.right",
        "root.dag.tasks.hand-on.inputs.artifacts.right",
        "root.dag.tasks.compare-2.inputs.artifacts.right",
        "root.dag.tasks.compare-3.inputs.artifacts.right",
    }
    lines = path.read_text().splitlines()
    assert {lines[finding.line - 2].strip() for finding in findings if finding.line} == {"right:"}
    assert all("UNIQUE(artifact, execution, type)" in finding.what for finding in findings)
    assert "the artifact of the input 'left' again" in findings[0].what


def test_task_that_reads_an_artifact_of_each_input_is_clean(tmp_path):
    """Two outputs of one task, one output of two tasks, an import that is made anew each time."""
    path = tmp_path / "package.yaml"
    compiler.Compiler().compile(sdk_packages.each_once, str(path))

    assert linter.lint(path) == []


def test_a_pipeline_version_for_git_ops_is_clean(tmp_path):
    path = tmp_path / "manifest.yaml"
    compiler.Compiler().compile(
        sdk_packages.kitchen_sink,
        str(path),
        kubernetes_manifest_format=True,
        kubernetes_manifest_options=compiler.compiler_utils.KubernetesManifestOptions(
            pipeline_name="sink", pipeline_version_name="sink-1", namespace="kubeflow"
        ),
    )

    assert linter.lint(path) == []


def test_what_the_sdk_itself_gets_wrong_is_found(tmp_path):
    path = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(sdk_packages.item_in_a_text, str(path))

    (finding,) = linter.lint(path)

    assert (finding.rule, finding.severity) == ("dag-input", "error")
    assert finding.place.startswith("root.dag.tasks.exit-handler-1.inputs.parameters.pipelinechannel--loop-item-param")


def test_place_and_line_lead_to_the_fault(two_steps, write):
    document = copy.deepcopy(two_steps)
    document["deploymentSpec"]["executors"][TRAIN]["container"]["resources"] = {
        "accelerator": {"type": "NVIDIA_TESLA_K80", "count": "1"}
    }
    path = write(document)

    (finding,) = linter.lint(path)

    assert finding.place == "deploymentSpec.executors.exec-train.container.resources.accelerator"
    assert finding.line is not None
    assert {"count: '1'", "type: NVIDIA_TESLA_K80"} & {path.read_text().splitlines()[finding.line - 1].strip()}
    assert "NVIDIA_TESLA_K80" in finding.what
    assert "nvidia.com/gpu" in finding.remedy


def _container(document: Document) -> Document:
    return document["deploymentSpec"]["executors"][TRAIN]["container"]


def _tasks(document: Document) -> Document:
    return document["root"]["dag"]["tasks"]


def _inputs(document: Document, task: str) -> Document:
    return _tasks(document)[task].setdefault("inputs", {}).setdefault("parameters", {})


def _rename(document: Document, old: str, new: str) -> None:
    _tasks(document)[new] = _tasks(document).pop(old)


def _import_under_condition(document: Document) -> None:
    document["deploymentSpec"]["executors"]["exec-flip"] = {"importer": {"artifactUri": {"constant": "gs://x"}}}
    _tasks(document)["flip"]["triggerPolicy"] = {"condition": "true"}


def _wrap_in_dag(document: Document) -> None:
    """As TFX does for an exit handler: the tasks in a DAG that declares no inputs."""
    document["components"]["comp-all"] = {"dag": {"tasks": _tasks(document)}}
    document["root"]["dag"]["tasks"] = {"all": {"componentRef": {"name": "comp-all"}, "taskInfo": {"name": "all"}}}


def _wrap_in_dag_with_inputs(document: Document) -> None:
    _wrap_in_dag(document)
    names = ("rows", "side")
    document["components"]["comp-all"]["inputDefinitions"] = {
        "parameters": {name: {"parameterType": "STRING"} for name in names}
    }
    _inputs(document, "all")["rows"] = {"componentInputParameter": "rows"}


def _only_exit_tasks(document: Document) -> None:
    for task in _tasks(document).values():
        task["triggerPolicy"] = {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}


def _final_status_of_nothing(document: Document) -> None:
    _inputs(document, "flip")["side"] = {"taskFinalStatus": {"producerTask": "train"}}
    _tasks(document)["flip"]["triggerPolicy"] = {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}


def _take_the_examples_twice(document: Document) -> None:
    taken = _tasks(document)["train"]["inputs"]["artifacts"]
    taken["table"] = copy.deepcopy(taken["examples"])


def _take_an_artifact_from_the_run(document: Document) -> None:
    definition = {"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}}
    document["root"]["inputDefinitions"]["artifacts"] = {"table": definition}
    task = _tasks(document)["train"].setdefault("inputs", {}).setdefault("artifacts", {})
    task["table"] = {"componentInputArtifact": "table"}


def _hand_out(section: str, output: Document) -> Callable[[Document], None]:
    """The tasks in a DAG that hands something of one of them out."""

    def hand_out(document: Document) -> None:
        _wrap_in_dag(document)
        document["components"]["comp-all"]["dag"]["outputs"] = {section: {"it": output}}

    return hand_out


BREAKS: list[Any] = [
    ("schema-version", lambda d: d.update(schemaVersion="2.0.0"), "schemaVersion"),
    ("malformed", lambda d: d.update(pipelineVersion="3"), ""),
    ("malformed", lambda d: _tasks(d)["flip"].update(dependentTasks="train"), ""),
    ("ignored-field", lambda d: _container(d).update(gpus=1), "deploymentSpec.executors.exec-train"),
    ("pipeline-name", lambda d: d["pipelineInfo"].update(name="ÄÖ"), "pipelineInfo.name"),
    ("empty", lambda d: d["root"]["dag"].update(tasks={}), "root"),
    ("pipeline-root", lambda d: d.update(defaultPipelineRoot="minio://x"), "defaultPipelineRoot"),
    (
        "required-parameter",
        lambda d: d["root"]["inputDefinitions"]["parameters"].update(side={"parameterType": "STRING"}),
        "root.inputDefinitions.parameters.side",
    ),
    ("root-artifact", _take_an_artifact_from_the_run, "root.inputDefinitions.artifacts.table"),
    (
        "parameter-type",
        lambda d: d["root"]["inputDefinitions"]["parameters"].update(side={"type": "STRING", "defaultValue": "a"}),
        "root.inputDefinitions.parameters.side",
    ),
    ("component", lambda d: d["components"].pop("comp-flip"), "root.dag.tasks.flip.componentRef"),
    (
        "executor",
        lambda d: d["components"]["comp-flip"].update(executorLabel="exec-x"),
        "components.comp-flip.executorLabel",
    ),
    ("executor", lambda d: d["components"]["comp-flip"].pop("executorLabel"), "components.comp-flip"),
    (
        "executor-kind",
        lambda d: d["deploymentSpec"]["executors"].update({"exec-flip": {"resolver": {}}}),
        "deploymentSpec.executors.exec-flip",
    ),
    ("image", lambda d: _container(d).pop("image"), "deploymentSpec.executors.exec-train.container"),
    ("command", lambda d: _container(d).pop("command"), "deploymentSpec.executors.exec-train.container"),
    (
        "tfx-entrypoint",
        lambda d: _container(d).update(command=["python", "-m", f"{TFX_ENTRYPOINT}.kubeflow_v2_run_executor"]),
        "deploymentSpec.executors.exec-train.container.command",
    ),
    (
        "former-entrypoint",
        lambda d: _container(d).update(command=["python", "-m", "kubeflow.entrypoint"]),
        "deploymentSpec.executors.exec-train.container.command",
    ),
    (
        "pre-cache-check",
        lambda d: _container(d).update(lifecycle={"preCacheCheck": {"command": ["python"]}}),
        "deploymentSpec.executors.exec-train.container.lifecycle",
    ),
    (
        "accelerator-ignored",
        lambda d: _container(d).update(resources={"accelerator": {"resourceType": "nvidia.com/gpu"}}),
        "deploymentSpec.executors.exec-train.container.resources.accelerator",
    ),
    (
        "artifact-type",
        lambda d: d["components"]["comp-train"]["outputDefinitions"]["artifacts"]["model"].update(
            artifactType={"instanceSchema": "title: tfx.Model\ntype: object\n"}
        ),
        "components.comp-train",
    ),
    ("task-name", lambda d: _rename(d, "flip", "flip_it"), "root.dag.tasks.flip_it"),
    ("task-name", lambda d: _rename(d, "flip", "flip.it"), 'root.dag.tasks["flip.it"]'),
    ("task-name", lambda d: _rename(d, "flip", "f" * 125), f"root.dag.tasks.{'f' * 125}"),
    ("task-name-case", lambda d: _rename(d, "flip", "Flip"), "root.dag.tasks.Flip"),
    ("driver-name", lambda d: _rename(d, "flip", "train-driver"), "root.dag.tasks.train-driver"),
    ("importer-condition", _import_under_condition, "root.dag.tasks.flip.triggerPolicy.condition"),
    (
        "condition-input",
        lambda d: _tasks(d)["train"].update(triggerPolicy={"condition": "inputs.parameter_values['side'] == 'a'"}),
        "root.dag.tasks.train.triggerPolicy.condition",
    ),
    (
        "artifact-iterator",
        lambda d: _tasks(d)["train"].update(artifactIterator={"items": {"inputArtifact": "x"}, "itemInput": "y"}),
        "root.dag.tasks.train.artifactIterator",
    ),
    (
        "unknown-task",
        lambda d: _inputs(d, "flip").update(
            side={"taskOutputParameter": {"producerTask": "count_task", "outputParameterKey": "Output"}}
        ),
        "root.dag.tasks.flip.inputs.parameters.side",
    ),
    (
        "unknown-task",
        lambda d: _tasks(d)["flip"].update(dependentTasks=["nobody"]),
        "root.dag.tasks.flip.dependentTasks",
    ),
    (
        "unknown-task",
        _hand_out("parameters", {"valueFromParameter": {"producerSubtask": "nobody", "outputParameterKey": "x"}}),
        "components.comp-all.dag.outputs.parameters.it",
    ),
    (
        "unknown-task",
        _hand_out("parameters", {"valueFromOneof": {"parameterSelectors": [{"producerSubtask": "nobody"}]}}),
        "components.comp-all.dag.outputs.parameters.it",
    ),
    (
        "unknown-task",
        _hand_out("artifacts", {"artifactSelectors": [{"producerSubtask": "train"}, {"producerSubtask": "nobody"}]}),
        "components.comp-all.dag.outputs.artifacts.it",
    ),
    (
        "unknown-output",
        lambda d: _inputs(d, "flip").update(
            side={"taskOutputParameter": {"producerTask": "count", "outputParameterKey": "rows"}}
        ),
        "root.dag.tasks.flip.inputs.parameters.side",
    ),
    ("artifact-twice", _take_the_examples_twice, "root.dag.tasks.train.inputs.artifacts.table"),
    ("dag-input", _wrap_in_dag, "components.comp-all.dag.tasks.flip.inputs.parameters.side"),
    ("dag-input-value", _wrap_in_dag_with_inputs, "root.dag.tasks.all"),
    (
        "constant-value",
        lambda d: _inputs(d, "flip").update(side={"runtimeValue": {"constantValue": {"stringValue": "a"}}}),
        "root.dag.tasks.flip.inputs.parameters",
    ),
    ("exit-handler", _only_exit_tasks, "root"),
    ("exit-handler", _final_status_of_nothing, "root.dag.tasks.flip"),
    (
        "skipped-upstream",
        lambda d: _tasks(d)["count"].update(triggerPolicy={"condition": "false"}),
        "root.dag.tasks.train",
    ),
    ("cycle", lambda d: _tasks(d)["count"].update(dependentTasks=["train"]), "root.dag.tasks"),
    (
        "placeholder-parameter",
        lambda d: _container(d)["args"].append("{{$.inputs.parameters['epoch']}}"),
        "deploymentSpec.executors.exec-train.container.args[11]",
    ),
    (
        "placeholder",
        lambda d: _container(d)["args"].append("{{$.inputs.artifacts['examples'].metadata['span']}}"),
        "deploymentSpec.executors.exec-train.container.args[11]",
    ),
    (
        "placeholder",
        lambda d: _inputs(d, "flip").update(side={"runtimeValue": {"constant": "{{$.pipeline_root}}"}}),
        "root.dag.tasks.flip.inputs.parameters.side",
    ),
    (
        "placeholder",
        lambda d: _inputs(d, "flip").update(side={"runtimeValue": {"constant": "task {{$.pipeline_task_name}}"}}),
        "root.dag.tasks.flip.inputs.parameters.side",
    ),
    (
        "literal-braces",
        lambda d: _container(d).update(env=[{"name": "GREETING", "value": "Hello {{ name }}"}]),
        "deploymentSpec.executors.exec-train.container.env[0]",
    ),
    (
        "literal-braces",
        lambda d: _container(d)["command"].append("print('{{workflow.name}}')"),
        "deploymentSpec.executors.exec-train.container.command[3]",
    ),
]


@pytest.mark.parametrize(
    ("rule", "break_it", "place"), BREAKS, ids=[f"{rule} {n}" for n, (rule, _, _) in enumerate(BREAKS)]
)
def test_each_fault_is_found_at_its_place(two_steps, write, rule, break_it, place):
    document = copy.deepcopy(two_steps)
    break_it(document)

    findings = linter.lint(write(document))

    assert (rule, place) in [(finding.rule, finding.place) for finding in findings]


@pytest.mark.parametrize(
    ("rule", "platforms", "place"),
    [
        (
            "platform-executor",
            {
                "kubernetes": {
                    "deploymentSpec": {"executors": {"exec-trainer": {"nodeSelector": {"labels": {"a": "b"}}}}}
                }
            },
            "platforms.kubernetes.deploymentSpec.executors.exec-trainer",
        ),
        ("platform", {"vertex": {"deploymentSpec": {"executors": {}}}}, "platforms.vertex"),
    ],
)
def test_platform_settings_that_reach_nothing_are_found(two_steps, write, rule, platforms, place):
    path = write(two_steps, {"platforms": platforms})

    (finding,) = linter.lint(path)

    assert (finding.rule, finding.severity, finding.place) == (rule, "warning", place)
    assert path.read_text().splitlines()[finding.line - 1].startswith("  ")


def test_a_job_spec_loses_what_stands_around_the_pipeline(two_steps, tmp_path):
    path = tmp_path / "pipeline.json"
    job = {
        "displayName": "two steps",
        "pipelineSpec": two_steps,
        "runtimeConfig": {"gcsOutputDirectory": "minio://mlpipeline/x", "parameterValues": {"side": "tails"}},
    }
    path.write_text(json.dumps(job))

    findings = linter.lint(path)

    assert [(finding.rule, finding.severity, finding.place, finding.line) for finding in findings] == [
        ("job-spec", "error", "", None),
        ("runtime-config", "warning", "runtimeConfig.gcsOutputDirectory", None),
        ("runtime-config", "warning", "runtimeConfig.parameterValues", None),
    ]


def test_every_rule_is_tested_by_a_fault():
    broken = {rule for rule, _, _ in BREAKS}
    elsewhere = {"job-spec", "runtime-config", "platform", "platform-executor", "accelerator"}

    assert {rule.id for rule in linter.RULES} == broken | elsewhere


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "The package cannot be read"),
        (b"", "which is empty"),
        (b"- 1\n- 2\n", "which is a list"),
        (b"a: [1\nb: 2\n", "neither YAML nor JSON"),
        (b"\x1f\x8b\x08\xff\xff", "Unpack an archive"),
        (b"name: penguins\ndata: {path: data}\n", "with the keys data, name"),
        (b"apiVersion: argoproj.io/v1alpha1\nkind: Workflow\n", "what KFP v1 ran"),
        (b"pipelineInfo: {name: a}\n---\npipelineInfo: {name: b}\n", "2 pipelines"),
    ],
    ids=["missing", "empty", "list", "no YAML", "archive", "a config", "Argo", "two"],
)
def test_what_is_no_package_is_refused(tmp_path, content, message):
    path = tmp_path / "pipeline.yaml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsageError, match=message):
        linter.lint(path)


@pytest.mark.parametrize(
    "content",
    ["root: 3", "root: {}\ncomponents: {a: 1}", "root: {dag: {tasks: {a: null, b: {inputs: 3}}}}"],
)
def test_nonsense_is_malformed_and_breaks_nothing(tmp_path, content):
    path = tmp_path / "pipeline.yaml"
    path.write_text(f"schemaVersion: 2.1.0\npipelineInfo: {{name: a}}\n{content}\n")

    findings = linter.lint(path)
    assert "malformed" in {finding.rule for finding in findings}
    assert all("no other fault was looked for" in finding.remedy for finding in findings)


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(inner, (*above, key))


@pytest.mark.parametrize("junk", [None, 3, "text", [], ["{{$.x}}"], {}, {"a": None}])
def test_junk_at_any_place_breaks_nothing(two_steps, tmp_path, junk):
    path = tmp_path / "package.json"
    for *above, last in list(_places(two_steps))[1:]:
        document = copy.deepcopy(two_steps)
        parent = functools.reduce(lambda value, key: value[key], above, document)
        parent[last] = junk
        path.write_text(json.dumps(document, default=str))

        assert all(finding.what for finding in linter.lint(path))


def kubetfx(*arguments: object) -> subprocess.CompletedProcess[str]:
    """One whole process: what the shell sees."""
    command = [sys.executable, "-m", "kubetfx", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_ends_with_0_where_nothing_is_refused(two_steps, write):
    warned = copy.deepcopy(two_steps)
    _container(warned)["lifecycle"] = {"preCacheCheck": {"command": ["python"]}}

    result = kubetfx("lint", write(warned))

    assert result.returncode == 0
    assert "warning [pre-cache-check]" in result.stdout
    assert "0 that KFP refuses, 1 that it misreads" in result.stderr


def test_the_command_says_that_a_package_is_clean(kitchen_sink):
    result = kubetfx("lint", kitchen_sink)

    assert (result.returncode, result.stdout) == (0, "")
    assert "nothing that open-source Kubeflow Pipelines refuses or misreads" in result.stderr


def test_the_command_ends_with_2_where_there_is_no_package(tmp_path):
    result = kubetfx("lint", tmp_path / "pipeline.yaml", "--format", "json")

    assert result.returncode == 2
    assert json.loads(result.stdout)["error"]["type"] == "UsageError"
