"""A folder as Hugging Face's library saves it: config.json, model.safetensors, and the files of the tokenizer."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kubetfx.models.columns.text.byte_pairs import BytePairs, byte_letters
from kubetfx.models.columns.text.model_folder import CONFIG, ModelFolder
from kubetfx.models.columns.text.transformer_shape import Shape
from kubetfx.models.columns.text.weight_names import HUGGING_FACE
from kubetfx.models.columns.text.wordpiece import WordPiece

WEIGHTS = "model.safetensors"
_SIZES = {
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "width": "hidden_size",
    "inner": "intermediate_size",
}
_SIZES_OF_DISTILBERT = {"layers": "n_layers", "heads": "n_heads", "width": "dim", "inner": "hidden_dim"}
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
_SPECIAL = {"first": "cls_token", "last": "sep_token", "padding": "pad_token"}


def read_shape(folder: ModelFolder) -> Shape:
    """Return the sizes of a transformer.

    Args:
        folder: with config.json.

    Raises:
        ConfigError: the model is of another kind, or has what BERT has not.
    """
    config = folder.document(CONFIG, what="the sizes of the model")
    kind = config.get("model_type")
    if kind not in HUGGING_FACE:
        raise folder.error(
            "the model is of another architecture",
            f"model_type: {kind!r} in {CONFIG}",
            f"Take a model of one of these: {', '.join(HUGGING_FACE)}.",
        )
    is_distilbert = kind == "distilbert"
    activation = config.get("activation" if is_distilbert else "hidden_act", "gelu")
    relative = config.get("position_embedding_type", "absolute")
    if activation not in _ACTIVATIONS or relative != "absolute":
        raise folder.error(
            "the model has layers that BERT has not",
            f"activation {activation!r}, positions {relative!r} in {CONFIG}",
            f"Take one with absolute positions and an activation of these: {', '.join(_ACTIVATIONS)}.",
        )
    skipped = _skipped_positions(config)
    sizes = _SIZES_OF_DISTILBERT if is_distilbert else _SIZES
    try:
        return Shape(
            vocabulary=int(config["vocab_size"]),
            positions=int(config["max_position_embeddings"]) - skipped,
            epsilon=float(config.get("layer_norm_eps", 1e-12)),
            activation=_ACTIVATIONS[activation],
            **{name: int(config[key]) for name, key in sizes.items()},
        )
    except KeyError as error:
        raise folder.error(f"{CONFIG} lacks a size", f"no {error}", "Copy the file of the model again.") from error
    except (TypeError, ValueError) as error:
        raise folder.error(
            f"a size in {CONFIG} is not a number", str(error), "Copy the file of the model again."
        ) from error


def read_weights(folder: ModelFolder, shape: Shape) -> dict[str, np.ndarray]:
    """Return the weights of a transformer, by the names of `Shape.weights`.

    Args:
        folder: with model.safetensors.
        shape: of the transformer.

    Raises:
        ConfigError: the file is none, or has not these weights.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    config = folder.document(CONFIG, what="the sizes of the model")
    content = folder.content(WEIGHTS, what="the weights")
    try:
        arrays = load(content)
    except KeyError as error:
        raise folder.error(
            f"{WEIGHTS} has numbers of a kind that cannot be read", str(error), "Save the weights as float32."
        ) from error
    except (SafetensorError, ValueError) as error:
        raise folder.error(f"{WEIGHTS} cannot be read", str(error), "Copy the file again.") from error
    begins = f"{config['model_type']}."
    arrays = {name.removeprefix(begins): values for name, values in arrays.items()}
    arrays = {_of_today(name): values for name, values in arrays.items()}
    names = HUGGING_FACE[config["model_type"]]
    for name, own in names.by_name(shape):
        if own in arrays and name.endswith("kernel"):
            arrays[own] = arrays[own].T
        elif own in arrays and name == "positions":
            arrays[own] = arrays[own][_skipped_positions(config) :]
    return folder.checked(arrays, names, shape, file=WEIGHTS)


