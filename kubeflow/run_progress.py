"""How far a run on Kubeflow is: the tasks of its package, with the states that the API server reports.

KFP reports the nodes of the Argo workflow. A container task has three of them: `NAME-driver`, `NAME` and, inside of
that, `executor`, which is skipped if the cache has the outputs.
"""

import datetime
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from kubetfx.kubeflow.package_document import ROOT, Package, component_ref, in_order, mapping, mappings
from kubetfx.progress import Begin, Message, NodeEnds, Progress
from kubetfx.run_record import FUSED

_OMITTED = "RUNTIME_STATE_UNSPECIFIED"
"""State of a node that Argo calls `Omitted`, for which the API has no name: a task before it failed."""

_ProgressState = Literal["waiting", "running", "done", "cached", "skipped", "failed"]

FINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"})
"""States of a run that is over (RuntimeState in KFP's backend/api/v2beta1/run.proto)."""
UNFINISHED_STATES = frozenset({"PENDING", "RUNNING", "CANCELING", "PAUSED"})
"""Its other states, of a run that goes on."""


@dataclass(frozen=True)
class TaskStatus:
    """The state of one task of the package."""

    node_id: str
    """Name to show."""
    key: str
    """Name in the package, which is also that of the Argo node."""
    state: _ProgressState = "waiting"
    seconds: float = 0.0
    """From the start of its driver."""
    pod_name: str | None = None
    """The pod that ran it; for a failed task, the one whose log says why."""

    @property
    def is_over(self) -> bool:
        """Whether the state is final."""
        return self.state not in ("waiting", "running")


def planned_tasks(package: Package, *, each_iteration: bool = False) -> list[TaskStatus]:
    """List the tasks of a package, in an order in which they can run.

    Tasks inside of conditions, exit handlers and nested pipelines are listed one by one. A loop is one task, as the
    number of its rounds need not be known.

    Args:
        package: to run.
        each_iteration: list the tasks of each iteration instead, where a loop's items are in the package.

    Returns:
        The tasks, all of them waiting.
    """
    return list(_planned(package, ROOT, each_iteration=each_iteration))


def progress(plan: Sequence[TaskStatus], details: Sequence[Any], *, now: datetime.datetime) -> list[TaskStatus]:
    """Return the plan with the states that the API server reports.

    Args:
        plan: as `planned_tasks` returns it.
        details: V2beta1PipelineTaskDetail of the run; none before the workflow has begun.
        now: to which the time of running tasks is counted.
    """
    nodes = _Nodes(details)
    seen: dict[str, int] = {}
    statuses = []
    for task in plan:
        number = seen.get(task.key, 0)  # nested pipelines may have tasks of one name
        seen[task.key] = number + 1
        statuses.append(nodes.status_of(task, number, now))
    return statuses


@dataclass
class RunView:
    """The lines of a run's progress."""

    statuses: list[TaskStatus]
    report: Progress

    def __post_init__(self) -> None:
        self._shown: set[int] = set()
        self._is_out_of_reach = False
        self._label: str | None = None

    def show(self, details: Sequence[Any], *, state: str | None) -> None:
        """Report the tasks that ended since the last call, and those that are running.

        Args:
            details: V2beta1PipelineTaskDetail of the run.
            state: The state of the run.
        """
        if self._is_out_of_reach:
            self._is_out_of_reach = False
            self.report(Message("Kubeflow Pipelines answers again."))
        self.statuses = progress(self.statuses, details, now=datetime.datetime.now(datetime.UTC))
        for index, status in enumerate(self.statuses):
            if status.is_over and index not in self._shown:
                self._show_line(index, status)
        if state == "SUCCEEDED" and self._shown:  # else the server reports no tasks at all
            self._show_skipped()
        self._spin([status.node_id for status in self.statuses if status.state == "running"])

    def is_out_of_reach(self, reason: str) -> None:
        """Report once that the server does not answer.

        Args:
            reason: in a few words.
        """
        if not self._is_out_of_reach:
            self._is_out_of_reach = True
            message = f"Kubeflow Pipelines does not answer ({reason}). The run goes on; asking again."
            self.report(Message(message))

    def is_in_strange_state(self, state: str | None, link: str) -> None:
        """Report a state that says nothing of whether the run is over.

        Args:
            state: as the server gives it.
            link: to the run in the UI.
        """
        said = f"that the run is {state}, a state that is not known here" if state else "nothing of the run's state"
        self.report(Message(f"Kubeflow Pipelines says {said}. Asking again; see the run: {link}", style="yellow"))

    def _spin(self, running: Sequence[str]) -> None:
        more = " ..." if len(running) > 3 else ""
        label = f"{', '.join(running[:3])}{more}  running" if running else "Waiting"
        if label != self._label:  # a spinner that goes on counts the time
            self._label = label
            self.report(Begin(label))

    def _show_skipped(self) -> None:
        """Report the tasks that a condition left out, which have no nodes."""
        for index, status in enumerate(self.statuses):
            if index not in self._shown:
                self.statuses[index] = TaskStatus(status.node_id, status.key, "skipped")
                self._show_line(index, self.statuses[index])

    def _show_line(self, index: int, status: TaskStatus) -> None:
        self._shown.add(index)
        self._label = None
        number, total = len(self._shown), len(self.statuses)
        self.report(NodeEnds(number, total, status.node_id, status.state, status.seconds))


