"""The user's code: modules beside pipeline.yaml, and objects that a config names as `module:attribute`."""

import ast
import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubetfx.errors import ConfigError

_FORMER_PACKAGES = ("components", "kubeflow", "models", "pipeline", "serving")
"""What the folders of kubetfx were imported as before they became parts of one package (decision 13)."""


_folders: set[str] = set()
"""Folders of the user's that this process has imported from."""


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let modules in a folder be imported, and read them again if they were imported before.

    The folder comes last on the path: nothing in it takes the place of an installed package.

    Args:
        folder: The folder of pipeline.yaml.
    """
    path = str(folder)
    if path in sys.path:
        yield
        return
    _folders.add(path)  # modules may have been edited since, and one of another project may have the same name
    for name in [name for name, module in sys.modules.items() if _folder_of(module) in _folders]:
        del sys.modules[name]
    sys.path.append(path)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(path)


def load_object(reference: str, *, key: str) -> Any:
    """Import an object that a config names.

    Args:
        reference: `module:attribute`.
        key: The key of the config that names it, for errors.

    Returns:
        The object.

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


@dataclass(frozen=True)
class Import:
    """What one statement of a module imports."""

    line: int
    module: str
    """In full: `package.module`."""
    names: frozenset[str] = frozenset()
    """What is taken from it, for `from module import name`."""

    @property
    def top(self) -> str:
        """The package or module that is looked up first."""
        return self.module.partition(".")[0]


def file_of(module: str) -> Path | None:
    """Find the file of a module that is not installed: one that belongs to the user.

    Args:
        module: its import path.

    Returns:
        The file; None for a module of kubetfx or of an installed package.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    origin = _origin_of(module)
    if origin is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    path = Path(origin)
    is_ours = path.is_relative_to(Path(__file__).parent)
    return None if is_ours or {"site-packages", "dist-packages"} & set(path.parts) else path


def with_neighbours(path: Path, *, key: str) -> dict[Path, list[Import]]:
    """Find a module, the modules beside it that it imports, and those that they import.

    Args:
        path: file of the module.
        key: The key of the config that names it, for errors.

    Returns:
        What each of them imports, wherever in it, by its file.

    Raises:
        ConfigError: one of them is not valid Python.
    """
    found: dict[Path, list[Import]] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        found[file] = _imports_of(file, key=key)
        neighbours = {file.with_name(f"{imported.top}.py") for imported in found[file]}
        waiting += [neighbour for neighbour in neighbours - found.keys() if neighbour.is_file()]
    return found


def found_file_of(module: str) -> Path:
    """Find the file of any module that a config names.

    Args:
        module: its import path.

    Returns:
        The file.

    Raises:
        ConfigError: there is no such module.
    """
    origin = _origin_of(module)
    if origin is None:
        raise ConfigError(
            f"The config names code that is missing: the module {module} cannot be imported. Received: {module}. It is "
            "looked for beside pipeline.yaml too."
        )
    return Path(origin)


def _origin_of(module: str) -> str | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # the package around it
        return None
    return spec.origin if spec else None


def check_imports(modules: Mapping[str, str]) -> None:
    """Refuse modules that import kubetfx by a name that it had before, unless another module has that name now.

    Args:
        modules: import paths of the user's modules, by the key of the config that names each.

    Raises:
        ConfigError: one of them, or a module beside it that it imports, does so.
    """
    for key, module in modules.items():
        path = None
        with contextlib.suppress(Exception):  # whoever loads the module says why that fails
            path = file_of(module)
        files = with_neighbours(path, key=key) if path is not None and path.suffix == ".py" else {}
        for file, imported in ((file, imported) for file, imports in files.items() for imported in imports):
            if imported.top in _FORMER_PACKAGES and importlib.util.find_spec(imported.top) is None:
                raise ConfigError(
                    f"{key}: every module of kubetfx is imported as part of the package kubetfx. Received: {file}, "
                    f"line {imported.line}, which imports {imported.module}. {_remedy(imported)}"
                )


def _remedy(imported: Import) -> str:
    public_names = importlib.import_module("kubetfx").__all__  # an import statement would be a circle
    if imported.names and imported.names <= set(public_names):
        return "Import it from kubetfx."
    for name in (imported.module, imported.module.partition(".")[2]):
        with contextlib.suppress(ModuleNotFoundError):  # of the package around it
            if name and importlib.util.find_spec(f"kubetfx.{name}") is not None:
                return f"Import kubetfx.{name}."
    return "This module is gone; ARCHITECTURE.md of kubetfx says where its parts are."


def _imports_of(path: Path, *, key: str) -> list[Import]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ConfigError(f"{key} is not valid Python. Received: {path}, line {error.lineno}: {error.msg}.") from None
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append(Import(node.lineno, node.module, frozenset(alias.name for alias in node.names)))
    return found


def _folder_of(module: Any) -> str:
    return os.path.dirname(getattr(module, "__file__", None) or "")
