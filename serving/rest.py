"""The REST API: HTTP to the data plane and back.

    GET     /v1/models/NAME[/versions/N|/labels/L]                     status; a Kubernetes probe
    GET     /v1/models/NAME[/versions/N|/labels/L]/metadata            signatures
    POST    /v1/models/NAME[/versions/N|/labels/L]:predict             row or column format
    POST    /v1/models/NAME[/versions/N|/labels/L]:classify, :regress  tf.Examples as JSON
    GET     /monitoring/prometheus/metrics

An ASGI application without a framework: the routes are two patterns of TensorFlow Serving's http_rest_api_util.cc.
"""

import asyncio
import logging
import re
import time
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson
from google.protobuf import json_format
from google.protobuf.message import Message

from kubetfx.artifacts import DEFAULT_SIGNATURE
from kubetfx.serving import json_answer, json_document, json_tensor
from kubetfx.serving.data_plane import DataPlane, ModelReference
from kubetfx.serving.saved_model import Signature
from kubetfx.serving.served_version import ServedVersion
from kubetfx.serving.status import Code, ServingError, invalid_argument
from kubetfx.serving.version_state import VersionStatus

_LOG = logging.getLogger(__name__)

_Event = MutableMapping[str, Any]
"""An event of ASGI: https://asgi.readthedocs.io/en/latest/specs/www.html."""
_Receive = Callable[[], Awaitable[_Event]]
_Send = Callable[[_Event], Awaitable[None]]

_METRICS_PATH = "/monitoring/prometheus/metrics"
_API_PREFIX = "/v1/"
_MODEL = r"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
_PREDICTION = re.compile(_MODEL + r":(classify|regress|predict)", re.IGNORECASE | re.ASCII)
_STATUS = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?", re.IGNORECASE | re.ASCII
)

_HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
_JSON = (b"content-type", b"application/json")
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
)


@dataclass(frozen=True)
class RestOptions:
    """Limits of the REST API."""

    max_body_bytes: int = 128 * 2**20
    """Maximum number of bytes of a request's body, also decompressed; a larger one is refused with status 413."""
    timeout_seconds: float = 30.0
    """Time to answer a request in, once it is read."""
    body_timeout_seconds: float = 30.0
    """Time that a client may take to send a body."""
    enable_cors: bool = False
    """Whether pages of other origins may ask."""
    access_log: bool = False
    """Whether each request is logged with its status and time."""


