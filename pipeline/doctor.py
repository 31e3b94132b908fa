"""`kubetfx doctor`: checks that this machine, and the engine of a config, meet the needs of a run."""

import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kubetfx.byte_counts import readable
from kubetfx.components.data import beam_mode
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.engine import arguments as engine_arguments
from kubetfx.engine.session import Session
from kubetfx.errors import KubetfxError, UsageError
from kubetfx.pipeline import preflight
from kubetfx.progress import Begin, End, Progress, silent
from kubetfx.redirection import logged_to
from kubetfx.storage import nearest_existing
from kubetfx.user_code import importable

_PYTHON = (3, 11)
"""The Python version of the lock."""
_FREE_BYTES = 1 << 30
"""For the workspace's disk: below it, a run of some size does not end."""


@dataclass(frozen=True)
class Check:
    """The result of a check."""

    name: str
    passed: bool
    detail: str
    """The finding; or the problem, and the remedy."""


def examine(config: PipelineConfig, *, progress: Progress = silent) -> list[Check]:
    """Check this machine, and run three rows through the engine of a config.

    Args:
        config: The config of the pipeline.
        progress: is called with what is being examined.

    Returns:
        The checks, without those that depend on a failed one.
    """
    local = [
        _check("Python", _python),
        _check("Workspace", lambda: _workspace(config)),
        _check("Disk", lambda: _disk(config.workspace_path)),
        _check("Options", lambda: _options(config)),
    ]
    if not all(check.passed for check in local):
        return local
    progress(Begin("Running three rows"))
    with importable(config.folder):
        engine = _check("Engine", lambda: _engine(config))
    progress(End())
    return [*local, engine]


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except KubetfxError as error:
        return Check(name, False, str(error))


def _python() -> str:
    if sys.version_info[:2] != _PYTHON:
        wanted = ".".join(map(str, _PYTHON))
        raise UsageError(
            f"kubetfx needs Python {wanted}, which its lock is for. Received: {platform.python_version()}. Install it."
        )
    return platform.python_version()


def _workspace(config: PipelineConfig) -> str:
    preflight.check_workspace(config)
    bucket = config.artifacts.bucket
    return f"{bucket}, and {config.workspace_path} for what stays here" if bucket else str(config.workspace_path)


def _disk(workspace: Path) -> str:
    existing = nearest_existing(workspace)
    free = shutil.disk_usage(existing).free
    if free < _FREE_BYTES:
        raise UsageError(
            f"The disk of the workspace is nearly full. Received: {readable(free)} free at {existing}. Free "
            "some, or set another workspace."
        )
    return f"{readable(free)} free"


def _options(config: PipelineConfig) -> str:
    engine_arguments.check(config.beam)
    return " ".join(config.beam.command_line) or "the defaults"


def _engine(config: PipelineConfig) -> str:
    threads = beam_mode.num_threads(config.beam.command_line)
    if threads is not None:
        return f"{threads} threads of this machine, without Beam"
    config.workspace_path.mkdir(parents=True, exist_ok=True)
    session = Session.of(config)
    with logged_to(config.workspace_path / "doctor.log"):
        from kubetfx.engine.examination import examine_engine

        beam_mode.prepare_workers(session.arguments)
        workers = examine_engine(session)
    return f"{session.engine}: {'; '.join(map(str, workers))}"