def _planned(
    package: Package, component_name: str, above: tuple[str, ...] = (), *, each_iteration: bool, indices: str = ""
) -> Iterator[TaskStatus]:
    tasks = mappings(mapping(package.components.get(component_name, {}), "dag"), "tasks")
    by_name = {task.name: task for task in package.tasks() if task.component_name == component_name}
    for name in in_order(tasks):
        inner = component_ref(by_name[name])
        is_dag = "dag" in package.components.get(inner, {}) and inner not in above
        is_loop = "parameterIterator" in tasks[name]
        number = _num_items(tasks[name]) if is_loop and each_iteration else None
        if is_dag and number is not None:
            for index in range(number):
                yield from _planned(package, inner, (*above, inner), each_iteration=True, indices=f"{indices}.{index}")
        elif is_dag and not is_loop:
            yield from _planned(package, inner, (*above, inner), each_iteration=each_iteration, indices=indices)
        else:
            title = str(mapping(tasks[name], "taskInfo").get("name") or name)
            yield TaskStatus(FUSED.join(part + indices for part in title.split(FUSED)), name)


def _num_items(task: Mapping[str, Any]) -> int | None:
    """Number of a loop's items; None if they come from a parameter."""
    raw = mapping(mapping(task, "parameterIterator"), "items").get("raw")
    return len(json.loads(raw)) if raw else None


class _Nodes:
    """The Argo nodes of a run."""

    def __init__(self, details: Sequence[Any]) -> None:
        self._by_name: dict[str, list[Any]] = {}
        for detail in details:
            self._by_name.setdefault(str(detail.display_name), []).append(detail)
        for nodes in self._by_name.values():
            nodes.sort(key=lambda node: _time(node.start_time) or datetime.datetime.max.replace(tzinfo=datetime.UTC))
        self._by_suffix = {_suffix(detail.pod_name): detail for detail in details if detail.pod_name}

    def status_of(self, task: TaskStatus, number: int, now: datetime.datetime) -> TaskStatus:
        node = self._get(task.key, number)
        driver = self._get(f"{task.key}-driver", number)
        if node is None and driver is None:
            return task
        state = self._state(node, driver)
        begins = [_time(found.start_time) for found in (driver, node) if found is not None]
        started = min((begin for begin in begins if begin), default=None)
        last = node if node is not None and node.state in FINAL_STATES else driver if state == "failed" else None
        ended = (_time(last.end_time) if last is not None else None) or now
        seconds = max(0.0, (ended - started).total_seconds()) if started and state != "waiting" else 0.0
        failed = driver if driver is not None and driver.state == "FAILED" else node
        ran = failed if state == "failed" else node if state in ("done", "running") else None
        return replace(task, state=state, seconds=seconds, pod_name=self._pod(ran) if ran is not None else None)

    def _get(self, name: str, number: int) -> Any | None:
        found = self._by_name.get(name, [])
        return found[number] if number < len(found) else None

    def _state(self, node: Any | None, driver: Any | None) -> _ProgressState:
        if driver is not None and driver.state == "FAILED":
            return "failed"
        state = None if node is None else node.state
        if state == "SUCCEEDED":
            inner = [child.state for child in self._children(node) if _is_executor(child)]
            return "cached" if inner and set(inner) == {"SKIPPED"} else "done"
        if state == "SKIPPED":
            return "skipped"
        if state in ("FAILED", "CANCELED"):
            return "failed"
        known = {found.state for found in (driver, node) if found is not None} - {_OMITTED, None}
        return "running" if known else "waiting"

    def _children(self, node: Any) -> list[Any]:
        suffixes = [_suffix(child.pod_name) for child in node.child_tasks or () if child.pod_name]
        return [self._by_suffix[suffix] for suffix in suffixes if suffix in self._by_suffix]

    def _pod(self, node: Any) -> str | None:
        """Return the pod of the innermost node, which is the one that ran something.

        If there are several, as with tries of a container or tasks in a loop, it is the pod of the last one whose state
        is that of the whole.
        """
        seen = set()
        while id(node) not in seen:
            seen.add(id(node))
            alike = [child for child in self._children(node) if child.state == node.state]
            node = alike[-1] if alike else node
        return str(node.pod_name) if node.pod_name else None


def _suffix(pod_name: str) -> str:
    """Return the hash at the end of a pod's name: references to a pod leave the template's name before it out."""
    return pod_name.rpartition("-")[2]


def _is_executor(node: Any) -> bool:
    return re.fullmatch(r"executor(\(\d+\))?", str(node.display_name)) is not None


def _time(value: datetime.datetime | None) -> datetime.datetime | None:
    """Return a time; None for 1970, which KFP reports for what has not happened yet."""
    return value if value is not None and value.year > 1970 else None


def as_document(statuses: Sequence[TaskStatus]) -> list[Mapping[str, Any]]:
    """Return the tasks as JSON has them: `id`, `state`, `seconds` and `pod` each.

    Args:
        statuses: of all tasks.
    """
    return [
        {"id": status.node_id, "state": status.state, "seconds": round(status.seconds, 3), "pod": status.pod_name}
        for status in statuses
    ]
