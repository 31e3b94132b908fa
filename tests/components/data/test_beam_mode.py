"""Where a node does its work, as Beam's arguments say."""

import os

import pytest
from tfx.dsl.components.base import base_beam_executor

from kubetfx import cores
from kubetfx.components.data import beam_mode
from kubetfx.components.statistics_gen import Executor


@pytest.fixture(autouse=True)
def four_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(cores, "CPU_QUOTA", tmp_path / "no cgroup")


@pytest.mark.parametrize("arguments", [None, [], ["--runner=DirectRunner"]], ids=["none", "empty", "default runner"])
def test_without_arguments_a_thread_per_core_does_the_work(arguments):
    assert beam_mode.num_threads(arguments) == 4
    assert beam_mode.describe(arguments or []) == "read in blocks, without Beam"


@pytest.mark.parametrize(
    ("arguments", "threads"),
    [(["--direct_num_workers=2"], 2), (["--direct_num_workers", "1"], 1), (["--direct_num_workers=0"], 4)],
    ids=["=", "apart", "all"],
)
def test_number_of_workers_is_one_of_threads(arguments, threads):
    assert beam_mode.num_threads(arguments) == threads
    assert beam_mode.num_threads(["--runner=DirectRunner", *arguments]) == threads


def test_what_tfx_adds_to_the_arguments_does_not_count():
    context = base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=["--direct_num_workers=2"])
    arguments = Executor(context)._beam_pipeline_args
    assert len(arguments) > 1
    assert beam_mode.num_threads(arguments) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--direct_running_mode=in_memory"],
        ["--direct_running_mode", "multi_threading", "--direct_num_workers=2"],
        ["--runner=FlinkRunner"],
        ["--runner", "SparkRunner"],
        ["--temp_location=/tmp"],
        ["--direct_num_workers=2", "/tmp"],
    ],
)
def test_any_other_argument_is_for_beam(arguments):
    assert beam_mode.num_threads(arguments) is None
    assert beam_mode.describe(arguments) == f"read by Beam: {' '.join(arguments)}"


@pytest.mark.parametrize(("quota", "threads"), [("max 100000", 4), ("250000 100000", 2), ("50000 100000", 1)])
def test_as_many_threads_as_the_container_has_cores(monkeypatch, tmp_path, quota, threads):
    monkeypatch.setattr(cores, "CPU_QUOTA", tmp_path / "cpu.max")
    cores.CPU_QUOTA.write_text(quota)
    assert beam_mode.num_threads([]) == threads
    assert beam_mode.num_threads(["--direct_num_workers=3"]) == 3


def test_threads_are_few_where_there_are_many_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(96)))
    assert beam_mode.num_threads([]) == beam_mode.MAX_THREADS


@pytest.mark.parametrize(("mode", "is_set"), [("multi_processing", True), ("in_memory", False)])
def test_processes_of_beam_find_the_modules_of_this_one(monkeypatch, mode, is_set):
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr("sys.path", ["", "/the/users/folder"])
    beam_mode.prepare_workers([f"--direct_running_mode={mode}"])
    assert os.environ["PYTHONPATH"] == ("/the/users/folder" if is_set else "")
