"""Handing a package to Kubeflow Pipelines, on `kfp.Client`: uploading, running, following and scheduling it.

It takes the path of a package; what is in it is kubeflow/compiler.py's. Every error says what to do about it.
"""

import contextlib
import datetime
import io
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import kfp
import kfp_server_api
import urllib3
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from kubetfx.config.section import nearest
from kubetfx.errors import KubeflowError, RunFailedError, RunLeftError, UsageError
from kubetfx.kubeflow.package_document import Package, digest, read_package
from kubetfx.kubeflow.run_progress import FINAL_STATES, RunView, TaskStatus, as_document, planned_tasks
from kubetfx.progress import End, Progress, silent

Result = TypeVar("Result")

TIMEOUT_SECONDS = (10.0, 120.0)
"""To connect, and to answer. The generated API client would wait for ever."""
PAGE_SIZE = 100
_EQUALS = 1
"""The operation of KFP's filters."""
_TRANSIENT = frozenset({0, 408, 429, 500, 502, 503, 504})
_TOKEN_PATHS = ("KF_PIPELINES_SA_TOKEN_PATH", "/var/run/secrets/kubeflow/pipelines/token")
"""The variable that names the file of a service account's token, and where it is without one."""


@dataclass(frozen=True)
class Connection:
    """Where Kubeflow Pipelines is, and who asks."""

    host: str | None = None
    """URL. None: KF_PIPELINES_ENDPOINT, or the service in the cluster around, or the cluster of kubectl's context."""
    namespace: str | None = None
    """The profile's namespace, where KFP serves several users."""
    token: str | None = None
    """A bearer token."""
    cookies: str | None = None
    """Cookies of a session in the browser: `authservice_session=...`."""
    ca_certificate: Path | None = None
    """Certificate of the authority that signed the server's."""


@dataclass(frozen=True)
class RunOptions:
    """How a run is started."""

    experiment: str = "Default"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Values by name, as `parse_parameters` gives them."""
    pipeline_root: str | None = None
    """Where artifacts go. None: the default of KFP."""
    service_account: str | None = None
    """The Kubernetes service account of the pods. None: the default of KFP."""
    name: str | None = None
    """Of the run. None: the pipeline's name and the time."""


@dataclass(frozen=True)
class FollowOptions:
    """How a run is followed."""

    poll_seconds: float = 2.0
    """Time between two looks."""
    retry_seconds: float = 900.0
    """Time to go on asking an API server that does not answer."""


@dataclass(frozen=True)
class PipelineVersion:
    """A version that KFP has of a package."""

    pipeline_id: str
    version_id: str
    name: str
    is_new: bool
    """Whether it was uploaded now."""


@dataclass(frozen=True)
class Run:
    """A run that was started."""

    run_id: str
    name: str
    link: str
    """In the UI."""


@dataclass(frozen=True)
class Schedule:
    """A recurring run."""

    recurring_run_id: str
    name: str
    cron: str
    link: str
    change: str
    """`created`, `updated` or `unchanged`."""
    is_enabled: bool


class _Client(kfp.Client):
    """kfp.Client, which asks for the server's health once and not for half a minute, and keeps no file of settings."""

    health: Any = None

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
        if self.health is None:
            self.health, _, headers = self._healthz_api.healthz_service_get_healthz_with_http_info(
                _request_timeout=TIMEOUT_SECONDS
            )
            if "json" not in headers.get("Content-Type", ""):
                raise _LoginPageError
        return self.health

    def set_user_namespace(self, namespace: str) -> None:
        self._context_setting["namespace"] = namespace


class _LoginPageError(Exception):
    """A page for people came in place of the API's answer."""


