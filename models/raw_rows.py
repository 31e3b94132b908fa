"""Rows of tf.Examples in the form in which a client sends them to `serving_default`."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

RawRow = dict[str, float | str]


def raw_rows(examples: Iterable[bytes], *, inputs: Iterable[str], strings: Iterable[str]) -> list[RawRow]:
    """Rows by column name.

    Args:
        examples: serialized tf.Examples, one value a column at most.
        inputs: columns of the model.
        strings: those of them that hold text.

    Returns:
        Numbers as float, text as str; a missing cell is NaN or "".
    """
    import tensorflow as tf  # the Pusher imports this file, and may run without TensorFlow

    columns, texts = tuple(inputs), frozenset(strings)
    return [_raw_row(tf.train.Example.FromString(example), columns, texts) for example in examples]


def _raw_row(example: "tf.train.Example", columns: tuple[str, ...], texts: frozenset[str]) -> RawRow:
    return {name: _value(example.features.feature[name], "" if name in texts else math.nan) for name in columns}


def _value(feature: "tf.train.Feature", missing: float | str) -> float | str:
    kind = feature.WhichOneof("kind")  # none where the cell is missing, and where the whole column is
    values = getattr(feature, kind).value if kind else ()
    if not values:
        return missing
    if kind == "bytes_list":
        return values[0].decode()
    return float(str(np.float32(values[0]))) if kind == "float_list" else float(values[0])  # 17.4, not 17.399999618
