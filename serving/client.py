"""A client of either server, the embedded one or TensorFlow Serving itself: rows in, one answer per row out.

Rows are mappings from column to value, as the REST API's `instances` has them. They are sent in batches; a server that
is unavailable, or says that it has too much to do, is asked again for a bounded time.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import grpc  # type: ignore[import-untyped]
import httpx
import numpy as np
import pyarrow as pa
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (  # type: ignore[import-untyped]
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from kubetfx.errors import RequestError, UsageError
from kubetfx.proxies import is_loopback
from kubetfx.serving.predict_client import (
    ClientOptions,
    InputType,
    NotReachedError,
    PredictClient,
    Row,
    Signature,
    Target,
    batches,
    no_signature,
    through_proxy,
    with_retries,
)
from kubetfx.serving.served_version import State, VersionStatus
from kubetfx.serving.status import Code, ServingError
from kubetfx.serving.tensor_proto import from_array, to_array
from kubetfx.tables import json_bytes
from kubetfx.tables.as_text import padded

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


_OF_THE_WAY = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED)
"""Codes that gRPC itself gives to a request that nobody answered."""
_OF_HTTP = "Received http2 header with status"
"""What gRPC says of an answer that knows nothing of gRPC, as those of a proxy."""


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
                    only_output = only_output or next(iter(self._signature(target).outputs))
                    yield {only_output: prediction}

    def status(self, model_name: str) -> list[VersionStatus]:
        """See PredictClient."""
        document = self._ask("GET", f"/v1/models/{quote(model_name, safe='')}", None)
        return [
            _version_status(
                int(status["version"]),
                State[status["state"]],
                Code[status["status"]["error_code"]],
                status["status"]["error_message"],
            )
            for status in self._field(document, "model_version_status")
        ]

    def input_types(self, target: Target) -> dict[str, InputType]:
        """See PredictClient."""
        return _input_types(self._signature(target))

    def signatures(self, target: Target) -> dict[str, Signature]:
        """See PredictClient."""
        path = f"/v1/models/{quote(target.model_name, safe='')}{_rest_version(target)}/metadata"
        found = self._field(self._ask("GET", path, None), "metadata", "signature_def", "signature_def")
        return {name: _described(one) for name, one in found.items()}

    def _signature(self, target: Target) -> Signature:
        found = self.signatures(target).get(target.signature_name)
        if found is None:
            raise no_signature(self.url, target)
        return found

    def _field(self, document: Any, *keys: str) -> Any:
        for key in keys:
            if not isinstance(document, dict) or key not in document:
                message = f"not an answer of TensorFlow Serving, which has {key!r}: {str(document)[:200]}"
                raise RequestError(self.url, message, code=Code.UNKNOWN, is_answer=False)
            document = document[key]
        return document

    def model_names(self) -> list[str]:
        """Find out which models the server serves, from its Prometheus page: no call lists them.

        Returns:
            Their names, in order.

        Raises:
            RequestError: the server has no such page, or cannot be reached.
        """
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


@dataclass
class GrpcClient(PredictClient):
    """Asks over gRPC."""

    address: str
    """`HOST:PORT`."""
    options: ClientOptions = field(default_factory=ClientOptions)

    def __post_init__(self) -> None:
        """Open a channel."""
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        if is_loopback(self.address):
            options.append(("grpc.enable_http_proxy", 0))
        self._channel = grpc.insecure_channel(self.address, options=options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def close(self) -> None:
        """See PredictClient."""
        self._channel.close()

    def predict(self, target: Target, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """See PredictClient."""
        inputs = self._signature(target).inputs
        for batch in batches(rows, self.options.batch_size):
            request = predict_pb2.PredictRequest(model_spec=_model_spec(target))
            for name in batch[0]:
                if name not in inputs:
                    message = f"input tensor alias not found in signature: {name}"
                    raise RequestError(self.address, message, code=Code.INVALID_ARGUMENT)
                from_array(_column(name, batch, types_pb2.DataType.Value(inputs[name])), request.inputs[name])
            response = self._ask(self._predictions.Predict, request)
            columns = {name: to_array(tensor, name) for name, tensor in sorted(response.outputs.items())}
            yield from _rows(columns, len(batch))

    def status(self, model_name: str) -> list[VersionStatus]:
        """See PredictClient."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name=model_name))
        response = self._ask(self._models.GetModelStatus, request)
        return [
            _version_status(
                status.version, State(status.state), Code(status.status.error_code), status.status.error_message
            )
            for status in response.model_version_status
        ]

    def input_types(self, target: Target) -> dict[str, InputType]:
        """See PredictClient."""
        return _input_types(self._signature(target))

    def signatures(self, target: Target) -> dict[str, Signature]:
        """See PredictClient."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=_model_spec(target), metadata_field=["signature_def"]
        )
        response = self._ask(self._predictions.GetModelMetadata, request)
        found = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(found)
        in_json = {
            name: json_format.MessageToDict(one, preserving_proto_field_name=True)
            for name, one in found.signature_def.items()
        }
        return {name: _described(one) for name, one in in_json.items()}

    def reload_config(self, config: Any) -> None:
        """Have the server serve other models, versions or labels from now on.

        Args:
            config: a ModelServerConfig of all its models.

        Raises:
            RequestError: the server refused, or was unavailable for too long.
        """
        response = self._ask(
            self._models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest(config=config)
        )
        if response.status.error_code:
            raise RequestError(self.address, response.status.error_message, code=Code(response.status.error_code))

    def _signature(self, target: Target) -> Signature:
        found = self.signatures(target).get(target.signature_name)
        if found is None:
            raise no_signature(self.address, target)
        return found

    def _ask(self, method: Any, request: Any) -> Any:
        return with_retries(self.options, self.address, lambda: self._ask_once(method, request))

    def _ask_once(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self.options.timeout_seconds)
        except grpc.RpcError as error:
            code, said = Code(error.code().value[0]), error.details() or ""
            if code in _OF_THE_WAY or said.startswith(_OF_HTTP):
                raise NotReachedError(code, f"{said}{through_proxy(self.address)}") from None
            raise ServingError(code, said) from None


def connect(rest: str | None, grpc: str | None, options: ClientOptions) -> RestClient | GrpcClient:
    """Make a client for one of two protocols. Nothing is asked yet.

    Args:
        rest: `http://HOST:PORT`.
        grpc: `HOST:PORT`, instead of `rest`.
        options: how it asks.

    Returns:
        The client, which is to be closed.

    Raises:
        UsageError: not exactly one address was given, or it is not one.
    """
    if bool(rest) == bool(grpc):
        raise UsageError(
            f"A server is asked over one protocol. Received: `rest` {rest}, `grpc` {grpc}. Give one of them."
        )
    return RestClient(rest, options) if rest else GrpcClient(grpc or "", options)


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


def _described(signature: Mapping[str, Any]) -> Signature:
    """Return a signature in JSON."""
    inputs, outputs = (signature.get(part, {}) for part in ("inputs", "outputs"))
    shapes = {name: info.get("tensor_shape", {}).get("dim", []) for name, info in inputs.items()}
    return Signature(
        {name: info.get("dtype", "DT_INVALID") for name, info in inputs.items()},
        {name: info.get("dtype", "DT_INVALID") for name, info in outputs.items()},
        tuple(name for name, shape in shapes.items() if [str(one.get("size")) for one in shape] == ["-1", "-1"]),
    )


def _input_types(signature: Signature) -> dict[str, InputType]:
    dtypes = {n: tf.as_dtype(types_pb2.DataType.Value(t)).as_numpy_dtype for n, t in signature.inputs.items()}
    return {name: InputType(dtype, name in signature.lists) for name, dtype in dtypes.items()}


def _model_spec(target: Target) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=target.model_name, signature_name=target.signature_name)
    if target.version is not None:
        spec.version.value = target.version
    elif target.label is not None:
        spec.version_label = target.label
    return spec


def _column(name: str, rows: Sequence[Row], dtype: int) -> np.ndarray[Any, Any]:
    try:
        values = [row[name] for row in rows]
        if dtype == types_pb2.DT_STRING:
            if any(isinstance(value, list) for value in values):
                return np.frompyfunc(str.encode, 1, 1)(padded(pa.array(values, pa.list_(pa.string()))))
            return np.array([_to_bytes(value) for value in values], object)
        return np.array(values, tf.as_dtype(dtype).as_numpy_dtype)
    except KeyError:
        raise UsageError(f"Every row needs the same columns. Received: a row without {name!r}.") from None
    except (TypeError, ValueError, OverflowError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UsageError(f"Column {name!r} does not fit the model: {error}.") from None


def _to_bytes(value: Any) -> bytes:
    """Return bytes of a text, of bytes, or of bytes in JSON."""
    if isinstance(value, dict):
        return json_bytes.from_json(value)
    return value if isinstance(value, bytes) else str(value).encode()


def _rows(columns: Mapping[str, np.ndarray[Any, Any]], num_rows: int) -> Iterator[dict[str, Any]]:
    lists = {name: _texts(array.tolist()) for name, array in columns.items()}
    for index in range(num_rows):
        yield {name: values[index] for name, values in lists.items()}


def _texts(values: Any) -> Any:
    if isinstance(values, list):
        return [_texts(value) for value in values]
    return values.decode(errors="replace") if isinstance(values, bytes) else values


def _version_status(version: int, state: State, code: Code, message: str) -> VersionStatus:
    return VersionStatus(version, state, None if code is Code.OK else ServingError(code, message))
