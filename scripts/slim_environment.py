"""Take out of an environment what no executor imports: `slim_environment.py /opt/venv`, for the container image.

What goes is of use to people who write C++ against a library, debug it, or work in a notebook. It is listed by path, so
that a test notices when a library moves it. Bytecode is not in question: it is made afterwards, for what is left.
"""

import shutil
import subprocess
import sys
from pathlib import Path

UNUSED = {
    "**/*.pxd": "declarations for Cython's compiler",
    "**/*.pyx": "sources of extensions that are compiled",
    "agentplatform": "Vertex AI's agents, of google-cloud-aiplatform; `import tfx.v1` needs the rest of it",
    "alembic/testing": "for tests of what uses it",
    "clang": "libclang; TensorFlow declares it and does not import it",
    "jedi": "completes what is typed into IPython, which works without it",
    "jupyterlab_widgets": "files for a browser",
    "numpy/_core/include": "C headers",
    "optuna/testing": "for Optuna's own tests",
    "pyarrow/*flight*": "a protocol for servers of tables",
    "pyarrow/include": "C++ headers",
    "sqlalchemy/testing": "for tests of databases' dialects",
    "tensorboard/plugins/projector/tf_projector_plugin": "files for a browser",
    "tensorboard/webfiles.zip": "TensorBoard's page; the Keras callback only writes files",
    "tensorboard_data_server": "a server for that page",
    "tensorflow/include": "C++ headers",
    "tensorflow/xla_aot_runtime_src": "C++ source",
    "tfx/components/testdata": "data of TFX's own tests",
    "tfx/examples": "TFX's own examples, and their data",
    "tfx/orchestration/kubeflow/v2/testdata": "as tfx/components/testdata",
    "vertexai": "as agentplatform",
    "widgetsnbextension": "files for a browser",
}
"""Patterns of paths under site-packages."""

TESTED_PACKAGES = ("IPython", "google/genai", "h5py", "ipywidgets", "numpy", "pandas", "pyarrow", "scipy", "sklearn")
"""Packages that ship their own tests."""

STRIPPED = (
    "PIL/*.so",
    "apache_beam/**/*.so",
    "cel/*.so",
    "cryptography/**/*.so",
    "fastavro/*.so",
    "ml_metadata/**/*.so",
    "pyarrow/*.so*",
    "regex/*.so",
    "sqlalchemy/**/*.so",
    "tensorflow/**/*.so*",
    "tensorflow_data_validation/**/*.so",
    "tfx_bsl/**/*.so",
    "uvloop/*.so",
    "yaml/*.so",
    "zstandard/*.so",
)
"""Libraries that were shipped with a debugger's symbols. Named one by one: `strip` can break what auditwheel patched,
as in numpy.libs."""


def unused_paths(site_packages: Path) -> list[Path]:
    """Return what to remove, as far as it is there."""
    unused = [path for pattern in UNUSED for path in site_packages.glob(pattern)]
    tests = [path for package in TESTED_PACKAGES for path in (site_packages / package).rglob("tests") if path.is_dir()]
    return [*unused, *tests, *(site_packages / "nvidia").glob("*/include")]


def strippable(site_packages: Path) -> list[Path]:
    """Libraries to take the debugger's symbols from."""
    paths = {path for pattern in STRIPPED for path in site_packages.glob(pattern)}
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def main(environment: Path) -> None:
    """Remove and strip, and say how much that was."""
    (site_packages,) = environment.glob("lib/python3*/site-packages")
    before = _size_bytes(environment)
    for path in unused_paths(site_packages):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # it may have been in a folder that is gone
    libraries = strippable(site_packages)
    if libraries:
        subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)
    print(f"{environment}: {before / 1e6:.0f} MB before, {_size_bytes(environment) / 1e6:.0f} MB after")


def _size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
