"""What each service account of the manifests may do, as the API server's own authorizer answers."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from kfp import compiler

from tests.cluster.kube_api_server import Cluster
from tests.command import Finished
from tests.kubeflow import sdk_packages
from tests.kubeflow.kfp_server import OPERATIONS, KfpServer, serve
from tests.kubeflow.rendered_manifests import MANIFESTS, Document

pytestmark = pytest.mark.cluster

TASKS, WORKBENCH, SERVERS = "kubetfx-pipeline", "kubetfx-workbench", "default"
AUDIENCE = "pipelines.kubeflow.org"
PLACES = {"kubetfx": "pipeline/overlays/pvc", "kubeflow": "pipeline/overlays/local"}
"""Namespaces, and what is applied there."""


class Question(NamedTuple):
    """Whether something may be done."""

    verb: str
    resource: str
    """`resource`, `resource/subresource` or `resource.group`."""
    name: str = ""


OF_TASKS = [
    Question("get", "pods", "run-1-trainer"),  # metadata of its own pod: driver/k8s.go:1198, launcher_v2.go:607
    Question("get", "configmaps", "kfp-launcher"),  # config/env.go:73
    Question("get", "secrets", "mlpipeline-minio-artifact"),  # objectstore/object_store.go:278
    Question("create", "workflowtaskresults.argoproj.io"),  # Argo's executor
    Question("patch", "workflowtaskresults.argoproj.io", "run-1"),
]
OF_WORKBENCH = [
    Question(verb, f"{resource}.{AUDIENCE}") for resource, verb in dict.fromkeys(o[3] for o in OPERATIONS if o[3])
]
MAY = {TASKS: OF_TASKS, WORKBENCH: OF_WORKBENCH, SERVERS: []}

OF_NOBODY = [
    *(Question(verb, "secrets", "kubetfx-bucket") for verb in ("get", "update", "delete")),  # the kubelet mounts it
    *(Question(verb, "secrets") for verb in ("list", "watch", "create")),
    *(Question(verb, "secrets", "mlpipeline-minio-artifact") for verb in ("update", "patch", "delete")),
    *(Question(verb, "configmaps") for verb in ("list", "create")),
    *(Question(verb, "configmaps", "kfp-launcher") for verb in ("update", "patch", "delete")),
    Question("get", "configmaps", "serving-models"),
    *(Question(verb, "pods") for verb in ("list", "watch", "create", "deletecollection")),
    *(Question(verb, "pods", "run-1-trainer") for verb in ("update", "patch", "delete")),
    Question("create", "pods/exec", "run-1-trainer"),
    Question("create", "pods/attach", "run-1-trainer"),
    Question("get", "pods/log", "run-1-trainer"),
    Question("update", "pods/ephemeralcontainers", "run-1-trainer"),
    *(Question(verb, "workflowtaskresults.argoproj.io") for verb in ("get", "list", "update", "delete")),
    *(Question(verb, "workflows.argoproj.io") for verb in ("get", "list", "create", "patch", "delete")),
    *(Question(verb, "persistentvolumeclaims") for verb in ("get", "list", "create", "delete")),
    *(Question(verb, "deployments.apps") for verb in ("get", "create", "patch", "delete")),
    Question("update", "deployments.apps/scale", "serving"),
    *(Question(verb, "services") for verb in ("get", "create", "delete")),
    *(Question(verb, "inferenceservices.serving.kserve.io") for verb in ("get", "create", "delete")),
    *(Question(verb, "networkpolicies.networking.k8s.io") for verb in ("get", "patch", "delete")),
    *(Question(verb, "roles.rbac.authorization.k8s.io") for verb in ("get", "create", "bind", "escalate")),
    *(Question(verb, "rolebindings.rbac.authorization.k8s.io") for verb in ("create", "patch")),
    *(Question(verb, "serviceaccounts") for verb in ("get", "create", "impersonate")),
    Question("create", "serviceaccounts/token", TASKS),
    *(Question(verb, f"pipelines.{AUDIENCE}") for verb in ("update", "delete")),
    *(Question(verb, f"pipelineversions.{AUDIENCE}") for verb in ("create", "update", "delete")),
    *(Question(verb, f"runs.{AUDIENCE}") for verb in ("list", "delete", "archive", "readArtifact", "reportMetrics")),
    *(Question(verb, f"jobs.{AUDIENCE}") for verb in ("get", "update", "enable", "disable")),
    *(Question(verb, f"experiments.{AUDIENCE}") for verb in ("update", "delete", "archive")),
]
OF_THE_CLUSTER = [
    *(Question(verb, "namespaces") for verb in ("get", "list", "create", "delete")),
    *(Question(verb, "nodes") for verb in ("get", "list")),
    Question("list", "persistentvolumes"),
    *(Question(verb, "clusterroles.rbac.authorization.k8s.io") for verb in ("list", "create")),
    Question("create", "clusterrolebindings.rbac.authorization.k8s.io"),
    Question("list", "customresourcedefinitions.apiextensions.k8s.io"),
    *(Question(verb, "*") for verb in ("get", "*")),
]
"""Of no namespace, which nobody may either."""


@pytest.fixture(scope="module", autouse=True)
def roles(cluster: Cluster) -> None:
    for overlay in PLACES.values():
        applied = cluster.apply("--kustomize", str(MANIFESTS / overlay))
        assert applied.returncode == 0, applied.stderr


def allowed(
    cluster: Cluster, user: str, groups: Sequence[str], namespace: str, questions: Sequence[Question]
) -> list[Question]:
    """Those that are answered with yes."""
    reviews = []
    for verb, what, name in questions:
        whole, _, subresource = what.partition("/")
        resource, _, group = whole.partition(".")
        attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
        spec = {
            "user": user,
            "groups": groups,
            "resourceAttributes": {**attributes, "subresource": subresource, "name": name},
        }
        reviews.append({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
    answers = cluster.answers(documents=reviews)
    return [question for question, answer in zip(questions, answers, strict=True) if answer["status"]["allowed"]]


def allowed_to(
    cluster: Cluster, account: str, home: str, namespace: str, questions: Sequence[Question]
) -> list[Question]:
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"]
    return allowed(cluster, f"system:serviceaccount:{home}:{account}", groups, namespace, questions)


@pytest.mark.parametrize("home", PLACES)
@pytest.mark.parametrize("account", MAY)
def test_account_may_do_what_it_does_and_no_more(cluster: Cluster, account: str, home: str) -> None:
    everything = [*OF_TASKS, *OF_WORKBENCH, *OF_NOBODY]
    assert len(set(everything)) == len(everything)
    (elsewhere,) = PLACES.keys() - {home}

    assert allowed_to(cluster, account, home, home, everything) == MAY[account]
    assert allowed_to(cluster, account, home, elsewhere, everything) == []
    assert allowed_to(cluster, account, home, "kube-system", everything) == []
    assert allowed_to(cluster, account, home, "", OF_THE_CLUSTER) == []


def test_the_matrix_would_show_an_account_that_may_do_everything(cluster: Cluster) -> None:
    questions = [*OF_TASKS, *OF_WORKBENCH, *OF_NOBODY, *OF_THE_CLUSTER]

    assert allowed(cluster, "administrator", ["system:masters"], "kubetfx", questions) == questions


@pytest.mark.parametrize("home", PLACES)
def test_the_server_knows_no_other_rule_for_an_account(cluster: Cluster, home: str) -> None:
    """The rules that its authorizer enumerates, beside those that every account has."""
    of_everybody = rules(cluster, SERVERS, home, "kube-system")
    assert of_everybody <= {
        ("create", f"selfsubject{what}", "") for what in ("accessreviews", "rulesreviews", "reviews")
    }

    for account, questions in MAY.items():
        expected = {
            (
                question.verb,
                question.resource,
                "" if question.verb == "patch" or question.resource == "pods" else question.name,
            )
            for question in questions
        }
        assert rules(cluster, account, home, home) - of_everybody == expected
        assert rules(cluster, account, home, "kube-system") == of_everybody


def rules(cluster: Cluster, account: str, home: str, namespace: str) -> set[tuple[str, str, str]]:
    """Verb, resource and name of each, as the server lists them for a real token of the account."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    token = cluster.token(account, namespace=home)
    (answer,) = cluster.answers("--token", token, documents=[review])
    assert not answer["status"]["incomplete"]
    return {rule for entry in answer["status"]["resourceRules"] for rule in rules_in(entry)}


