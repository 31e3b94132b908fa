"""Avoids unneeded imports, which take longer than the work of many nodes.

TFX and Keras import more than they need. Optional modules are hidden (None in
`sys.modules`). Packages that import all of their modules are executed only when a name of theirs is asked for:
`tfx.components`, unless there is an Evaluator, for which it completes TFMA (`tfma.EvalConfig`); TFDV, of which
SchemaGen needs one module; and TFMA, of which we need the messages.
"""

import contextlib
import gc
import importlib
import importlib.abc
import importlib.util
import os
import sys
import types
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

_UNUSED_BY_LIGHT = ("IPython", "setuptools", "sklearn")
"""Keras looks for the first and the last, TFX's artifacts for setuptools. TFMA needs the first, so only light executors
go without."""

_UNUSED_WITHOUT_BEAM = (
    "IPython",
    "apache_beam.io.gcp.bigquery",
    "apache_beam.io.gcp.gcsfilesystem",
    "bson",
    "pymongo",
    "scipy.ndimage",
    "sklearn",
)
"""Beam, Keras and TFDV look for them. Nodes that go through their data without Beam do not need them."""

_UNUSED_BY_TENSORFLOW = ("dill", "googleapiclient")
"""TensorFlow looks for them for its own clusters. Beam needs the first."""

_LAZY_FOR_LIGHT = (
    "grpc",
    "ml_metadata",
    "ml_metadata.metadata_store",
    "ml_metadata.proto",
    "tensorflow_data_validation",
)
"""Packages that import all that is in them, of which light executors use messages, one module, or nothing before they
work."""

_LAZY_WITHOUT_BEAM = ("tensorflow_model_analysis",)
"""Packages that import all that is in them, of which we use messages alone."""

LIGHT_MODULES = frozenset(
    {
        "kubetfx.components.anomaly_gate",
        "kubetfx.components.pusher",
        "kubetfx.components.schema_gen",
        "kubetfx.components.served_model_resolver",
        "kubetfx.kubeflow.system_nodes",
    }
)
"""Modules of executors that need nothing of TFX but its artifacts."""


@contextlib.contextmanager
def spared_imports(executor_modules: Collection[str] = ()) -> Iterator[None]:
    """Import no more than some executors need while the context lasts.

    Args:
        executor_modules: modules of the executors that will run. If all are light, TFX's artifacts are imported
            without TensorFlow, which they use for decorators of their documentation and for file systems that a task
            does not read from.

    Yields:
        Nothing.
    """
    is_light = bool(executor_modules) and set(executor_modules) <= LIGHT_MODULES
    if is_light:
        _import_tfx_without_its_mock()
    if not any("evaluator" in module.split(".") for module in executor_modules):
        _make_components_lazy()
    if is_light:
        for package in _LAZY_FOR_LIGHT:
            _make_lazy(package)
        _import_without_file_systems_of_tensorflow()
    with absent(*(_UNUSED_BY_LIGHT if is_light else ())):
        yield


