"""A client of a server's REST API, kubetfx's embedded server or TensorFlow Serving itself. It needs no TensorFlow."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from kubetfx.errors import RequestError, UsageError
from kubetfx.proxies import is_loopback
from kubetfx.serving.predict_client import (
    ClientOptions,
    NotReachedError,
    PredictClient,
    Row,
    Signature,
    Target,
    batches,
    described,
    through_proxy,
    version_status,
    with_retries,
)
from kubetfx.serving.status import Code, ServingError
from kubetfx.serving.version_state import State, VersionStatus

_HTTP_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    407: Code.UNAUTHENTICATED,
    408: Code.DEADLINE_EXCEEDED,
    413: Code.RESOURCE_EXHAUSTED,
    429: Code.RESOURCE_EXHAUSTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


@dataclass
class RestClient(PredictClient):
    """Asks over REST."""

    url: str
    """`http://HOST:PORT`."""
    options: ClientOptions = field(default_factory=ClientOptions)

    def __post_init__(self) -> None:
        """Open a connection pool."""
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(f"`rest` is http://HOST:PORT. Received: {self.url}. Try http://{self.url}.")
        try:
            self._client = httpx.Client(
                base_url=self.url, timeout=self.options.timeout_seconds, trust_env=not is_loopback(self.url)
            )
        except httpx.InvalidURL as error:
            raise UsageError(f"`rest` is http://HOST:PORT. Received: {self.url} ({error}).") from None

    @property
    def server(self) -> str:
        """See PredictClient."""
        return self.url

    def close(self) -> None:
        """See PredictClient."""
        self._client.close()

    def predict(self, target: Target, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """See PredictClient."""
        path = f"/v1/models/{quote(target.model_name, safe='')}{_rest_version(target)}"
        only_output = ""
        for batch in batches(rows, self.options.batch_size):
            body = json.dumps({"signature_name": target.signature_name, "instances": list(batch)})
            predictions = self._field(self._ask("POST", f"{path}:predict", body), "predictions")
            for prediction in predictions:
                if isinstance(prediction, dict):
                    yield prediction
                else:  # the name of an only output is left out
                    only_output = only_output or next(iter(self.signature(target).outputs))
                    yield {only_output: prediction}

    def status(self, model_name: str) -> list[VersionStatus]:
        """See PredictClient."""
        document = self._ask("GET", f"/v1/models/{quote(model_name, safe='')}", None)
        return [
            version_status(
                int(status["version"]),
                State[status["state"]],
                Code[status["status"]["error_code"]],
                status["status"]["error_message"],
            )
            for status in self._field(document, "model_version_status")
        ]

    def signatures(self, target: Target) -> dict[str, Signature]:
        """See PredictClient."""
        path = f"/v1/models/{quote(target.model_name, safe='')}{_rest_version(target)}/metadata"
        found = self._field(self._ask("GET", path, None), "metadata", "signature_def", "signature_def")
        return {name: described(one) for name, one in found.items()}

    def _field(self, document: Any, *keys: str) -> Any:
        for key in keys:
            if not isinstance(document, dict) or key not in document:
                message = f"not an answer of TensorFlow Serving, which has {key!r}: {str(document)[:200]}"
                raise RequestError(self.url, message, code=Code.UNKNOWN, is_answer=False)
            document = document[key]
        return document

    def model_names(self) -> list[str]:
        """See PredictClient. No call lists them; the server's Prometheus page names them."""
        page = self._ask("GET", "/monitoring/prometheus/metrics", None, read=lambda content: content.decode())
        names = set(re.findall(r'model_name="([^"]+)"', page))
        names |= {path.rstrip("/").split("/")[-2] for path in re.findall(r'model_path="([^"]+/[^"]+)"', page)}
        return sorted(name for name in names if self._is_served(name))

    def _is_served(self, name: str) -> bool:
        try:
            return bool(self.status(name))
        except RequestError as error:
            if error.code is Code.NOT_FOUND and error.is_answer:
                return False
            raise

    def _ask(self, method: str, path: str, body: str | None, read: Callable[[bytes], Any] = json.loads) -> Any:
        return with_retries(self.options, self.url, lambda: self._ask_once(method, path, body, read))

    def _ask_once(self, method: str, path: str, body: str | None, read: Callable[[bytes], Any]) -> Any:
        try:
            response = self._client.request(method, path, content=body)
        except httpx.TimeoutException as error:
            raise NotReachedError(Code.DEADLINE_EXCEEDED, f"no answer in time: {error}") from None
        except httpx.TransportError as error:
            raise NotReachedError(Code.UNAVAILABLE, f"{error}{through_proxy(self.url)}") from None
        if response.is_success:
            try:
                return read(response.content)  # json.loads takes NaN and Infinity, as TensorFlow Serving writes them
            except ValueError:
                message = f"not an answer of TensorFlow Serving, which is JSON: {response.text[:200]}"
                raise NotReachedError(Code.UNKNOWN, f"{message}{through_proxy(self.url)}") from None
        code = _HTTP_CODES.get(response.status_code, Code.UNKNOWN)
        if (said := _rest_error(response)) is not None:
            raise ServingError(code, said)
        message = (
            f"something on the way answered {response.status_code} {response.reason_phrase}: {response.text[:200]}"
        )
        raise NotReachedError(code, f"{message}{through_proxy(self.url)}")


def _rest_version(target: Target) -> str:
    if target.version is not None:
        return f"/versions/{target.version}"
    return "" if target.label is None else f"/labels/{quote(target.label, safe='')}"


def _rest_error(response: httpx.Response) -> str | None:
    """Return what TensorFlow Serving says is wrong; None if it is somebody else who answers."""
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return None