class KubeflowClient:
    """Kubeflow Pipelines at one place.

    Raises:
        KubeflowError: it cannot be reached, or refuses to be asked.
        UsageError: no namespace, where one is needed.
    """

    def __init__(self, connection: Connection) -> None:
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it tells of each try
        self._connection = connection
        self._host = connection.host or os.environ.get("KF_PIPELINES_ENDPOINT") or ""
        if self._host and not self._host.startswith(("http://", "https://")):
            raise UsageError(f"--host takes a URL. Received: {self._host}. Try --host http://{self._host}.")
        with self._explained("ask for its health"):
            self._client = self._connect()
            self._is_multi_user = bool(self._client.get_kfp_healthz().multi_user)
        self._host = self._client._existing_config.host
        _bound_waiting(self._client._run_api.api_client.rest_client)
        self._namespace = connection.namespace or self._client.get_user_namespace() or None
        if self._is_multi_user and not self._namespace:
            raise UsageError(
                f"Kubeflow Pipelines at {self._host} serves several users, so it needs to know whose the pipeline is. "
                "Received: no namespace. Name that of your profile: --namespace NAMESPACE."
            )

    def upload(self, package: Package) -> PipelineVersion:
        """Let KFP have a package: as a new pipeline, or as a version of the one of its name.

        The same package is uploaded once.

        Raises:
            KubeflowError: refused, or not reached.
        """
        package_digest = digest(package.path)
        version_name, description = f"{package.name}-{package_digest}", f"sha256:{package_digest}"
        with self._explained("upload the pipeline"):
            pipeline_id = self._pipeline_id(package.name)
            if pipeline_id is None:
                return self._upload_first(package, description=description)
            for version in self._versions(pipeline_id):
                if version.display_name == version_name or version.description == description:
                    return PipelineVersion(pipeline_id, version.pipeline_version_id, version.display_name, is_new=False)
            with _quiet():
                version = self._client.upload_pipeline_version(
                    str(package.path), version_name, pipeline_id=pipeline_id, description=description
                )
        return PipelineVersion(pipeline_id, version.pipeline_version_id, version.display_name, is_new=True)

    def start(self, version: PipelineVersion, *, run_name: str, options: RunOptions) -> Run:
        """Start a run.

        Raises:
            KubeflowError: refused, or not reached.
        """
        with self._explained("start the run"), _quiet():
            run = self._client.run_pipeline(
                self._experiment_id(options.experiment),
                run_name,
                params=dict(options.parameters),
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                pipeline_root=options.pipeline_root,
                service_account=options.service_account,
            )
        return Run(run.run_id, run_name, self._link(f"runs/details/{run.run_id}"))

    def follow(
        self, run: Run, package: Package, *, options: FollowOptions, progress: Progress = silent
    ) -> dict[str, Any]:
        """Show a run's progress until it is over; its JSON document.

        Raises:
            RunFailedError: it failed, or was cancelled.
            RunLeftError: interrupted, or the server was out of reach for too long; the run goes on.
        """
        view = RunView(planned_tasks(package), progress)
        try:
            state = self._follow(run, view, options=options)
        except KeyboardInterrupt:
            raise RunLeftError(
                f"No longer following the run, which goes on: {run.link}\n  To cancel it: {self._cancel_command(run)}",
                run=_document(run, "RUNNING", view.statuses),
            ) from None
        except KubeflowError as error:
            raise RunLeftError(
                f"No longer following the run, which goes on: {run.link}\n  {error}",
                run=_document(run, "RUNNING", view.statuses),
            ) from error
        finally:
            progress(End())
        document = _document(run, state, view.statuses)
        if state != "SUCCEEDED":
            raise RunFailedError(self._why(run, state, view.statuses), run=document)
        return document

    def schedule(
        self, version: PipelineVersion, *, name: str, cron: str, options: RunOptions, max_concurrency: int = 1
    ) -> Schedule:
        """Create the recurring run of a name, or put another in its place; KFP cannot change one.

        Args:
            version: what to run.
            name: of the recurring run, in its experiment.
            cron: as `kubetfx.kubeflow.cron.to_kfp` gives it.
            options: how each run is started.
            max_concurrency: runs at the same time, 1 to 10.

        Raises:
            KubeflowError: refused, or not reached.
        """
        with self._explained("schedule the pipeline"), _quiet():
            experiment_id = self._experiment_id(options.experiment)
            before = self._recurring_runs(experiment_id, name)
            wanted = _Wanted(version, cron, options, max_concurrency)
            for found in before:
                if len(before) == 1 and wanted.is_met_by(found):
                    return self._as_schedule(found, cron, "unchanged")
            created = self._client.create_recurring_run(
                experiment_id,
                name,
                cron_expression=cron,
                max_concurrency=str(max_concurrency),  # an int64, which is text in protobuf's JSON
                no_catchup=True,
                params=dict(options.parameters),
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                enabled=not before or any(found.mode != "DISABLE" for found in before),
                pipeline_root=options.pipeline_root,
                service_account=options.service_account,
            )
            for found in before:  # after the new one, so that there is a schedule at any time
                self._client.delete_recurring_run(found.recurring_run_id)
        return self._as_schedule(created, cron, "updated" if before else "created")

    def _connect(self) -> _Client:
        credentials = None
        path = Path(os.environ.get(_TOKEN_PATHS[0]) or _TOKEN_PATHS[1])
        if self._host and not (self._connection.token or self._connection.cookies) and path.is_file():
            credentials = ServiceAccountTokenVolumeCredentials(str(path))
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            return _Client(
                host=self._host or None,  # not the namespace: in a cluster, it would look for KFP itself there
                existing_token=self._connection.token,
                cookies=self._connection.cookies,
                ssl_ca_cert=str(self._connection.ca_certificate) if self._connection.ca_certificate else None,
                credentials=credentials,
            )

    @property
    def _api_namespace(self) -> str | None:
        """KFP for one user refuses to be told a namespace."""
        return self._namespace if self._is_multi_user else None

    def _pipeline_id(self, name: str) -> str | None:
        found = self._client.list_pipelines(
            page_size=PAGE_SIZE, filter=_named(name), namespace=self._api_namespace
        ).pipelines
        return str(found[0].pipeline_id) if found else None

    def _upload_first(self, package: Package, *, description: str) -> PipelineVersion:
        with _quiet():
            pipeline = self._client.upload_pipeline(
                str(package.path), package.name, description=description, namespace=self._api_namespace
            )
        (version, *_) = self._versions(pipeline.pipeline_id)
        return PipelineVersion(pipeline.pipeline_id, version.pipeline_version_id, version.display_name, is_new=True)

    def _versions(self, pipeline_id: str) -> list[Any]:
        return _pages(
            lambda token: self._client.list_pipeline_versions(pipeline_id, page_token=token, page_size=PAGE_SIZE),
            "pipeline_versions",
        )

    def _recurring_runs(self, experiment_id: str, name: str) -> list[Any]:
        return _pages(
            lambda token: self._client.list_recurring_runs(
                page_token=token, page_size=PAGE_SIZE, experiment_id=experiment_id, filter=_named(name)
            ),
            "recurring_runs",
        )

    def _experiment_id(self, name: str) -> str:
        return str(self._client.create_experiment(name, namespace=self._api_namespace).experiment_id)

    def _follow(self, run: Run, view: RunView, *, options: FollowOptions) -> str:
        while True:
            details = self._look(run, view, options=options)
            view.show((details.run_details.task_details if details.run_details else None) or [], state=details.state)
            if details.state in FINAL_STATES:
                return str(details.state)
            time.sleep(options.poll_seconds)

    def _look(self, run: Run, view: RunView, *, options: FollowOptions) -> Any:
        def say(retry: RetryCallState) -> None:
            if retry.attempt_number > 1:  # one slip is none to talk of
                view.is_out_of_reach(_short(retry.outcome.exception() if retry.outcome else None))

        retrying = Retrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_delay(options.retry_seconds),
            wait=wait_exponential_jitter(initial=options.poll_seconds, max=30, jitter=options.poll_seconds),
            before_sleep=say,
            reraise=True,
        )
        with self._explained("look at the run"):
            return retrying(self._client.get_run, run.run_id)

    def _as_schedule(self, recurring_run: Any, cron: str, change: str) -> Schedule:
        identifier = recurring_run.recurring_run_id
        link = self._link(f"recurringrun/details/{identifier}")
        return Schedule(
            identifier, recurring_run.display_name, cron, link, change, is_enabled=recurring_run.mode != "DISABLE"
        )

    def _link(self, path: str) -> str:
        return f"{str(self._client._get_url_prefix()).rstrip('/')}/#/{path}"

    def _cancel_command(self, run: Run) -> str:
        token = " -H 'Authorization: Bearer TOKEN'" if self._connection.token else ""
        cookies = " -H 'Cookie: COOKIES'" if self._connection.cookies else ""
        return f"curl -X POST{token}{cookies} {self._host}/apis/v2beta1/runs/{run.run_id}:terminate"

    def _why(self, run: Run, state: str, statuses: Sequence[TaskStatus]) -> str:
        if state == "CANCELED":
            return f"The run was cancelled.\n  See it: {run.link}"
        failed = [status for status in statuses if status.state == "failed"]
        if not failed:
            return f"The run ended as {state}, and no task of it failed.\n  See why: {run.link}"
        task = failed[0]
        lines = [f"{task.node_id} failed on Kubeflow.", f"Its log: {run.link}, the task {task.node_id}, Logs"]
        if task.pod_name:
            lines.append(f"Or: kubectl logs -n {self._namespace or 'kubeflow'} {task.pod_name} -c main")
        return "\n  ".join(lines)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Say what to do about what goes wrong inside."""
        try:
            yield
        except _LoginPageError:
            raise KubeflowError(self._login_page()) from None
        except kfp_server_api.ApiException as error:
            raise KubeflowError(self._refusal(error, what)) from error
        except urllib3.exceptions.HTTPError as error:
            raise KubeflowError(self._unreachable(error)) from error

    def _login_page(self) -> str:
        return (
            f"Kubeflow Pipelines wants a login. Received: a web page in place of an answer, from {self._host}. "
            f"{_AUTHENTICATE} If {self._host} is the dashboard, its API is usually at {self._host}/pipeline."
        )

    def _unreachable(self, error: urllib3.exceptions.HTTPError) -> str:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, urllib3.exceptions.SSLError):
            return self._insecure(str(reason))
        return (
            f"Kubeflow Pipelines cannot be reached. Received: {self._host or 'no --host'}: {_without_address(reason)}. "
            "Is the URL right, and is there a way to it from here? From a laptop: "
            "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80, then --host http://localhost:8080."
        )

    def _insecure(self, reason: str) -> str:
        return (
            f"There is no secure connection to Kubeflow Pipelines. Received: {self._host}: {reason}. If the server "
            "speaks plain HTTP, its URL begins with http://. If an authority of your own signed its certificate, name "
            "that: --ca-cert FILE."
        )

    def _refusal(self, error: kfp_server_api.ApiException, what: str) -> str:
        reason = _reason(error)
        if error.status == 0:  # the API client's form of urllib3's SSLError
            return self._insecure(reason)
        received = f"Received: {error.status}{f', {reason}' if reason else ''}."
        if error.status == 401:
            return f"Kubeflow Pipelines at {self._host} does not know who asks. {received} {_AUTHENTICATE}"
        if error.status == 403 or "permission" in reason.lower() or "authoriz" in reason.lower():
            return (
                f"Kubeflow Pipelines lets nobody of these credentials {what}{self._in_namespace()}. {received} Is the "
                "namespace right (--namespace)? Its owner grants the role kubeflow-edit."
            )
        if error.status == 404:
            return (
                f"There is no API of Kubeflow Pipelines 2 at {self._host}, or not what it was asked for. {received} "
                "Behind Kubeflow's dashboard the URL ends in /pipeline."
            )
        if "namespace" in reason.lower():
            return (
                f"Kubeflow Pipelines would not {what}{self._in_namespace()}. {received} Name the namespace of your "
                "profile: --namespace NAMESPACE."
            )
        if error.status in (400, 409, 412, 422):
            return (
                f"Kubeflow Pipelines would not {what}{self._in_namespace()}. {received} If it is the package: kubetfx "
                "lint PACKAGE says where. If it says no more than this, its API server's log does: "
                "kubectl logs -n kubeflow deploy/ml-pipeline."
            )
        return (
            f"Kubeflow Pipelines failed to {what}. {received} Its API server's log says why: "
            "kubectl logs -n kubeflow deploy/ml-pipeline."
        )

    def _in_namespace(self) -> str:
        return f" in {self._connection.namespace}" if self._connection.namespace else ""


_AUTHENTICATE = (
    "Give a token (--token or KUBETFX_KFP_TOKEN) or the cookies of a session (--cookies or KUBETFX_KFP_COOKIES); in a "
    "pod, mount a service account's token of the audience pipelines.kubeflow.org."
)


def parse_parameters(pairs: Sequence[str], package: Package) -> dict[str, Any]:
    """`name=value` with the types that a package declares; all that has no default must be there.

    Raises:
        UsageError: no such parameter, a value of another type, or one that is missing.
    """
    declared = package.parameters
    values = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise UsageError(f"--param takes NAME=VALUE. Received: {pair}.")
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise UsageError(
                f"The pipeline has no parameter {name!r}.{nearest(name, list(declared))} Received: {pair}. "
                f"It has: {known}."
            )
        values[name] = _parse_value(name, text, str(declared[name].get("parameterType")))
    missing = [
        name
        for name, parameter in declared.items()
        if name not in values and "defaultValue" not in parameter and not parameter.get("isOptional")
    ]
    if missing:
        raise UsageError(
            f"The pipeline has parameters without a default. Received: no {', '.join(missing)}. "
            f"Give them: {' '.join(f'--param {name}=VALUE' for name in missing)}."
        )
    return values


def _parse_value(name: str, text: str, kind: str) -> Any:
    kinds: Mapping[str, tuple[str, type | tuple[type, ...]]] = {
        "NUMBER_INTEGER": ("an integer", int),
        "NUMBER_DOUBLE": ("a number", (int, float)),
        "BOOLEAN": ("true or false", bool),
        "LIST": ("a list, as JSON", list),
        "STRUCT": ("an object, as JSON", dict),
    }
    if kind not in kinds:
        return text
    words, types = kinds[kind]
    try:
        value = json.loads(text.lower() if kind == "BOOLEAN" else text)
    except ValueError:
        value = None
    is_odd = isinstance(value, float) and not math.isfinite(value)
    if not isinstance(value, types) or isinstance(value, bool) != (kind == "BOOLEAN") or is_odd:
        raise UsageError(f"Parameter {name!r} takes {words}. Received: {text!r}.")
    return value


def default_run_name(package: Package) -> str:
    """The pipeline's name and the time, by the second."""
    return f"{package.name} {datetime.datetime.now():%Y-%m-%d %H:%M:%S}"