@contextlib.contextmanager
def deferred_tensorflow() -> Iterator[None]:
    """Let `import tensorflow as tf`, and `import apache_beam`, cost nothing while the context lasts.

    A stand-in imports them on its first use.

    This is for a run in which every node may come from the cache. `tensorflow_is_needed` ends it.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    _make_components_lazy()
    _import_without_file_systems_of_tensorflow()
    _register_local_files()
    stand_ins = {name: _Deferred(name) for name in _DEFERRED if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        with uncollected(), absent(*_UNUSED_BY_LIGHT, "oauth2client"):
            yield
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)
        _Deferred.is_over = True


@contextlib.contextmanager
def imports_without_beam(*, may_use: Collection[str] = ()) -> Iterator[None]:
    """Import no more than nodes need that go through their data without Beam while the context lasts.

    TensorFlow is imported.

    Args:
        may_use: modules that stay visible because code of the user's may need them.

    Yields:
        Nothing.
    """
    # Before the others: to find docstrings, pydantic looks into all modules, and so executes the lazy ones.
    importlib.import_module("kubetfx.components.report.facts")
    with uncollected(), absent(*(name for name in _UNUSED_WITHOUT_BEAM if name not in may_use)):
        with absent(*_UNUSED_BY_TENSORFLOW):
            tensorflow_is_needed()
        for package in _LAZY_WITHOUT_BEAM:
            _make_lazy(package)
        with spared_imports():
            yield


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Disable garbage collection within the context.

    Imported objects stay, and visiting them costs a fifth of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def tensorflow_is_needed() -> None:
    """Import TensorFlow for an executor that is about to run, and give TFX the file systems that TensorFlow has."""
    plugin = sys.modules.get(_FILE_SYSTEMS)
    is_deferred = plugin is not None and getattr(plugin, "tf", None) is None
    importlib.import_module("tensorflow")
    if plugin is not None and is_deferred:
        importlib.reload(plugin)


_FILE_SYSTEMS = "tfx.dsl.io.plugins.tensorflow_gfile"
_BEFORE_LOCAL = 15
"""Priority of a file system. TensorFlow's has 10, TFX's local one 20, and the lowest wins."""
_DEFERRED = (
    "apache_beam",
    "docker",
    "tensorflow",
    "tensorflow.core",
    "tensorflow.core.example",
    "tensorflow_model_analysis",
)
"""What TFX's drivers and launcher import, and only executors use; and TFMA, which TFX's Evaluator names in a type."""


def _import_tfx_without_its_mock() -> None:
    """Import TFX, which otherwise imports tfx_bsl with numpy and pyarrow, to mock a module of it that is missing."""
    with absent("unittest.mock"):
        importlib.import_module("tfx")


def _import_without_file_systems_of_tensorflow() -> None:
    with absent("tensorflow"):
        importlib.import_module("tfx.utils.doc_controls")
        importlib.import_module(_FILE_SYSTEMS)


def _register_local_files() -> None:
    """Give TFX a file system whose `stat` has what TFX's fingerprints of data look at: its own local one has not."""
    from tfx.dsl.io import filesystem_registry
    from tfx.dsl.io.plugins import local

    class LocalFiles(local.LocalFilesystem):
        @staticmethod
        def stat(path: Any) -> Any:
            found = os.stat(path)
            return types.SimpleNamespace(length=found.st_size, mtime_nsec=int(found.st_mtime) * 10**9)

    filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY.register(LocalFiles, priority=_BEFORE_LOCAL)


class _Deferred(types.ModuleType):
    """Stands for a module until something of it is used.

    While modules are being imported, it answers with further stand-ins, for annotations, which nobody uses later.
    """

    is_over = False

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if _Deferred.is_over:
            return getattr(importlib.import_module(self.__name__), name)
        return _Deferred(f"{self.__name__}.{name}")


@contextlib.contextmanager
def absent(*names: str) -> Iterator[None]:
    """Let importing some modules fail, as if they were not installed, while the context lasts.

    Args:
        names: The names of the modules. Those that are imported already stay.

    Yields:
        Nothing.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is Python's mark for it
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


class _LazyPackage(types.ModuleType):
    """A package whose `__init__.py` is executed only when a name is missing. Its modules are imported without that."""

    def __getattr__(self, name: str) -> Any:
        namespace = vars(self)
        if namespace.get("_is_complete") or (name.startswith("__") and name != "__all__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if importlib.util.find_spec(f"{self.__name__}.{name}") is not None:
            return importlib.import_module(f"{self.__name__}.{name}")
        namespace["_is_complete"] = True
        path = Path(self.__path__[0]) / "__init__.py"
        try:
            exec(compile(path.read_bytes(), str(path), "exec"), namespace)
        except BaseException:
            namespace["_is_complete"] = False  # so that whoever asks next gets the error too
            raise
        return getattr(self, name)


class _BeforeEvaluator(importlib.abc.MetaPathFinder):
    """Finds nothing, but completes TFMA, as `tfx.components` would, before TFX's own Evaluator is imported.

    A module of the user's may import `tfx.v1`.
    """

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "tfx.components.evaluator.component":
            sys.meta_path.remove(self)
            tfma = importlib.import_module("tensorflow_model_analysis")
            if not isinstance(tfma, _Deferred):
                messages = importlib.import_module("tensorflow_model_analysis.proto.config_pb2")
                for name in messages.DESCRIPTOR.message_types_by_name:
                    vars(tfma).setdefault(name, getattr(messages, name))


def _make_components_lazy() -> None:
    if "tfx.components" not in sys.modules:
        _make_lazy("tfx.components")
        sys.meta_path.insert(0, _BeforeEvaluator())


def _make_lazy(name: str) -> None:
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:  # it is imported already, or not installed
        return
    package = _LazyPackage(name)
    package.__path__ = list(spec.submodule_search_locations or ())
    package.__package__ = name
    package.__spec__ = spec
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)
