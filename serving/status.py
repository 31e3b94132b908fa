"""Status codes and the error that every layer of the server raises.

The codes are those of absl::Status, which gRPC and TensorFlow share. Which HTTP status one becomes is rest.py's to say.
"""

import enum
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a client does without TensorFlow
    from tensorflow.errors import OpError


class Code(enum.IntEnum):
    """Canonical status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ServingError(Exception):
    """A request, or the load of a model, that failed with a status a client may see.

    Args:
        code: The code of the status.
        message: for the client, in TensorFlow Serving's words where it has some.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """Return the form in which absl::Status prints itself: some messages quote others in it."""
        return f"{self.code.name}: {self.message}"


def invalid_argument(message: str) -> ServingError:
    """Return the error of a request that is wrong in itself.

    Args:
        message: for the client.
    """
    return ServingError(Code.INVALID_ARGUMENT, message)


def from_tensorflow(error: "OpError") -> ServingError:
    """Return the status that a TensorFlow operation ended with.

    Args:
        error: what the operation raised.
    """
    return ServingError(Code(error.error_code), error.message or type(error).__name__)


def in_words(message: str) -> str:
    """Shorten an error of TensorFlow to what tells a user something.

    Args:
        message: The message of the error, with the nodes of the graph in it.

    Returns:
        The text of an assertion, or the first line that is not about a node.
    """
    if asserted := re.search(r"assertion failed: \[([^\]]*)\]", message):
        return asserted[1]
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["it does not say why"]
    nodes = [number for number, line in enumerate(lines[:-1]) if line.startswith("Node: ")]
    return lines[nodes[-1] + 1] if nodes else lines[0]
