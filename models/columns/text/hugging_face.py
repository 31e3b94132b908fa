"""A folder as Hugging Face's library saves it: config.json, model.safetensors, and the files of the tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from kubetfx.arrays import Array
from kubetfx.models.columns.text.byte_pairs import BytePairs, byte_letters
from kubetfx.models.columns.text.model_documents import Document, Epsilon, Layers, Merge, Size, Token, TokenNumbers
from kubetfx.models.columns.text.model_folder import CONFIG, SIZES, ModelFolder
from kubetfx.models.columns.text.transformer_shape import Shape
from kubetfx.models.columns.text.weight_names import HUGGING_FACE
from kubetfx.models.columns.text.wordpiece import WordPiece

WEIGHTS = "model.safetensors"
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}


class _Architecture(Document):
    """What config.json of any model has."""

    model_type: str | None = None


class _Sizes(Document):
    """config.json of BERT."""

    vocabulary: Size = Field(alias="vocab_size")
    positions: Size = Field(alias="max_position_embeddings")
    layers: Layers = Field(alias="num_hidden_layers")
    heads: Size = Field(alias="num_attention_heads")
    width: Size = Field(alias="hidden_size")
    inner: Size = Field(alias="intermediate_size")
    activation: str = Field("gelu", alias="hidden_act")
    epsilon: Epsilon = Field(1e-12, alias="layer_norm_eps")
    position_embedding_type: str | None = "absolute"

    @property
    def skipped_positions(self) -> int:
        """Vectors of positions that no token has."""
        return 0


class _SizesOfDistilBert(_Sizes):
    layers: Layers = Field(alias="n_layers")
    heads: Size = Field(alias="n_heads")
    width: Size = Field(alias="dim")
    inner: Size = Field(alias="hidden_dim")
    activation: str = "gelu"


class _SizesOfRoberta(_Sizes):
    pad_token_id: Annotated[int, Field(ge=0)] | None = None

    @property
    def skipped_positions(self) -> int:
        """RoBERTa counts positions from the number of the padding on."""
        return (1 if self.pad_token_id is None else self.pad_token_id) + 1


_SIZES: dict[str, type[_Sizes]] = {"bert": _Sizes, "distilbert": _SizesOfDistilBert, "roberta": _SizesOfRoberta}


class _Options(Document):
    """tokenizer_config.json."""

    do_lower_case: bool = True
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool = True
    add_prefix_space: bool | None = None
    unk_token: Token | None = None
    cls_token: Token | None = None
    sep_token: Token | None = None
    pad_token: Token | None = None

    @property
    def special(self) -> dict[str, Any]:
        """Tokens at the ends of a text and behind it, by the names of the tokenizers' fields."""
        found = {"first": self.cls_token, "last": self.sep_token, "padding": self.pad_token}
        return {name: token for name, token in found.items() if token}


class _Model(Document):
    type: str | None = None
    continuing_subword_prefix: str | None = None
    ignore_merges: bool | None = None


class _Normalizer(Document):
    type: str | None = None
    clean_text: bool = True
    lowercase: bool = True
    strip_accents: bool | None = None
    handle_chinese_chars: bool = True


class _PreTokenizer(Document):
    type: str | None = None
    use_regex: bool = True
    add_prefix_space: bool | None = None


class _AddedToken(Document):
    id: int
    content: str
    special: bool = False


class _Tokenizer(Document):
    """tokenizer.json of any tokenizer."""

    model: _Model
    normalizer: _Normalizer | None = None
    pre_tokenizer: _PreTokenizer | None = None
    added_tokens: tuple[_AddedToken, ...] | None = None


class _WordPieceModel(Document):
    vocab: dict[str, int]
    max_input_chars_per_word: Size = 100
    unk_token: str = "[UNK]"


class _WordPieceTokenizer(Document):
    model: _WordPieceModel


class _BytePairModel(Document):
    vocab: dict[str, int]
    merges: tuple[Merge, ...]


class _BytePairTokenizer(Document):
    model: _BytePairModel


def read_shape(folder: ModelFolder) -> Shape:
    """Return the sizes of a transformer.

    Args:
        folder: with config.json.

    Raises:
        ConfigError: the model is of another kind, or has what BERT has not.
    """
    kind = _kind(folder)
    sizes = folder.document(CONFIG, _SIZES[kind], what=SIZES)
    if sizes.activation not in _ACTIVATIONS or sizes.position_embedding_type != "absolute":
        raise folder.error(
            "the model has layers that BERT has not",
            f"activation {sizes.activation!r}, positions {sizes.position_embedding_type!r} in {CONFIG}",
            f"Take one with absolute positions and an activation of these: {', '.join(_ACTIVATIONS)}.",
        )
    return Shape(
        vocabulary=sizes.vocabulary,
        positions=sizes.positions - sizes.skipped_positions,
        layers=sizes.layers,
        heads=sizes.heads,
        width=sizes.width,
        inner=sizes.inner,
        epsilon=sizes.epsilon,
        activation=_ACTIVATIONS[sizes.activation],
    )


def _kind(folder: ModelFolder) -> str:
    kind = folder.document(CONFIG, _Architecture, what=SIZES).model_type
    if kind not in _SIZES:
        raise folder.error(
            "the model is of another architecture",
            f"model_type: {kind!r} in {CONFIG}",
            f"Take a model of one of these: {', '.join(_SIZES)}.",
        )
    return kind


