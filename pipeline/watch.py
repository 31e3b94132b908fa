"""`kubetfx run --watch`: runs again when the config, the data or the user's module changes.

This process imports what takes seconds to import. Each run is a process forked from it, which leaves nothing behind
for the next. This process computes nothing, since TensorFlow cannot be forked once it was used.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubetfx.config.data_section import DataConfig
from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import KubetfxError
from kubetfx.pipeline.forked_runs import Interrupts, import_for_runs, sleep
from kubetfx.progress import Message, Progress
from kubetfx.serving.image_folders import pictures_below
from kubetfx.storage import is_url

POLL_SECONDS = 0.5
"""Interval between checks of the files. Notifications of the kernel do not reach network file systems and
containers.
"""
_SETTLE_SECONDS = 0.5
"""Time without a change before a run starts: files are written in pieces, and one after the other."""
_MAX_NAMED = 3
"""Number of changed files that are named."""

_FileState = tuple[int, int, int]
"""Inode, bytes, and time of the last change in nanoseconds."""


@dataclass(frozen=True)
class Watched:
    """The state of the files that a run depends on, at one moment."""

    places: tuple[str, ...]
    """What is watched, in words."""
    files: Mapping[Path, _FileState]
    is_whole: bool = True
    """False: the config has an error, so what else there is to watch is not known."""

    def changed_since(self, before: "Watched") -> list[Path]:
        """Return the files that were added, removed or written.

        Args:
            before: an earlier state.
        """
        names = {*self.files, *before.files}
        if not (self.is_whole and before.is_whole):
            names = {*self.files} & {*before.files}
        return sorted(name for name in names if self.files.get(name) != before.files.get(name))


def look(config_path: Path, overrides: Sequence[str]) -> Watched:
    """Read the state of the files that a run depends on.

    Args:
        config_path: pipeline.yaml.
        overrides: what `--set` puts over it.

    Returns:
        Their state; that of pipeline.yaml alone if it has an error.
    """
    places, files = [str(config_path)], [config_path]
    try:
        config = load_config(config_path, overrides=overrides)
    except KubetfxError:
        return Watched(tuple(places), _states(files), is_whole=False)
    if not is_url(config.data.path) and config.data.source is None:
        places.append(_relative(config.data.path))
        files += _data_files(config.data)
    for place, found in _other_files(config, config_path):
        places.append(place)
        files += found
    return Watched(tuple(places), _states(files))


def watch(config_path: Path, overrides: Sequence[str], progress: Progress, *, run: Callable[[], int]) -> int:
    """Run at once, and again after each change, until the process is interrupted.

    Args:
        config_path: pipeline.yaml.
        overrides: what `--set` puts over it.
        progress: is given messages on what is watched and what has changed.
        run: runs the pipeline, says how it went, and returns the exit code; called in a process of its own.

    Returns:
        The exit code: 0 if the interruption came between two runs, else that of the run that it ended.
    """
    try:
        config = load_config(config_path, overrides=overrides)
    except KubetfxError:
        config = None
    import_for_runs(config, progress)
    interrupts = Interrupts()
    while True:
        before = look(config_path, overrides)
        exit_code = interrupts.run(run)
        if interrupts.came:
            return exit_code
        progress(Message(f"Watching {', '.join(before.places)}. Ctrl-C ends it.", style="dim"))
        changed = _wait(config_path, overrides, before, interrupts)
        if interrupts.came:
            return 0
        names = ", ".join(_relative(path) for path in changed[:_MAX_NAMED])
        progress(Message(f"\nChanged: {names}{', ...' if len(changed) > _MAX_NAMED else ''}", style="bold"))


def _wait(config_path: Path, overrides: Sequence[str], before: Watched, interrupts: Interrupts) -> list[Path]:
    """Wait until files have changed and changes have stopped, and return the changed files."""
    pause = POLL_SECONDS
    while not interrupts.came:
        started = time.monotonic()
        now = look(config_path, overrides)
        if now.files != before.files:
            changed = _settled(config_path, overrides, now, interrupts).changed_since(before)
            if changed:  # else a file came and went
                return changed
        pause = max(POLL_SECONDS, 10 * (time.monotonic() - started))  # looking at 100,000 images takes a while
        sleep(pause, interrupts)
    return []


def _settled(config_path: Path, overrides: Sequence[str], now: Watched, interrupts: Interrupts) -> Watched:
    while not interrupts.came:
        sleep(_SETTLE_SECONDS, interrupts)
        later = look(config_path, overrides)
        if later.files == now.files:
            break
        now = later
    return now


def _data_files(data: DataConfig) -> Iterator[Path]:
    path = Path(re.sub(r"\{[^}]*\}", "*", data.path))  # {SPAN} and {VERSION}: a new one is a change
    root = Path(path.anchor or ".")
    found = [path] if path.is_dir() else list(root.glob(str(path.relative_to(path.anchor))))
    for place in found:
        if data.format == "images" and place.is_dir():
            with contextlib.suppress(OSError):  # removed meanwhile
                yield from map(Path, pictures_below(place))
        elif place.is_dir():
            yield from (entry for entry in place.iterdir() if entry.is_file() and not entry.name.startswith("."))
        else:
            yield place


def _other_files(config: PipelineConfig, config_path: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield single files that the config names, and the Python files beside it if it names a module."""
    for path in (config.data.schema_file, config.model.weights):
        if path and Path(path).is_file():
            yield _relative(path), [Path(path)]
    if (encoder := config.features.text_encoder.pretrained) and Path(encoder).is_dir():
        yield _relative(encoder), [file for file in Path(encoder).rglob("*") if file.is_file()]
    if config.own_modules:
        folder = config_path.resolve().parent
        packages = {module.partition(".")[0] for module in config.own_modules.values()}
        found = [*folder.glob("*.py"), *(file for package in packages for file in (folder / package).rglob("*.py"))]
        if found:  # else the module is installed
            yield _relative(folder / "*.py"), found


def _states(files: Iterable[Path]) -> dict[Path, _FileState]:
    states = {}
    for path in files:
        try:
            found = path.stat()
        except OSError:  # removed meanwhile, which is a change too
            continue
        states[path] = (found.st_ino, found.st_size, found.st_mtime_ns)
    return states


def _relative(path: str | Path) -> str:
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