def refuse_broken(path: Path) -> Package:
    """Read a package, and refuse what KFP would refuse.

    Raises:
        UsageError: it is no package, or KFP would refuse it.
    """
    from kubetfx.kubeflow.lint import lint

    errors = [finding for finding in lint(path) if finding.severity == "error"]
    if errors:
        shown = "\n".join(f"  {finding.place}: {finding.what}. {finding.remedy}" for finding in errors[:10])
        raise UsageError(
            f"Kubeflow Pipelines would refuse this package. Received: {path}, {len(errors)} faults:\n{shown}"
        )
    package = read_package(path)
    if package.spec_place:
        raise UsageError(
            f"Kubernetes takes this, and the API of Kubeflow Pipelines does not. Received: {path}, a PipelineVersion. "
            f"Compile without --kubernetes-manifest, or apply it: kubectl apply -f {path}"
        )
    return package


@dataclass(frozen=True)
class _Wanted:
    """A recurring run as it is to be."""

    version: PipelineVersion
    cron: str
    options: RunOptions
    max_concurrency: int

    def is_met_by(self, found: Any) -> bool:
        reference = found.pipeline_version_reference
        schedule = found.trigger.cron_schedule if found.trigger else None
        config = found.runtime_config
        return (
            schedule is not None
            and schedule.cron == self.cron
            and reference is not None
            and reference.pipeline_version_id == self.version.version_id
            and ((config.parameters if config else None) or {}) == dict(self.options.parameters)
            and ((config.pipeline_root if config else None) or None) == self.options.pipeline_root
            and self.options.service_account in (None, found.service_account)
            and str(found.max_concurrency) == str(self.max_concurrency)
        )