class _BodyError(Exception):
    """A body was not read to its end, so the connection cannot be used any more."""

    def __init__(self, http_status: int, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status


@dataclass(slots=True)
class _Request:
    """A request, and what is known of it for the metrics."""

    method: str
    path: str
    body: bytes = b""
    model: str = ""
    api: str = ""


class RestApplication:
    """The ASGI application."""

    def __init__(self, plane: DataPlane, options: RestOptions) -> None:
        """Make the application.

        Args:
            plane: answers the requests.
            options: limits, and what else is configured.
        """
        self._plane = plane
        self._options = options
        self._cors = _CORS if options.enable_cors else ()

    async def __call__(self, scope: _Event, receive: _Receive, send: _Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        path = scope["raw_path"].decode("latin-1")
        if path == _METRICS_PATH and scope["method"] == "GET":
            await _respond(send, 200, self._plane.metrics.page(), [(b"content-type", b"text/plain; version=0.0.4")])
            return
        request = _Request(scope["method"], path)
        try:
            if request.method == "POST":
                request.body = await self._read_body(scope["headers"], receive)
        except _BodyError as error:
            if error.http_status:
                await _respond(
                    send, error.http_status, json_answer.error(str(error)), [_JSON, (b"connection", b"close")]
                )
            return
        code, http_status, body = await self._answer(request, scope["headers"])
        seconds = time.perf_counter() - started
        if path.startswith(_API_PREFIX):
            is_served = self._plane.manager.has(request.model)
            self._plane.metrics.count_request(request.model, request.api, "REST", code, seconds, is_served=is_served)
        if self._options.access_log:
            _LOG.info("REST %s %s %d %.2f ms", request.method, path, http_status, seconds * 1e3)
        await _respond(send, http_status, body, [_JSON, *self._cors])

    async def _answer(self, request: _Request, headers: list[tuple[bytes, bytes]]) -> tuple[Code, int, bytes]:
        try:
            if request.path[: len(_API_PREFIX)].lower() != _API_PREFIX:
                return Code.NOT_FOUND, 404, json_answer.error("Not Found")
            if request.method == "OPTIONS":
                _check_origin(headers)
                return Code.OK, 200, b""
            return Code.OK, 200, await self._process(request)
        except ServingError as error:
            return error.code, _HTTP_STATUS[error.code], json_answer.error(error.message)
        except Exception:
            _LOG.exception("%s %s failed", request.method, request.path)
            return Code.INTERNAL, 500, json_answer.error("Internal error; the server's log has the details.")

    async def _process(self, request: _Request) -> bytes:
        if request.method == "POST" and (match := _PREDICTION.fullmatch(request.path)):
            reference = _reference(match)
            request.model, request.api = reference.name, match[4]
            return await self._infer(reference, match[4], request)
        if request.method == "GET" and (match := _STATUS.fullmatch(request.path)):
            reference = _reference(match)
            request.model = reference.name
            if not reference.name:
                raise invalid_argument("Missing model name in request.")
            if match[4] == "metadata":
                return _metadata(*self._plane.metadata(reference))
            return _status(self._plane.status(reference))
        raise _malformed(request)

    async def _infer(self, reference: ModelReference, api: str, request: _Request) -> bytes:
        if api == "predict":
            return await self._predict(reference, request.body)
        if api not in ("classify", "regress"):  # the pattern has no case, the method has
            raise _malformed(request)
        document = json_document.parse_object(request.body)
        signature_name = json_tensor.signature_name(document)
        examples = json_tensor.serialized_examples(document)
        timeout = self._options.timeout_seconds
        with self._plane.hold(reference) as version:
            if api == "classify":
                result = await self._plane.classify(version, signature_name, examples, timeout_seconds=timeout)
                return json_answer.classifications(result.labels, result.scores, result.num_examples)
            regression = await self._plane.regress(version, signature_name, examples, timeout_seconds=timeout)
            return json_answer.regressions(regression.values)

    async def _predict(self, reference: ModelReference, body: bytes) -> bytes:
        document = json_document.parse_object(body)
        signature_name = json_tensor.signature_name(document)
        with self._plane.hold(reference) as version:
            signature = _signature(version, signature_name)
            inputs, request_format = json_tensor.predict_inputs(document, signature.input_dtypes)
            outputs = await self._plane.predict(
                version, signature, inputs, timeout_seconds=self._options.timeout_seconds
            )
        return json_answer.predictions(outputs, request_format)

    async def _read_body(self, headers: list[tuple[bytes, bytes]], receive: _Receive) -> bytes:
        gzipped = False
        for name, value in headers:
            if name == b"content-length" and int(value) > self._options.max_body_bytes:
                raise self._too_large()
            if name == b"content-encoding" and value.lower() == b"gzip":
                gzipped = True
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _BodyError(0, "The client is gone.")
        body = message.get("body", b"")
        if message.get("more_body", False):
            try:
                async with asyncio.timeout(self._options.body_timeout_seconds):
                    body = await self._read_rest(body, receive)
            except TimeoutError:
                raise _BodyError(408, "The body did not arrive in time.") from None
        return self._unzip(body) if gzipped else body

    async def _read_rest(self, start: bytes, receive: _Receive) -> bytes:
        parts = [start]
        size = len(start)
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _BodyError(0, "The client is gone.")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._options.max_body_bytes:
                raise self._too_large()
            more = message.get("more_body", False)
        return b"".join(parts)

    def _unzip(self, body: bytes) -> bytes:
        decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            plain = decompressor.decompress(body, self._options.max_body_bytes)
        except zlib.error as error:
            raise _BodyError(400, f"The body is not gzip: {error}") from None
        if decompressor.unconsumed_tail:
            raise self._too_large()
        return plain

    def _too_large(self) -> _BodyError:
        return _BodyError(
            413,
            f"The body is larger than {self._options.max_body_bytes} bytes. Send fewer rows, or raise max_body_bytes.",
        )


async def _respond(send: _Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _reference(match: re.Match[str]) -> ModelReference:
    name, version, label = match[1] or "", match[2], match[3]
    if version is not None and int(version) >= 2**63:
        raise invalid_argument(f"Failed to convert version: {version} to numeric.")
    return ModelReference(
        unquote(name) if "%" in name else name,
        None if version is None else int(version),
        None if label is None else unquote(label),
    )


def _malformed(request: _Request) -> ServingError:
    return invalid_argument(f"Malformed request: {request.method} {request.path}")


def _check_origin(headers: list[tuple[bytes, bytes]]) -> None:
    origins = [value for name, value in headers if name == b"origin"]
    if not any(re.search(rb"https?://", origin) for origin in origins):
        raise ServingError(Code.FAILED_PRECONDITION, "Origin header is missing in CORS preflight")


def _status(statuses: list[VersionStatus]) -> bytes:
    return orjson.dumps(
        {
            "model_version_status": [
                {
                    "version": str(status.version),
                    "state": status.state.name,
                    "status": {
                        "error_code": status.error.code.name if status.error else "OK",
                        "error_message": status.error.message if status.error else "",
                    },
                }
                for status in statuses
            ]
        },
        option=orjson.OPT_INDENT_2,
    )


def _signature(version: ServedVersion, name: str) -> Signature:
    """Return the signature that a predict request asks for; its errors are not those of gRPC."""
    signature = version.model.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise invalid_argument(f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def')
    if not signature.inputs:
        raise invalid_argument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    return signature


def _metadata(spec: Message, signatures: Message) -> bytes:
    return orjson.dumps(
        {"model_spec": _as_dict(spec), "metadata": {"signature_def": _as_dict(signatures)}}, option=orjson.OPT_INDENT_2
    )


def _as_dict(message: Message) -> Any:
    return json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )
