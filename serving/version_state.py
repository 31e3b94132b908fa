"""The state of a version of a model, as clients and servers say it."""

import enum
from dataclasses import dataclass

from kubetfx.serving.status import ServingError


class State(enum.IntEnum):
    """State of a version, with the numbers of ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """State of a version, and the error that led to it."""

    version: int
    state: State
    error: ServingError | None = None
    """Why the version is not served, if something failed."""
