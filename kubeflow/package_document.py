"""Reads a KFP v2 package: the PipelineSpec, the platform document beside it, and the line of each value in the file."""

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from kubetfx.errors import UsageError
from kubetfx.kubeflow.package_yaml import UnreadableError, read_documents

Place = tuple[str | int, ...]
"""Keys and indices from the top of the document to a value."""

ROOT = "root"
"""Name of the root component, which is not among `components`."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Task:
    """A task of a DAG component."""

    name: str
    component_name: str
    """The component whose DAG the task is of."""
    spec: Mapping[str, Any]
    place: Place


@dataclass(frozen=True)
class Package:
    """A package as it was read."""

    path: Path
    spec: Mapping[str, Any]
    """The PipelineSpec, with the names that its JSON form has."""
    spec_place: Place = ()
    """Place of the PipelineSpec: the top, or inside of another document."""
    wrapper: Mapping[str, Any] | None = None
    """The PipelineJob around the PipelineSpec, if there is one."""
    platforms: Mapping[str, Any] = field(default_factory=dict)
    """The platform specs by platform."""
    platforms_place: Place = ("platforms",)
    nodes: Sequence[yaml.Node] = ()
    """The documents with their positions; none for a file of one line."""
    others: Sequence[tuple[int, Any]] = ()
    """The other documents of the file, each with its number from 1."""

    @property
    def name(self) -> str:
        """The pipeline's name, empty if it has none."""
        return str(mapping(self.spec, "pipelineInfo").get("name") or "")

    @functools.cached_property
    def components(self) -> dict[str, Mapping[str, Any]]:
        """Every component by name, the root included."""
        return {ROOT: mapping(self.spec, "root"), **mappings(self.spec, "components")}

    @functools.cached_property
    def executors(self) -> dict[str, Mapping[str, Any]]:
        """The executors by label."""
        return mappings(mapping(self.spec, "deploymentSpec"), "executors")

    @property
    def parameters(self) -> dict[str, Mapping[str, Any]]:
        """The parameters that a run can be given."""
        return mappings(mapping(mapping(self.spec, "root"), "inputDefinitions"), "parameters")

    def tasks(self) -> Iterator[Task]:
        """Yield every task of every DAG."""
        for component_name, component in self.components.items():
            for name, task in mappings(mapping(component, "dag"), "tasks").items():
                place = (*self.component_place(component_name), "dag", "tasks", name)
                yield Task(name, component_name, task, place)

    def component_place(self, name: str) -> Place:
        """Return the place of a component in the document.

        Args:
            name: The name of the component; `ROOT` for the root.
        """
        return (*self.spec_place, "root") if name == ROOT else (*self.spec_place, "components", name)

    def executor_place(self, label: str) -> Place:
        """Return the place of an executor in the document.

        Args:
            label: The label of the executor.
        """
        return (*self.spec_place, "deploymentSpec", "executors", label)

    def component_of(self, task: Task) -> Mapping[str, Any]:
        """Return the component that a task runs, empty if no component has that name.

        Args:
            task: A task of this package.
        """
        return self.components.get(component_ref(task), {})

    def executor_of(self, task: Task) -> Mapping[str, Any]:
        """Return the executor that a task runs, empty for a DAG.

        Args:
            task: A task of this package.
        """
        return self.executors.get(str(self.component_of(task).get("executorLabel") or ""), {})

    def line(self, place: Place) -> int | None:
        """Return the line of a value, or of the nearest value around it; None in a file of one line.

        Args:
            place: of the value.
        """
        for node in self.nodes:
            found = _descend(node, place)
            if found is not None:
                return found.start_mark.line + 1
        return None


def mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the mapping under a key, empty if there is something else.

    Args:
        value: a part of a package.
        key: to look up.
    """
    inner = value.get(key)
    return inner if isinstance(inner, Mapping) else {}


def mappings(value: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Any]]:
    """Return the mappings by name under a key, without other values, which the rule on malformed packages finds.

    Args:
        value: a part of a package.
        key: to look up.
    """
    return {str(name): inner for name, inner in mapping(value, key).items() if isinstance(inner, Mapping)}


def words(container: Mapping[str, Any], key: str) -> list[str]:
    """Return the words of a container's command line, empty if there is something else.

    Args:
        container: of an executor.
        key: `command` or `args`.
    """
    found = container.get(key)
    return [str(word) for word in found] if isinstance(found, list) else []


def in_order(tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Sort the tasks of a DAG.

    Args:
        tasks: by name, as the package has them.

    Yields:
        The name of each task, after the names of those that it depends on; tasks that wait for each other come as the
        package has them.
    """
    waiting = {name: set(task.get("dependentTasks") or ()) & set(tasks) for name, task in tasks.items()}
    while waiting:
        name = next((name for name, needed in waiting.items() if not needed & waiting.keys()), next(iter(waiting)))
        del waiting[name]
        yield name


