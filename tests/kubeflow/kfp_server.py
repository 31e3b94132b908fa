"""A small HTTP server that answers as Kubeflow Pipelines' API server does: pipelines, experiments, runs, schedules.

It keeps what it is sent, refuses what the real one refuses, and lets runs go as a test says. Every request and answer
is held to the API's own definition where that is present.
"""

import contextlib
import email
import email.policy
import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tests.kubeflow.api_contract import Contract

API = "/apis/v2beta1"
STARTED = "2026-11-21T12:00:00Z"
NEVER = "1970-01-01T00:00:00Z"
"""What the API server gives for a time that has not come."""

Frame = Mapping[str, str]
"""State by task at one look: running, done, cached, skipped, failed, driver-failed, starting, omitted."""


class RefusedError(Exception):
    """The server says no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class KfpServer:
    """The state behind the API, and what a test wants of it."""

    contract: Contract | None
    url: str = ""
    release: tuple[int, int, int] = (2, 17, 0)
    """Of Kubeflow Pipelines, where releases differ."""
    pipeline_store: Literal["database", "kubernetes"] = "database"
    is_multi_user: bool = False
    token: str | None = None
    cookie: str | None = None
    has_login_page: bool = False
    namespaces: tuple[str, ...] = ("alice",)
    """Where the user may do things, where there are several users."""
    page_size: int = 100
    frames: list[Frame] = field(default_factory=lambda: [{}])
    """What a run shows at each look; the last stays."""
    final_state: str = "SUCCEEDED"
    """Of a run that shows its last frame. RUNNING: it never ends."""
    error: str | None = None
    """What is said of a run that is over."""
    states: list[str | None] = field(default_factory=list)
    """What looks at a run give as its state first."""
    answers_to_looks: list[int | str] = field(default_factory=list)
    """Statuses, or `drop`, that looks at a run get first."""

    logs: dict[str, str] = field(default_factory=dict)
    """By pod."""
    is_ui: bool = False
    """Whether it is the UI, which passes the API on and has a path of its own for logs."""
    may: Callable[[str, str, str], bool] | None = None
    """Whether who has a token may do a verb to a resource of pipelines.kubeflow.org. None: everybody may."""
    when_started: Callable[[str], None] = lambda _: None
    """Is called with the id of each run."""
    frames_of_retry: list[Frame] = field(default_factory=list)

    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By pipeline, the newest first."""
    packages: dict[str, str] = field(default_factory=dict)
    """Text by version."""
    unlabelled: dict[str, str] = field(default_factory=dict)
    """Text by name of PipelineVersions that were applied without the label of their pipeline, so that no list has
    them."""
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    """Answered ones, by run."""
    recurring_runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    strange_answers: dict[str, bytes] = field(default_factory=dict)
    """What comes instead of the API's answer, by operation."""
    spoilt_answers: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    """What becomes of the API's answer on the way, by operation."""
    violations: list[str] = field(default_factory=list)
    """Of the API's definition."""

    # pipelines

    def health(self, _: Any, query: Mapping[str, str]) -> Any:
        return {"multi_user": self.is_multi_user, "pipeline_store": self.pipeline_store}

    def list_pipelines(self, _: Any, query: Mapping[str, str]) -> Any:
        self._authorize(query.get("namespace", ""))
        if "filter" in query and self.pipeline_store == "kubernetes" and self.release < (2, 14, 3):
            raise RefusedError(400, "Filter eq is not implemented for Kubernetes pipeline store.")
        return self._page("pipelines", self._filtered(self.pipelines.values(), query), query)

    def upload(self, package: str, query: Mapping[str, str]) -> Any:
        self._authorize(query.get("namespace", ""))
        _refuse_package(package)
        pipeline = {
            "pipeline_id": str(uuid.uuid4()),
            "display_name": query["name"],
            "name": query["name"],
            "created_at": STARTED,
            **{key: query[key] for key in ("namespace", "description") if key in query},
        }
        self.pipelines[pipeline["pipeline_id"]] = pipeline
        self._add_version(pipeline["pipeline_id"], query["name"], query.get("description"), package)
        return pipeline

    def upload_version(self, package: str, query: Mapping[str, str]) -> Any:
        """From 2.17 on, the resource of an upload is named after its pipeline too, and so is another than one that was
        applied; a name is taken by the versions that are known to be the pipeline's.
        """
        self._authorize_pipeline(query["pipelineid"])
        _refuse_package(package)
        taken = [version["name"] for version in self.versions[query["pipelineid"]]]
        if self.release < (2, 17, 0):
            taken += self.unlabelled
        if query["name"] in taken:
            raise RefusedError(409, "Failed to create a pipeline version")
        return self._add_version(query["pipelineid"], query["name"], query.get("description"), package)

    def list_versions(self, _: Any, query: Mapping[str, str], pipeline_id: str) -> Any:
        self._authorize_pipeline(pipeline_id)
        return self._page("pipeline_versions", self.versions[pipeline_id], query)

    def _page(self, key: str, found: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
        start = int(query.get("page_token") or 0)
        size = min(int(query.get("page_size") or 20), self.page_size)
        token = {"next_page_token": str(start + size)} if start + size < len(found) else {}
        return {key: found[start : start + size], "total_size": len(found), **token} if found else {}

    def label(self, name: str, *, pipeline_id: str) -> None:
        """As `kubectl label` does."""
        self._add_version(pipeline_id, name, None, self.unlabelled.pop(name))

    def _add_version(self, pipeline_id: str, name: str, description: str | None, package: str) -> dict[str, Any]:
        version = {
            "pipeline_id": pipeline_id,
            "pipeline_version_id": str(uuid.uuid4()),
            "display_name": name,
            "name": name,
            "created_at": STARTED,
            "pipeline_spec": next(yaml.safe_load_all(package)),
            **({"description": description} if description else {}),
        }
        self.versions.setdefault(pipeline_id, []).insert(0, version)
        self.packages[version["pipeline_version_id"]] = package
        return version

    # experiments

    def list_experiments(self, _: Any, query: Mapping[str, str]) -> Any:
        self._authorize(query.get("namespace", ""))
        found = self._filtered(self.experiments.values(), query)
        return {"experiments": found, "total_size": len(found)} if found else {}

    def create_experiment(self, experiment: dict[str, Any], _: Any) -> Any:
        self._authorize(experiment.get("namespace", ""))
        created = {**experiment, "experiment_id": str(uuid.uuid4()), "created_at": STARTED}
        self.experiments[created["experiment_id"]] = created
        return created

    # runs

    def create_run(self, run: dict[str, Any], _: Any) -> Any:
        self._authorize_experiment(run["experiment_id"])
        self._refuse_parameters(run)
        created = {
            "service_account": "pipeline-runner",
            **run,
            "run_id": str(uuid.uuid4()),
            "created_at": STARTED,
            "state": "PENDING",
        }
        self.runs[created["run_id"]] = created
        self.looks[created["run_id"]] = 0
        self.when_started(created["run_id"])
        return created

    def get_run(self, _: Any, query: Mapping[str, str], run_id: str) -> Any:
        if self.answers_to_looks:
            answer = self.answers_to_looks.pop(0)
            raise ConnectionAbortedError if answer == "drop" else RefusedError(int(answer), "not now")
        if run_id not in self.runs:
            raise RefusedError(404, f"Run {run_id} not found")
        self._authorize_run(run_id)
        run = self.runs[run_id]
        look = self.looks[run_id]
        self.looks[run_id] = look + 1
        if run["state"] == "CANCELED":
            return run
        frame = self.frames[min(look, len(self.frames) - 1)]
        is_last = look >= len(self.frames) - 1
        run["state"] = self.final_state if is_last else "RUNNING"
        if is_last and self.error:
            run["error"] = {"code": 13, "message": self.error}
        if self.states:
            return {**run, "state": self.states.pop(0)}
        details = [node for name, state in frame.items() for node in argo_nodes(run_id, name, state)]
        return {**run, "run_details": {"task_details": details}} if details else run

    def retry(self, _: Any, query: Mapping[str, str], run_id: str) -> Any:
        self._authorize_run(run_id)
        self.runs[run_id]["state"] = "RUNNING"
        self.looks[run_id] = 0
        self.frames, self.final_state = self.frames_of_retry, "SUCCEEDED"
        return {}

    def get_version(self, _: Any, query: Mapping[str, str], pipeline_id: str, version_id: str) -> Any:
        self._authorize_pipeline(pipeline_id)
        return next(v for v in self.versions[pipeline_id] if v["pipeline_version_id"] == version_id)

    def log(self, request: Request) -> Response:
        """The API server's, which answers 200 whatever happens, or the UI's."""
        pod = request.path_params.get("pod") or request.query_params["podname"]
        is_of_ui = "podname" in request.query_params
        if is_of_ui is not self.is_ui:
            return HTMLResponse("<!doctype html><html></html>") if self.is_ui else Response("Not Found", 404)
        if is_of_ui and self.is_multi_user and request.query_params.get("podnamespace") not in self.namespaces:
            return Response("user alice@example.org is not authorized to read pods", 401)
        if pod not in self.logs:
            missing = json.dumps({"error_message": f"Failed to read logs for run: {pod} not found"})
            return Response("pod not found", 404) if self.is_ui else Response(missing, media_type="text/plain")
        return Response(self.logs[pod], media_type="text/plain")

    def terminate(self, _: Any, query: Mapping[str, str], run_id: str) -> Any:
        self._authorize_run(run_id)
        self.runs[run_id]["state"] = "CANCELED"
        return {}

    # schedules

    def list_recurring_runs(self, _: Any, query: Mapping[str, str]) -> Any:
        self._authorize_experiment(query["experiment_id"])
        found = self._filtered(self.recurring_runs.values(), query)
        return self._page("recurringRuns", [r for r in found if r["experiment_id"] == query["experiment_id"]], query)

    def create_recurring_run(self, recurring_run: dict[str, Any], _: Any) -> Any:
        self._authorize_experiment(recurring_run["experiment_id"])
        self._refuse_parameters(recurring_run)
        namespace = self._namespace_of(recurring_run["experiment_id"])
        created = {
            "service_account": "pipeline-runner",
            **recurring_run,
            **({"namespace": namespace} if namespace else {}),
            "recurring_run_id": str(uuid.uuid4()),
            "created_at": STARTED,
            "status": "ENABLED" if recurring_run["mode"] == "ENABLE" else "DISABLED",
        }
        self.recurring_runs[created["recurring_run_id"]] = created
        return created

    def delete_recurring_run(self, _: Any, query: Mapping[str, str], recurring_run_id: str) -> Any:
        self._authorize_experiment(self.recurring_runs[recurring_run_id]["experiment_id"])
        del self.recurring_runs[recurring_run_id]
        return {}

    # what all share

    async def answer(self, request: Request) -> Response:
        """Check the request, answer it, and check the answer."""
        query = dict(request.query_params)
        if self.has_login_page:
            return HTMLResponse("<html>Log in to Dex</html>")
        if not self._is_known(request):
            return self._refuse(request, 401, "Request header error: there is no user identity header.")
        operation = request.scope["route"].name
        if operation in self.strange_answers:
            return Response(self.strange_answers[operation], media_type="application/json")
        permission = _PERMISSIONS[operation]
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.may and permission and not self.may(token, *permission):
            return self._refuse(request, 403, f"PermissionDenied: not authorized: {' '.join(permission)}")
        body = await _body(request)
        self._check(request, query, body)
        handler = getattr(self, operation)
        try:
            document = handler(body, query, **request.path_params)
        except RefusedError as error:
            return self._refuse(request, error.status, str(error))
        if self.contract:
            with self._noting():
                self.contract.check_answer(request.method, request.url.path, 200, document)
        return JSONResponse(self.spoilt_answers.get(operation, lambda answer: answer)(document))

    def _check(self, request: Request, query: Mapping[str, str], body: Any) -> None:
        if self.contract:
            with self._noting():
                document = None if isinstance(body, str) else body
                self.contract.check_request(request.method, request.url.path, query, document)

    def _refuse(self, request: Request, status: int, message: str) -> Response:
        if "/upload" in request.url.path:  # which is no gRPC call, and answers in a form of its own
            return JSONResponse({"error_message": message, "error_details": message}, status)
        document = {"code": 3, "message": message, "details": []}
        if self.contract:
            with self._noting():
                self.contract.check_answer(request.method, request.url.path, status, document)
        return JSONResponse(document, status)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.violations.append(str(error))

    def _is_known(self, request: Request) -> bool:
        if self.token is not None:
            return request.headers.get("authorization") == f"Bearer {self.token}"
        return self.cookie is None or request.headers.get("cookie") == self.cookie

    def _authorize(self, namespace: str) -> None:
        if self.is_multi_user and namespace not in self.namespaces:
            message = f"User 'alice@example.org' is not authorized with reason: (request: {namespace})"
            raise RefusedError(403, f"PermissionDenied: {message}")
        if not self.is_multi_user and namespace:
            raise RefusedError(400, "In single-user mode, namespace must be empty")

    def _authorize_pipeline(self, pipeline_id: str) -> None:
        self._authorize(self.pipelines[pipeline_id].get("namespace", ""))

    def _authorize_experiment(self, experiment_id: str) -> None:
        self._authorize(self._namespace_of(experiment_id))

    def _authorize_run(self, run_id: str) -> None:
        self._authorize_experiment(self.runs[run_id]["experiment_id"])

    def _namespace_of(self, experiment_id: str) -> str:
        return str(self.experiments[experiment_id].get("namespace", ""))

    def _filtered(self, found: Any, query: Mapping[str, str]) -> list[dict[str, Any]]:
        predicates = json.loads(query["filter"])["predicates"] if "filter" in query else []
        assert all(predicate["operation"] == 1 for predicate in predicates)
        return [
            item
            for item in found
            if item.get("namespace", "") == query.get("namespace", "")
            and all(item[predicate["key"]] == predicate["stringValue"] for predicate in predicates)
        ]

    def _refuse_parameters(self, run: Mapping[str, Any]) -> None:
        """As `validatePipelineJobInputs` of the API server does."""
        version_id = run["pipeline_version_reference"]["pipeline_version_id"]
        spec = next(yaml.safe_load_all(self.packages[version_id]))
        declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        given = run["runtime_config"].get("parameters", {})
        types = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": (int, float), "BOOLEAN": bool, "LIST": list}
        for name, parameter in declared.items():
            if name not in given and "defaultValue" not in parameter:
                raise RefusedError(400, f"parameter {name} is not optional, yet has neither default value")
            if name in given and not isinstance(given[name], types[parameter["parameterType"]]):
                raise RefusedError(400, f"input parameter {name} requires type {parameter['parameterType']}")
        if extra := set(given) - set(declared):
            raise RefusedError(400, f"parameter(s) provided are not required by pipeline: {', '.join(extra)}")


def argo_nodes(run_id: str, name: str, state: str) -> Iterator[dict[str, Any]]:
    """The nodes of the Argo workflow for one container task, as the API server tells of them."""
    prefix = f"penguins-{run_id[:5]}"
    states = {
        "running": ("SUCCEEDED", "RUNNING", "RUNNING"),
        "done": ("SUCCEEDED", "SUCCEEDED", "SUCCEEDED"),
        "cached": ("SUCCEEDED", "SUCCEEDED", "SKIPPED"),
        "skipped": ("SUCCEEDED", "SKIPPED", None),
        "failed": ("SUCCEEDED", "FAILED", "FAILED"),
        "driver-failed": ("FAILED", None, None),
        "starting": ("RUNNING", None, None),
        "omitted": ("RUNTIME_STATE_UNSPECIFIED", "RUNTIME_STATE_UNSPECIFIED", None),
    }
    driver, task, executor = states[state]

    def node(display_name: str, template: str, state: str, start: int, end: int, children: list[str]) -> dict[str, Any]:
        is_over = state not in ("RUNNING", "PENDING")
        return {
            "run_id": run_id,
            "task_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{run_id}{name}{display_name}")),
            "display_name": display_name,
            "create_time": STARTED,
            "start_time": f"2026-11-21T12:00:{start:02d}Z",
            "end_time": f"2026-11-21T12:00:{end:02d}Z" if is_over else NEVER,
            "state": state,
            "pod_name": f"{prefix}-{template}-{_number(name, template)}",
            "child_tasks": [{"pod_name": f"{prefix}-{_number(name, child)}"} for child in children],
        }

    yield node(f"{name}-driver", "system-container-driver", driver, 0, 1, [])
    if task:
        inner = ["system-container-impl"] if executor else []
        yield node(name, "system-container-executor", task, 1, 4, inner)
    if executor:
        yield node("executor", "system-container-impl", executor, 2, 4, [])


