"""Each rule of `kubetfx lint` finds the fault that it is about, at its place."""

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import pytest

from kubetfx.kubeflow import lint as linter
from kubetfx.kubeflow.lint_rules.containers import TFX_ENTRYPOINT

Document = dict[str, Any]

TRAIN = "exec-train"
_RESOURCES = "deploymentSpec.executors.exec-train.container.resources"


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


def _loop(document: Document, items: str, *, is_list: bool = True) -> None:
    """`count` in a loop, whose examples `train` takes; the item goes nowhere."""
    examples = {"artifactSelectors": [{"producerSubtask": "count", "outputArtifactKey": "examples"}]}
    output = {"artifactType": {"schemaTitle": "system.Dataset"}, "isArtifactList": True}
    document["components"]["comp-loop"] = {
        "dag": {"tasks": {"count": _tasks(document).pop("count")}, "outputs": {"artifacts": {"examples": examples}}},
        "inputDefinitions": {"parameters": {name: {"parameterType": "STRING"} for name in ("item", "rows")}},
        "outputDefinitions": {"artifacts": {"examples": output}},
    }
    _tasks(document)["loop"] = {
        "componentRef": {"name": "comp-loop"},
        "inputs": {"parameters": {"rows": {"componentInputParameter": "rows"}}},
        "parameterIterator": {"itemInput": "item", "items": {"raw": items}},
        "taskInfo": {"name": "loop"},
    }
    source = {"taskOutputArtifact": {"producerTask": "loop", "outputArtifactKey": "examples"}}
    _tasks(document)["train"]["dependentTasks"] = ["loop"]
    _tasks(document)["train"]["inputs"]["artifacts"]["examples"] = source
    document["components"]["comp-train"]["inputDefinitions"]["artifacts"]["examples"]["isArtifactList"] = is_list


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


def _policy(task: str, key: str) -> Callable[[Document], Document]:
    return lambda document: _tasks(document)[task].setdefault(key, {})


def _nest_in_itself(document: Document) -> None:
    _wrap_in_dag(document)
    inner = {"componentRef": {"name": "comp-all"}, "taskInfo": {"name": "again"}}
    document["components"]["comp-all"]["dag"]["tasks"]["again"] = inner


def _take_the_count_of_gpus(document: Document) -> None:
    count = "{{$.inputs.parameters['epochs']}}"
    _container(document)["resources"] = {"accelerator": {"resourceType": "nvidia.com/gpu", "resourceCount": count}}


def _setting(part: Callable[[Document], Document], **values: Any) -> Callable[[Document], None]:
    return lambda document: part(document).update(values)


