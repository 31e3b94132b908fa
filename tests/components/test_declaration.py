"""Components that are declared by class attributes."""

from typing import ClassVar

import pytest
from pydantic import BaseModel
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import Channel, standard_artifacts

from kubetfx.components.declaration import Component, parameter


class Bounds(BaseModel):
    low: float = 0.0
    high: float = 1.0


class Executor(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        pass


class Clip(Component):
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    INPUTS: ClassVar = {"examples": standard_artifacts.Examples, "schema": standard_artifacts.Schema}
    OUTPUTS: ClassVar = {"clipped": standard_artifacts.Examples}
    PARAMETERS: ClassVar = {"bounds": Bounds, "rows": int}
    OPTIONAL = ("schema", "rows", "bounds")


def test_component_has_its_channels_and_properties():
    examples = Channel(type=standard_artifacts.Examples)
    component = Clip(examples=examples, bounds=Bounds(high=2), rows=3)

    assert component.id == "Clip"
    assert component.inputs["examples"] is examples
    assert component.outputs["clipped"].type is standard_artifacts.Examples
    assert parameter(component.exec_properties, "bounds", Bounds) == Bounds(high=2)
    assert component.exec_properties["rows"] == 3


def test_what_may_be_left_out_is_none():
    component = Clip(examples=Channel(type=standard_artifacts.Examples), rows=None)

    assert parameter(component.exec_properties, "bounds", Bounds) is None
    assert component.exec_properties.get("rows") is None
    assert "schema" not in component.inputs


@pytest.mark.parametrize(
    "arguments",
    [{}, {"examples": Channel(type=standard_artifacts.Schema)}, {"rows": "three"}, {"unknown": 1}],
    ids=["input left out", "input of another type", "property of another type", "unknown"],
)
def test_what_does_not_fit_is_refused(arguments):
    with pytest.raises((TypeError, ValueError)):
        Clip(**{"examples": Channel(type=standard_artifacts.Examples)} | arguments if arguments else {})
