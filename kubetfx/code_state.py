"""The code of a run: kubetfx's own, the libraries, and the git commit that the run starts from."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Sequence
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
_MAX_NAMES = 20
"""Maximum number of changed files that are named."""


def code_of(folder: Path | None) -> Code:
    """Return the state of the code.

    Args:
        folder: The folder of pipeline.yaml; None if there is none, as in a pod.
    """
    return Code(kubetfx=own_version(), digest=code_digest(), git=git_state(folder, untracked="*.py"))


def git_state(
    folder: Path | None, *, only: Sequence[Path] = (), untracked: str = "", of_image: bool = True
) -> GitState | None:
    """Return the commit of the repository that a folder is in.

    Args:
        folder: The folder of the project; None: the commit of the image counts.
        only: The files whose changes count. Default: all files below the folder.
        untracked: A pattern of files below the folder that count as changed if git does not track them.
        of_image: Use the commit of the image if there is no repository.

    Returns:
        The commit; None without a repository, git or a commit.
    """
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if folder is not None:
            root, commit = _git(folder, "rev-parse", "--show-toplevel", "HEAD")
            places = list(map(str, only)) or ["."]
            changed = [line[3:] for line in _git(folder, "status", "--porcelain", "-uno", "--", *places)]
            if untracked:
                others = ("ls-files", "--others", "--exclude-standard", "--full-name", "--", untracked)
                changed += _git(folder, *others)
            return GitState(commit=commit, root=root, is_changed=bool(changed), changed=changed[:_MAX_NAMES])
    revision = os.environ.get(REVISION, "") if of_image else ""
    return GitState(commit=revision) if revision not in ("", "unknown") else None


def _git(folder: Path, *arguments: str) -> list[str]:
    """Return the output of git as lines."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # a run never waits for a concurrent commit
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS, env=environment, errors="replace"
    )
    return done.stdout.splitlines()


def libraries() -> dict[str, str]:
    """Return the versions of Python and of the libraries that nodes compute with."""
    found = {name: version_of(name) for name in _LIBRARIES}
    return {"python": platform.python_version()} | {name: version for name, version in found.items() if version}
