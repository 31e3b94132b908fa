"""Answers in which a value is not of its type: each command says which, with a server that answers so."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kubetfx.errors import RunLeftError
from tests.kubeflow.kfp_server import argo_nodes

Answer = dict[str, Any]


def _with(*path: str | int, value: Any) -> Callable[[Answer], Answer]:
    """Put a value at a place of an answer."""

    def spoil(answer: Answer) -> Answer:
        spoilt: Any = copy.deepcopy(answer)
        part = spoilt
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        return spoilt

    return spoil


_TASKS = ("run_details", "task_details")
OF_A_RUN: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("run_details",), [1], "run_details is [1], and not an object"),
    (("run_details",), "none", "run_details is 'none', and not an object"),
    (_TASKS, {"a": 1}, "run_details.task_details is {'a': 1}, and not a list"),
    (_TASKS, "tasks", "run_details.task_details is 'tasks', and not a list"),
    ((*_TASKS, 0), "train", "run_details.task_details[0] is 'train', and not an object"),
    ((*_TASKS, 0, "child_tasks"), "pod", "run_details.task_details[0].child_tasks is 'pod', and not a list"),
    ((*_TASKS, 0, "child_tasks"), [["pod"]], "run_details.task_details[0].child_tasks[0] is ['pod'], and not an"),
    ((*_TASKS, 0, "pod_name"), {"a": 1}, "run_details.task_details[0].pod_name is {'a': 1}, and not a text"),
    ((*_TASKS, 0, "start_time"), 12, "run_details.task_details[0].start_time is 12, and not a time"),
    ((*_TASKS, 0, "start_time"), "noon", "run_details.task_details[0].start_time is 'noon', and not a time"),
    ((*_TASKS, 0, "end_time"), "2026-11-21T12:00:00", "end_time is '2026-11-21T12:00:00', and not a time with its"),
    ((*_TASKS, 0, "inputs"), {"a": 1}, "run_details.task_details[0].inputs.a is 1, and not an object"),
    (("error",), "out of memory", "error is 'out of memory', and not an object"),
    (("error",), {"message": ["a"]}, "error.message is ['a'], and not a text"),
    (("state",), ["FAILED"], "state is ['FAILED'], and not a text"),
    (("run_id",), None, "the answer has no run_id"),
    (("pipeline_version_reference",), "v1", "pipeline_version_reference is 'v1', and not an object"),
]
_NAMES = [f"{'.'.join(map(str, path))} {value}" for path, value, _ in OF_A_RUN]


@pytest.fixture
def failed(submit, server) -> str:
    server.frames = [{"count": "done", "flip": "cached", "train": "failed"}]
    server.final_state = "FAILED"
    assert submit().exit_code == 1
    (run_id,) = server.runs
    return str(run_id)


def _is_said(outcome: Any, said: str, *, exit_code: int = 1) -> None:
    assert outcome.exit_code == exit_code, outcome.stderr
    assert said in outcome.stderr
    assert "answered something else than its API has: it was asked to" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize(("path", "value", "said"), OF_A_RUN, ids=_NAMES)
def test_run_in_another_form_is_said_by_logs_retry_and_submit(kubetfx, submit, server, failed, path, value, said):
    server.spoilt_answers["get_run"] = _with(*path, value=value)

    for command in ("logs", "retry"):
        _is_said(kubetfx(command, "--run", failed, "--host", server.url), said)
    outcome = submit()
    _is_said(outcome, said, exit_code=RunLeftError.exit_code)
    assert "No longer following the run, which goes on" in outcome.stderr


@pytest.mark.parametrize(
    ("operation", "path", "value", "said"),
    [
        ("health", ("multi_user",), "no", "multi_user is 'no', and not true or false"),
        ("list_pipelines", ("pipelines",), "none", "pipelines is 'none', and not a list"),
        ("list_pipelines", ("pipelines",), [{"display_name": "a"}], "pipelines[0] has no pipeline_id"),
        ("list_pipelines", ("next_page_token",), 3, "next_page_token is 3, and not a text"),
        ("upload", ("pipeline_id",), None, "the answer has no pipeline_id"),
        ("list_versions", ("pipeline_versions",), [1], "pipeline_versions[0] is 1, and not an object"),
        ("create_experiment", ("experiment_id",), "", "the answer has no experiment_id"),
        ("create_run", ("run_id",), {"id": 1}, "run_id is {'id': 1}, and not a text"),
    ],
)
def test_other_answers_are_said_by_submit(submit, server, operation, path, value, said):
    server.spoilt_answers[operation] = _with(*path, value=value)

    _is_said(submit("--no-wait"), said)


@pytest.mark.parametrize(
    ("operation", "path", "value", "said"),
    [
        ("list_recurring_runs", ("recurringRuns",), {"a": 1}, "recurringRuns is {'a': 1}, and not a list"),
        (
            "list_recurring_runs",
            ("recurringRuns", 0, "trigger"),
            [1],
            "recurringRuns[0].trigger is [1], and not an obj",
        ),
        (
            "list_recurring_runs",
            ("recurringRuns", 0, "trigger", "cron_schedule"),
            "daily",
            "recurringRuns[0].trigger.cron_schedule is 'daily', and not an object",
        ),
        (
            "list_recurring_runs",
            ("recurringRuns", 0, "max_concurrency"),
            [1],
            "max_concurrency is [1], and not a text",
        ),
        ("list_recurring_runs", ("recurringRuns", 0, "runtime_config"), "none", "runtime_config is 'none', and not an"),
        ("create_recurring_run", ("recurring_run_id",), None, "the answer has no recurring_run_id"),
    ],
)
def test_schedules_in_another_form_are_said(schedule, server, operation, path, value, said):
    assert schedule().exit_code == 0
    server.spoilt_answers[operation] = _with(*path, value=value)

    _is_said(schedule(cron="0 7 * * *"), said)


def test_fields_that_are_null_are_not_there(kubetfx, server, failed):
    def spoil(run: Answer) -> Answer:
        tasks = [{**task, "child_tasks": None, "executor_detail": None, "inputs": None} for task in _nodes(run)]
        return {**run, "error": None, "state_history": None, "created_at": None, "run_details": {"task_details": tasks}}

    server.spoilt_answers["get_run"] = spoil
    *_, executor = argo_nodes(failed, "train", "failed")
    outcome = kubetfx("logs", "--run", failed, "--host", server.url)

    assert outcome.exit_code == 1
    assert "Kubeflow Pipelines has no log of the pod any more" in outcome.stderr
    assert executor["pod_name"].rpartition("-")[0].rpartition("system")[0] in outcome.stderr


def _nodes(run: Answer) -> list[Answer]:
    found: list[Answer] = run["run_details"]["task_details"]
    return found


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("text", "Kubeflow Pipelines no longer has the pipeline of the run"),
        ([1], "Kubeflow Pipelines no longer has the pipeline of the run"),
        ({"pipeline_spec": [1]}, "has something else than a package for the run"),
        ({"pipeline_spec": {"root": {"dag": {"tasks": [1]}}}}, "root.dag.tasks: "),
        ({"root": {"dag": {"tasks": {"a": {"dependentTasks": 3}}}}}, "root.dag.tasks.a: "),
    ],
)
@pytest.mark.parametrize("command", ["logs", "retry"])
def test_package_of_a_run_in_another_form_is_said(kubetfx, server, failed, command, spec, said):
    server.spoilt_answers["get_version"] = lambda version: {**version, "pipeline_spec": spec}

    outcome = kubetfx(command, "--run", failed, "--host", server.url)

    assert outcome.exit_code == 1
    assert said in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_tasks_of_a_run_that_wait_for_each_other_are_listed(kubetfx, server, failed):
    def spoil(version: Answer) -> Answer:
        spoilt = copy.deepcopy(version)
        tasks = spoilt["pipeline_spec"]["root"]["dag"]["tasks"]
        tasks["count"]["dependentTasks"] = ["train"]
        return spoilt

    server.spoilt_answers["get_version"] = spoil
    server.logs = {node["pod_name"]: "all of it\n" for node in argo_nodes(failed, "train", "failed")}

    assert kubetfx("logs", "--run", failed, "--host", server.url).stdout == "all of it\n"
