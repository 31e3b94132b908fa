"""The structure of TFX's taxi template, and a custom component: a pipeline of TFX's own components alone.

Its function components stand in a module, as a container that imports them needs it.
"""

from pathlib import Path
from typing import Any, ClassVar

import tensorflow_model_analysis as tfma
from tfx.components.evaluator.component import Evaluator
from tfx.components.example_gen.csv_example_gen.component import CsvExampleGen
from tfx.components.example_validator.component import ExampleValidator
from tfx.components.pusher.component import Pusher
from tfx.components.schema_gen.component import SchemaGen
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.components.trainer.component import Trainer
from tfx.components.transform.component import Transform
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    OutputDict,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import example_diff_pb2, pusher_pb2, trainer_pb2
from tfx.types import Channel, component_spec, standard_artifacts


@component
def CountRows(examples: InputArtifact[standard_artifacts.Examples], at_least: Parameter[int]) -> OutputDict(
    rows=int, enough=str
):  # type: ignore[valid-type]
    rows = len(examples.uri)
    return {"rows": rows, "enough": "yes" if rows >= at_least else "no"}


@component
def Number(value: Parameter[int]) -> OutputDict(number=int):  # type: ignore[valid-type]
    return {"number": value}


@component
def Repeat(text: str, times: int) -> OutputDict(repeated=str):  # type: ignore[valid-type]
    return {"repeated": text * times}


@component
def Text(value: Parameter[str]) -> OutputDict(text=str):  # type: ignore[valid-type]
    return {"text": value}


@component
def Write(text: Parameter[str], times: Parameter[int], model: OutputArtifact[standard_artifacts.Model]) -> None:
    with open(f"{model.uri}/text.txt", "w") as file:
        file.write(text * times)
    model.set_string_custom_property("where", model.uri)


@component
def Read(model: InputArtifact[standard_artifacts.Model]) -> OutputDict(text=str):  # type: ignore[valid-type]
    with open(f"{model.uri}/text.txt") as file:
        return {"text": file.read()}


@component
def Compare(
    left: InputArtifact[standard_artifacts.Model], right: InputArtifact[standard_artifacts.Model], times: int
) -> OutputDict(text=str):  # type: ignore[valid-type]
    """Each input is an object of its own, also where both are one artifact."""
    left.uri, right_uri = "/nowhere", right.uri
    with open(f"{right_uri}/text.txt") as file:
        return {"text": file.read() * times}


@component
def Judge(blessed: Parameter[int], blessing: OutputArtifact[standard_artifacts.ModelBlessing]) -> None:
    blessing.set_int_custom_property("blessed", blessed)


@component
def RemoveLog(model: OutputArtifact[standard_artifacts.Model]) -> None:
    Path(model.uri).with_name("executor-logs-0").unlink()


@component
def WriteProperty(length: Parameter[int], model: OutputArtifact[standard_artifacts.Model]) -> None:
    model.set_string_custom_property("long", "x" * length)


@component
def Fail(reason: Parameter[str]) -> None:
    raise RuntimeError(reason)


@component
def Tell(path: Parameter[str], status: Parameter[str]) -> None:
    with open(path, "w") as file:
        file.write(status)


class SampleSpec(component_spec.ComponentSpec):
    PARAMETERS: ClassVar = {
        "config": component_spec.ExecutionParameter(type=example_diff_pb2.ExampleDiffConfig, use_proto=True),
        "example_diff_config": component_spec.ExecutionParameter(
            type=example_diff_pb2.ExampleDiffConfig, use_proto=True
        ),
    }
    INPUTS: ClassVar = {}
    OUTPUTS: ClassVar = {"result": component_spec.ChannelParameter(type=standard_artifacts.String)}


class SampleExecutor(base_executor.BaseExecutor):
    def Do(self, input_dict: Any, output_dict: Any, exec_properties: dict[str, Any]) -> None:
        counts = [exec_properties[name].paired_example_skew.skew_sample_size for name in sorted(exec_properties)]
        output_dict["result"][0].value = " ".join(map(str, counts))


class Sample(base_component.BaseComponent):
    """Takes messages as they are: one as TFX's placeholders carry them, one as TFX exempts it by its name."""

    SPEC_CLASS = SampleSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(SampleExecutor)

    def __init__(self, config: example_diff_pb2.ExampleDiffConfig) -> None:
        result = Channel(type=standard_artifacts.String)
        super().__init__(SampleSpec(config=config, example_diff_config=config, result=result))


def taxi(root: str = "/taxi") -> Pipeline:
    example_gen = CsvExampleGen(input_base=RuntimeParameter("data-root", str, f"{root}/data"))
    examples = example_gen.outputs["examples"]
    statistics_gen = StatisticsGen(examples=examples)
    schema_gen = SchemaGen(statistics=statistics_gen.outputs["statistics"], infer_feature_shape=True)
    validator = ExampleValidator(statistics=statistics_gen.outputs["statistics"], schema=schema_gen.outputs["schema"])
    transform = Transform(
        examples=examples,
        schema=schema_gen.outputs["schema"],
        preprocessing_fn="kubetfx.models.network.preprocessing_fn",
    )
    trainer = Trainer(
        run_fn="kubetfx.models.training.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema_gen.outputs["schema"],
        train_args={"num_steps": RuntimeParameter("train-steps", int, 100)},
        eval_args=trainer_pb2.EvalArgs(num_steps=5),
    )
    resolver = Resolver(
        strategy_class=LatestBlessedModelStrategy,
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(type=standard_artifacts.ModelBlessing),
    ).with_id("latest_blessed_model_resolver")
    evaluator = Evaluator(
        examples=examples,
        model=trainer.outputs["model"],
        baseline_model=resolver.outputs["model"],
        eval_config=tfma.EvalConfig(model_specs=[tfma.ModelSpec(label_key="tips")], slicing_specs=[tfma.SlicingSpec()]),
    )
    count = CountRows(examples=examples, at_least=10)
    with Cond(evaluator.outputs["blessing"].future()[0].custom_property("blessed") == 1):
        pusher = Pusher(
            model=trainer.outputs["model"],
            push_destination=pusher_pb2.PushDestination(
                filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=f"{root}/serving")
            ),
        )
    components = [
        example_gen,
        statistics_gen,
        schema_gen,
        validator,
        transform,
        trainer,
        resolver,
        evaluator,
        count,
        pusher,
    ]
    return Pipeline("taxi", f"{root}/root", components=components)


def small(name: str, *components: object) -> Pipeline:
    return Pipeline(name, "/root", components=list(components))


def imported_schema(source: str) -> Importer:
    return Importer(
        source_uri=source, artifact_type=standard_artifacts.Schema, custom_properties={"origin": "by hand", "age": 3}
    ).with_id("schema_importer")
