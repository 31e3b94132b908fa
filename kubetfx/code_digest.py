"""Digests of what nodes depend on besides config and data: kubetfx's own code and its numerical libraries."""

import functools
import hashlib
from pathlib import Path

from kubetfx.version import library_version

_CODE = frozenset({".py", ".j2", ".css"})
"""Suffixes of the files that decide what a node does."""
_LIBRARIES = ("tensorflow", "keras", "tfx", "tensorflow-transform", "tensorflow-model-analysis")


@functools.lru_cache(maxsize=4)
def code_digest(folders: tuple[str, ...] = ("components", "models")) -> str:
    """Return a digest of kubetfx's code and of the versions of the libraries that nodes compute with.

    Args:
        folders: The folders of kubetfx whose code counts.
    """
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for file in sorted(file for folder in folders for file in (root / folder).rglob("*") if file.suffix in _CODE):
        digest.update(file.read_bytes())
    for library in _LIBRARIES:
        digest.update(f"{library} {library_version(library)}".encode())
    return digest.hexdigest()
