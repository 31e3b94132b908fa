"""Modules of the user's that travel in a package: those beside pipeline.yaml, which the image lacks."""

import re
from collections.abc import Collection

from google.protobuf import json_format
from google.protobuf.message import Message
from tfx.dsl.components.base.base_node import BaseNode

from kubetfx.errors import ConfigError
from kubetfx.user_code import file_of, with_neighbours


def sources_of(module: str, *, key: str) -> dict[str, str]:
    """Return a module and the neighbours that it imports.

    Args:
        module: its import path.
        key: The key of the config that names it, for errors.

    Returns:
        Sources by name of the module; none of a module that is installed, since the image has it too.

    Raises:
        ConfigError: the module cannot be imported, or it is, or imports, a package that is not installed.
    """
    try:
        path = file_of(module)
    except ModuleNotFoundError:
        raise ConfigError(f"{key} cannot be imported. Received: {module}. Put it beside pipeline.yaml.") from None
    if path is None:
        return {}
    if "." in module or path.name == "__init__.py":
        raise ConfigError(
            f"{key}: a package cannot travel to a container, only a module can. Received: {module} in {path.parent}. "
            "Install the package here and in the image, or make it one file beside pipeline.yaml."
        )
    files = with_neighbours(path, key=key)
    for file, imported in ((file, imported) for file, imports in files.items() for imported in imports):
        if file.with_name(imported.top).joinpath("__init__.py").is_file():
            raise ConfigError(
                f"{key}: a package cannot travel to a container, only a module can. Received: {file}, which imports "
                f"the package {imported.top} beside it. Install the package here and in the image, or make it one file."
            )
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted(files)}


def imports(node: BaseNode, modules: Collection[str]) -> bool:
    """Return whether a component is defined in one of these modules, or one of its properties names one of them.

    Args:
        node: the component.
        modules: import paths.
    """
    executor = getattr(node.executor_spec, "executor_class", None)
    names = [getattr(executor, "__module__", ""), type(node).__module__]
    properties = [
        json_format.MessageToJson(v) if isinstance(v, Message) else str(v) for v in node.exec_properties.values()
    ]
    text = "\n".join([*names, *properties])
    return any(re.search(rf"(?<![\w.]){re.escape(module)}(?!\w)", text) for module in modules)