def _bound_waiting(rest_client: Any) -> None:
    """kfp.Client passes no time limits on, and the API client has no default for them."""
    ask: Callable[..., Any] = rest_client.request

    def request(*arguments: Any, _request_timeout: Any = None, **options: Any) -> Any:
        return ask(*arguments, _request_timeout=_request_timeout or TIMEOUT_SECONDS, **options)

    rest_client.request = request


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """kfp.Client prints links to stdout, which is for data."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _pages(ask: Callable[[str], Any], key: str) -> list[Any]:
    found: list[Any] = []
    token = ""
    while True:
        page = ask(token)
        found += getattr(page, key) or []
        token = page.next_page_token
        if not token:
            return found


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": _EQUALS, "key": "display_name", "stringValue": name}]})


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, kfp_server_api.ApiException):
        return error.status in _TRANSIENT
    return isinstance(error, urllib3.exceptions.HTTPError)


def _short(error: BaseException | None) -> str:
    if isinstance(error, kfp_server_api.ApiException):
        return str(error.status)
    return _without_address(getattr(error, "reason", None) or error)


def _without_address(reason: object) -> str:
    """urllib3 puts an object's address in front."""
    return str(reason).rpartition("object at 0x")[2].partition(": ")[2] or str(reason)


def _reason(error: kfp_server_api.ApiException) -> str:
    """What the server says, out of the forms in which it says it."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return " ".join(body.split())[:500] or str(error.reason or "")
    words = document.get("message") or document.get("error_message") or document.get("error") or body
    return " ".join(str(words).split())[:2000].rstrip(".")


def _document(run: Run, state: str, statuses: Sequence[TaskStatus]) -> dict[str, Any]:
    return {"run_id": run.run_id, "name": run.name, "link": run.link, "state": state, "tasks": as_document(statuses)}
