"""What is sent and answered, compared with the API's own definition."""

import jsonschema
import pytest

from tests.kubeflow.api_contract import FILE_NAME
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


@pytest.mark.parametrize("namespace", ["", "alice"], ids=["one user", "several users"])
def test_requests_and_answers_are_as_the_api_defines_them(
    kubetfx, submit, schedule, server, package, contract, namespace
):
    if contract is None:
        pytest.skip(f"{FILE_NAME} is not beside the project, and KUBETFX_SCHEMAS names no folder with it")
    contract.used.clear()
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


def test_the_definition_finds_what_is_not_in_it(contract):
    if contract is None:
        pytest.skip(f"{FILE_NAME} is not beside the project, and KUBETFX_SCHEMAS names no folder with it")

    with pytest.raises(AssertionError, match="takes no pipeline_name"):
        contract.check_request("GET", "/apis/v2beta1/pipelines", {"pipeline_name": "a"}, None)
    with pytest.raises(AssertionError, match="has no PUT"):
        contract.check_request("PUT", "/apis/v2beta1/runs", {}, {})
    with pytest.raises(jsonschema.ValidationError, match="job_name"):
        contract.check_request("POST", "/apis/v2beta1/runs", {}, {"job_name": "a"})
    with pytest.raises(jsonschema.ValidationError, match="DONE"):
        contract.check_answer("GET", "/apis/v2beta1/runs/1", 200, {"state": "DONE"})
