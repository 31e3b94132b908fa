"""The contract between compiler and entrypoint: what a task does, as one JSON argument of its container.

A task runs one TFX node, or several that were fused. Slots name its inputs and outputs: they are the keys of the
package's artifacts. The rest is what TFX knows about a node and Kubeflow Pipelines has no field for: the classes of
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
    """A parameter of the run that replaces an exec property, or a part of it."""

    parameter: str
    type: ParameterType
    path: tuple[str, ...] = ()
    """Keys into the JSON document in the property. Empty: the whole property."""
    item: str | None = None
    """Key of the value in the parameter, which is the item of a loop: a JSON object."""


class Property(Contract):
    """An exec property."""

    value: Any = None
    message: str | None = None
    """Import path of a protobuf message class: the value is such a message in JSON."""
    placeholder: str | None = None
    """A TFX placeholder expression (JSON of its proto) to evaluate over the node's inputs."""
    overrides: tuple[Override, ...] = ()


class OutputSlot(Contract):
    """An output artifact of the task that a node writes."""

    type: str
    """Import path of the TFX artifact class."""
    properties: dict[str, Any] = {}
    custom_properties: dict[str, Any] = {}
    """Set by the pipeline's definition."""


class Node(Contract):
    """A TFX node."""

    id: str
    executor: str
    """Import path of the executor class."""
    driver: str | None = None
    """Import path of the driver class that chooses exec properties before the executor runs."""
    driver_parameter: str | None = None
    """Input parameter with what the driver chose, if the driver is a task of its own."""
    beam_arguments: tuple[str, ...] | None = None
    """Pipeline options of Beam. None: the executor does not use Beam."""
    inputs: dict[str, tuple[str, ...]] = {}
    """Slots by input key: of the task, or of an earlier node's output. Several nodes and keys may read one slot."""
    each: tuple[str, ...] = ()
    """Input keys of which an iteration of a loop takes one artifact: the one whose number its item has."""
    outputs: dict[str, str] = {}
    """Slot by output key."""
    properties: dict[str, Property] = {}
    module_files: dict[str, str] = {}
    """Name of an embedded module by the exec property that receives its path."""


class Page(Contract):
    """An output of the task for people to look at."""

    kind: str
    """Its name in kubeflow/visualizations.py."""
    node: str
    """Id of the node that it is about."""


class TaskSpec(Contract):
    """What a container does."""

    role: Literal["nodes", "driver"] = "nodes"
    """`driver`: run the driver of the one node, whose choice becomes the output parameter `DRIVER_OUTPUT`."""
    nodes: tuple[Node, ...] = ()
    """In the order in which they run."""
    inputs: dict[str, str] = {}
    """Import path of the TFX artifact class by input slot. An artifact has a single slot, as ML Metadata refuses a task
    that takes it under two inputs."""
    outputs: dict[str, OutputSlot] = {}
    """By output slot."""
    pages: dict[str, Page] = {}
    """By output slot."""
    conditions: dict[str, str] = {}
    """A TFX predicate over the slots (JSON of its proto) by output parameter, which becomes `true` or `false`."""
    modules: dict[str, str] = {}
    """Source by name of a module that the image lacks."""
    code: str = ""
    """Digest of the code that the package was compiled with: outputs of other code are not taken from the cache."""

    @property
    def title(self) -> str:
        """The ids of the nodes, to show."""
        return " + ".join(node.id for node in self.nodes) or "Predicate"

    @property
    def written_slots(self) -> frozenset[str]:
        """Output slots of artifacts that the task writes."""
        return frozenset({*self.outputs, *self.pages})

    def to_argument(self) -> str:
        """Return the JSON argument."""
        return escaped(self.model_dump_json(exclude_defaults=True))

    @classmethod
    def from_argument(cls, argument: str) -> "TaskSpec":
        """Return the task that an argument describes.

        Args:
            argument: as `to_argument` makes it.

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
ITEM = "item"
"""Input parameter of a task in a loop: what this iteration is given, as a JSON object."""
COPY = "copy"
"""Key of an item: the number of the iteration."""


def escaped(document: str) -> str:
    """Return JSON in which braces and dollar signs are escaped.

    Kubeflow Pipelines takes two literal braces for a placeholder, and the kubelet expands `$(NAME)` and `$$`.

    Args:
        document: JSON.
    """
    return document.replace("{{", r"{\u007b").replace("$", r"\u0024")
