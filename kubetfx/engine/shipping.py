"""The code that workers elsewhere need, as one wheel: kubetfx, and the user's own modules.

A wheel, since a worker unpacks it: an sdist would be built there, with setuptools that the worker may not have. It has
no requirements: the libraries are the worker's, and the doctor compares them.
"""

import os
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from wheel.wheelfile import WheelFile

from kubetfx.engine import probe
from kubetfx.errors import ConfigError
from kubetfx.user_code import file_of, with_neighbours
from kubetfx.version import own_version

_METADATA = "Metadata-Version: 2.1\nName: kubetfx\nVersion: {version}\n"
_WHEEL = "Wheel-Version: 1.0\nGenerator: kubetfx\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_LEFT_OUT = ("__pycache__",)


def build_package(modules: Iterable[str], folder: Path) -> Path:
    """Make the package.

    Args:
        modules: import paths of the user's modules; those of installed packages are left out.
        folder: where it is written.

    Returns:
        The wheel.

    Raises:
        ConfigError: one of the modules cannot be found, or is not valid Python.
    """
    folder.mkdir(parents=True, exist_ok=True)
    version = f"{own_version()}+w{time.time_ns()}"  # a pool that lives on must not take it for what it has already
    path = folder / f"kubetfx-{version}-py3-none-any.whl"
    for former in folder.glob("kubetfx-*.whl"):
        former.unlink()
    files = {**_files_of_kubetfx(), **_files_of_modules(modules)}
    with WheelFile(str(path), "w", compression=zipfile.ZIP_DEFLATED) as wheel:
        for name, file in sorted(files.items()):
            wheel.write(str(file), name)
        wheel.writestr(f"{wheel.dist_info_path}/METADATA", _METADATA.format(version=version))
        wheel.writestr(f"{wheel.dist_info_path}/WHEEL", _WHEEL)
    return path


def own_digest() -> str:
    """Return the digest of kubetfx's code, which a worker computes of its own."""
    return probe.digest(_own_folder())


def _own_folder() -> str:
    return str(Path(__file__).parents[1])


def _files_of_kubetfx() -> dict[str, Path]:
    folder = Path(_own_folder())
    return {f"kubetfx/{file.relative_to(folder)}": file for file in _files_below(folder)}


def _files_of_modules(modules: Iterable[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for module in modules:
        try:
            file = file_of(module)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"A module of the config cannot be found, and is needed by workers. Received: {module}. Put it beside "
                "pipeline.yaml, or install it."
            ) from error
        if file is None:
            continue
        top = module.partition(".")[0]
        package = Path(*file.parts[: -len(module.split(".")) - (file.name == "__init__.py")], top)
        if (package / "__init__.py").is_file():
            found |= {f"{top}/{inner.relative_to(package)}": inner for inner in _files_below(package)}
        else:
            found |= {neighbour.name: neighbour for neighbour in with_neighbours(file, key=module)}
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    for path, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        yield from (Path(path, name) for name in names)
