"""A client of a server's gRPC API, kubetfx's embedded server or TensorFlow Serving itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from kubetfx.arrays import Array
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
from kubetfx.serving.tensor_proto import from_array, to_array
from kubetfx.serving.version_state import State, VersionStatus
from kubetfx.tables import json_bytes
from kubetfx.tables.as_text import in_utf8, padded

_OF_THE_WAY = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED)
"""Codes that gRPC itself gives to a request that nobody answered."""
_OF_HTTP = "Received http2 header with status"
"""What gRPC says of an answer that knows nothing of gRPC, as those of a proxy."""


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

    @property
    def server(self) -> str:
        """See PredictClient."""
        return self.address

    def close(self) -> None:
        """See PredictClient."""
        self._channel.close()

    def predict(self, target: Target, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """See PredictClient."""
        inputs = self.signature(target).inputs
        for batch in batches(rows, self.options.batch_size):
            request = predict_pb2.PredictRequest(model_spec=_model_spec(target))
            for name in batch[0]:
                if name not in inputs:
                    message = f"input tensor alias not found in signature: {name}"
                    raise RequestError(self.address, message, code=Code.INVALID_ARGUMENT)
                from_array(_column(name, batch, inputs[name]), request.inputs[name])
            response = self._ask(self._predictions.Predict, request)
            columns = {name: to_array(tensor, name) for name, tensor in sorted(response.outputs.items())}
            yield from _rows(columns, len(batch))

    def status(self, model_name: str) -> list[VersionStatus]:
        """See PredictClient."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name=model_name))
        response = self._ask(self._models.GetModelStatus, request)
        return [
            version_status(
                status.version, State(status.state), Code(status.status.error_code), status.status.error_message
            )
            for status in response.model_version_status
        ]

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
        return {name: described(one) for name, one in in_json.items()}

    def model_names(self) -> list[str]:
        """See PredictClient: no call of gRPC lists them."""
        raise UsageError(
            "No gRPC call lists a server's models. Received: no name of a model. Name one; or ask over REST."
        )

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


def _model_spec(target: Target) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=target.model_name, signature_name=target.signature_name)
    if target.version is not None:
        spec.version.value = target.version
    elif target.label is not None:
        spec.version_label = target.label
    return spec


def _column(name: str, rows: Sequence[Row], dtype: str) -> Array:
    try:
        values = [row[name] for row in rows]
        if dtype == "DT_STRING":
            if any(isinstance(value, list) for value in values):
                return in_utf8(padded(pa.array(values, pa.list_(pa.string()))))
            return np.array([_to_bytes(value) for value in values], object)
        return np.array(values, tf.as_dtype(types_pb2.DataType.Value(dtype)).as_numpy_dtype)
    except KeyError:
        raise UsageError(f"Every row needs the same columns. Received: a row without {name!r}.") from None
    except (TypeError, ValueError, OverflowError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UsageError(f"Column {name!r} does not fit the model: {error}.") from None


def _to_bytes(value: Any) -> bytes:
    """Return bytes of a text, of bytes, or of bytes in JSON."""
    if isinstance(value, dict):
        return json_bytes.from_json(value)
    return value if isinstance(value, bytes) else str(value).encode()


def _rows(columns: Mapping[str, Array], num_rows: int) -> Iterator[dict[str, Any]]:
    lists = {name: _texts(array.tolist()) for name, array in columns.items()}
    for index in range(num_rows):
        yield {name: values[index] for name, values in lists.items()}


def _texts(values: Any) -> Any:
    if isinstance(values, list):
        return [_texts(value) for value in values]
    return values.decode(errors="replace") if isinstance(values, bytes) else values
