"""What `kubetfx submit` uploads, and when; and what GitOps has applied, as releases of Kubeflow Pipelines list it."""

import re

import pytest

from kubetfx.errors import KubeflowError
from kubetfx.kubeflow import pipeline_versions
from kubetfx.kubeflow.kfp_connection import Connection, OpenConnection
from kubetfx.kubeflow.package_document import digest, read_package
from kubetfx.kubeflow.pipeline_versions import upload
from tests.kubeflow.conftest import change
from tests.kubeflow.kfp_server import RefusedError


def test_a_first_submission_uploads_a_pipeline_of_the_package_s_name(submit, server, package):
    submit()

    (pipeline,) = server.pipelines.values()
    ((version,),) = server.versions.values()
    (run,) = server.runs.values()
    assert pipeline["display_name"] == "two-steps"
    assert server.packages[version["pipeline_version_id"]] == package.read_text()
    assert run["pipeline_version_reference"] == {
        "pipeline_id": pipeline["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }
    assert run["display_name"].startswith("two-steps 20")
    assert [experiment["display_name"] for experiment in server.experiments.values()] == ["Default"]


@pytest.mark.parametrize("missing", [3, 99])
def test_version_of_a_new_pipeline_may_come_late_or_never(submit, server, monkeypatch, missing):
    monkeypatch.setattr(pipeline_versions, "_FIRST_WAIT_SECONDS", 0.001)
    list_versions, looks = server.list_versions, []

    def list_late(*arguments: object, pipeline_id: str) -> object:
        looks.append(pipeline_id)
        return {} if len(looks) <= missing else list_versions(*arguments, pipeline_id=pipeline_id)

    monkeypatch.setattr(server, "list_versions", list_late)
    outcome = submit("--no-wait")

    assert (outcome.exit_code, len(looks)) == ((0, 4) if missing == 3 else (1, 5))
    if missing == 99:
        (pipeline_id,) = server.pipelines
        assert f"lists no version of it. Received: {pipeline_id}, two-steps" in outcome.stderr


def test_a_changed_package_is_a_new_version_and_an_unchanged_one_is_not(submit, server, package):
    server.page_size = 1
    first = submit()
    again = submit()
    change(package)
    changed = submit()
    changed_again = submit()

    (versions,) = server.versions.values()
    assert len(server.pipelines) == 1
    assert len(versions) == 2
    assert [run["pipeline_version_reference"]["pipeline_version_id"] for run in server.runs.values()] == [
        versions[1]["pipeline_version_id"],
        versions[1]["pipeline_version_id"],
        versions[0]["pipeline_version_id"],
        versions[0]["pipeline_version_id"],
    ]
    assert ["uploaded" in outcome.stderr for outcome in (first, again, changed, changed_again)] == [
        True,
        False,
        True,
        False,
    ]
    assert len(server.experiments) == 1


def test_what_the_server_says_of_a_package_is_passed_on(server, package):
    package.write_text(package.read_text().replace("schemaVersion: 2.1.0", "schemaVersion: 2.0.0"))

    with (
        OpenConnection(Connection(server.url)) as kfp,
        pytest.raises(KubeflowError, match=r"has version 2\.0\.0.* the linter of kubetfx says where"),
    ):
        upload(kfp, read_package(package))


RELEASES = [(2, 14, 0), (2, 14, 4), (2, 15, 0), (2, 16, 1), (2, 17, 0)]


@pytest.mark.parametrize("release", RELEASES, ids=str)
def test_version_that_git_ops_applied_is_not_uploaded_again(submit, server, package, release):
    server.release, server.pipeline_store, server.page_size = release, "kubernetes", 1
    submit()
    change(package)
    name = f"two-steps-{digest(package)}"
    ((pipeline_id, versions),) = server.versions.items()
    server.unlabelled[name] = package.read_text()
    server.label(name, pipeline_id=pipeline_id)  # as KFP's webhook does
    versions[0]["display_name"] = "for the autumn"

    outcome = submit()

    assert outcome.exit_code == 0, outcome.stderr
    assert "version for the autumn: as it was" in outcome.stderr
    assert "kubectl label" not in outcome.stderr
    assert len(versions) == 2
    assert (
        list(server.runs.values())[-1]["pipeline_version_reference"]["pipeline_version_id"]
        == (versions[0]["pipeline_version_id"])
    )


@pytest.mark.parametrize("release", RELEASES[:-1], ids=str)
def test_version_that_kubeflow_does_not_list_is_told_with_the_label_that_mends_it(submit, server, package, release):
    """Before 2.17 it refuses a second one of the name."""
    server.release, server.pipeline_store = release, "kubernetes"
    submit()
    change(package)
    server.unlabelled[f"two-steps-{digest(package)}"] = package.read_text()

    outcome = submit()

    assert outcome.exit_code == 1
    command = re.search(
        r"kubectl label pipelineversion (\S+) -n kubeflow pipelines.kubeflow.org/pipeline-id=(\S+)", outcome.stderr
    )
    assert command, outcome.stderr
    assert len(server.runs) == 1

    server.label(command[1], pipeline_id=command[2])

    assert submit().exit_code == 0
    assert [len(versions) for versions in server.versions.values()] == [2]


def test_second_version_that_an_upload_may_be_is_said_where_kubeflow_takes_one(submit, server, package):
    """2.17 names the resource of an upload otherwise, and the API has no way to see one without the label."""
    server.pipeline_store = "kubernetes"
    first = submit()
    change(package)
    name = f"two-steps-{digest(package)}"
    server.unlabelled[name] = package.read_text()

    outcome = submit()

    ((pipeline_id, versions),) = server.versions.items()
    assert outcome.exit_code == 0, outcome.stderr
    assert [version["name"] for version in versions] == [name, "two-steps"]
    assert f"If {name} was applied without it, it cannot be seen from here, and this upload is a second" in " ".join(
        outcome.stderr.split()
    )
    assert f"-n kubeflow pipelines.kubeflow.org/pipeline-id={pipeline_id}" in " ".join(outcome.stderr.split())
    assert "cannot be seen" not in first.stderr


def test_nothing_is_said_of_kubernetes_where_pipelines_are_in_a_database(submit, server, package):
    submit()
    change(package)
    outcome = submit()

    assert "uploaded" in outcome.stderr
    assert "kubectl label" not in outcome.stderr


def test_what_the_server_refuses_of_a_list_is_passed_on(submit, server, monkeypatch):
    def refuse(_: object, query: dict[str, str]) -> dict[str, str]:
        if "filter" in query:
            raise RefusedError(400, "no such filter")
        return {}

    monkeypatch.setattr(server, "list_pipelines", refuse)

    assert "no such filter" in submit().stderr