BREAKS: list[Any] = [
    ("schema-version", lambda d: d.update(schemaVersion="2.0.0"), "schemaVersion"),
    ("malformed", lambda d: d.update(pipelineVersion="3"), ""),
    ("malformed", lambda d: _tasks(d)["flip"].update(dependentTasks="train"), "root.dag.tasks.flip"),
    ("malformed", _setting(_policy("flip", "retryPolicy"), maxRetryCount="often"), ""),
    ("malformed", lambda d: _tasks(d)["flip"].update(triggerPolicy=[]), "root.dag.tasks.flip.triggerPolicy"),
    ("malformed", lambda d: _inputs(d, "flip").update({3: {}}), "root.dag.tasks.flip.inputs.parameters"),
    *(
        ("malformed", _setting(_policy("flip", policy), **{key: wrong}), f"root.dag.tasks.flip.{policy}.{key}")
        for policy, key, wrong in (
            ("retryPolicy", "maxRetryCount", 1.5),
            ("iteratorPolicy", "parallelismLimit", 1.5),
            ("retryPolicy", "backoffFactor", math.inf),
        )
    ),
    *(
        (
            "malformed",
            _setting(lambda d: d["root"]["inputDefinitions"]["parameters"]["rows"], defaultValue=wrong),
            "root.inputDefinitions.parameters.rows.defaultValue",
        )
        for wrong in (math.nan, -math.inf)
    ),
    *(
        (rule, _setting(_policy("flip", policy), **{key: wrong}), f"root.dag.tasks.flip.{policy}.{key}")
        for rule, policy, key, wrong in (
            ("retries", "retryPolicy", "backoffFactor", 1.5),
            ("policy-ignored", "retryPolicy", "maxRetryCount", -1),
            ("policy-ignored", "iteratorPolicy", "parallelismLimit", 2),
        )
    ),
    *(
        (
            rule,
            _setting(_policy("train", "triggerPolicy"), condition=wrong),
            "root.dag.tasks.train.triggerPolicy.condition",
        )
        for rule, wrong in (
            ("condition", "inputs.parameter_values['rows' == 3"),
            ("condition", "tasks.count == 3"),
            ("condition", "parseYaml(inputs.parameter_values['rows'])"),
            ("condition", "1 + 1"),
            ("condition-input", 'inputs.parameter_values["side"] == "a"'),
            ("condition-input", "inputs.parameter_values.side == 'a'"),
            ("condition-input", "inputs.parameter_values['examples'] == 'a'"),
        )
    ),
    ("nested-in-itself", _nest_in_itself, "components.comp-all"),
    (
        "resource-parameter",
        _setting(_container, resources={"resourceCpuLimit": "{{$.inputs.parameters['cores']}}"}),
        "deploymentSpec.executors.exec-train.container.resources.resourceCpuLimit",
    ),
    ("resource-parameter", _take_the_count_of_gpus, f"{_RESOURCES}.accelerator.resourceCount"),
    ("ignored-field", lambda d: _container(d).update(gpus=1), "deploymentSpec.executors.exec-train"),
    ("pipeline-name", lambda d: d["pipelineInfo"].update(name="ÄÖ"), "pipelineInfo.name"),
    ("empty", lambda d: d["root"]["dag"].update(tasks={}), "root"),
    ("pipeline-root", lambda d: d.update(defaultPipelineRoot="minio://x"), "defaultPipelineRoot"),
    (
        "required-parameter",
        lambda d: d["root"]["inputDefinitions"]["parameters"].update(side={"parameterType": "STRING"}),
        "root.inputDefinitions.parameters.side",
    ),
    *(
        (
            "parameter-default",
            _setting(lambda d: d["root"]["inputDefinitions"]["parameters"]["rows"], defaultValue=wrong),
            "root.inputDefinitions.parameters.rows.defaultValue",
        )
        for wrong in ("three", 1.5, True, [1])
    ),
    *(
        (
            rule,
            _setting(functools.partial(_inputs, task=task), **{name: {"runtimeValue": {"constant": wrong}}}),
            f"root.dag.tasks.{task}.inputs.parameters.{name}.runtimeValue.constant",
        )
        for rule, task, name, wrong in (
            ("constant-type", "count", "rows", "three"),
            ("constant-type", "count", "rows", True),
            ("constant-type", "count", "rows", None),
            ("constant-converted", "count", "rows", 1.5),
            ("constant-converted", "flip", "side", 3),
        )
    ),
    *(
        (
            "resource",
            _setting(_container, resources={key: wrong}),
            f"deploymentSpec.executors.exec-train.container.resources.{key}",
        )
        for key, wrong in (
            ("resourceCpuLimit", "lots"),
            ("resourceMemoryLimit", "1XB"),
            ("resourceCpuRequest", "-1"),
            ("resourceCpuRequest", "{{$.pipeline_task_name}}"),
            ("memoryLimit", -1),
        )
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
    ("loop-items", lambda d: _loop(d, "1, 2"), "root.dag.tasks.loop.parameterIterator.items.raw"),
    ("loop-items", lambda d: _loop(d, '{"a": 1}'), "root.dag.tasks.loop.parameterIterator.items.raw"),
    ("loop-empty", lambda d: _loop(d, "[]"), "root.dag.tasks.loop.parameterIterator.items.raw"),
    (
        "loop-output",
        lambda d: _loop(d, "[1]", is_list=False),
        "root.dag.tasks.train.inputs.artifacts.examples",
    ),
    ("same-iterations", lambda d: _loop(d, "[1, 2]"), "components.comp-loop.dag.tasks.count"),
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


@pytest.mark.parametrize(
    ("seconds", "rule", "severity"),
    [
        (0, "deadline", "warning"),
        ("-1", "deadline", "warning"),
        ("soon", "deadline-value", "error"),
        (1.5, "deadline-value", "error"),
        (10**30, "deadline-value", "error"),
        ("60", None, None),
        (60, None, None),
    ],
)
def test_deadline_is_a_number_of_seconds(two_steps, write, seconds, rule, severity):
    executors = {"exec-train": {"activeDeadlineSeconds": seconds}}
    path = write(two_steps, {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}})

    found = [(finding.rule, finding.severity) for finding in linter.lint(path)]

    assert found == ([(rule, severity)] if rule else [])


def test_key_that_is_there_twice_is_found_in_either_document(two_steps, write):
    path = write(two_steps, {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {}}}}})
    text = path.read_text()
    path.write_text(text.replace("schemaVersion: 2.1.0", "schemaVersion: 2.1.0\nschemaVersion: 2.1.0"))
    (found,) = linter.lint(path)
    assert (found.rule, found.severity, found.place) == ("repeated-key", "error", "schemaVersion")

    path.write_text(text.replace("  kubernetes:", "  kubernetes: {}\n  kubernetes:"))
    assert [(found.rule, found.place) for found in linter.lint(path)] == [("repeated-key", "platforms.kubernetes")]


