"""The data plane: predictions, classifications, regressions, status and metadata of models, whatever the protocol.

rest.py and grpc_server.py translate to it and from it. All of it belongs to one event loop, which waits for no graph.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from google.protobuf import wrappers_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2

from kubetfx.arrays import Array
from kubetfx.serving import inference
from kubetfx.serving.batching import BatchingParameters, Scheduler, SessionThreads
from kubetfx.serving.inference import Classification, GraphCall, Regression, Task
from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.prometheus import Metrics
from kubetfx.serving.request_log import RequestLog
from kubetfx.serving.saved_model import Signature
from kubetfx.serving.served_version import ServedVersion
from kubetfx.serving.status import Code, ServingError
from kubetfx.serving.version_state import VersionStatus
from kubetfx.serving.versions import ModelManager

_THREADS_PER_CORE = 4


@dataclass(frozen=True, slots=True)
class ModelReference:
    """The model that a request asks for."""

    name: str
    version: int | None = None
    """None: the one with the greatest number."""
    label: str | None = None
    """Label of a version, instead of its number."""


@dataclass(frozen=True)
class DataPlaneOptions:
    """Limits, and how graphs are called."""

    max_concurrent_requests: int = 1024
    """Requests at once; more are refused as RESOURCE_EXHAUSTED."""
    num_session_threads: int = 0
    """Threads that call graphs. 0: four for each core, so that a few slow calls do not hold up the others."""
    batching: BatchingParameters | None = None
    """How requests are put together; None: each has its own call."""


class DataPlane:
    """Answers requests from the models of a manager."""

    def __init__(
        self, manager: ModelManager, options: DataPlaneOptions, metrics: Metrics, log: RequestLog | None = None
    ) -> None:
        """Set up, in the event loop that requests come in.

        Args:
            manager: of the models to answer from.
            options: limits, and how graphs are called.
            metrics: where requests and their times are counted.
            log: takes a sample of the requests that were answered; None: there is no log.
        """
        self.manager = manager
        self.metrics = metrics
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._options = options
        self._threads = SessionThreads(
            options.num_session_threads or _THREADS_PER_CORE * (os.cpu_count() or 1), self._loop
        )
        self._scheduler = Scheduler(self._threads, options.batching, self._loop)
        self._calls = 0

    def close(self) -> None:
        """End the threads. Requests must be over."""
        self._threads.close()

    @contextmanager
    def hold(self, reference: ModelReference) -> Iterator[ServedVersion]:
        """Hold a version, so that it is not unloaded within the block.

        Args:
            reference: the model that a request asks for.

        Yields:
            The version.

        Raises:
            ServingError: it is not served.
        """
        version = self.manager.acquire(reference.name, version=reference.version, label=reference.label)
        try:
            yield version
        finally:
            version.release()

    async def predict(
        self,
        version: ServedVersion,
        signature: Signature,
        inputs: Mapping[str, Array],
        *,
        output_filter: Sequence[str] = (),
        timeout_seconds: float | None = None,
    ) -> dict[str, Array]:
        """Run a signature.

        Args:
            version: a version that the caller holds.
            signature: one of its signatures.
            inputs: an array by input, of exactly the input's type; strings are objects.
            output_filter: outputs to compute; empty for all.
            timeout_seconds: time to answer in; None: any.

        Returns:
            An array by output.

        Raises:
            ServingError: the request is wrong, the graph failed, there are too many requests, or it took too long.
        """
        call, outputs = inference.predict_call(signature, inputs, output_filter)
        tensors = await self._run(version, call, "Predict", timeout_seconds)
        answer = dict(zip(outputs, tensors, strict=True))
        if self._log and (sampled := self._log.sample(version, signature.name)):
            sampled.predict(inputs, output_filter, answer)
        return answer

    async def classify(
        self,
        version: ServedVersion,
        signature_name: str,
        examples: Sequence[bytes],
        *,
        timeout_seconds: float | None = None,
    ) -> Classification:
        """Classify tf.Examples.

        Args:
            version: a version that the caller holds.
            signature_name: of a classifier; empty for the default.
            examples: serialized tf.Examples.
            timeout_seconds: time to answer in; None: any.

        Returns:
            Labels and scores, a row per example.

        Raises:
            ServingError: as for `predict`.
        """
        signature = inference.example_signature(version.model, signature_name)
        call = inference.classify_call(signature, examples)
        tensors = await self._run(version, call, "Classify", timeout_seconds)
        self.metrics.count_examples(version.model_name, len(examples))
        answer = inference.classification(signature, tensors, len(examples))
        if self._log and (sampled := self._log.sample(version, signature_name)):
            sampled.classify(examples, answer)
        return answer

    async def regress(
        self,
        version: ServedVersion,
        signature_name: str,
        examples: Sequence[bytes],
        *,
        timeout_seconds: float | None = None,
    ) -> Regression:
        """Regress tf.Examples.

        Args:
            version: a version that the caller holds.
            signature_name: of a regressor; empty for the default.
            examples: serialized tf.Examples.
            timeout_seconds: time to answer in; None: any.

        Returns:
            A value per example.

        Raises:
            ServingError: as for `predict`.
        """
        signature = inference.example_signature(version.model, signature_name)
        call = inference.regress_call(signature, examples)
        (tensor,) = await self._run(version, call, "Regress", timeout_seconds)
        self.metrics.count_examples(version.model_name, len(examples))
        answer = inference.regression(tensor, len(examples))
        if self._log and (sampled := self._log.sample(version, signature_name)):
            sampled.regress(examples, answer)
        return answer

    async def multi_inference(
        self,
        version: ServedVersion,
        tasks: Sequence[Task],
        examples: Sequence[bytes],
        *,
        timeout_seconds: float | None = None,
    ) -> list[Classification | Regression]:
        """Answer several tasks over the same tf.Examples, in one call of the graph.

        Args:
            version: a version that the caller holds.
            tasks: classifiers and regressors, each of another signature.
            examples: serialized tf.Examples.
            timeout_seconds: time to answer in; None: any.

        Returns:
            A result per task, in their order.

        Raises:
            ServingError: as for `predict`.
        """
        call = inference.multi_inference_call(version.model, tasks, examples)
        tensors = await self._run(version, call, "MultiInference", timeout_seconds)
        self.metrics.count_examples(version.model_name, len(examples))
        answers = [
            inference.multi_inference_result(version.model, task, call, tensors, len(examples)) for task in tasks
        ]
        if self._log and (sampled := self._log.sample(version, tasks[0].signature_name)):
            sampled.multi_inference(tasks, examples, answers)
        return answers

    def metadata(self, reference: ModelReference) -> tuple[model_pb2.ModelSpec, get_model_metadata_pb2.SignatureDefMap]:
        """Describe a version.

        Args:
            reference: the model that is asked for.

        Returns:
            Its name and version, and its signatures.

        Raises:
            ServingError: it is not served.
        """
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self.hold(reference) as version:
            for name, signature in version.model.signatures.items():
                signatures.signature_def[name].CopyFrom(signature.proto)
            spec = model_pb2.ModelSpec(name=version.model_name, version=wrappers_pb2.Int64Value(value=version.version))
        return spec, signatures

    def status(self, reference: ModelReference) -> list[VersionStatus]:
        """Look up the state of a model's versions.

        Args:
            reference: the model. As in TensorFlow Serving, a label does not narrow the answer.

        Returns:
            A status per version, the newest first.

        Raises:
            ServingError: NOT_FOUND, there is no such model or version.
        """
        return self.manager.statuses(reference.name, reference.version)

    async def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Serve these models from now on, and no others, and log what their configs say.

        Args:
            configs: the models.

        Raises:
            ServingError: see ModelManager.reload.
        """
        await asyncio.to_thread(self.manager.reload, configs)
        if self._log:
            self._log.configure(configs)

    async def _run(
        self, version: ServedVersion, call: GraphCall, api: str, timeout_seconds: float | None
    ) -> list[Array]:
        if self._calls >= self._options.max_concurrent_requests:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED,
                f"Too many requests at once: {self._calls}. Try again later, or raise max_concurrent_requests "
                f"({self._options.max_concurrent_requests}).",
            )
        if timeout_seconds is not None and timeout_seconds <= 0:
            raise _deadline_exceeded()
        started = time.perf_counter()
        version.retain()
        self._calls += 1
        future = self._scheduler.submit(version, call, self._done)
        if timeout_seconds is None:
            tensors = await future
        else:
            timer = self._loop.call_later(timeout_seconds, _expire, future)
            try:
                tensors = await future
            finally:
                timer.cancel()
        self.metrics.observe_runtime(version.model_name, api, time.perf_counter() - started)
        return tensors

    def _done(self) -> None:
        self._calls -= 1


def _expire(future: "asyncio.Future[list[Array]]") -> None:
    if not future.done():
        future.set_exception(_deadline_exceeded())


def _deadline_exceeded() -> ServingError:
    return ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
