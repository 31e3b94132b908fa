"""A preset of KerasHub: config.json, model.weights.h5, tokenizer.json and assets/tokenizer/."""

import io
from typing import Any

import numpy as np

from kubetfx.arrays import Array
from kubetfx.models.columns.text.byte_pairs import BytePairs
from kubetfx.models.columns.text.hugging_face import byte_pairs, read_merges
from kubetfx.models.columns.text.model_documents import Document, Layers, Size, TokenNumbers
from kubetfx.models.columns.text.model_folder import CONFIG, SIZES, ModelFolder
from kubetfx.models.columns.text.transformer_shape import Shape
from kubetfx.models.columns.text.weight_names import KERAS_HUB
from kubetfx.models.columns.text.wordpiece import WordPiece

WEIGHTS = "model.weights.h5"
TOKENIZER = "tokenizer.json"
_ASSETS = "assets/tokenizer"
_TOKENIZERS = {"BertBackbone": "BertTokenizer", "DistilBertBackbone": "DistilBertTokenizer",
               "RobertaBackbone": "RobertaTokenizer"}  # fmt: skip


class _Kind(Document):
    """config.json of any preset, and of models that are none."""

    class_name: str | None = None


class _Sizes(Document):
    vocabulary_size: Size
    max_sequence_length: Size
    num_layers: Layers
    num_heads: Size
    hidden_dim: Size
    intermediate_dim: Size


class _Backbone(Document):
    """config.json of an encoder."""

    config: _Sizes


class _Options(Document):
    lowercase: bool = False
    strip_accents: bool | None = None
    add_prefix_space: bool | None = None


class _Tokenizer(Document):
    """tokenizer.json."""

    class_name: str | None = None
    config: _Options | None = None


def is_preset(folder: ModelFolder) -> bool:
    """Return whether a folder is a preset, and not one of Hugging Face.

    Args:
        folder: with config.json.
    """
    return folder.document(CONFIG, _Kind, what=SIZES).class_name is not None


def read_shape(folder: ModelFolder) -> Shape:
    """Return the sizes of a transformer.

    Args:
        folder: with config.json.

    Raises:
        ConfigError: the model is of another kind.
    """
    kind = _kind(folder)
    sizes = folder.document(CONFIG, _Backbone, what=SIZES).config
    return Shape(
        vocabulary=sizes.vocabulary_size,
        positions=sizes.max_sequence_length,
        layers=sizes.num_layers,
        heads=sizes.num_heads,
        width=sizes.hidden_dim,
        inner=sizes.intermediate_dim,
        epsilon=1e-5 if kind == "RobertaBackbone" else 1e-12,
        activation="gelu_tanh" if kind == "BertBackbone" else "gelu",
    )


def _kind(folder: ModelFolder) -> str:
    kind = folder.document(CONFIG, _Kind, what=SIZES).class_name
    if kind not in KERAS_HUB:
        raise folder.error(
            "the model is of another architecture",
            f"class_name: {kind!r} in {CONFIG}",
            f"Take a preset of one of these: {', '.join(KERAS_HUB)}. Layers with code of their own, such as Lambda, "
            "are not executed.",
        )
    return kind


def read_weights(folder: ModelFolder, shape: Shape) -> dict[str, Array]:
    """Return the weights of a transformer, by the names of `Shape.weights`.

    Args:
        folder: with model.weights.h5.
        shape: of the transformer.

    Raises:
        ConfigError: the file is none, or has not these weights.
    """
    import h5py

    names = KERAS_HUB[_kind(folder)]
    content = folder.content(WEIGHTS, what="the weights")
    arrays: dict[str, Array] = {}

    def keep(name: str, entry: Any) -> None:
        if isinstance(entry, h5py.Dataset):
            arrays[name.replace("/_query_", "/query_")] = entry[()]

    try:
        with h5py.File(io.BytesIO(content)) as file:
            file.visititems(keep)
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:  # by what is damaged
        raise folder.error(f"{WEIGHTS} cannot be read", str(error), "Copy the file again.") from error
    for name, own in names.by_name(shape):
        wanted = shape.weights()[name]
        if "_self_attention_layer/" in own and own in arrays and arrays[own].size == np.prod(wanted):
            arrays[own] = arrays[own].reshape(wanted)  # of several heads
    return folder.checked(arrays, names, shape, file=WEIGHTS)


def read_tokenizer(folder: ModelFolder) -> WordPiece | BytePairs:
    """Return the tokenizer.

    Args:
        folder: with tokenizer.json and assets/tokenizer.

    Raises:
        ConfigError: they are not there, or describe a tokenizer of another kind.
    """
    document = folder.document(TOKENIZER, _Tokenizer, what="the tokenizer")
    of_model = _kind(folder)
    kind, options = document.class_name, document.config or _Options()
    if kind != _TOKENIZERS[of_model]:
        raise folder.error(
            "the tokenizer is of another model",
            f"class_name: {kind!r} in {TOKENIZER}, and {of_model!r} in {CONFIG}",
            f"Copy the preset again: {of_model} has a {_TOKENIZERS[of_model]}.",
        )
    if kind == "RobertaTokenizer":
        return byte_pairs(
            folder,
            folder.document(f"{_ASSETS}/vocabulary.json", TokenNumbers, what="the vocabulary").root,
            read_merges(folder, f"{_ASSETS}/merges.txt"),
            has_space_before=bool(options.add_prefix_space),
        )
    lowercase, strips = options.lowercase, options.strip_accents
    return WordPiece(
        tuple(folder.text(f"{_ASSETS}/vocabulary.txt", what="the vocabulary").rstrip("\n").split("\n")),
        lowercase=lowercase,
        strips_accents=lowercase if strips is None else strips,
    )
