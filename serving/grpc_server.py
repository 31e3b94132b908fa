"""The gRPC API: PredictionService and ModelService to the data plane and back, with health service and reflection."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from kubetfx.artifacts import DEFAULT_SIGNATURE
from kubetfx.serving import responses
from kubetfx.serving.data_plane import DataPlane, ModelReference
from kubetfx.serving.model_config import from_message
from kubetfx.serving.served_version import ServedVersion
from kubetfx.serving.status import Code, ServingError, invalid_argument
from kubetfx.serving.tensor_proto import to_array
from kubetfx.serving.warmup import examples_of, tasks_of

_LOG = logging.getLogger(__name__)

_SERVICES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
_HEALTH_NAMES = ("", *_SERVICES, "PredictionService", "ModelService")
"""Kubernetes asks for the empty name; TensorFlow Serving knows the short ones."""

_MAX_ERROR_LENGTH = 1024
_SIGNATURE_DEF = "signature_def"


@dataclass(frozen=True)
class GrpcOptions:
    """Limits of the gRPC API."""

    max_message_bytes: int = 128 * 2**20
    """Maximum number of bytes of a request or response."""
    access_log: bool = False
    """Whether each request is logged with its status and time."""


class GrpcServer:
    """The server and its services."""

    def __init__(self, plane: DataPlane, options: GrpcOptions) -> None:
        """Set up all services; no port is taken yet.

        Args:
            plane: answers the requests.
            options: limits, and whether there is an access log.
        """
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", options.max_message_bytes),
                ("grpc.max_send_message_length", options.max_message_bytes),
                ("grpc.so_reuseport", 0),
            ],
        )
        self._health = health.aio.HealthServicer()
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _PredictionService(plane, options), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(plane), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self._server)

    def bind(self, host: str, port: int) -> int:
        """Take a port.

        Args:
            host: address to listen at.
            port: 0: any that is free.

        Returns:
            The port that was taken.

        Raises:
            OSError: it is not free.
        """
        try:
            bound = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(str(error)) from None
        if not bound:
            raise OSError(f"{host}:{port} cannot be bound")
        return int(bound)

    async def start(self) -> None:
        """Answer requests."""
        await self._server.start()
        for name in _HEALTH_NAMES:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_seconds: float) -> None:
        """Take no more requests, and let those under way end.

        Args:
            grace_seconds: time that they have.
        """
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, plane: DataPlane, options: GrpcOptions) -> None:
        self._plane = plane
        self._options = options

    async def Predict(self, request: Any, context: Any) -> Any:
        """PredictionService.Predict."""
        return await self._answer("Predict", request, context, self._predict)

    async def Classify(self, request: Any, context: Any) -> Any:
        """PredictionService.Classify."""
        return await self._answer("Classify", request, context, self._classify)

    async def Regress(self, request: Any, context: Any) -> Any:
        """PredictionService.Regress."""
        return await self._answer("Regress", request, context, self._regress)

    async def MultiInference(self, request: Any, context: Any) -> Any:
        """PredictionService.MultiInference."""
        return await self._answer("MultiInference", request, context, self._multi_inference)

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """PredictionService.GetModelMetadata."""
        try:
            return _metadata(self._plane, request)
        except ServingError as error:
            return await _abort(context, error)

    async def _answer(
        self, api: str, request: Any, context: Any, handler: Callable[[Any, float | None], Awaitable[Any]]
    ) -> Any:
        started = time.perf_counter()
        code = Code.OK
        try:
            return await handler(request, context.time_remaining())
        except ServingError as error:
            code = error.code
            return await _abort(context, error)
        except Exception:
            code = Code.INTERNAL
            _LOG.exception("%s failed", api)
            return await _abort(context, ServingError(code, "Internal error; the server's log has the details."))
        finally:
            seconds = time.perf_counter() - started
            model = request.tasks[0].model_spec.name if api == "MultiInference" and request.tasks else ""
            model = model or ("" if api == "MultiInference" else request.model_spec.name)
            is_served = self._plane.manager.has(model)
            self._plane.metrics.count_request(model, api, "GRPC", code, seconds, is_served=is_served)
            if self._options.access_log:
                _LOG.info("GRPC %s %s %s %.2f ms", api, model, code.name, seconds * 1e3)

    async def _predict(self, request: Any, timeout: float | None) -> Any:
        with self._plane.hold(_reference(request)) as version:
            signature = version.model.signature(request.model_spec.signature_name or DEFAULT_SIGNATURE).signature
            inputs = {alias: to_array(tensor, alias) for alias, tensor in request.inputs.items()}
            outputs = await self._plane.predict(
                version, signature, inputs, output_filter=request.output_filter, timeout_seconds=timeout
            )
        return responses.predict_response(version, signature.name, outputs)

    async def _classify(self, request: Any, timeout: float | None) -> Any:
        return responses.classification_response(*await self._infer(self._plane.classify, request, timeout))

    async def _regress(self, request: Any, timeout: float | None) -> Any:
        return responses.regression_response(*await self._infer(self._plane.regress, request, timeout))

    async def _infer(
        self, ask: Callable[..., Awaitable[Any]], request: Any, timeout: float | None
    ) -> tuple[ServedVersion, str, Any]:
        name = request.model_spec.signature_name
        with self._plane.hold(_reference(request)) as version:
            return version, name, await ask(version, name, examples_of(request.input), timeout_seconds=timeout)

    async def _multi_inference(self, request: Any, timeout: float | None) -> Any:
        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        tasks = tasks_of(request.tasks)
        with self._plane.hold(_reference_of(spec)) as version:
            results = await self._plane.multi_inference(
                version, tasks, examples_of(request.input), timeout_seconds=timeout
            )
        return responses.multi_inference_response(version, tasks, results)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def GetModelStatus(self, request: Any, context: Any) -> Any:
        """ModelService.GetModelStatus."""
        try:
            statuses = self._plane.status(_reference(request))
        except ServingError as error:
            return await _abort(context, error)
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in statuses:
            part = response.model_version_status.add(version=status.version, state=int(status.state))
            part.status.error_code = int(status.error.code) if status.error else 0
            part.status.error_message = status.error.message if status.error else ""
        return response

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        """ModelService.HandleReloadConfigRequest."""
        metrics, manager = self._plane.metrics, self._plane.manager
        before = {name: metrics.first_value(name) for name in request.metric_names}
        try:
            await self._plane.reload(from_message(request.config, is_served=manager.has))
        except ServingError as error:
            return await _abort(context, error)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = 0
        for name, value in before.items():
            response.metric.add(name=name, int64_value_increase=metrics.first_value(name) - value)
        return response


async def _abort(context: Any, error: ServingError) -> None:
    message = error.message
    if len(message) > _MAX_ERROR_LENGTH:
        message = message[:_MAX_ERROR_LENGTH] + "...TRUNCATED"
    await context.abort(_GRPC_CODES[error.code], message)


_GRPC_CODES = {Code(code.value[0]): code for code in grpc.StatusCode}


def _reference(request: Any) -> ModelReference:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    return _reference_of(request.model_spec)


def _reference_of(spec: Any) -> ModelReference:
    choice = spec.WhichOneof("version_choice")
    return ModelReference(
        spec.name,
        version=spec.version.value if choice == "version" else None,
        label=spec.version_label if choice == "version_label" else None,
    )


def _metadata(plane: DataPlane, request: Any) -> Any:
    reference = _reference(request)
    if not request.metadata_field:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for name in request.metadata_field:
        if name != _SIGNATURE_DEF:
            raise invalid_argument(f"Metadata field {name} is not supported")
    spec, signatures = plane.metadata(reference)
    response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=spec)
    response.metadata[_SIGNATURE_DEF].Pack(signatures)
    return response
