"""What clients of a server have in common: how they ask, whom, and what a request that failed ended with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import urlsplit

import numpy as np
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from kubetfx.artifacts import DEFAULT_SIGNATURE
from kubetfx.errors import RequestError
from kubetfx.proxies import proxy_of
from kubetfx.serving.status import Code, ServingError
from kubetfx.serving.version_state import State, VersionStatus
from kubetfx.tables import json_bytes

Row = Mapping[str, Any]

PICTURE_BYTES = 32 * 2**20
"""Maximum number of bytes of base64 in a request: a few large photographs are more than a server takes at once."""

_NUMPY_TYPES: Mapping[str, Any] = {
    "DT_FLOAT": np.float32,
    "DT_DOUBLE": np.float64,
    "DT_HALF": np.float16,
    "DT_INT8": np.int8,
    "DT_UINT8": np.uint8,
    "DT_INT16": np.int16,
    "DT_UINT16": np.uint16,
    "DT_INT32": np.int32,
    "DT_INT64": np.int64,
    "DT_UINT32": np.uint32,
    "DT_UINT64": np.uint64,
    "DT_BOOL": np.bool_,
    "DT_STRING": np.object_,
    "DT_COMPLEX64": np.complex64,
    "DT_COMPLEX128": np.complex128,
}
"""By TensorFlow's names. Cells of types that NumPy lacks, such as `DT_BFLOAT16`, are 32-bit numbers."""


class NotReachedError(ServingError):
    """What a request ended with on its way to the server: nobody answered, or somebody else."""


@dataclass(frozen=True)
class ClientOptions:
    """How a client asks."""

    batch_size: int = 256
    """Rows per request."""
    timeout_seconds: float = 30.0
    """Time for one request."""
    retry_seconds: float = 30.0
    """Time to go on asking a server that is unavailable. 0: it is asked once."""


@dataclass(frozen=True)
class Target:
    """The model to ask."""

    model_name: str
    """Name that the server has the model under."""
    version: int | None = None
    """None: the one that the server chooses, usually the newest."""
    label: str | None = None
    """Label of a version, instead of its number."""
    signature_name: str = DEFAULT_SIGNATURE


@dataclass(frozen=True)
class Signature:
    """What a model takes and returns under one name."""

    inputs: Mapping[str, str]
    """TensorFlow's name of the type of each input, such as `DT_FLOAT`."""
    outputs: Mapping[str, str]
    """The same of the outputs."""
    lists: tuple[str, ...] = ()
    """Inputs that are lists: (rows, any)."""


class InputType(NamedTuple):
    """What an input of a signature takes."""

    dtype: Any
    """NumPy's type; object for strings."""
    is_list: bool
    """Whether it is a list per row, of any length."""


