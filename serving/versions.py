"""The versions of every model: found on disk, loaded beside the one that answers, and dropped after their last request.

A thread polls the base paths. Requests read one published table and hold a version while they use it; they never wait
for the thread. Follows TensorFlow Serving's file_system_storage_path_source.cc and its availability-preserving policy.
"""

import gc
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.saved_model import SavedModel, is_saved_model
from kubetfx.serving.served_version import ServedVersion
from kubetfx.serving.status import Code, ServingError, invalid_argument
from kubetfx.serving.version_state import State, VersionStatus
from kubetfx.serving.warmup import warm_up

_LOG = logging.getLogger(__name__)

_MAX_VERSION = 2**63 - 1
_ENDED_VERSIONS_KEPT = 64
"""Unloaded versions that a model's status still lists: a server that runs for a year sees thousands."""

_Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class VersionOptions:
    """How versions are found and loaded."""

    poll_seconds: float = 1.0
    """Time between two looks at the base paths."""
    retry_seconds: float = 60.0
    """Time until a version that failed to load, and has not changed since, is tried again."""
    allow_labels_for_unavailable_versions: bool = False
    """Whether a new label may name a version that is not loaded yet."""


@dataclass(frozen=True)
class _Published:
    """What requests see of a model."""

    versions: Mapping[int, ServedVersion]
    labels: Mapping[str, int]
    latest: ServedVersion | None


@dataclass
class _Failure:
    """A load that failed, and when it is tried again."""

    fingerprint: _Fingerprint
    retry_at: float


@dataclass
class _Model:
    """What the polling thread knows of a model."""

    config: ModelConfig
    served: dict[int, ServedVersion] = field(default_factory=dict)
    statuses: dict[int, VersionStatus] = field(default_factory=dict)
    failures: dict[int, _Failure] = field(default_factory=dict)
    unreadable: bool = False