def _number(name: str, template: str) -> int:
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{name}/{template}").int % 10**9


def _refuse_package(text: str) -> None:
    spec = next(yaml.safe_load_all(text))
    version = spec.get("schemaVersion")
    if version != "2.1.0":
        raise RefusedError(
            400,
            f"Invalid input error: KFP only supports schema version 2.1.0, but the pipeline spec has version {version}",
        )


async def _body(request: Request) -> Any:
    """The JSON document, or the text of the one file of a form."""
    content = await request.body()
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        return json.loads(content) if content else None
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + content, policy=email.policy.HTTP)
    (part,) = message.iter_parts()
    assert part.get_param("name", header="content-disposition") == "uploadfile"
    assert part.get_filename().endswith(".yaml")
    return part.get_payload(decode=True).decode()


class _Dropping:
    """Cuts the connection where a test wants that."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with contextlib.suppress(ConnectionAbortedError):
            await self._app(scope, receive, send)


OPERATIONS = (
    ("health", "GET", "/healthz", None),
    ("list_pipelines", "GET", "/pipelines", ("pipelines", "list")),
    ("upload", "POST", "/pipelines/upload", ("pipelines", "create")),
    ("upload_version", "POST", "/pipelines/upload_version", ("pipelines", "create")),
    ("list_versions", "GET", "/pipelines/{pipeline_id}/versions", ("pipelines", "list")),
    ("get_version", "GET", "/pipelines/{pipeline_id}/versions/{version_id}", ("pipelines", "get")),
    ("list_experiments", "GET", "/experiments", ("experiments", "list")),
    ("create_experiment", "POST", "/experiments", ("experiments", "create")),
    ("create_run", "POST", "/runs", ("runs", "create")),
    ("terminate", "POST", "/runs/{run_id}:terminate", ("runs", "terminate")),
    ("retry", "POST", "/runs/{run_id}:retry", ("runs", "retry")),
    ("get_run", "GET", "/runs/{run_id}", ("runs", "get")),
    ("list_recurring_runs", "GET", "/recurringruns", ("jobs", "list")),
    ("create_recurring_run", "POST", "/recurringruns", ("jobs", "create")),
    ("delete_recurring_run", "DELETE", "/recurringruns/{recurring_run_id}", ("jobs", "delete")),
)
"""What kubetfx asks of the API: handler, method, path, and the resource of pipelines.kubeflow.org and the verb that a
Kubeflow Pipelines of several users wants of who asks (2.17.0, backend/src/apiserver/server)."""
_PERMISSIONS = {name: permission for name, _, _, permission in OPERATIONS}


@contextlib.contextmanager
def serve(server: KfpServer) -> Iterator[KfpServer]:
    """Run a server on a free port of this machine."""
    routes = [Route(API + path, server.answer, methods=[method], name=name) for name, method, path, _ in OPERATIONS]
    routes += [Route("/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log", server.log), Route("/k8s/pod/logs", server.log)]
    listener = socket.create_server(("127.0.0.1", 0))
    # Configuring logs would close absl's handler, and with it pytest's stderr.
    config = uvicorn.Config(
        _Dropping(Starlette(routes=routes)), log_config=None, log_level="critical", access_log=False, lifespan="off"
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    server.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield server
    running.should_exit = True
    thread.join(timeout=10)
    listener.close()
