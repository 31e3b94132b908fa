"""The commands of a compiled package, with the documents that a real launcher hands them, as processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kubetfx.kubeflow.emulation.task_results import TaskResult
from kubetfx.kubeflow.emulator import Emulator
from kubetfx.kubeflow.executor_io import LAUNCHER_ROOT, local_path
from kubetfx.kubeflow.package_document import read_package
from tests.kubeflow.conftest import launcher_root_at
from tests.kubeflow.recorded_documents import (
    CHECKS,
    EXAMPLE_GEN,
    RESOLVE,
    TASKS,
    check_output,
    command_of,
    compiled_package,
    form,
    make_folders,
    moved,
    output_of,
    recorded,
)


class Done(NamedTuple):
    root: Path
    package: Path
    documents: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    """ExecutorOutput by task."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The tasks up to the check of the data have run, each with its document."""
    folder = tmp_path_factory.mktemp("recorded")
    package = compiled_package(folder)
    result = Done(folder / "launcher", package, {}, {})
    for task in TASKS:
        document = moved(task, root=result.root, data=folder / "data")
        result.documents[task] = document
        result.outputs[task] = run(command_of(package, task, document), document, root=result.root)
    return result


def run(command: Sequence[str], document: Mapping[str, Any], *, root: Path) -> dict[str, Any]:
    """Run a container's command as its launcher does: the folders of outputs are there, the outputs are not."""
    make_folders(document, root)
    source = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(source), LAUNCHER_ROOT: str(root)}
    line = [sys.executable, *command[1:]]
    ended = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4_000:]
    return output_of(document, root)


@pytest.mark.parametrize("task", TASKS)
def test_task_writes_what_the_document_asks_for_where_it_asks_for_it(done: Done, task: str) -> None:
    check_output(done.documents[task], done.outputs[task], done.root)


def test_what_tasks_hand_on_is_what_was_recorded_of_the_next(done: Done) -> None:
    """But for what the files of a machine have to do with: their fingerprint, and their times."""
    (written,) = done.outputs[EXAMPLE_GEN]["artifacts"]["examples"]["artifacts"]
    (taken,) = recorded(CHECKS)["inputs"]["artifacts"]["table_example_gen_examples"]["artifacts"]
    told = json.loads(done.outputs[RESOLVE]["parameterValues"]["driver_output"])
    known = json.loads(recorded(EXAMPLE_GEN)["inputs"]["parameterValues"]["driver_output"])

    assert taken["uri"] == written["uri"]
    assert set(taken["metadata"]) == {"display_name", "store_session_info", *written["metadata"]}
    assert told.keys() == known.keys()
    assert told["execProperties"].keys() == known["execProperties"].keys()


def test_examples_of_the_recorded_document_are_looked_at(done: Done) -> None:
    (schema,) = done.outputs[CHECKS]["artifacts"]["schema_gen_schema"]["artifacts"]

    assert 'name: "colour"' in (local_path(schema["uri"], done.root) / "schema.pbtxt").read_text()


def test_emulator_s_documents_have_the_form_of_the_recorded_ones(done: Done, tmp_path: Path) -> None:
    seen: dict[str, dict[str, Any]] = {}

    def command(line: Sequence[str], _: Mapping[str, str], __: str, task: TaskResult) -> int:
        """Write what was written above, at the places of this run."""
        document = json.loads(line[-1])
        seen[task.name] = document
        if task.name not in done.outputs:
            return 1
        output = done.outputs[task.name]
        for key, found in output.get("artifacts", {}).items():
            found["artifacts"][0]["uri"] = document["outputs"]["artifacts"][key]["artifacts"][0]["uri"]
        path = Path(document["outputs"]["outputFile"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(output))
        return 0

    with launcher_root_at(tmp_path / "launcher") as root, pytest.raises(Exception, match="ended with exit status 1"):
        Emulator(read_package(done.package), root=root, run_id="1", run_command=command).run({})

    for task in TASKS:
        assert form(seen[task]) == form(recorded(task)), task
