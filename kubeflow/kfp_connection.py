"""A connection to Kubeflow Pipelines, on `kfp.Client`: where it is, who asks, and errors that say what to do."""

import contextlib
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import kfp
import kfp_server_api
import urllib3
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

from kubetfx.errors import KubeflowError, UsageError
from kubetfx.kubeflow import kfp_errors
from kubetfx.kubeflow.kfp_answers import fault_of

_TIMEOUT_SECONDS = (10.0, 120.0)
"""For the connection, and for the answer. The generated API client would wait for ever."""
_HEALTH_TIMEOUT_SECONDS = (10.0, 20.0)
"""For the first question, which any server of Kubeflow Pipelines answers at once."""
_CREDENTIAL_HEADERS = {"authorization": "token", "cookie": "cookies"}
"""Field of `Connection` by header."""
PAGE_SIZE = 100
_EQUALS = 1
"""Operation EQUALS of a Predicate, in KFP's backend/api/v2beta1/filter.proto."""

_TOKEN_PATHS = ("KF_PIPELINES_SA_TOKEN_PATH", "/var/run/secrets/kubeflow/pipelines/token")
"""The variable with the path of a service account's token, and the path without it."""


@dataclass(frozen=True)
class Connection:
    """Where Kubeflow Pipelines is, and who asks."""

    host: str | None = None
    """URL. None: KF_PIPELINES_ENDPOINT, or the service in this pod's cluster, or the cluster of kubectl's context."""
    namespace: str | None = None
    """The profile's namespace, where KFP serves several users."""
    token: str | None = None
    """A bearer token. None: KUBETFX_KFP_TOKEN; in a pod, that of its service account."""
    cookies: str | None = None
    """Cookies of a session in the browser: `authservice_session=...`. None: KUBETFX_KFP_COOKIES."""
    ca_certificate: Path | None = None
    """Certificate of the authority that signed the server's."""


