"""What computes now: kubetfx's code, the libraries, and the git commit that a run is started in."""

import contextlib
import os
import platform
import subprocess
from pathlib import Path

from kubetfx.code_digest import code_digest
from kubetfx.engine.probe import version_of
from kubetfx.provenance import Code, GitState
from kubetfx.version import own_version

REVISION = "KUBETFX_REVISION"
"""Environment variable of an image with the git commit that it was built from."""
_LIBRARIES = (
    "tfx",
    "tensorflow",
    "keras",
    "tensorflow-transform",
    "tensorflow-model-analysis",
    "lightgbm",
    "numpy",
    "pandas",
    "pyarrow",
)
_GIT_SECONDS = 10


def code_of(folder: Path | None) -> Code:
    """Return what computes now.

    Args:
        folder: of pipeline.yaml; None: there is none, as in a pod.
    """
    return Code(kubetfx=own_version(), digest=code_digest(), git=git_state(folder))


def git_state(folder: Path | None) -> GitState | None:
    """Return the commit of the repository that a folder is in.

    Args:
        folder: of the project; None: that of the image counts.

    Returns:
        The commit; None where there is no repository, no git, or no commit.
    """
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if folder is not None:
            commit = _git(folder, "rev-parse", "HEAD")
            return GitState(commit=commit, is_changed=bool(_git(folder, "status", "--porcelain", "-uno", "--", ".")))
    revision = os.environ.get(REVISION, "")
    return GitState(commit=revision) if revision not in ("", "unknown") else None


def _git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # a run never waits for somebody's commit
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS, env=environment, errors="replace"
    )
    return done.stdout.strip()


def libraries() -> dict[str, str]:
    """Return the versions of Python and of the libraries that nodes compute with."""
    found = {name: version_of(name) for name in _LIBRARIES}
    return {"python": platform.python_version()} | {name: version for name, version in found.items() if version}
