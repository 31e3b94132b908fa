"""The versions of kubetfx, and of the libraries that it computes with."""

import tomllib
from importlib import metadata
from pathlib import Path

from kubetfx.engine.probe import version_of


def own_version() -> str:
    """Return the version.

    It is that of a checkout or an image by its pyproject.toml, elsewhere by the installed package's metadata.
    """
    pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
    if pyproject.is_file():
        return str(tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("kubetfx")


def library_version(library: str) -> str:
    """Return the version of a library.

    Args:
        library: its name in the package index; `tensorflow` also stands for the one without GPU kernels.

    Raises:
        importlib.metadata.PackageNotFoundError: it is not installed.
    """
    version = version_of(library)
    if version is None:
        raise metadata.PackageNotFoundError(library)
    return version