def _of_today(name: str) -> str:
    """Layer normalisations had other names in early models."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _skipped_positions(config: Mapping[str, Any]) -> int:
    """RoBERTa counts positions from the number of the padding on."""
    padding = config.get("pad_token_id")
    return int(1 if padding is None else padding) + 1 if config.get("model_type") == "roberta" else 0


def read_tokenizer(folder: ModelFolder) -> WordPiece | BytePairs:
    """Return the tokenizer: of tokenizer.json where there is one, otherwise of vocab.txt, or vocab.json and merges.txt.

    Args:
        folder: with these files.

    Raises:
        ConfigError: they are not there, or describe a tokenizer of another kind.
    """
    options = folder.document("tokenizer_config.json", what="") if folder.has("tokenizer_config.json") else {}
    special: dict[str, Any] = {name: _text(options[key]) for name, key in _SPECIAL.items() if options.get(key)}
    if folder.has("tokenizer.json"):
        return _of_document(folder, folder.document("tokenizer.json", what="the tokenizer"), options, special)
    if folder.has("vocab.txt"):
        lowercase = bool(options.get("do_lower_case", True))
        strips = options.get("strip_accents")
        return WordPiece(
            tuple(folder.text("vocab.txt", what="the vocabulary").rstrip("\n").split("\n")),
            lowercase=lowercase,
            strips_accents=lowercase if strips is None else bool(strips),
            splits_ideographs=bool(options.get("tokenize_chinese_chars", True)),
            unknown=_text(options.get("unk_token", "[UNK]")),
            **special,
        )
    if not folder.has("vocab.json"):
        raise folder.error(
            "the folder has no tokenizer that is understood",
            f"none of tokenizer.json, vocab.txt, vocab.json{folder.instead('.model', '.spm')}",
            "Copy the tokenizer's files too; one of SentencePiece is not understood.",
        )
    numbers = folder.document("vocab.json", what="the vocabulary")
    space = bool(options.get("add_prefix_space", False))
    return byte_pairs(folder, numbers, read_merges(folder, "merges.txt"), has_space_before=space, special=special)


def _of_document(
    folder: ModelFolder, document: Mapping[str, Any], options: Mapping[str, Any], special: Mapping[str, Any]
) -> WordPiece | BytePairs:
    """Content of tokenizer.json."""
    model, normalizer, before = (document.get(name) or {} for name in ("model", "normalizer", "pre_tokenizer"))
    added = document.get("added_tokens") or []
    if other := next((entry["content"] for entry in added if not entry.get("special")), None):
        raise folder.error(
            "the tokenizer has tokens that were added to its vocabulary",
            f"{other!r} in tokenizer.json",
            "Take one without them.",
        )
    kinds = model.get("type"), normalizer.get("type"), before.get("type")
    if "vocab" not in model:
        raise folder.error("tokenizer.json has no vocabulary", "no model.vocab in it", "Copy the file again.")
    for part, key in ((normalizer, "clean_text"), (before, "use_regex")):
        if part.get(key) is False:
            raise folder.error(
                "the tokenizer leaves a step out that BERT's or RoBERTa's has",
                f"{key}: false in tokenizer.json",
                "Take a model whose tokenizer has it.",
            )
    of_added = {entry["content"]: entry["id"] for entry in added}
    if kinds == ("WordPiece", "BertNormalizer", "BertPreTokenizer") and model.get("continuing_subword_prefix") == "##":
        lowercase, strips = bool(normalizer.get("lowercase", True)), normalizer.get("strip_accents")
        return WordPiece(
            in_order(folder, {**model["vocab"], **of_added}),
            lowercase=lowercase,
            strips_accents=lowercase if strips is None else bool(strips),
            splits_ideographs=bool(normalizer.get("handle_chinese_chars", True)),
            max_characters=int(model.get("max_input_chars_per_word", 100)),
            unknown=str(model.get("unk_token", "[UNK]")),
            **special,
        )
    if kinds == ("BPE", None, "ByteLevel") and not model.get("ignore_merges"):
        merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
        space = bool(before.get("add_prefix_space", options.get("add_prefix_space", False)))
        return byte_pairs(folder, {**model["vocab"], **of_added}, merges, has_space_before=space, special=special)
    raise folder.error(
        "the tokenizer is of another kind than BERT's WordPiece and RoBERTa's byte pairs",
        f"model {kinds[0]}, normalizer {kinds[1]}, pre_tokenizer {kinds[2]} in tokenizer.json",
        "Take a model with one of these.",
    )


def read_merges(folder: ModelFolder, name: str) -> list[str]:
    """Return pairs of tokens, with a space between the two, in the order in which they are joined.

    Args:
        folder: with the file.
        name: of the file.

    Raises:
        ConfigError: it is not there.
    """
    lines = folder.text(name, what="the pairs of the vocabulary").split("\n")
    return [line for line in lines if line and not line.startswith("#version")]


def byte_pairs(
    folder: ModelFolder,
    numbers: Mapping[str, int],
    merges: list[str],
    *,
    has_space_before: bool,
    special: Mapping[str, Any] | None = None,
) -> BytePairs:
    """Return a tokenizer of byte pairs.

    Args:
        folder: that it is of.
        numbers: of tokens.
        merges: pairs, with a space between the two.
        has_space_before: see `BytePairs`.
        special: other tokens than RoBERTa's.

    Raises:
        ConfigError: a byte has no token, or a pair becomes none.
    """
    vocabulary = in_order(folder, numbers)
    pairs = [tuple(pair.split(" ")) for pair in merges]
    known = set(vocabulary)
    bad = next((pair for pair in pairs if len(pair) != 2 or not {*pair, "".join(pair)} <= known), None)
    lacking = next((letter for letter in byte_letters() if letter not in known), None)
    if bad is not None or lacking is not None:
        raise folder.error(
            "merges and vocabulary of the tokenizer do not belong together, or are not of bytes",
            f"the pair {' '.join(bad)!r}" if bad else f"no token for the byte that is written {lacking!r}",
            "Copy both from one model.",
        )
    return BytePairs(vocabulary, tuple((pair[0], pair[1]) for pair in pairs), has_space_before, **(special or {}))


def in_order(folder: ModelFolder, numbers: Mapping[str, int]) -> tuple[str, ...]:
    """Return tokens by their number.

    Args:
        folder: that they are of.
        numbers: of the tokens.

    Raises:
        ConfigError: they are not numbered from 0 on.
    """
    found = sorted(numbers, key=lambda token: numbers[token])
    if [numbers[token] for token in found] != list(range(len(found))):
        raise folder.error("the tokens are not numbered from 0 on", f"{len(found)} of them", "Copy the files again.")
    return tuple(found)


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)