class OpenConnection:
    """A connection to Kubeflow Pipelines that was tried out."""

    def __init__(self, connection: Connection) -> None:
        """Connect.

        Args:
            connection: where Kubeflow Pipelines is, and who asks.

        Raises:
            KubeflowError: it cannot be reached, or refuses who asks.
            UsageError: the host is not a URL, no header can hold the token or the cookies, or there is no namespace and
                one is needed.
        """
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it warns of each try
        self.host = _checked_host(connection.host or os.environ.get("KF_PIPELINES_ENDPOINT") or "")
        self.token = (connection.token or os.environ.get("KUBETFX_KFP_TOKEN") or "").strip() or None
        self.cookies = (connection.cookies or os.environ.get("KUBETFX_KFP_COOKIES") or "").strip() or None
        self._given_namespace = connection.namespace
        with self.explained("ask for its health"):
            self.api = self._connect(connection.ca_certificate)
            health = self.api.get_kfp_healthz()
        self.is_multi_user = bool(health.multi_user)
        self.pipelines_are_in_kubernetes = health.pipeline_store == "kubernetes"
        self.host = self.api._existing_config.host
        self.namespace = connection.namespace or self.api.get_user_namespace() or None
        if self.is_multi_user and not self.namespace:
            raise UsageError(
                f"Kubeflow Pipelines at {self.host} serves several users, so it needs to know whose the pipeline is. "
                "Received: no namespace. Name that of your profile: `namespace`."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Close the connections that `kfp.Client` keeps open."""
        api_client = self.api._run_api.api_client
        api_client.rest_client.pool_manager.clear()
        api_client.close()

    @property
    def api_namespace(self) -> str | None:
        """The namespace to pass to the API: none where KFP serves a single user, which refuses one."""
        return self.namespace if self.is_multi_user else None

    def experiment_id(self, name: str) -> str:
        """Return the id of an experiment, which is created if no experiment has that name.

        Args:
            name: The name of the experiment.
        """
        return str(self.api.create_experiment(name, namespace=self.api_namespace).experiment_id)

    def link(self, path: str) -> str:
        """Return the address of a page of the UI.

        Args:
            path: The path of the page, for example `runs/details/ID`.
        """
        return f"{str(self.api._get_url_prefix()).rstrip('/')}/#/{path}"

    def get(self, path: str, query: Mapping[str, str]) -> Any:
        """Ask for what the generated client has no method for.

        Args:
            path: below the host.
            query: parameters by name.

        Returns:
            The answer of urllib3, whatever its status.
        """
        client = self.api._run_api.api_client
        try:
            return client.call_api(
                path,
                "GET",
                query_params=list(query.items()),
                auth_settings=["Bearer"],
                _preload_content=False,
                _return_http_data_only=True,
            )
        except kfp_server_api.ApiException as error:
            return urllib3.HTTPResponse(body=str(error.body or "").encode(), status=error.status or 0)

    @contextlib.contextmanager
    def explained(self, what: str) -> Iterator[None]:
        """Turn errors of the API into errors that say what to do, while the context lasts.

        Args:
            what: is asked of KFP, as a verb: `upload the pipeline`.

        Yields:
            Nothing.

        Raises:
            KubeflowError: Kubeflow Pipelines refuses, or cannot be reached.
        """
        try:
            yield
        except _LoginPageError:
            raise KubeflowError(kfp_errors.login_page(self.host)) from None
        except _WrongAnswerError as error:
            raise KubeflowError(kfp_errors.wrong_answer(str(error), what, self.host)) from None
        except (_StrangeAnswerError, UnicodeDecodeError) as error:
            raise KubeflowError(kfp_errors.strange_answer(error, what, self.host)) from error
        except kfp_server_api.ApiException as error:
            message = kfp_errors.refusal(error, what, host=self.host, namespace=self._given_namespace)
            raise KubeflowError(message) from error
        except urllib3.exceptions.HTTPError as error:
            raise KubeflowError(kfp_errors.unreachable(error, self.host)) from error

    def _connect(self, ca_certificate: Path | None) -> "_Client":
        credentials = None
        path = Path(os.environ.get(_TOKEN_PATHS[0]) or _TOKEN_PATHS[1])
        if self.host and not (self.token or self.cookies) and path.is_file():
            credentials = ServiceAccountTokenVolumeCredentials(str(path))
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            return _Client(
                host=self.host or None,  # not the namespace: in a cluster, it would look for KFP itself there
                existing_token=self.token,
                cookies=self.cookies,
                ssl_ca_cert=str(ca_certificate) if ca_certificate else None,
                credentials=credentials,
            )


def all_pages(ask: Callable[[str], Any], key: str) -> list[Any]:
    """Return all of a list that KFP answers page by page.

    Args:
        ask: returns the page for a token; that of the first page is empty.
        key: The key of the list in the answer.

    Raises:
        KubeflowError: a page leads back to one that was asked for.
    """
    found: list[Any] = []
    token = ""
    asked = set()
    while token not in asked:
        asked.add(token)
        page = ask(token)
        found += getattr(page, key) or []
        token = page.next_page_token
        if not token:
            return found
    raise KubeflowError(
        f"Kubeflow Pipelines lists {key.replace('_', ' ')} without an end. Received: the page {token!r} a second time, "
        f"after {len(asked)} pages. Is there a proxy in between that drops the query of a URL? Name the URL of the API "
        "server itself: `host`."
    )


def named(name: str) -> str:
    """Return a filter of the API for what is shown under a name.

    Args:
        name: that is shown (`display_name`).
    """
    return json.dumps({"predicates": [{"operation": _EQUALS, "key": "display_name", "stringValue": name}]})


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep `kfp.Client` from printing links to stdout, which is for data, while the context lasts."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


class _LoginPageError(Exception):
    """A web page came instead of the API's answer."""


class _StrangeAnswerError(Exception):
    """JSON or text came that the API does not have."""


class _WrongAnswerError(Exception):
    """An answer came in which a value is not of its type."""


class _Client(kfp.Client):
    """`kfp.Client`, which asks for the server's health once, not for half a minute, and writes no file of settings."""

    health: Any = None

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
        if self.health is None:
            _make_careful(self._healthz_api.api_client)
            self.health, _, headers = self._healthz_api.healthz_service_get_healthz_with_http_info(
                _request_timeout=_HEALTH_TIMEOUT_SECONDS
            )
            if "json" not in headers.get("Content-Type", ""):
                raise _LoginPageError
        return self.health

    def set_user_namespace(self, namespace: str) -> None:
        self._context_setting["namespace"] = namespace


class _Retry(urllib3.Retry):
    """Tries a connection again, and not a question that was not answered in time."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: urllib3.BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> Self:
        if isinstance(error, urllib3.exceptions.ReadTimeoutError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


def _make_careful(api_client: Any) -> None:
    """Set time limits, which the API client does not have, and check what it sends and what comes back."""
    rest_client = api_client.rest_client
    rest_client.pool_manager.connection_pool_kw["retries"] = _Retry(3)
    ask: Callable[..., Any] = rest_client.request
    read: Callable[..., Any] = api_client.deserialize

    def request(*arguments: Any, _request_timeout: Any = None, **options: Any) -> Any:
        for name, value in (options.get("headers") or {}).items():
            _check_header(name, str(value))
        return ask(*arguments, _request_timeout=_request_timeout or _TIMEOUT_SECONDS, **options)

    def deserialize(response: Any, response_type: Any) -> Any:
        text = str(response.data).strip()
        is_message = hasattr(kfp_server_api.models, str(response_type))
        if is_message and "html" in (response.getheader("Content-Type") or ""):
            raise _LoginPageError
        try:
            document = json.loads(text) if is_message else None
            if is_message and not isinstance(document, dict):
                raise _StrangeAnswerError(text)
            if is_message and (fault := fault_of(document, str(response_type))):
                raise _WrongAnswerError(fault)
            return read(response, response_type)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:  # the API client expects its own JSON
            raise _StrangeAnswerError(text) from error

    rest_client.request = request
    api_client.deserialize = deserialize


def _check_header(name: str, value: str) -> None:
    """Refuse what no header can hold without showing it: HTTP's own error does."""
    if all(" " <= character <= "~" or character == "\t" for character in value):
        return
    field = _CREDENTIAL_HEADERS.get(name.lower(), name)
    raise UsageError(
        f"`{field}` has a line break, another control character, or a character outside ASCII, which no header of HTTP "
        f"can hold. Received: {len(value)} characters, which are not shown. Give the value alone, on one line."
    )


def _checked_host(given: str) -> str:
    host = given.strip()
    shown = re.sub(r"^(\w+://)?.*@", r"\1", host)  # a password is not repeated
    try:
        parts = urlsplit(host)
        is_url = bool(not host or (parts.hostname and parts.port != 0 and not re.search(r"[\x00-\x20\x7f]", host)))
    except ValueError:
        is_url = False
    if host and "://" not in host:
        raise UsageError(f"`host` takes a URL. Received: {shown}. Try http://{shown}.")
    if not is_url:
        raise UsageError(f"`host` takes a URL. Received: {shown!r}. Such as http://localhost:8080.")
    if host and parts.scheme.lower() not in ("http", "https"):
        raise UsageError(
            f"`host` takes a URL that begins with http:// or https://. Received: {shown}. Kubeflow Pipelines speaks no "
            "other protocol."
        )
    if parts.username is not None:
        raise UsageError(
            f"`host` takes a URL without a user and a password: Kubeflow Pipelines does not read them. Received: one "
            f"with them, of {shown}. Take them out, and give `token` or `cookies` if it wants a login."
        )
    return host
