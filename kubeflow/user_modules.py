"""Modules of the user's that travel in a package: those beside pipeline.yaml, which the image lacks."""

import ast
import importlib.util
import re
from collections.abc import Collection
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import Message
from tfx.dsl.components.base.base_node import BaseNode

import kubetfx
from kubetfx.errors import ConfigError


def sources_of(module: str, *, key: str) -> dict[str, str]:
    """A module and the neighbours that it imports.

    Args:
        module: its import path.
        key: of the config that names it, for errors.

    Returns:
        Sources by name of the module; none of a module that is installed, since the image has it too.

    Raises:
        ConfigError: the module cannot be imported, or it is, or imports, a package that is not installed.
    """
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # of the package around it
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(f"{key} cannot be imported. Received: {module}. Put it beside pipeline.yaml.")
    path = Path(spec.origin)
    is_ours = any(path.is_relative_to(folder) for folder in kubetfx.__path__)
    if is_ours or {"site-packages", "dist-packages"} & set(path.parts):
        return {}
    if "." in module or spec.submodule_search_locations is not None:
        raise ConfigError(
            f"{key}: a package cannot travel to a container, only a module can. Received: {module} in {path.parent}. "
            "Install the package here and in the image, or make it one file beside pipeline.yaml."
        )
    return _with_neighbours(path, key=key)


def imports(node: BaseNode, modules: Collection[str]) -> bool:
    """Whether a component is defined in one of these modules, or one of its properties names one of them."""
    executor = getattr(node.executor_spec, "executor_class", None)
    names = [getattr(executor, "__module__", ""), type(node).__module__]
    properties = [
        json_format.MessageToJson(v) if isinstance(v, Message) else str(v) for v in node.exec_properties.values()
    ]
    text = "\n".join([*names, *properties])
    return any(re.search(rf"(?<![\w.]){re.escape(module)}(?!\w)", text) for module in modules)


def _with_neighbours(path: Path, *, key: str) -> dict[str, str]:
    """Source of a module and of those beside it that it imports, and those that they import, by name."""
    sources: dict[str, str] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        source = file.read_text(encoding="utf-8")
        sources[file.stem] = source
        for name in _imported_names(source, file, key=key):
            neighbour = file.with_name(f"{name}.py")
            if file.with_name(name).joinpath("__init__.py").is_file():
                raise ConfigError(
                    f"{key}: a package cannot travel to a container, only a module can. Received: {file}, which "
                    f"imports the package {name} beside it. Install the package here and in the image, or make it one "
                    "file."
                )
            if neighbour.is_file() and name not in sources:
                waiting.append(neighbour)
    return dict(sorted(sources.items()))


def _imported_names(source: str, path: Path, *, key: str) -> set[str]:
    """Top-level names that a module imports, wherever in it."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ConfigError(f"{key} is not valid Python. Received: {path}, line {error.lineno}: {error.msg}.") from None
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names
