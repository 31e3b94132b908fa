"""`training.warm_start`: a network starts with the weights of the model that is served, where they mean the same.

A SavedModel numbers its variables. So an export writes down which weight each is, and what the weights are about: the
columns, the vocabularies and the classes (artifacts.WEIGHTS). A vector of an embedding goes to its value, wherever a
new vocabulary has it. What is found from the training rows, such as the edges of bins, is that of the new rows.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from kubetfx.arrays import Array
from kubetfx.artifacts import PUSH_RECORD, SAVED_MODEL, VOCABULARIES, WEIGHTS
from kubetfx.config.model_section import DEFAULT_MODULE
from kubetfx.models.columns import known_types
from kubetfx.models.columns.column_type import EmbeddedVocabulary
from kubetfx.models.columns.text.cleaning import ENGLISH
from kubetfx.models.features import Features
from kubetfx.models.layers import FittedLayer

if TYPE_CHECKING:
    from kubetfx.models.fitting import Work

_VALUES = "variables/{number}/.ATTRIBUTES/VARIABLE_VALUE"
"""Where keras.export.ExportArchive has the value of a model's variable, in the order of `model.variables`."""
_AFTER_COLUMNS = re.compile(r"(hidden|normalized)_([2-9]|\d\d+)/|output/")
"""Weights of models/network.py that see no column by itself."""
_OF_CLASSES = "output/"
_TABLES = frozenset({ENGLISH.name})
"""Files beside the vocabularies that number no values."""


def write_weights(path: Path, model: keras.Model, features: Features) -> None:
    """Write down what the variables of a SavedModel are.

    Args:
        path: The path of the SavedModel.
        model: that was exported.
        features: the columns.
    """
    names = {id(weight): name for name, weight, _ in _weights(model)}
    document = meaning_of(features, path / VOCABULARIES) | {
        "weights": [names.get(id(variable)) for variable in model.variables]
    }
    (path / WEIGHTS).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


class ServedWeights:
    """The weights of a served model."""

    def __init__(self, path: Path) -> None:
        """Read them.

        Args:
            path: The path of the SavedModel, which kubetfx exported.
        """
        document = json.loads((path / WEIGHTS).read_text(encoding="utf-8"))
        reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
        self.values: dict[str, Array] = {
            name: reader.get_tensor(_VALUES.format(number=number))
            for number, name in enumerate(document.pop("weights"))
            if name is not None
        }
        """By name of the weight."""
        self.meaning: dict[str, Any] = document
        """The columns, classes and vocabularies that they are about."""
        for name, rows in list(self.values.items()):
            vectors = f"{name.removesuffix('/row')}/vectors"
            if name.endswith("/row") and vectors in self.values:  # of CategoryEmbedding: categories that share a vector
                self.values[vectors] = np.concatenate([self.values[vectors][rows], self.values[vectors][len(rows) :]])
        self.vocabularies = path / VOCABULARIES
        """Folder of the vocabularies."""
        self.version = _version(path)
        """Its number among those that were pushed."""

    def unlike(self, name: str, weight: Any, *, is_embedding: bool) -> str | None:
        """Return why values do not fit a weight; None: they do.

        Args:
            name: The name of the values.
            weight: to take them.
            is_embedding: whether there may be more rows, or fewer.
        """
        if name not in self.values:
            return "the served model has no such weight"
        own, served = tuple(weight.shape), self.values[name].shape
        if own[is_embedding:] == served[is_embedding:]:
            return None
        return f"its shape is {own}, and that of the served one {served}"


def start_from_served(work: "Work", model: keras.Model) -> dict[str, Any] | None:
    """Put the weights of the served model into one that was just built.

    Args:
        work: of the training.
        model: to be trained.

    Returns:
        What was done, an entry of history.json: `why` nothing was, or the `version` it starts from, how many weights
        have `started` from it, and which begin `anew`, with the reason. None: nothing was asked for.
    """
    if work.training.warm_start is None:
        return None
    base = Path(work.fn_args.base_model or "")
    if not (base / SAVED_MODEL).is_file():
        return {"why": "nothing is served yet"}
    served = ServedWeights(base) if (base / WEIGHTS).is_file() else None
    if served is None or not served.values:
        return {"why": "the served model has no network, or an earlier version of kubetfx exported it"}
    vocabularies = Path(work.transform_output.transform_savedmodel_dir) / VOCABULARIES
    now = meaning_of(work.features, vocabularies)
    is_own = work.model.module not in (None, DEFAULT_MODULE)  # which of its weights see columns is not known
    by_value = set() if is_own else {one.vocabulary for one in _EMBEDDED.values()}
    changed = _changed(served.meaning, now, by_value)
    started, anew = 0, {}
    for name, weight, is_learned in _weights(model):
        if not is_learned:
            continue
        key = f"network_{work.member}/{name}"
        key = key if key in served.values else name
        embedded = None if is_own else _EMBEDDED.get(name)
        reason = _why_anew(name, changed, is_own=is_own) or served.unlike(key, weight, is_embedding=bool(embedded))
        if reason is not None:
            anew[name] = reason
            continue
        values = served.values[key]
        weight.assign(_by_value(weight, values, embedded, served, vocabularies) if embedded else values)
        started += 1
    found = {"version": served.version, "started": started, "anew": anew}
    logging.info("Warm start: %s", found)
    return found


