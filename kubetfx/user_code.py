"""Code of the user's: modules beside pipeline.yaml, and objects that a config names as `module:attribute`."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubetfx.errors import ConfigError


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """While it lasts, modules in a folder can be imported, and are read anew if they were imported before.

    The folder comes last on the path: nothing in it takes the place of an installed package.

    Args:
        folder: of pipeline.yaml.
    """
    path = str(folder)
    if path in sys.path:
        yield
        return
    for name in [name for name, module in sys.modules.items() if _is_beside(module, folder)]:
        del sys.modules[name]  # it may have been edited since the last run of this process
    sys.path.append(path)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(path)


def load_object(reference: str, *, key: str) -> Any:
    """What a config names.

    Args:
        reference: `module:attribute`.
        key: of the config that names it, for errors.

    Raises:
        ConfigError: it is written otherwise, the module cannot be imported, or has no such attribute.
    """
    module_name, separator, attribute = reference.partition(":")
    if not separator or not module_name or not attribute:
        raise ConfigError(f"{key} is written module:name. Received: {reference!r}. Try my_module:my_function.")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"{key}: the module {module_name} cannot be imported ({type(error).__name__}: {error}). Received: "
            f"{reference}. Put {module_name.partition('.')[0]}.py beside pipeline.yaml, or install it."
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ConfigError(
            f"{key}: the module {module_name} has no {attribute}. Received: {reference}. It has: "
            f"{', '.join(name for name in vars(module) if not name.startswith('_'))}."
        ) from None


def _is_beside(module: Any, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and Path(file).parent == folder and module.__name__ != "__main__"