def test_resources_and_defaults_that_are_right_have_no_fault(two_steps, write):
    document = copy.deepcopy(two_steps)
    resources = {
        "resourceCpuLimit": "500m",
        "resourceMemoryLimit": "1.5Gi",
        "cpuLimit": 0.5,
        "resourceCpuRequest": "1.5e-3",
        "resourceMemoryRequest": "{{$.inputs.parameters['memory']}}",
        "cpuRequest": -1,
    }
    _container(document).update(resources=resources)
    declared = document["components"]["comp-train"]["inputDefinitions"]["parameters"]
    declared["memory"] = {"parameterType": "STRING", "defaultValue": "1Gi"}
    document["root"]["inputDefinitions"]["parameters"]["rows"]["defaultValue"] = 3.0

    assert linter.lint(write(document)) == []


def test_loop_whose_task_takes_the_item_has_no_fault(two_steps, write):
    document = copy.deepcopy(two_steps)
    _loop(document, "[1, 2]")
    tasks = document["components"]["comp-loop"]["dag"]["tasks"]
    tasks["count"]["inputs"]["parameters"]["rows"] = {"componentInputParameter": "item"}

    assert linter.lint(write(document)) == []


def test_condition_over_what_a_task_is_given_has_no_fault(two_steps, write):
    document = copy.deepcopy(two_steps)
    rows = _tasks(document)["count"]
    for condition in (
        "inputs.parameter_values['rows'] > 5 && int(inputs.parameter_values['rows']) < 9",
        "[1, 2].exists(one, one == inputs.parameter_values.rows)",
        "has(inputs.parameter_values.other) || 'third' in inputs.parameter_values",
        "parseJson('[1]')[0] == 1",
        "true",
    ):
        rows["triggerPolicy"] = {"condition": condition}
        assert [finding.rule for finding in linter.lint(write(document))] == ["skipped-upstream"], condition


def test_limit_of_a_loop_is_a_number_from_1_on(two_steps, write):
    document = copy.deepcopy(two_steps)
    _loop(document, "[1, 2]")
    document["components"]["comp-loop"]["dag"]["tasks"]["count"]["inputs"]["parameters"]["rows"] = {
        "componentInputParameter": "item"
    }
    for limit, rules in ((1, []), (-1, ["policy-ignored"])):
        _tasks(document)["loop"]["iteratorPolicy"] = {"parallelismLimit": limit}
        assert [finding.rule for finding in linter.lint(write(document))] == rules


def test_constant_that_is_none_of_the_literals_is_found(two_steps, write):
    document = copy.deepcopy(two_steps)
    document["components"]["comp-flip"]["inputDefinitions"]["parameters"]["side"]["literals"] = ["heads", "tails"]
    _inputs(document, "flip")["side"] = {"runtimeValue": {"constant": "edge"}}
    (finding,) = linter.lint(write(document))
    assert (finding.rule, finding.severity) == ("constant-type", "error")
    assert '"edge" is not among the declared ["heads", "tails"]' in finding.what

    _inputs(document, "flip")["side"] = {"runtimeValue": {"constant": "tails"}}
    assert linter.lint(write(document)) == []


def test_every_rule_is_tested_by_a_fault():
    broken = {rule for rule, _, _ in BREAKS}
    elsewhere = {
        "document",
        "unread-document",
        "size",
        "repeated-key",
        "job-spec",
        "runtime-config",
        "platform",
        "platform-executor",
        "accelerator",
        "deadline-value",
        "deadline",
    }

    assert {rule.id for rule in linter.RULES} == broken | elsewhere