def meaning_of(features: Features, vocabularies: Path) -> dict[str, Any]:
    """Return what weights are about: where it is the same, so is the meaning of each weight.

    Args:
        features: the columns.
        vocabularies: folder of the vocabularies.

    Returns:
        As JSON has it.
    """
    files = sorted(vocabularies.iterdir()) if vocabularies.is_dir() else []
    files = [file for file in files if file.name not in _TABLES]
    return {
        "columns": {
            tag: [asdict(replace(column, details=_without(_bounds(tag), column.details))) for column in columns]
            for tag, columns in features.by_type.items()
        },
        "vocabularies": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        "classes": list(features.classes),
    }


_EMBEDDED: dict[str, EmbeddedVocabulary] = {
    one.weight: one for column_type in known_types.COLUMN_TYPES for one in column_type.embedded_vocabularies
}
"""Embeddings by the name of their weight."""


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], by_value: Collection[str]) -> list[str]:
    """Return what has another meaning than before: `columns`, `vocabularies`, `classes`.

    Vocabularies whose values are looked up, `by_value`, may be others.
    """
    left_out = {"vocabularies": {*by_value, *_TABLES}}  # an export of an earlier version has the tables
    parts = {name: left_out.get(name, ()) for name in now}
    return [name for name, names in parts.items() if _without(names, before[name]) != _without(names, now[name])]


def _bounds(tag: str) -> Collection[str]:
    return () if known_types.is_users(tag) else known_types.type_of(tag).bounds


def _without(names: Collection[str], part: Any) -> Any:
    return {name: value for name, value in part.items() if name not in names} if isinstance(part, Mapping) else part


def _why_anew(name: str, changed: Collection[str], *, is_own: bool) -> str | None:
    """Return why a weight cannot mean what the served one does; None: it can."""
    of_columns = [what for what in changed if what != "classes"]
    if of_columns and (is_own or not _AFTER_COLUMNS.match(name)):
        return f"the {' and '.join(of_columns)} have changed"
    if "classes" in changed and (is_own or name.startswith(_OF_CLASSES)):
        return "the classes have changed"
    return None


def _by_value(
    weight: Any, before: Array, embedded: EmbeddedVocabulary, served: ServedWeights, vocabularies: Path
) -> Array:
    """Return the served vectors, each where the new vocabulary has its value; other values keep what they have."""
    vectors: Array = keras.ops.convert_to_numpy(weight).copy()
    first, tokens = embedded.first_row, _tokens(vocabularies / embedded.vocabulary)
    places = {token: first + number for number, token in enumerate(_tokens(served.vocabularies / embedded.vocabulary))}
    for number, token in enumerate(tokens, start=first):
        if (place := places.get(token)) is not None:
            vectors[number] = before[place]
    after, after_before = first + len(tokens), first + len(places)
    if len(vectors) - after == len(before) - after_before:  # those of no value, such as of unseen ones
        vectors[after:], vectors[:first] = before[after_before:], before[:first]
    return vectors


def _tokens(path: Path) -> list[bytes]:
    return path.read_bytes().removesuffix(b"\n").split(b"\n")


def _weights(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, Any, bool]]:
    """Yield the weights by a name that is the same in the next training.

    Layers that Keras has named are numbered by kind. Each weight comes with whether it is learned, or found from the
    training rows.
    """
    numbers: Counter[str] = Counter()
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _weights(layer, f"{prefix}{layer.name}/" if layer.name.startswith("network_") else prefix)
            continue
        kind = re.sub(r"_\d+$", "", layer.name)
        is_named_by_keras = kind.replace("_", "") == type(layer).__name__.lower()
        own_name = layer.name if not is_named_by_keras else f"{kind}_{number}" if (number := numbers[kind]) else kind
        numbers[kind] += 1
        for weight in layer.weights:
            own_path = weight.path.partition(f"{layer.name}/")[2] or weight.name  # with the layers inside of a layer
            yield f"{prefix}{own_name}/{own_path}", weight, weight.trainable or not isinstance(layer, FittedLayer)


def _version(path: Path) -> int | None:
    record = path / PUSH_RECORD
    return json.loads(record.read_text(encoding="utf-8")).get("version") if record.is_file() else None
