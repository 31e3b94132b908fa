"""Rows of tf.Examples in the form in which a client sends them to `serving_default`."""

import math
from collections.abc import Iterable
from typing import Any

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
    columns, texts = tuple(inputs), frozenset(strings)
    return [_raw_row(tf.train.Example.FromString(example), columns, texts) for example in examples]


def _raw_row(example: tf.train.Example, columns: tuple[str, ...], texts: frozenset[str]) -> RawRow:
    features = example.features.feature
    return {
        name: _value(features[name]) if name in features else ("" if name in texts else math.nan) for name in columns
    }


def _value(feature: Any) -> float | str:
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value
    return values[0].decode() if kind == "bytes_list" else float(values[0])
