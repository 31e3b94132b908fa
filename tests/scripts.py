"""Programs of scripts/, as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load(name: str) -> ModuleType:
    """A program, by the name of its file."""
    path = Path(__file__).parents[1] / "scripts" / f"{name}.py"
    if str(path.parent) not in sys.path:  # as where the program is started, which may import its neighbours
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