def rules_in(entry: Document) -> Iterator[tuple[str, str, str]]:
    for group in entry["apiGroups"]:
        for resource in entry["resources"]:
            is_of_server = group in ("", "authorization.k8s.io", "authentication.k8s.io")
            for verb in entry["verbs"]:
                for name in entry.get("resourceNames", [""]):
                    yield verb, resource if is_of_server else f"{resource}.{group}", name


# Kubeflow Pipelines asks the API server who has the token of a request, and what they may do.


@pytest.fixture
def kfp(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    for name in ("KUBETFX_KFP_COOKIES", "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)

    def may(token: str, resource: str, verb: str) -> bool:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        (answer,) = cluster.answers(documents=[review])
        if not answer["status"].get("authenticated"):
            return False
        user = answer["status"]["user"]
        question = Question(verb, f"{resource}.{AUDIENCE}")
        return bool(allowed(cluster, user["username"], user["groups"], "kubetfx", [question]))

    with serve(KfpServer(None, may=may)) as running:
        yield running


@pytest.fixture
def ask(
    kubetfx: Callable[..., Finished], cluster: Cluster, kfp: KfpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Finished]:
    """A command that has the token of an account, for Kubeflow Pipelines or for another audience."""
    package = tmp_path / "two-steps.yaml"
    compiler.Compiler().compile(sdk_packages.two_steps, str(package))

    def call(account: str, command: str, *arguments: str, audience: str = AUDIENCE) -> Finished:
        monkeypatch.setenv("KUBETFX_KFP_TOKEN", cluster.token(account, namespace="kubetfx", audience=audience))
        what = [str(package)] if command in ("submit", "schedule") else []
        return kubetfx(command, *what, "--host", kfp.url, *arguments)

    return call


def test_workbench_submits_retries_and_schedules(ask: Callable[..., Finished], kfp: KfpServer) -> None:
    kfp.frames, kfp.final_state = [{"count": "done", "flip": "done", "train": "failed"}], "FAILED"
    kfp.frames_of_retry = [dict.fromkeys(("count", "flip", "train"), "done")]

    submitted = ask(WORKBENCH, "submit", "--poll-seconds", "0.1")
    assert "train failed on Kubeflow." in submitted.stderr
    (run_id,) = kfp.runs
    retried = ask(WORKBENCH, "retry", "--run", run_id, "--poll-seconds", "0.1")
    assert retried.exit_code == 0, retried.stderr
    for cron in ("30 6 * * mon-fri", "30 7 * * mon-fri"):  # the second takes the place of the first
        scheduled = ask(WORKBENCH, "schedule", "--cron", cron)
        assert scheduled.exit_code == 0, scheduled.stderr
    assert len(kfp.recurring_runs) == 1


@pytest.mark.parametrize("account", [TASKS, SERVERS])
def test_other_accounts_submit_nothing(ask: Callable[..., Finished], kfp: KfpServer, account: str) -> None:
    submitted = ask(account, "submit", "--no-wait")

    assert submitted.exit_code == 1
    assert "403" in submitted.stderr
    assert not kfp.pipelines


def test_token_for_another_audience_submits_nothing(ask: Callable[..., Finished], kfp: KfpServer) -> None:
    submitted = ask(WORKBENCH, "submit", "--no-wait", audience="https://kubernetes.default.svc")

    assert submitted.exit_code == 1
    assert not kfp.pipelines