def read_weights(folder: ModelFolder, shape: Shape) -> dict[str, Array]:
    """Return the weights of a transformer, by the names of `Shape.weights`.

    Args:
        folder: with model.safetensors.
        shape: of the transformer.

    Raises:
        ConfigError: the file is none, or has not these weights.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    kind = _kind(folder)
    skipped = folder.document(CONFIG, _SIZES[kind], what=SIZES).skipped_positions
    content = folder.content(WEIGHTS, what="the weights")
    try:
        arrays = load(content)
    except KeyError as error:
        raise folder.error(
            f"{WEIGHTS} has numbers of a kind that cannot be read", str(error), "Save the weights as float32."
        ) from error
    except (SafetensorError, ValueError) as error:
        raise folder.error(f"{WEIGHTS} cannot be read", str(error), "Copy the file again.") from error
    arrays = {name.removeprefix(f"{kind}."): values for name, values in arrays.items()}
    arrays = {_of_today(name): values for name, values in arrays.items()}
    names = HUGGING_FACE[kind]
    for name, own in names.by_name(shape):
        if own in arrays and name.endswith("kernel"):
            arrays[own] = arrays[own].T
        elif own in arrays and name == "positions":
            arrays[own] = arrays[own][skipped:]
    return folder.checked(arrays, names, shape, file=WEIGHTS)


def _of_today(name: str) -> str:
    """Layer normalisations had other names in early models."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def read_tokenizer(folder: ModelFolder) -> WordPiece | BytePairs:
    """Return the tokenizer: of tokenizer.json where there is one, otherwise of vocab.txt, or vocab.json and merges.txt.

    Args:
        folder: with these files.

    Raises:
        ConfigError: they are not there, or describe a tokenizer of another kind.
    """
    has_options = folder.has("tokenizer_config.json")
    options = folder.document("tokenizer_config.json", _Options, what="") if has_options else _Options()
    if folder.has("tokenizer.json"):
        return _of_document(folder, options)
    if folder.has("vocab.txt"):
        strips = options.strip_accents
        return WordPiece(
            tuple(folder.text("vocab.txt", what="the vocabulary").rstrip("\n").split("\n")),
            lowercase=options.do_lower_case,
            strips_accents=options.do_lower_case if strips is None else strips,
            splits_ideographs=options.tokenize_chinese_chars,
            unknown=options.unk_token or "[UNK]",
            **options.special,
        )
    if not folder.has("vocab.json"):
        raise folder.error(
            "the folder has no tokenizer that is understood",
            f"none of tokenizer.json, vocab.txt, vocab.json{folder.instead('.model', '.spm')}",
            "Copy the tokenizer's files too; one of SentencePiece is not understood.",
        )
    return byte_pairs(
        folder,
        folder.document("vocab.json", TokenNumbers, what="the vocabulary").root,
        read_merges(folder, "merges.txt"),
        has_space_before=bool(options.add_prefix_space),
        special=options.special,
    )


def _of_document(folder: ModelFolder, options: _Options) -> WordPiece | BytePairs:
    """Content of tokenizer.json."""
    name, what = "tokenizer.json", "the tokenizer"
    document = folder.document(name, _Tokenizer, what=what)
    model, added = document.model, document.added_tokens or ()
    normalizer, before = document.normalizer or _Normalizer(), document.pre_tokenizer or _PreTokenizer()
    if other := next((token.content for token in added if not token.special), None):
        raise folder.error(
            "the tokenizer has tokens that were added to its vocabulary",
            f"{other!r} in {name}",
            "Take one without them.",
        )
    for key, is_done in (("clean_text", normalizer.clean_text), ("use_regex", before.use_regex)):
        if not is_done:
            raise folder.error(
                "the tokenizer leaves a step out that BERT's or RoBERTa's has",
                f"{key}: false in {name}",
                "Take a model whose tokenizer has it.",
            )
    kinds = model.type, normalizer.type, before.type
    of_added = {token.content: token.id for token in added}
    if kinds == ("WordPiece", "BertNormalizer", "BertPreTokenizer") and model.continuing_subword_prefix == "##":
        pieces = folder.document(name, _WordPieceTokenizer, what=what).model
        lowercase, strips = normalizer.lowercase, normalizer.strip_accents
        return WordPiece(
            in_order(folder, {**pieces.vocab, **of_added}),
            lowercase=lowercase,
            strips_accents=lowercase if strips is None else strips,
            splits_ideographs=normalizer.handle_chinese_chars,
            max_characters=pieces.max_input_chars_per_word,
            unknown=pieces.unk_token,
            **options.special,
        )
    if kinds == ("BPE", None, "ByteLevel") and not model.ignore_merges:
        pairs = folder.document(name, _BytePairTokenizer, what=what).model
        space = options.add_prefix_space if before.add_prefix_space is None else before.add_prefix_space
        return byte_pairs(
            folder,
            {**pairs.vocab, **of_added},
            pairs.merges,
            has_space_before=bool(space),
            special=options.special,
        )
    raise folder.error(
        "the tokenizer is of another kind than BERT's WordPiece and RoBERTa's byte pairs",
        f"model {kinds[0]}, normalizer {kinds[1]}, pre_tokenizer {kinds[2]} in {name}",
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
    merges: Sequence[str],
    *,
    has_space_before: bool,
    special: Mapping[str, str] | None = None,
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
