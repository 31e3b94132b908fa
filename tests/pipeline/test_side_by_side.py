"""Executors in processes beside this one: what they return, how they fail, and who writes to which log."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import execution_result_pb2

from kubetfx.cores import num_cores
from kubetfx.errors import DataError
from kubetfx.pipeline.side_by_side import ExecutorError, ExecutorProcesses, Work, groups, in_best_order


class Operator:
    """Of an executor that does what its specification says."""

    def __init__(self, spec: str) -> None:
        self.spec = spec

    def run_executor(self, info: data_types.ExecutionInfo) -> execution_result_pb2.ExecutorOutput:
        print(f"{self.spec} of {info.execution_id}", flush=True)
        match self.spec:
            case "data":
                raise DataError("Row 3 is wrong.")
            case "bug":
                raise ZeroDivisionError("division")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "wait":
                time.sleep(0.5)
        message = f"{os.getpid()} {len(os.sched_getaffinity(0))} {time.monotonic()}"
        return execution_result_pb2.ExecutorOutput(execution_result={"result_message": message})


@pytest.fixture
def processes() -> Iterator[ExecutorProcesses]:
    made = ExecutorProcesses(2, lambda operator_class, spec: operator_class(spec))
    yield made
    made.end()


def execute(processes: ExecutorProcesses, folder: Path, spec: str, number: int, found: list[Any]) -> None:
    with processes.turns.logged_to(folder / f"{number}.log"):
        print(f"driver of {number}", flush=True)
        info = data_types.ExecutionInfo(execution_id=number)
        output = processes.run(Operator, spec, info)
        found.append(output.execution_result.result_message.split())
        print(f"publisher of {number}", flush=True)


def warm(folder: Path) -> None:
    time.sleep(0.2)
    with (folder / f"{os.getpid()}.warm").open("a") as file:
        file.write(".")


def run(processes: ExecutorProcesses, folder: Path, *specs: str) -> list[Any]:
    found: list[Any] = []
    works = [
        Work(str(number), partial(execute, processes, folder, spec, number, found))
        for number, spec in enumerate(specs, start=1)
    ]
    processes.side_by_side(works)
    return found


def test_executors_run_at_the_same_time_in_processes_that_share_the_cores(processes, tmp_path, capfd):
    found = run(processes, tmp_path, *["wait"] * 4)

    ends = sorted(float(end) for *_, end in found)
    assert min(later - earlier for earlier, later in pairwise(ends)) < 0.4  # each takes 0.5 s
    assert len({pid for pid, *_ in found}) == 2
    assert str(os.getpid()) not in {pid for pid, *_ in found}
    assert {int(cores) for _, cores, _ in found} == {max(num_cores() // 2, 1)}
    for number in range(1, 5):
        lines = (tmp_path / f"{number}.log").read_text().splitlines()
        assert lines == [f"driver of {number}", f"wait of {number}", f"publisher of {number}"]
    assert capfd.readouterr().out == ""


def test_error_that_a_user_caused_is_raised_as_it_was(processes, tmp_path):
    with pytest.raises(DataError, match=r"^Row 3 is wrong\.$"):
        run(processes, tmp_path, "wait", "data")


def test_other_error_is_told_in_a_line_and_its_traceback_is_in_the_log(processes, tmp_path):
    with pytest.raises(ExecutorError, match=r"^ZeroDivisionError: division$"):
        run(processes, tmp_path, "bug")

    assert "Traceback" in (tmp_path / "1.log").read_text()


def test_process_that_was_killed_is_said(processes, tmp_path):
    with pytest.raises(ExecutorError, match=r"process was killed.*evaluation\.cross_validation\.parallel"):
        run(processes, tmp_path, "kill")


def test_after_a_failure_nothing_more_is_begun(processes, tmp_path):
    found: list[Any] = []
    specs = ["data", "wait", "wait", "wait", "wait"]
    works = [
        Work(str(number), partial(execute, processes, tmp_path, spec, number, found))
        for number, spec in enumerate(specs)
    ]

    with pytest.raises(DataError):
        processes.side_by_side(works)

    assert not (tmp_path / "4.log").exists()


def test_interruption_ends_the_processes(processes, tmp_path):
    threading.Timer(0.2, partial(os.kill, os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        run(processes, tmp_path, *["wait"] * 20)

    assert not (tmp_path / "20.log").exists()


def test_each_process_is_warm_before_its_first_executor(processes, tmp_path):
    for _ in range(2):
        processes.warm_up(partial(warm, tmp_path))
    found = run(processes, tmp_path, "wait", "wait")

    files = {path.stem: path.read_text() for path in tmp_path.glob("*.warm")}
    assert files == {pid: "." for pid, *_ in found}
    assert len(files) == 2


def test_work_begins_when_those_before_it_have_ended_and_a_process_is_free(processes):
    events: list[str] = []
    third_began = threading.Event()

    def do(name: str) -> None:
        events.append(f"{name} begins")
        if name == "train 3":
            third_began.set()
        if name == "train 1":
            with processes.turns.logged_to(Path(os.devnull)), processes.turns.waiting():
                assert third_began.wait(60)  # a barrier between the steps would wait forever
        events.append(f"{name} ends")

    names = [f"{step} {fold}" for step in ("train", "evaluate") for fold in (1, 2, 3)]
    after = {f"evaluate {fold}": [f"train {fold}", "elsewhere"] for fold in (1, 2, 3)}
    processes.side_by_side([Work(name, partial(do, name), after=after.get(name, ())) for name in names])

    assert sorted(events) == sorted(f"{name} {what}" for name in names for what in ("begins", "ends"))
    for name, before in after.items():
        assert events.index(f"{before[0]} ends") < events.index(f"{name} begins")
    assert events.index("train 3 begins") < events.index("train 1 ends")


@pytest.mark.parametrize(
    ("folds", "expected"),
    [
        (3, ["Examples.0", "Trainer.0", "Examples.1", "Examples.2", "Trainer.1", "Trainer.2"]),
        (2, ["Examples.0", "Examples.1", "Trainer.0", "Trainer.1"]),
    ],
)
def test_folds_beyond_a_multiple_of_the_processes_come_first(folds, expected):
    works = [Work(f"{step}.{fold}", print) for step in ("Examples", "Trainer") for fold in range(folds)]

    assert [work.name for work in in_best_order(works, 2)] == expected


def test_steps_of_folds_are_a_group():
    names = ["AnomalyGate", "FoldExamples.0", "FoldExamples.1", "FoldTrainer.0", "Transform", "Own.0", "Own.1"]
    nodes = [SimpleNamespace(node_info=SimpleNamespace(id=name)) for name in names]

    found = [[node.node_info.id for node in group] for group in groups(nodes)]

    assert found == [[names[0]], names[1:4], *([name] for name in names[4:])]
