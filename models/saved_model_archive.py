"""Keras' ExportArchive, of which each signature is traced once instead of three times: seconds for many columns.

TensorFlow keeps what it has traced for a SavedModel apart from other traces (the `variable_policy` of
tensorflow/python/eager/polymorphic_function/function_context.py). So everything is traced as for a SavedModel: what is
added here, and what Keras looks at before it saves.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.saved_model import save_context

_LOOKS_BEFORE_SAVING = ("_get_concrete_fn", "_filter_and_track_resources")
"""Methods of Keras' archive, in keras/src/export/saved_model_export_archive.py."""


class SavedModelArchive:
    """Signatures, and the resources that they use."""

    def __init__(self, *tracked: Any) -> None:
        """Begin without signatures.

        Args:
            tracked: Models and modules whose variables and tables the signatures use.
        """
        self._archive: Any = keras.export.ExportArchive()
        for name in _LOOKS_BEFORE_SAVING:
            setattr(self._archive, name, functools.partial(_as_for_a_saved_model, getattr(self._archive, name)))
        for resource in tracked:
            self._archive.track(resource)

    def add_endpoint(self, name: str, function: Callable[[Any], Any], signature: Any) -> Callable[[Any], Any]:
        """Add a signature.

        Args:
            name: The name of the signature.
            function: What it computes.
            signature: The specs of its tensors.

        Returns:
            The traced function, for other signatures to call.
        """
        traced = tf.function(function, autograph=False)
        _as_for_a_saved_model(traced.get_concrete_function, signature)
        self._archive.add_endpoint(name, traced)
        call: Callable[[Any], Any] = traced
        return call

    def write(self, path: Path) -> None:
        """Write the SavedModel.

        Args:
            path: The folder.
        """
        self._archive.write_out(str(path), verbose=False)


def _as_for_a_saved_model(function: Callable[..., Any], *arguments: Any) -> Any:
    if save_context.in_save_context():  # TensorFlow's contexts are not nested
        return function(*arguments)
    with save_context.save_context(tf.saved_model.SaveOptions()):
        return function(*arguments)
