"""What the tasks of a run have left, for the tasks after them.

Tasks of three kinds hand values on: containers and importers, DAGs, and loops. A DAG's output is that of one of its
tasks; what comes out of a loop, however deep in it, is a list over its iterations (`dsl.Collected`). Kubeflow Pipelines
2.17.0, backend/src/v2/driver/resolve.go: resolveUpstreamParameters, resolveUpstreamArtifacts, CollectInputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from kubetfx.errors import CompileError
from kubetfx.run_record import FUSED

RuntimeArtifact = Mapping[str, Any]
"""An artifact in the documents between driver, launcher and container: name, uri, type and metadata."""

TaskState = Literal["done", "cached", "failed", "skipped"]


class Finished(Protocol):
    """A task that later tasks may take values from."""

    state: TaskState
    execution: int
    """Id in ML Metadata; 0 for a task that no driver has recorded."""

    @property
    def is_collected(self) -> bool:
        """Whether it holds a list over the iterations of a loop."""

    def values(self, key: str) -> list[Any]:
        """Return the output parameter of each iteration; one where there is no loop.

        Args:
            key: The key of the output.
        """

    def runtime_artifacts(self, key: str) -> list[RuntimeArtifact]:
        """Return the output artifact of each iteration; one where there is no loop.

        Args:
            key: The key of the output.
        """


@dataclass
class TaskResult:
    """A container or an importer that has run, or is running."""

    name: str
    title: str
    """The ids of its nodes."""
    state: TaskState = "failed"
    exit_code: int = 0
    arguments: Sequence[str] = ()
    artifacts: dict[str, RuntimeArtifact] = field(default_factory=dict)
    """RuntimeArtifact by output."""
    parameters: dict[str, Any] = field(default_factory=dict)
    execution: int = 0
    """Id of the execution in ML Metadata that wrote the outputs."""
    deadline_seconds: int | None = None
    """Time after which Kubernetes ends its pod."""
    suffix: str = ""
    """What its name ends in, in an iteration of a loop: a hyphen and the index, for each loop around it."""
    is_collected = False

    @property
    def node_ids(self) -> list[str]:
        """The ids of its nodes, those of a loop with the index: `Fold.0`."""
        return [node_id + self.suffix.replace("-", ".") for node_id in self.title.split(FUSED)]

    @property
    def label(self) -> str:
        """The ids of its nodes as one text, to show."""
        return FUSED.join(self.node_ids)

    def values(self, key: str) -> list[Any]:
        """Return the output parameter, in a list.

        Args:
            key: The key of the output.
        """
        return [_output_of(self, self.parameters, key)]

    def runtime_artifacts(self, key: str) -> list[RuntimeArtifact]:
        """Return the output artifact, in a list.

        Args:
            key: The key of the output.
        """
        return [_output_of(self, self.artifacts, key)]


@dataclass
class DagResult:
    """A nested DAG, or one iteration of a loop.

    Attributes:
        outputs: the DagOutputsSpec of its component.
        tasks: its tasks by name.
        state_of: returns ML Metadata's word for the state of an execution.
    """

    name: str
    outputs: Mapping[str, Any]
    state_of: Callable[[int], str]
    state: TaskState = "done"
    execution: int = 0
    tasks: dict[str, Finished] = field(default_factory=dict)

    @property
    def is_collected(self) -> bool:
        """Whether a loop in it hands values on."""
        return any(task.is_collected for task in self.tasks.values())

    def values(self, key: str) -> list[Any]:
        """Return the output parameter of one of its tasks.

        Args:
            key: The key of the output.

        Raises:
            CompileError: no task has it.
        """
        spec = self.outputs.get("parameters", {}).get(key, {})
        selectors = spec.get("valueFromOneof", {}).get("parameterSelectors") or [spec.get("valueFromParameter", {})]
        chosen = self._chosen(key, selectors)
        return self.tasks[chosen["producerSubtask"]].values(chosen["outputParameterKey"])

    def runtime_artifacts(self, key: str) -> list[RuntimeArtifact]:
        """Return the output artifact of one of its tasks.

        Args:
            key: The key of the output.

        Raises:
            CompileError: no task has it.
        """
        chosen = self._chosen(key, self.outputs.get("artifacts", {}).get(key, {}).get("artifactSelectors", []))
        return self.tasks[chosen["producerSubtask"]].runtime_artifacts(chosen["outputArtifactKey"])

    def _chosen(self, key: str, selectors: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the selector to follow: of several (`dsl.OneOf`), the first whose task is complete in ML Metadata."""
        known = [selector for selector in selectors if selector.get("producerSubtask") in self.tasks]
        if len(selectors) > 1:
            known = [s for s in known if self.state_of(self.tasks[s["producerSubtask"]].execution) in _ENDED]
        if known:
            return known[0]
        states = {s.get("producerSubtask"): self._state(s) for s in selectors}
        raise CompileError(
            f"{self.name}: the driver finds no task that has the output {key!r}. Received: {states}. ML Metadata says "
            "COMPLETE of a DAG when its launchers say so: a branch whose tasks all came from the cache stays RUNNING, "
            "and dsl.OneOf does not find it. Switch the caching of a task in each branch off."
        )

    def _state(self, selector: Mapping[str, Any]) -> str:
        task = self.tasks.get(selector.get("producerSubtask", ""))
        return self.state_of(task.execution) if task and task.execution else "not there"


_ENDED = ("COMPLETE", "CACHED")


@dataclass
class LoopResult:
    """A loop (`dsl.ParallelFor`)."""

    name: str
    state: TaskState = "done"
    execution: int = 0
    iterations: list[DagResult] = field(default_factory=list)
    is_collected = True

    def values(self, key: str) -> list[Any]:
        """Return the output parameter of each iteration; loops in loops make one flat list.

        Args:
            key: The key of the output.

        Raises:
            CompileError: there are no iterations.
        """
        return [value for iteration in self._collected(key) for value in iteration.values(key)]

    def runtime_artifacts(self, key: str) -> list[RuntimeArtifact]:
        """Return the output artifact of each iteration; loops in loops make one flat list.

        Args:
            key: The key of the output.

        Raises:
            CompileError: there are no iterations.
        """
        return [artifact for iteration in self._collected(key) for artifact in iteration.runtime_artifacts(key)]

    def _collected(self, key: str) -> list[DagResult]:
        """Return the iterations.

        Without any, the driver takes the loop for a nested DAG, and looks for the task in it.
        """
        if not self.iterations:
            raise CompileError(
                f"A task collects the output {key!r} of the loop {self.name}, which had no items. Received: an empty "
                "list. The driver looks for a task that never ran, and fails (`not in tasks`). Give the loop an item, "
                "or put the loop and what collects from it under a condition."
            )
        return self.iterations


def _output_of(task: TaskResult, outputs: Mapping[str, Any], key: str) -> Any:
    if key not in outputs:
        raise CompileError(
            f"A task takes the output {key!r} of {task.title}, which has not written it. Received: the outputs "
            f"{', '.join(outputs) or 'none'}. The driver fails the task that takes it."
        )
    return outputs[key]


class TaskFailedError(Exception):
    """A task ended with an exit status that is not 0."""

    def __init__(self, task: TaskResult) -> None:
        """Make the error.

        Args:
            task: that failed.
        """
        super().__init__(f"{task.title} ended with exit status {task.exit_code}")
        self.task = task