def component_ref(task: Task) -> str:
    """Return the name of the component that a task runs, empty if the task names none.

    Args:
        task: A task of a package.
    """
    return str(mapping(task.spec, "componentRef").get("name") or "")


def dotted(place: Place) -> str:
    """Return a place as people write it, such as `root.dag.tasks.train`; keys that hold dots are in brackets.

    Args:
        place: in a package.
    """
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def read_package(path: Path) -> Package:
    """Read a package.

    Args:
        path: YAML of one or two documents, the JSON job spec of TFX, or a PipelineVersion resource.

    Returns:
        The package. It need not be one that KFP accepts.

    Raises:
        UsageError: the file cannot be read, or is not a package.
    """
    text = _read_text(path)
    try:
        documents = read_documents(text)
    except yaml.YAMLError as error:
        raise UsageError(f"This is neither YAML nor JSON. Received: {path}: {error}. {_COMPILE}") from error
    except UnreadableError as error:
        raise UsageError(f"This is not a package that can be read. Received: {path}: {error}. {_COMPILE}") from error
    values = [document.value for document in documents]
    found = [(number, package) for number, value in enumerate(values, 1) if (package := _as_package(path, value))]
    if not found:
        raise UsageError(f"This is not a KFP v2 package. Received: {path}, {_describe(values)}. {_COMPILE}")
    if len(found) > 1:
        raise UsageError(
            f"This holds {len(found)} pipelines, and KFP takes one a package. Received: {path}. Split the file."
        )
    number, package = found[0]
    nodes = [] if text.count("\n") < 2 else [document.node for document in documents]
    others = [(other, value) for other, value in enumerate(values, 1) if other != number]
    package = replace(package, nodes=nodes, others=others)
    if package.platforms:
        return package
    platforms = [value for _, value in others if isinstance(value, Mapping) and "platforms" in value]
    merged = {name: spec for document in platforms for name, spec in mappings(document, "platforms").items()}
    return replace(package, platforms=merged)


def digest(path: Path) -> str:
    """Return the 12 hexadecimal digits in which the name of a package's version ends.

    Args:
        path: The path of the package.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def is_package(path: Path) -> bool:
    """Return whether a file is a package, and not a pipeline.yaml of kubetfx.

    Args:
        path: The path of the file, which need not exist.
    """
    try:
        read_package(path)
    except UsageError:
        return False
    return True


_COMPILE = "Compile one from a pipeline.yaml."


_MOST_BYTES = 32 << 20
"""`MaxFileLength` in KFP's backend/src/apiserver/common/const.go."""


def _read_text(path: Path) -> str:
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise UsageError(
                f"The API server of Kubeflow Pipelines takes packages of at most {_MOST_BYTES:,} bytes. Received: "
                f"{path}, {size:,} bytes. {_COMPILE}"
            )
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"The package cannot be read. Received: {path}: {error.strerror}. {_COMPILE}") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"This is not text, so it is not a package. Received: {path}. Unpack an archive, and hand over the .yaml "
            "in it."
        ) from error


def _as_package(path: Path, document: Any) -> Package | None:
    if not isinstance(document, Mapping):
        return None
    if isinstance(document.get("pipelineSpec"), Mapping):
        return Package(path, document["pipelineSpec"], ("pipelineSpec",), wrapper=document)
    if str(document.get("apiVersion", "")).startswith("pipelines.kubeflow.org/"):
        resource = mapping(document, "spec")
        if "pipelineSpec" not in resource:
            return None
        platforms = mappings(mapping(resource, "platformSpec"), "platforms")
        inner: Place = ("spec", "pipelineSpec")
        place: Place = ("spec", "platformSpec", "platforms")
        return Package(path, mapping(resource, "pipelineSpec"), inner, platforms=platforms, platforms_place=place)
    if "root" in document or "pipelineInfo" in document:
        return Package(path, document)
    return None


def _describe(documents: Sequence[Any]) -> str:
    if not documents:
        return "which is empty"
    first = documents[0]
    if not isinstance(first, Mapping):
        return f"which is a {type(first).__name__}"
    if str(first.get("apiVersion", "")).startswith("argoproj.io/"):
        return "an Argo workflow, which is what KFP v1 ran"
    return f"with the keys {', '.join(sorted(map(str, first))[:8])}"


def _descend(node: yaml.Node, place: Place) -> yaml.Node | None:
    """Return the node at a place, or the nearest around it; None if not even the first key is there."""
    for depth, part in enumerate(place):
        inner = _child(node, part)
        if inner is None:
            return node if depth else None
        node = inner
    return node


def _child(node: yaml.Node, part: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        inner: yaml.Node = node.value[part]
        return inner
    return None
