"""`kubetfx.load_model`: a pushed model in this process."""

import tempfile
import weakref
from pathlib import Path

from kubetfx.artifacts import SAVED_MODEL
from kubetfx.components.push import push_directory
from kubetfx.components.push.labels import served_version
from kubetfx.config.loading import ConfigSource, as_config
from kubetfx.errors import UsageError
from kubetfx.serving.model import Model
from kubetfx.storage import Location, is_url, locate


def load_model(source: ConfigSource, *, version: int | None = None) -> Model:
    """Load a pushed model for predictions.

    Args:
        source: a config, or what `load_config` takes: the model that it pushed; a push directory, also in a bucket; or
            the folder of one SavedModel.
        version: The number of the version. Default: the stable one, or the newest if none has a label.

    Returns:
        The model. `predict` takes a pandas frame, an Arrow table, a list of dicts or the path of a file.

    Raises:
        ConfigError: the config is wrong.
        UsageError: there is no such version, or it cannot be loaded.
        StorageError: the bucket cannot be read.

    Example:
        >>> import kubetfx
        >>> model = kubetfx.load_model("examples/penguins/pipeline.yaml")
        >>> model.predict("examples/penguins/rows.csv").column("label").to_pylist()
        ['Adelie', 'Gentoo', 'Chinstrap']
    """
    directory = _push_directory(source)
    if isinstance(directory, Path) and (directory / SAVED_MODEL).is_file():
        if version is not None:
            raise UsageError(f"This folder is one model, without versions. Received: {directory}, version {version}.")
        return Model.load(directory)
    return _load_version(directory, pushed_version(directory, version))


def pushed_version(directory: Location, version: int | None = None, *, how_to_push: str = "kubetfx.run(config)") -> int:
    """Choose one of the pushed versions.

    Args:
        directory: the push directory.
        version: the one that is asked for. Default: the stable one, or the newest where none has a label.
        how_to_push: what to do if none was pushed yet, for the error.

    Returns:
        The version.

    Raises:
        UsageError: no version was pushed yet, or this version does not exist.
    """
    versions = push_directory.versions(directory)
    if not versions:
        raise UsageError(f"No model was pushed yet. Received: {directory}. Push one: {how_to_push}")
    if version is not None and version not in versions:
        raise UsageError(f"There is no such version. Received: {version}. There are: {', '.join(map(str, versions))}.")
    return (served_version(directory) or versions[-1]) if version is None else version


def _push_directory(source: ConfigSource) -> Location:
    if isinstance(source, str | Path) and (is_url(str(source)) or Path(source).is_dir()):
        return locate(str(source))
    return as_config(source).push_path


def _load_version(directory: Location, version: int) -> Model:
    path = push_directory.version_path(directory, version)
    if isinstance(path, Path):
        return Model.load(path)
    copy = tempfile.TemporaryDirectory(prefix="kubetfx-model-")
    with push_directory.version_here(directory, version) as saved_model:
        target = Path(copy.name) / str(version)
        saved_model.rename(target)
    model = Model.load(target)
    weakref.finalize(model, copy.cleanup)
    return model
