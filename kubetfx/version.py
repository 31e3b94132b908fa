"""The version of kubetfx."""

import tomllib
from importlib import metadata
from pathlib import Path


def own_version() -> str:
    """The version: of a checkout or an image by its pyproject.toml, elsewhere by the installed package's metadata."""
    pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
    if pyproject.is_file():
        return str(tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("kubetfx")
