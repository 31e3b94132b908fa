"""Declares a component to TFX by class attributes, and passes its configuration as JSON.

    class AnomalyGate(Component):
        '''Passes the schema on if the data fits it well enough.'''

        EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
        INPUTS = {"anomalies": standard_artifacts.ExampleAnomalies, "schema": standard_artifacts.Schema}
        OUTPUTS = {"approved_schema": standard_artifacts.Schema}
        PARAMETERS = {"validation": ValidationConfig}

A parameter is of a type that TFX knows (`str`, `int`, `float`), or a section of the configuration, which travels as
JSON and is read back by `parameter`.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel
from tfx import types
from tfx.dsl.components.base import base_component
from tfx.types import component_spec

Model = TypeVar("Model", bound=BaseModel)
Artifacts = dict[str, list[types.Artifact]]
"""The arguments of an executor: the artifacts of each input or output."""


class Component(base_component.BaseComponent):
    """Base of our components. A subclass sets INPUTS, OUTPUTS, PARAMETERS and EXECUTOR_SPEC; DRIVER_CLASS, if any."""

    INPUTS: ClassVar[Mapping[str, type[types.Artifact]]] = {}
    OUTPUTS: ClassVar[Mapping[str, type[types.Artifact]]] = {}
    PARAMETERS: ClassVar[Mapping[str, type]] = {}
    OPTIONAL: ClassVar[Collection[str]] = ()
    """Optional inputs and parameters."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Create the specification that TFX requires."""
        super().__init_subclass__(**arguments)
        attributes = {
            "PARAMETERS": {
                name: component_spec.ExecutionParameter(type=_transport(kind), optional=name in cls.OPTIONAL)
                for name, kind in cls.PARAMETERS.items()
            },
            "INPUTS": {
                name: component_spec.ChannelParameter(type=kind, optional=name in cls.OPTIONAL)
                for name, kind in cls.INPUTS.items()
            },
            "OUTPUTS": {name: component_spec.ChannelParameter(type=kind) for name, kind in cls.OUTPUTS.items()},
        }
        cls.SPEC_CLASS = type(f"{cls.__name__}Spec", (component_spec.ComponentSpec,), attributes)

    def __init__(self, **arguments: Any) -> None:
        """Create the component for a pipeline.

        Args:
            arguments: A channel for each of INPUTS, a value for each of PARAMETERS; None for an omitted one.

        Raises:
            TypeError: one is missing, unknown, or of another type.
        """
        if unknown := sorted(arguments.keys() - self.INPUTS.keys() - self.PARAMETERS.keys()):
            known = ", ".join([*self.INPUTS, *self.PARAMETERS])
            raise TypeError(f"{type(self).__name__} has no {unknown[0]!r}. It has: {known}.")
        given = {name: _sent(value) for name, value in arguments.items() if value is not None}
        outputs = {name: types.Channel(type=kind) for name, kind in self.OUTPUTS.items()}
        super().__init__(self.SPEC_CLASS(**given, **outputs))


def parameter(exec_properties: Mapping[str, Any], name: str, kind: type[Model]) -> Model | None:
    """Return a section of the configuration from a component's properties; None if it was omitted.

    Args:
        exec_properties: The exec properties of the component.
        name: The name of the parameter.
        kind: the class of the section.
    """
    text = exec_properties.get(name)
    return kind.model_validate_json(text) if text else None


def _transport(kind: type) -> type:
    return str if issubclass(kind, BaseModel) else kind


def _sent(value: Any) -> Any:
    return (
        json.dumps(value.model_dump(mode="json", by_alias=True), sort_keys=True)
        if isinstance(value, BaseModel)
        else value
    )
