"""Rows of tf.Examples in the form in which a client sends them to `serving_default`."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

RawRow = dict[str, float | str | bytes]


def raw_rows(
    examples: Iterable[bytes], *, inputs: Iterable[str], strings: Iterable[str], images: Iterable[str] = ()
) -> list[RawRow]:
    """Rows by column name.

    Args:
        examples: serialized tf.Examples, one value a column at most.
        inputs: columns of the model.
        strings: those of them that hold text.
        images: those of them that hold images.

    Returns:
        Numbers as float, text as str, images as bytes; a missing cell is NaN or "".
    """
    import tensorflow as tf  # the Pusher imports this file, and may run without TensorFlow

    missing: RawRow = dict.fromkeys(inputs, math.nan)
    missing |= dict.fromkeys(strings, "") | dict.fromkeys(images, b"")
    return [_raw_row(tf.train.Example.FromString(example), missing) for example in examples]


def _raw_row(example: "tf.train.Example", missing: RawRow) -> RawRow:
    return {name: _value(example.features.feature[name], absent) for name, absent in missing.items()}


def _value(feature: "tf.train.Feature", missing: float | str | bytes) -> float | str | bytes:
    kind = feature.WhichOneof("kind")  # none where the cell is missing, and where the whole column is
    values = getattr(feature, kind).value if kind else ()
    if not values:
        return missing
    if kind == "bytes_list":
        return values[0] if isinstance(missing, bytes) else values[0].decode()
    return float(str(np.float32(values[0]))) if kind == "float_list" else float(values[0])  # 17.4, not 17.399999618
