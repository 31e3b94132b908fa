"""What is sent and answered, compared with the API's own definition."""

import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.kubeflow.api_contract import MISSING
from tests.kubeflow.conftest import TASKS, change

EVERY_OPERATION = {
    "HealthzService_GetHealthz",
    "PipelineService_ListPipelines",
    "UploadPipeline",
    "UploadPipelineVersion",
    "PipelineService_ListPipelineVersions",
    "PipelineService_GetPipelineVersion",
    "ExperimentService_ListExperiments",
    "ExperimentService_CreateExperiment",
    "RunService_CreateRun",
    "RunService_GetRun",
    "RunService_RetryRun",
    "RecurringRunService_ListRecurringRuns",
    "RecurringRunService_CreateRecurringRun",
    "RecurringRunService_DeleteRecurringRun",
}
"""Of the API, that the client uses."""
WITH_A_NAMESPACE = {
    "PipelineService_ListPipelines",
    "UploadPipeline",
    "ExperimentService_ListExperiments",
    "ExperimentService_CreateExperiment",
    "RecurringRunService_ListRecurringRuns",
}
"""Those that take a namespace; the others are about something that is in one, by its id."""


@pytest.mark.parametrize("namespace", ["", "alice"], ids=["one user", "several users"])
def test_requests_and_answers_are_as_the_api_defines_them(
    kubetfx, submit, schedule, server, package, contract, namespace
):
    if contract is None:
        pytest.skip(MISSING)
    contract.forget()
    server.is_multi_user = bool(namespace)
    server.frames, server.final_state = [dict.fromkeys(TASKS, "failed")], "FAILED"
    options = ("--namespace", namespace) if namespace else ()

    submit(*options)
    (run_id,) = server.runs
    server.frames_of_retry = [dict.fromkeys(TASKS, "done")]
    again = kubetfx("retry", "--run", run_id, "--host", server.url, *options)
    change(package)
    ended = [schedule(*options), schedule(*options, cron="@daily"), again]

    assert [one.exit_code for one in ended] == [0, 0, 0], [one.stderr for one in ended]
    assert server.violations == []
    assert contract.used == EVERY_OPERATION
    assert contract.namespaces == {operation: {namespace or None} for operation in WITH_A_NAMESPACE}


def test_the_definition_finds_what_is_not_in_it(contract):
    if contract is None:
        pytest.skip(MISSING)

    with pytest.raises(AssertionError, match="takes no pipeline_name"):
        contract.check_request("GET", "/apis/v2beta1/pipelines", {"pipeline_name": "a"}, None)
    with pytest.raises(AssertionError, match="has no PUT"):
        contract.check_request("PUT", "/apis/v2beta1/runs", {}, {})
    with pytest.raises(jsonschema.ValidationError, match="job_name"):
        contract.check_request("POST", "/apis/v2beta1/runs", {}, {"job_name": "a"})
    with pytest.raises(jsonschema.ValidationError, match="DONE"):
        contract.check_answer("GET", "/apis/v2beta1/runs/1", 200, {"state": "DONE"})


def test_where_the_definition_is_not_the_servers_checks_are_skipped_and_that_is_said(tmp_path):
    test = "tests/kubeflow/test_kfp_connection.py::test_cookies_of_a_session_are_sent"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-n", "0", "-p", "no:cacheprovider", test],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "KUBETFX_SCHEMAS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "1 passed, 1 skipped" in done.stdout
    assert f"there is no {tmp_path}/kfp-api-v2beta1.swagger.json" in " ".join(done.stdout.split())