class PredictClient(Protocol):
    """A client of a server. It is closed at the end of a `with` statement, or by `close`."""

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""

    def predict(self, target: Target, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """Ask for predictions, batch by batch.

        Args:
            target: the model.
            rows: each has a value for every input of the signature.

        Yields:
            An answer per row, in the order of the rows: a value by output. Strings come as str, all else as in JSON.

        Raises:
            RequestError: the server refused, or was unavailable for too long.
            UsageError: rows have different columns, or a column does not fit the model.
        """

    @property
    def server(self) -> str:
        """Address of the server, for errors."""

    def input_types(self, target: Target) -> dict[str, InputType]:
        """Ask what a signature takes.

        Args:
            target: the model and its signature.

        Returns:
            The type of each input.

        Raises:
            RequestError: as for `predict`.
        """
        signature = self.signature(target)
        return {
            name: InputType(_NUMPY_TYPES.get(dtype, np.float32), name in signature.lists)
            for name, dtype in signature.inputs.items()
        }

    def signature(self, target: Target) -> Signature:
        """Ask for one of the signatures of a version.

        Args:
            target: the model and its signature.

        Returns:
            The signature.

        Raises:
            RequestError: as for `predict`; FAILED_PRECONDITION if the model has no such signature.
        """
        found = self.signatures(target).get(target.signature_name)
        if found is None:
            message = f'Serving signature key "{target.signature_name}" not found.'
            raise RequestError(self.server, message, code=Code.FAILED_PRECONDITION)
        return found

    def signatures(self, target: Target) -> dict[str, Signature]:
        """Ask what a version can be asked for.

        Args:
            target: the model; its signature does not matter.

        Returns:
            The signatures by name.

        Raises:
            RequestError: as for `predict`.
        """

    def status(self, model_name: str) -> list[VersionStatus]:
        """Ask for the state of each version of a model.

        Args:
            model_name: as the server has it.

        Returns:
            A status per version, the newest first.

        Raises:
            RequestError: as for `predict`; NOT_FOUND if the server does not know the model.
        """

    def model_names(self) -> list[str]:
        """Find out which models the server serves.

        Returns:
            Their names, in order.

        Raises:
            RequestError: as for `predict`; or the server does not say.
            UsageError: the protocol has no such call.
        """


def with_retries(options: ClientOptions, address: str, ask: Any) -> Any:
    """Ask, and go on asking a server that is unavailable.

    Args:
        options: how long.
        address: The address of the server, for errors.
        ask: is called without an argument, and raises ServingError.

    Returns:
        What it returns.

    Raises:
        RequestError: the server refused, or was unavailable for too long.
    """
    try:
        return Retrying(
            retry=retry_if_exception(_is_worth_another_try),
            stop=stop_after_delay(options.retry_seconds),
            wait=wait_exponential_jitter(initial=0.05, max=2),
            reraise=True,
        )(ask)
    except ServingError as error:
        is_answer = not isinstance(error, NotReachedError)
        raise RequestError(address, error.message, code=error.code, is_answer=is_answer) from None


def _is_worth_another_try(error: BaseException) -> bool:
    return isinstance(error, ServingError) and error.code in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)


def batches(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """Cut rows into requests.

    Args:
        rows: to be sent.
        size: rows per request.

    Yields:
        Batches of this many rows, and of fewer rows with large pictures.
    """
    batch: list[Row] = []
    num_bytes = 0
    for row in rows:
        row_bytes = sum(len(value["b64"]) for value in row.values() if json_bytes.is_json(value))
        if batch and (len(batch) == size or num_bytes + row_bytes > PICTURE_BYTES):
            yield batch
            batch, num_bytes = [], 0
        batch.append(row)
        num_bytes += row_bytes
    if batch:
        yield batch


def through_proxy(address: str) -> str:
    """Say that a proxy is on the way, for the message of a request that failed there.

    Args:
        address: The address of the server.

    Returns:
        A further sentence; nothing if there is none.
    """
    proxy = proxy_of(address)
    host = urlsplit(address if "://" in address else f"//{address}").hostname
    return (
        f". The environment sends requests through the proxy {proxy}; around it goes NO_PROXY={host}" if proxy else ""
    )


def described(signature: Mapping[str, Any]) -> Signature:
    """Read a signature.

    Args:
        signature: a SignatureDef in JSON, with the names of its fields in the protocol.

    Returns:
        What it takes and returns.
    """
    inputs, outputs = (signature.get(part, {}) for part in ("inputs", "outputs"))
    shapes = {name: info.get("tensor_shape", {}).get("dim", []) for name, info in inputs.items()}
    return Signature(
        {name: info.get("dtype", "DT_INVALID") for name, info in inputs.items()},
        {name: info.get("dtype", "DT_INVALID") for name, info in outputs.items()},
        tuple(name for name, shape in shapes.items() if [str(one.get("size")) for one in shape] == ["-1", "-1"]),
    )


def version_status(version: int, state: State, code: Code, message: str) -> VersionStatus:
    """Return the status of a version.

    Args:
        version: its number.
        state: of the version.
        code: of what went wrong; OK: nothing did.
        message: on what went wrong.
    """
    return VersionStatus(version, state, None if code is Code.OK else ServingError(code, message))
