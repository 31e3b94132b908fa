"""The libraries of the pipeline: TFX, TensorFlow, Beam and all that they need, as the lock pins them.

`pip install kubetfx` installs what a client of a served model needs, and the checks of configs and packages. TFX's own
pins cannot be resolved by an installer (docs/decisions/0001-one-lock.md), so the rest is a list of exact versions that
is installed without looking at their dependencies.
"""

import importlib.util
import platform
import sys
from pathlib import Path

from kubetfx.errors import UsageError

_REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"
_PYTHON = (3, 11)
INSTALL = "kubetfx requirements > requirements.txt && pip install --no-deps -r requirements.txt"
"""Command that completes a light installation, in its environment."""


class MissingLibraryError(UsageError):
    """A library of the pipeline is needed, and only the light part of kubetfx is installed."""


def requirements() -> str:
    """Return the libraries of the pipeline with their versions, as pip reads them.

    Raises:
        UsageError: this Python is another one than they are for.
    """
    if sys.version_info[:2] != _PYTHON:
        raise UsageError(
            f"The libraries of the pipeline need Python 3.11, the last that all of them have wheels for. Received: "
            f"Python {platform.python_version()}. Install kubetfx into an environment of Python 3.11."
        )
    return _REQUIREMENTS.read_text(encoding="utf-8")


def explained(error: ModuleNotFoundError) -> MissingLibraryError | None:
    """Say what to do about an import that failed.

    Args:
        error: of the import.

    Returns:
        The error for the user; None if the libraries of the pipeline are installed, so something else is wrong.
    """
    top = (error.name or "").partition(".")[0]
    if top == "kubetfx" or importlib.util.find_spec("tfx") is not None:
        return None
    return MissingLibraryError(
        f"This needs the libraries of the pipeline, and only the light part of kubetfx is installed. Received: no "
        f"module {error.name!r}. Install them into this environment, about 3 GB, with Python 3.11: {INSTALL}"
    )
