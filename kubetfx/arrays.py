"""What annotations call a NumPy array. Docstrings say its shape, and its type where that matters."""

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
"""An array of any shape and type."""
