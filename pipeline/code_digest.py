"""Digests of what decides what nodes do besides config and data: our code, the libraries that compute."""

import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

_CODE = frozenset({".py", ".j2", ".css"})
"""Suffixes of the files that decide what a node does."""
_LIBRARIES = ("tensorflow", "keras", "tfx", "tensorflow-transform", "tensorflow-model-analysis")


def code_digest(folders: Sequence[str] = ("components", "models")) -> str:
    """Of the code in these folders of kubetfx, and of the libraries' versions."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for file in sorted(file for folder in folders for file in (root / folder).rglob("*") if file.suffix in _CODE):
        digest.update(file.read_bytes())
    for library in _LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}".encode())
    return digest.hexdigest()
