"""What a task of a package is in the record of a run: the TFX nodes that it ran, with their outputs on this machine."""

import json
from collections.abc import Iterator

from kubetfx.kubeflow.emulation.task_results import TaskResult
from kubetfx.kubeflow.task_spec import Node, TaskSpec
from kubetfx.pipeline.run_result import NodeResult
from kubetfx.run_record import NodeRecord


class TaskRecords:
    """Makes the records of one run, task by task in the order in which they end: each names who made its inputs."""

    def __init__(self) -> None:
        self._makers: dict[str, str] = {}

    def of(self, task: TaskResult, result: NodeResult) -> list[NodeRecord]:
        """Return the records of a task: one per node, or one for all if it failed, as it is not known at which.

        Args:
            task: that has ended.
            result: the same with its time, its log and local paths.
        """
        spec = TaskSpec.from_argument(_argument(task, "--task"))
        if result.state == "failed" or spec.role == "driver":
            return [result.record(upstream=[])]
        pairs = zip(spec.nodes, task.node_ids, strict=True)
        return [self._record(node, node_id, task, result) for node, node_id in pairs]

    def _record(self, node: Node, node_id: str, task: TaskResult, result: NodeResult) -> NodeRecord:
        self._makers |= {str(task.artifacts[slot]["name"]): node_id for slot in node.outputs.values()}
        return NodeRecord(
            id=node_id,
            state=result.state,
            seconds=round(result.seconds, 3) if len(task.node_ids) == 1 else None,
            log=str(result.log_path),
            outputs={key: result.outputs[slot] for key, slot in node.outputs.items()},
            upstream=list(dict.fromkeys(self._upstream(node, task))),
        )

    def _upstream(self, node: Node, task: TaskResult) -> Iterator[str]:
        taken = json.loads(_argument(task, "--executor-input"))["inputs"].get("artifacts", {})
        for slot in (slot for slots in node.inputs.values() for slot in slots):
            made_here = task.artifacts.get(slot)
            artifacts = [made_here] if made_here else taken.get(slot, {}).get("artifacts", [])
            names = (str(artifact["name"]) for artifact in artifacts)
            yield from (self._makers[name] for name in names if name in self._makers)


def _argument(task: TaskResult, name: str) -> str:
    return task.arguments[task.arguments.index(name) + 1]
