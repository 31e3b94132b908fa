"""The tasks of a package, as they are counted."""

from kfp import compiler

from kubetfx.kubeflow.emulation.task_results import TaskResult
from kubetfx.kubeflow.package_document import read_package
from kubetfx.kubeflow.run_progress import planned_tasks
from tests.kubeflow import sdk_packages


def test_tasks_of_conditions_and_exit_handlers_are_counted_and_loops_once(tmp_path):
    path = tmp_path / "kitchen-sink.yaml"
    compiler.Compiler().compile(sdk_packages.kitchen_sink, str(path))

    keys = [task.key for task in planned_tasks(read_package(path))]

    assert {"count", "train", "push", "notify", "add", "importer"} <= set(keys)
    assert [key for key in keys if key.startswith("for-loop")] == sorted(k for k in keys if k.startswith("for-loop"))
    assert not [key for key in keys if key.startswith(("condition", "exit-handler"))]
    assert keys.index("count") < keys.index("train") < keys.index("push")


def test_iterations_are_counted_one_by_one_where_the_items_are_in_the_package(tmp_path):
    path = tmp_path / "kitchen-sink.yaml"
    compiler.Compiler().compile(sdk_packages.kitchen_sink, str(path))

    ids = [task.node_id for task in planned_tasks(read_package(path), each_iteration=True)]

    assert [sum(node_id.endswith(f".{index}") for node_id in ids) for index in range(4)] == [2, 2, 2, 0]
    assert len([node_id for node_id in ids if node_id.startswith("for-loop")]) == 1  # its items are a run parameter
    assert TaskResult("a-b-1", "A + B", suffix="-1").label == "A.1 + B.1"
