"""The contract between compiler and entrypoint: what a task does, as one JSON argument of its container.

A task runs one TFX node, or several that were fused. Its inputs and outputs are named by slots: the keys of the
package's artifacts. Whatever TFX knows about a node and Kubeflow Pipelines has no place for stands here: classes of
executor, driver and artifacts, exec properties, and predicates.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kubetfx.errors import KubetfxError

ParameterType = Literal["int", "float", "str"]


class Contract(BaseModel):
    """A frozen part of a task's description."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Override(Contract):
    """A parameter of the run that is put over an exec property, or over a part of it."""

    parameter: str
    type: ParameterType
    path: tuple[str, ...] = ()
    """Keys into the JSON document that the property is. Empty: the whole property."""


class Property(Contract):
    """An exec property."""

    value: Any = None
    message: str | None = None
    """Import path of the protobuf message that the value is the JSON of."""
    placeholder: str | None = None
    """A TFX placeholder expression, as JSON of its proto, that is evaluated over the node's inputs."""
    overrides: tuple[Override, ...] = ()


class OutputSlot(Contract):
    """An output artifact of the task that a node writes."""

    type: str
    """Import path of the TFX artifact class."""
    properties: dict[str, Any] = {}
    custom_properties: dict[str, Any] = {}
    """What the pipeline's definition says about the artifact."""


class Node(Contract):
    """A TFX node."""

    id: str
    executor: str
    """Import path of the executor class."""
    driver: str | None = None
    """Import path of the driver class that chooses exec properties before the executor runs."""
    driver_parameter: str | None = None
    """Input parameter that holds what the driver chose, where that is a task of its own."""
    beam_arguments: tuple[str, ...] | None = None
    """Pipeline options of Beam. None: the executor has no need of Beam."""
    inputs: dict[str, tuple[str, ...]] = {}
    """Slots of the task, or of outputs of an earlier node of the task, by input key. Several keys of several nodes may
    read one slot."""
    outputs: dict[str, str] = {}
    """Slot by output key."""
    properties: dict[str, Property] = {}
    module_files: dict[str, str] = {}
    """Name of an embedded module by the exec property that is to hold its path."""


class Page(Contract):
    """An output of the task that is there to be looked at."""

    kind: str
    """Name of the function in kubeflow/visualizations.py."""
    node: str
    """Id of the node that it is about."""


class TaskSpec(Contract):
    """What a container does."""

    role: Literal["nodes", "driver"] = "nodes"
    """`driver`: only the driver of the one node; what it chooses is the output parameter `DRIVER_OUTPUT`."""
    nodes: tuple[Node, ...] = ()
    """In the order in which they run."""
    inputs: dict[str, str] = {}
    """Import path of the TFX artifact class by input slot. An artifact has one slot: ML Metadata refuses a task that
    takes one under two inputs."""
    outputs: dict[str, OutputSlot] = {}
    """By output slot."""
    pages: dict[str, Page] = {}
    """By output slot."""
    conditions: dict[str, str] = {}
    """By output parameter, which becomes `true` or `false`: a TFX predicate, as JSON of its proto, over the slots."""
    modules: dict[str, str] = {}
    """Source by name of a module that the image lacks."""
    code: str = ""
    """Digest of the code that the package was compiled with: outputs of other code are not taken from the cache."""

    @property
    def title(self) -> str:
        """The nodes by their ids, for people."""
        return " + ".join(node.id for node in self.nodes) or "Predicate"

    @property
    def written_slots(self) -> frozenset[str]:
        """Output slots of artifacts that the task writes."""
        return frozenset({*self.outputs, *self.pages})

    def to_argument(self) -> str:
        """The JSON argument.

        Kubeflow Pipelines takes two literal braces for a placeholder, and the kubelet expands `$(NAME)` and `$$`.
        """
        return self.model_dump_json(exclude_defaults=True).replace("{{", r"{\u007b").replace("$", r"\u0024")

    @classmethod
    def from_argument(cls, argument: str) -> "TaskSpec":
        """The task that an argument describes.

        Raises:
            KubetfxError: another kubetfx wrote it.
        """
        try:
            return cls.model_validate_json(argument)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise KubetfxError(
                "The image holds another kubetfx than the one that compiled the package, and does not understand the "
                f"task. Received: {place or 'no JSON'}: {first['msg']}. Build the image from the kubetfx "
                "that compiles, or compile with the one in the image."
            ) from None


DRIVER_OUTPUT = "driver_output"
"""Output parameter of a driver's task."""
