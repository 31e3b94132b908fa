"""What a model's graph does not say: assets.extra/kubetfx.json, which models/export.py writes into a SavedModel.

Knows neither TensorFlow nor Keras, so that looking into a model costs nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubetfx.artifacts import BYTES_SUFFIX, MODEL_FACTS, PIXELS


@dataclass(frozen=True)
class ModelFacts:
    """What a model was trained to predict, and from which columns."""

    label: str
    """Column that is predicted."""
    classes: tuple[str, ...]
    """Empty for a regression."""
    inputs: tuple[str, ...]
    """Columns that the model takes."""
    columns: dict[str, str]
    """TensorFlow's name of the type of every column of the table, by which tf.Examples are read."""
    network_inputs: tuple[str, ...] = ()
    """Names of the features that the network takes, in the order of the signature `network`."""
    image: dict[str, Any] | None = None
    """For a model that sees images: their column, and how they are decoded (`Pixels.facts` of pixels.py)."""
    separators: dict[str, str] = field(default_factory=dict)
    """For columns that are lists in requests: what is between the values of a cell of the table."""

    @property
    def image_columns(self) -> tuple[str, ...]:
        """The column of images, if there is one."""
        return () if self.image is None else (self.image.get("column", self.inputs[0]),)

    def served_name(self, column: str) -> str:
        """Return the name of a column in the signature `serving_default`.

        Args:
            column: The column of the table.
        """
        return f"{column}{BYTES_SUFFIX}" if column in self.image_columns else column


def read_facts(path: Path) -> ModelFacts | None:
    """Read the facts of an exported model.

    Args:
        path: folder of the SavedModel.

    Returns:
        The facts; None for a model that kubetfx did not export, or that an early version exported with fewer facts.
    """
    document = _document(path)
    if not {"label", "classes", "inputs", "columns"} <= document.keys():
        return None
    return ModelFacts(
        document["label"],
        tuple(document["classes"]),
        tuple(document["inputs"]),
        document["columns"],
        tuple(document.get("network_inputs", ())),
        document.get("image"),
        document.get("separators", {}),
    )


def read_classes(path: Path) -> tuple[str, ...]:
    """Read the classes of a model's `probabilities`, also from a model with fewer facts.

    Args:
        path: folder of the SavedModel.

    Returns:
        A class per column; none for a regression, and for a model that kubetfx did not export.
    """
    return tuple(_document(path).get("classes", ()))


def _document(path: Path) -> dict[str, Any]:
    file = path / MODEL_FACTS
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def network_arguments(features: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Rename features as the signature `network` has them, since TensorFlow would rewrite names with spaces.

    Args:
        features: transformed features by their own names.
        names: The names of the network's inputs, in the order of the signature.

    Returns:
        The features by the names `feature_0`, `feature_1`, ...; `pixels` keeps its name.
    """
    return {PIXELS if name == PIXELS else f"feature_{index}": features[name] for index, name in enumerate(names)}
