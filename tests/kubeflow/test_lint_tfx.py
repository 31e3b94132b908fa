"""What TFX's own KubeflowV2DagRunner writes, for a pipeline with the structure of TFX's taxi template."""

import json
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import pytest
import yaml
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.components import CsvExampleGen, Evaluator, Pusher, SchemaGen, StatisticsGen, Trainer
from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.decorators import FinalStatusStr, exit_handler
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2, trainer_pb2
from tfx.types import Channel, standard_artifacts

from kubetfx.kubeflow import lint as linter

ROOT = Path(__file__).resolve().parents[2]
ResourceSpec = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec


class Splits(TypedDict):
    splits: int


@component
def CountSplits(statistics: InputArtifact[standard_artifacts.ExampleStatistics]) -> Splits:
    return {"splits": statistics.split_names.count(",") + 1}


@component
def Announce(splits: Parameter[int]):
    print(splits)


@exit_handler
def Notify(status: Parameter[str]):
    print(status)


def taxi_pipeline() -> Pipeline:
    example_gen = CsvExampleGen(input_base="data")
    statistics_gen = StatisticsGen(examples=example_gen.outputs["examples"])
    schema_gen = SchemaGen(statistics=statistics_gen.outputs["statistics"])
    count_splits = CountSplits(statistics=statistics_gen.outputs["statistics"])
    announce = Announce(splits=count_splits.outputs["splits"].future()[0].value)
    resolver = Resolver(
        strategy_class=LatestBlessedModelStrategy,
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(type=standard_artifacts.ModelBlessing),
    ).with_id("latest_blessed_model")
    trainer = Trainer(
        run_fn="taxi.run_fn",
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        train_args=RuntimeParameter(name="train-args", ptype=str, default='{"num_steps": 100}'),
        eval_args=trainer_pb2.EvalArgs(num_steps=5),
        custom_config={"greeting": "Hello {{ name }}"},
    ).with_platform_config(ResourceSpec(accelerator=ResourceSpec.AcceleratorConfig(type="NVIDIA_TESLA_K80", count=1)))
    evaluator = Evaluator(
        examples=example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=resolver.outputs["model"],
    )
    with Cond(evaluator.outputs["blessing"].future()[0].custom_property("blessed") == 1):
        pusher = Pusher(
            model=trainer.outputs["model"],
            push_destination=pusher_pb2.PushDestination(
                filesystem=pusher_pb2.PushDestination.Filesystem(base_directory="serving_model")
            ),
        )
        importer = Importer(source_uri="schema", artifact_type=standard_artifacts.Schema).with_id("frozen-schema")
    return Pipeline(
        pipeline_name="taxi",
        pipeline_root="minio://mlpipeline/taxi",
        components=[
            example_gen,
            statistics_gen,
            schema_gen,
            count_splits,
            announce,
            resolver,
            trainer,
            evaluator,
            pusher,
            importer,
        ],
    )


def compile_with_tfx(path: Path, *, schema_2_1: bool) -> Path:
    config = kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(use_pipeline_spec_2_1=schema_2_1)
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        config=config, output_dir=str(path.parent), output_filename=path.name
    )
    runner.set_exit_handler(Notify(status=FinalStatusStr()))
    runner.run(taxi_pipeline(), parameter_values={"train-args": '{"num_steps": 200}'})
    return path


@pytest.fixture(scope="module")
def job_spec(tmp_path_factory) -> Path:
    """What the runner writes by default."""
    return compile_with_tfx(tmp_path_factory.mktemp("tfx") / "pipeline.json", schema_2_1=False)


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """What it writes with `use_pipeline_spec_2_1`, the most that KFP can take."""
    return compile_with_tfx(tmp_path_factory.mktemp("tfx") / "pipeline.yaml", schema_2_1=True)


TEMPLATE_FAULTS = {
    "executor-kind": ("error", "latest_blessed_model-model-resolver_executor"),
    "tfx-entrypoint": ("error", "Evaluator_executor.container.command"),
    "accelerator": ("error", "Trainer_executor.container.resources.accelerator"),
    "importer-condition": ("error", "tasks.frozen-schema.triggerPolicy.condition"),
    "unknown-task": ("error", "tasks.Announce.inputs.parameters.splits"),
    "dag-input": ("error", "tasks.Trainer.inputs.parameters.train_args"),
    "task-name": ("error", "tasks.latest_blessed_model-model-resolver"),
    "task-name-case": ("warning", "tasks.Trainer"),
    "pre-cache-check": ("warning", "CsvExampleGen_executor.container.lifecycle"),
    "artifact-type": ("warning", "components.Trainer"),
    "required-parameter": ("warning", "root.inputDefinitions.parameters.train-args"),
    "literal-braces": ("warning", "tasks.Trainer.inputs.parameters.custom_config"),
}
JOB_SPEC_FAULTS = {
    **TEMPLATE_FAULTS,
    "job-spec": ("error", ""),
    "schema-version": ("error", "pipelineSpec.schemaVersion"),
    "constant-value": ("error", "tasks.Pusher.inputs.parameters"),
    "parameter-type": ("error", "pipelineSpec.root.inputDefinitions.parameters.train-args"),
    "runtime-config": ("warning", "runtimeConfig.gcsOutputDirectory"),
}


@pytest.mark.parametrize(
    ("fixture", "faults"), [("template", TEMPLATE_FAULTS), ("job_spec", JOB_SPEC_FAULTS)], ids=["2.1", "default"]
)
def test_every_fault_of_tfx_own_runner_is_found(request, fixture, faults):
    findings = linter.lint(request.getfixturevalue(fixture))

    assert {finding.rule for finding in findings} == set(faults)
    for rule, (severity, place) in faults.items():
        found = [finding for finding in findings if finding.rule == rule]
        assert {finding.severity for finding in found} == {severity}
        assert any(finding.place.endswith(place) for finding in found), [finding.place for finding in found]


def test_the_command_prints_findings_as_json_and_ends_with_1(job_spec):
    """One whole process: what the shell sees."""
    result = subprocess.run(
        [sys.executable, "-m", "kubetfx", "lint", str(job_spec), "--format", "json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    document = json.loads(result.stdout)
    assert (result.returncode, result.stderr) == (1, "")
    assert document["errors"] == sum(finding["severity"] == "error" for finding in document["findings"]) > 6
    assert set(document["findings"][0]) == {"rule", "severity", "place", "line", "what", "remedy"}


def test_the_command_leads_people_to_the_line(template):
    result = subprocess.run(
        [sys.executable, "-m", "kubetfx", "lint", str(template)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert result.returncode == 1
    lines = template.read_text().splitlines()
    (accelerator,) = [line for line in result.stdout.splitlines() if "[accelerator]" in line]
    path, number, _ = accelerator.split(":", 2)
    assert path == str(template)
    assert "count" in lines[int(number) - 1]
    assert yaml.safe_load(template.read_text())["schemaVersion"] == "2.1.0"
    assert "that KFP refuses" in result.stderr