class ModelManager:
    """All models, by name."""

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        options: VersionOptions,
        *,
        on_load: Callable[[str, float], None] = lambda name, seconds: None,
    ) -> None:
        """Set up, without looking at the disk yet.

        Args:
            configs: the models.
            options: how versions are found and loaded.
            on_load: called after each load with the model's name and the seconds that it took.
        """
        self._options = options
        self._on_load = on_load
        self._models = {config.name: _Model(config) for config in configs}
        self._published: dict[str, _Published] = {}
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll_forever, name="model-versions", daemon=True)

    def start(self) -> None:
        """Load what there is, and poll from then on.

        Raises:
            ServingError: FAILED_PRECONDITION, a label names a version that is not available.
        """
        if not self._options.allow_labels_for_unavailable_versions:
            for model in self._models.values():
                _check_labels(model.config, None, allow_new=False)
        _freeze_heap()
        self.poll()
        if self._options.poll_seconds > 0:
            self._thread.start()

    def stop(self) -> None:
        """Stop polling, and unload everything after its last request."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._published = {}
            for model in self._models.values():
                for version in list(model.served):
                    self._finish(model, model.served.pop(version))

    def poll(self) -> None:
        """Look at the base paths once, and load and unload versions accordingly."""
        with self._lock:
            for model in list(self._models.values()):
                self._reconcile(model)

    def acquire(self, name: str, *, version: int | None = None, label: str | None = None) -> ServedVersion:
        """Hold a version, until it is released.

        Args:
            name: The name of the model.
            version: None: the one with the greatest number.
            label: instead of a version.

        Returns:
            The version; call its `release`.

        Raises:
            ServingError: NOT_FOUND, it is not served; INVALID_ARGUMENT, there is no such label, or no name.
        """
        while True:
            found = self._find(name, version, label)
            if found.acquire():
                return found

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Look up the state of a version, or of all versions of a model.

        Args:
            name: The name of the model.
            version: None: all.

        Returns:
            A status per version, the newest first. The last 64 unloaded versions are kept.

        Raises:
            ServingError: NOT_FOUND, there is none.
        """
        model = self._models.get(name)
        known = dict(model.statuses) if model else {}
        if version is not None:
            if version not in known:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
            return [known[version]]
        if not known:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return [known[number] for number in sorted(known, reverse=True)]

    def has(self, name: str) -> bool:
        """Return whether a model is configured.

        Args:
            name: The name of the model.
        """
        return name in self._models

    def serves(self, name: str) -> bool:
        """Return whether a model has a version that answers.

        Args:
            name: The name of the model.
        """
        published = self._published.get(name)
        return published is not None and published.latest is not None

    def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Serve these models from now on, and no others; return when the new ones are available.

        Args:
            configs: the models.

        Raises:
            ServingError: FAILED_PRECONDITION, a label names a version that is not available, and nothing has changed;
                UNKNOWN, a new model did not become available.
        """
        with self._lock:
            for config in configs:
                _check_labels(
                    config,
                    self._models.get(config.name),
                    allow_new=self._options.allow_labels_for_unavailable_versions,
                )
            old = self._models
            self._models = {config.name: _with_config(old.get(config.name), config) for config in configs}
            self.poll()
            for name in old.keys() - self._models.keys():
                self._drop(old[name])
            self._check_available(self._models.keys() - old.keys())

    def _find(self, name: str, version: int | None, label: str | None) -> ServedVersion:
        if not name:
            raise invalid_argument("ModelSpec has no name specified.")
        published = self._published.get(name)
        if label is not None:
            if published is None or label not in published.labels:
                raise invalid_argument(f"Unrecognized servable version label: {label}")
            version = published.labels[label]
        if version is None:
            found = published.latest if published else None
        else:
            found = published.versions.get(version) if published else None
        if found is None:
            request = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {request}")
        return found

    def _poll_forever(self) -> None:
        while not self._stopping.wait(self._options.poll_seconds):
            try:
                self.poll()
            except Exception:  # the thread is the only one that will ever load a version
                _LOG.exception("polling failed")

    def _reconcile(self, model: _Model) -> None:
        try:
            found = _version_paths(model.config.base_path)
        except OSError as error:
            if not model.unreadable:
                _LOG.warning(
                    "model %s: %s cannot be read, what is served stays: %s",
                    model.config.name,
                    model.config.base_path,
                    error,
                )
            model.unreadable = True
            self._publish(model)
            return
        model.unreadable = False
        for version in model.served.keys() - found.keys():
            path = model.config.base_path / str(version)
            if path.is_dir():  # an NFS listing may lag behind
                found[version] = path
        whole = {version for version, path in found.items() if is_saved_model(path)} | (
            model.served.keys() & found.keys()
        )
        aspired = model.config.policy.choose(whole)
        self._note_unfinished(model, found, whole)
        for version in sorted(aspired - model.served.keys()):
            self._load(model, version, found[version])
        self._publish(model)
        if not aspired or aspired & model.served.keys():
            for version in sorted(model.served.keys() - aspired):
                self._retire(model, version)

    def _note_unfinished(self, model: _Model, found: Mapping[int, Path], whole: set[int]) -> None:
        for version in model.config.policy.choose(found) - whole:
            missing = f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {found[version]}"
            model.statuses[version] = VersionStatus(version, State.START, ServingError(Code.NOT_FOUND, missing))
        for version in [version for version, status in model.statuses.items() if status.error]:
            if version not in found:  # it never was a version
                del model.statuses[version]
                model.failures.pop(version, None)

    def _load(self, model: _Model, version: int, path: Path) -> None:
        before = _fingerprint(path)
        failure = model.failures.get(version)
        if failure and failure.fingerprint == before and time.monotonic() < failure.retry_at:
            return
        name = model.config.name
        model.statuses[version] = VersionStatus(version, State.LOADING)
        started = time.perf_counter()
        try:
            loaded = self._load_whole(path, before)
        except ServingError as error:
            _LOG.warning("model %s version %d: not loaded, will be tried again: %s", name, version, error)
            # Files that are not there: it may have been taken away meanwhile, and be back as it was.
            is_forgiven = error.code is Code.NOT_FOUND and not (failure and failure.fingerprint == before)
            delay = 0.0 if is_forgiven else self._options.retry_seconds
            model.failures[version] = _Failure(before, time.monotonic() + delay)
            model.statuses[version] = VersionStatus(version, State.START if is_forgiven else State.END, error)
            return
        model.failures.pop(version, None)
        model.served[version] = ServedVersion(name, version, loaded)
        model.statuses[version] = VersionStatus(version, State.AVAILABLE)
        self._on_load(name, time.perf_counter() - started)
        _LOG.info("model %s version %d: available", name, version)

    def _load_whole(self, path: Path, before: _Fingerprint) -> SavedModel:
        loaded = SavedModel(path)
        try:
            warm_up(loaded, path)
            if _fingerprint(path) != before:
                raise ServingError(Code.UNAVAILABLE, f"{path} changed while it was loaded")
        except ServingError:
            loaded.close()
            gc.collect()
            raise
        return loaded

    def _publish(self, model: _Model) -> None:
        served = dict(model.served)
        latest = served[max(served)] if served else None
        table = dict(self._published)
        table[model.config.name] = _Published(served, dict(model.config.labels), latest)
        self._published = table

    def _drop(self, model: _Model) -> None:
        table = dict(self._published)
        table.pop(model.config.name, None)
        self._published = table
        for version in list(model.served):
            self._retire(model, version)

    def _retire(self, model: _Model, version: int) -> None:
        """Unload in another thread, since the last request may take long."""
        served = model.served.pop(version)
        if model.config.name in self._models:
            self._publish(model)
        model.statuses[version] = VersionStatus(version, State.UNLOADING)
        threading.Thread(target=self._finish, args=(model, served), name="model-unload", daemon=True).start()

    def _finish(self, model: _Model, served: ServedVersion) -> None:
        served.retire()
        if model.statuses.get(served.version, VersionStatus(0, State.END)).state == State.UNLOADING:
            model.statuses[served.version] = VersionStatus(served.version, State.END)
        ended = sorted(version for version, status in dict(model.statuses).items() if status.state == State.END)
        for version in ended[:-_ENDED_VERSIONS_KEPT]:
            model.statuses.pop(version, None)
        _LOG.info("model %s version %d: unloaded", served.model_name, served.version)

    def _check_available(self, names: set[str]) -> None:
        missing = {name: self._models[name] for name in sorted(names) if not self._models[name].served}
        if missing:
            reasons = [
                f"{{{{name: {name} version: {status.version}}} due to error: {status.error}}}, "
                for name, model in missing.items()
                for status in model.statuses.values()
            ]
            raise ServingError(
                Code.UNKNOWN, f"{len(missing)} model(s) did not become available: {{{''.join(reasons)}}}"
            )


def _freeze_heap() -> None:
    """Take what was imported out of garbage collection, which with TensorFlow stops every thread for 200 ms."""
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def _with_config(model: _Model | None, config: ModelConfig) -> _Model:
    if model is None:
        return _Model(config)
    model.config = config
    return model


def _check_labels(config: ModelConfig, model: _Model | None, *, allow_new: bool) -> None:
    served = model.served if model else {}
    labels = model.config.labels if model else {}
    for label, version in config.labels.items():
        moved = labels.get(label, version) != version
        if version not in served and (moved or not allow_new):
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"Request to assign label to version {version} of model {config.name}, which is not currently "
                "available for inference",
            )


def _version_paths(base_path: Path) -> dict[int, Path]:
    found: dict[int, Path] = {}
    with os.scandir(base_path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if re.fullmatch(r"[0-9]{1,19}", entry.name) and int(entry.name) <= _MAX_VERSION and entry.is_dir():
                found[int(entry.name)] = Path(entry.path)
    return found


def _fingerprint(path: Path) -> _Fingerprint:
    """Return names, sizes and times of a folder's files: what differs while somebody writes it."""
    files = []
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            try:
                status = os.stat(file)
            except OSError:
                files.append((file, -1, 0))
            else:
                files.append((file, status.st_size, status.st_mtime_ns))
    return tuple(sorted(files))
