"""The section `features.text_encoder`: how columns of text become numbers."""

import unicodedata
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kubetfx.config.section import Section

TRANSFORMER_SIZE = 64
"""Default number of dimensions of a transformer."""

Share = Annotated[float, Field(ge=0, lt=1)]


class TextCleaningConfig(Section):
    """How a text is cleaned before it is split into tokens, in training and in the served model alike.

    Characters are always decomposed (Unicode's form NFKD), so that all spellings of a character are equal.
    """

    lower_case: bool = True
    """`Good` and `good` become the same word."""
    html: bool = True
    """Tags, comments, scripts and styles of HTML are removed; entities such as `&eacute;` become their characters."""
    urls: bool = True
    """Every web address becomes the word `url`."""
    contractions: Literal["english"] | dict[str, str] = "english"
    """`english`: `don't` becomes `do not`, by kubetfx's table. Otherwise a table of your own, such as `{don't: do
    not}`, or a file of it, with a tab between the two on each line; `{}`: none. Case, spaces around a word and the kind
    of apostrophe do not count."""
    digits: Literal["keep", "zero"] = "keep"
    """`zero`: every digit becomes 0, so that numbers of equal length become the same word."""
    characters: int = Field(20_000, ge=1, le=1_000_000_000)
    """Maximum number of characters of a cell; the rest is cut off."""

    @model_validator(mode="after")
    def _contractions_have_one_meaning(self) -> Self:
        written: dict[str, str] = {}
        table = {} if self.contractions == "english" else self.contractions
        for word, long in table.items():
            key = _as_looked_up(word)
            if not key or " " in key:
                raise ValueError(
                    f"contractions are single words. Received: {word!r}. Take it out, or write it as one word"
                )
            if _spaced(table[written.setdefault(key, word)]) != _spaced(long):
                raise ValueError(
                    f"contractions has one word with two meanings. Received: {written[key]!r}: "
                    f"{table[written[key]]!r}, and {word!r}: {long!r}. Keep one of them: case, spaces around a word "
                    "and the kind of apostrophe do not count"
                )
        return self

    @property
    def own_contractions(self) -> dict[str, str]:
        """The table of the user's own, by words as they are looked up; empty if there is none."""
        table = {} if self.contractions == "english" else self.contractions
        return {_as_looked_up(word): _spaced(long) for word, long in table.items()}


def _as_looked_up(word: str) -> str:
    return _spaced(unicodedata.normalize("NFKD", word.replace("\u2019", "'")).lower())


def _spaced(text: str) -> str:
    return " ".join(text.split())


class TextPretrainConfig(Section):
    """For `transformer`: pretraining on the texts without labels, by guessing masked tokens."""

    epochs: int = Field(5, ge=1)
    """Passes over the training rows."""
    share: float = Field(0.15, gt=0, le=0.5)
    """Share of the tokens that are masked."""
    learning_rate: float = Field(1e-3, gt=0)
    """Initial learning rate."""
    batch_size: int = Field(64, ge=1)
    """Texts per step."""


class TextFineTuneConfig(Section):
    """For `pretrained`: how the encoder itself is fine-tuned, in addition to the layers after it."""

    learning_rate: float = Field(3e-5, gt=0)
    """Initial learning rate of the top layer; the layers after the encoder use that of `training`."""
    layer_decay: float = Field(0.9, gt=0, le=1)
    """Factor of the learning rate from each layer to the one below; below the first layer are the token embeddings."""
    layers: Annotated[int, Field(ge=1)] | None = None
    """Number of layers that are fine-tuned, from the top. None: all, including the token embeddings."""


class TextAugmentationConfig(Section):
    """How texts are changed at random in training, each time differently.

    A served model does not change texts. 0 turns a change off.
    """

    drop: Share = 0
    """Share of the words that are masked. For `bag` and `fasttext`, use `dropout`."""
    swap: Share = 0
    """Share of the pairs of neighbouring words that are swapped."""
    synonyms: dict[str, tuple[str, ...]] = {}
    """Synonyms by word, such as `{film: [movie, picture]}`; or a file of them, each line has a word and its synonyms,
    separated by tabs.
    """
    replace: Share = 0.1
    """Share of the words with synonyms that are replaced by one."""

    @model_validator(mode="after")
    def _words_have_synonyms(self) -> Self:
        for word, others in self.synonyms.items():
            if not word.strip() or not all(map(str.strip, others)) or not {*others} - {word}:
                raise ValueError(
                    f"synonyms are of a word, and other words than it. Received: {word!r}: {list(others)}. Write such "
                    "as film: [movie], or take the word out"
                )
        if "replace" in self.changed and not self.synonyms:
            raise ValueError(
                f"replace needs synonyms. Received: replace: {self.replace}, and no synonyms. "
                "Add some, such as synonyms: {film: [movie]}, or leave replace out"
            )
        return self


class TextEncoderConfig(Section):
    """How columns of text are encoded."""

    kind: Literal["auto", "bag", "fasttext", "cnn", "transformer", "pretrained"] = "auto"
    """`bag`: tf-idf of n-grams, followed by a dense layer. `fasttext`: n-grams are embedded and averaged. `cnn`:
    convolutions over embedded tokens. `transformer`: attention over embedded tokens, as in BERT. `pretrained`: a
    pretrained encoder from the folder `pretrained`. `auto`: `bag` for few messages, `fasttext` for many.
    """
    tokens: Literal["words", "subwords", "characters"] = "words"
    """How a text is split: into words (characters in languages without spaces); into `subwords`, which are words and
    their character n-grams of three to five characters, for misspelled and inflected words; or into characters.
    """
    ngrams: Annotated[int, Field(ge=1, le=5)] | None = None
    """Longest n-gram of `bag` and `fasttext`, in tokens. None: 2 for words, 1 for subwords, 5 for characters."""
    vocabulary_size: int = Field(30_000, ge=1, le=1_000_000_000)
    """Maximum size of the vocabulary: the most frequent tokens are kept."""
    min_count: int = Field(2, ge=1, le=1_000_000_000)
    """Minimum number of occurrences in the training rows for a token to enter the vocabulary."""
    length: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Maximum length of a text in words, in tokens of `pretrained`, or in `characters`; the rest is cut off. It is less
    if all training texts are shorter. None: 256, or 512 characters.
    """
    size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Dimensions of a token's embedding; for `cnn`, also the channels of each convolution. None: 64; for `bag` and
    `fasttext`, 4, 8 or 16, whichever is the first not below the number of classes; 16 for more classes and for
    regression.
    """
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the tokens of a text that are dropped at random in training."""
    cleaning: TextCleaningConfig = TextCleaningConfig()
    augmentation: TextAugmentationConfig | None = None
    """Random changes of texts in training. None: no changes."""
    layers: int = Field(2, ge=1, le=48)
    """For `transformer`: number of layers."""
    heads: int = Field(4, ge=1)
    """For `transformer`: number of attention heads, which must divide `size`."""
    pretrain: TextPretrainConfig | None = None
    """For `transformer`: pretraining on the texts without labels, such as `{epochs: 5}`. None: nothing."""
    pretrained: str | None = None
    """For `pretrained`: a folder with BERT, DistilBERT or RoBERTa: one of Hugging Face (config.json, model.safetensors
    and the tokenizer's files), or a preset of KerasHub, on this machine or in a bucket. Its tokenizer replaces `tokens`
    and `cleaning`.
    """
    fine_tune: TextFineTuneConfig | None = None
    """For `pretrained`: fine-tuning of the encoder, such as `{}`. None: the encoder is frozen, and its vectors are
    computed once.
    """

    @model_validator(mode="before")
    @classmethod
    def _a_folder_says_the_kind(cls, document: Any) -> Any:
        if isinstance(document, dict) and document.get("pretrained") is not None and "kind" not in document:
            return {**document, "kind": "pretrained"}
        return document

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> Self:
        if self.pretrained == "":
            raise ValueError(
                "pretrained is empty. Received: pretrained: ''. Name the folder of the encoder, or leave pretrained out"
            )
        if self.kind == "pretrained" and not self.pretrained:
            raise ValueError(
                "pretrained: FOLDER, the folder of the encoder, is missing. Received: kind: pretrained. Name the "
                "folder, or "
                "choose another kind"
            )
        others = {"pretrained": {"pretrained", "fine_tune"}, "transformer": {"layers", "heads", "pretrain"}}
        for kind, keys in others.items():
            if self.kind != kind and (wrong := sorted(self.changed & keys)):
                raise ValueError(
                    f"{wrong[0]} applies to kind: {kind} only. Received: kind: {self.kind}. Leave {wrong[0]} out, or "
                    f"set kind: {kind}"
                )
        own = {"tokens", "ngrams", "vocabulary_size", "min_count", "size", "cleaning", "augmentation"} & self.changed
        if self.kind == "pretrained" and own:
            raise ValueError(
                f"a pretrained encoder has its own tokenizer and sizes. Received: kind: pretrained, and "
                f"{min(own)}. Leave {min(own)} out"
            )
        if self.kind == "transformer" and (self.size or TRANSFORMER_SIZE) % self.heads:
            raise ValueError(
                f"heads must divide size. Received: size: {self.size or TRANSFORMER_SIZE}, heads: {self.heads}. Set "
                f"size to "
                f"{self.heads * 32}"
            )
        return self

    @model_validator(mode="after")
    def _dropout_has_something_to_drop(self) -> Self:
        if self.kind == "pretrained" and self.fine_tune is None and "dropout" in self.changed:
            raise ValueError(
                f"dropout applies to an encoder that is trained. Received: dropout: {self.dropout}, kind: pretrained, "
                f"and no "
                "fine_tune. Leave dropout out, or fine-tune the encoder: fine_tune: {}"
            )
        return self

    @model_validator(mode="after")
    def _augmentation_fits_the_kind(self) -> Self:
        if self.augmentation is None or self.kind in ("cnn", "transformer"):
            return self
        if wrong := sorted({"drop", "swap"} & self.augmentation.changed):
            remedy = "set dropout" if wrong[0] == "drop" else "leave swap out"
            raise ValueError(
                f"augmentation.{wrong[0]} applies to kind: cnn and transformer, which use the order of words. "
                f"Received: "
                f"kind: {self.kind}. For other kinds {remedy}"
            )
        return self

    @model_validator(mode="after")
    def _ngrams_are_of_bags(self) -> Self:
        if self.kind in ("cnn", "transformer") and self.ngrams not in (None, 1):
            raise ValueError(
                f"ngrams apply to kind: bag and fasttext only. Received: kind: {self.kind}, ngrams: {self.ngrams}. "
                "Leave ngrams out"
            )
        if self.kind in ("cnn", "transformer") and self.tokens == "subwords":
            raise ValueError(
                f"subwords have no order, and a {self.kind} needs one. Received: kind: {self.kind}, tokens: "
                "subwords. Choose tokens: words or characters"
            )
        return self

    @property
    def most_tokens(self) -> int:
        """`length`, or its default."""
        return self.length or (512 if self.tokens == "characters" else 256)

    @property
    def num_grams(self) -> int:
        """Length of the longest n-gram in tokens."""
        return self.ngrams or {"words": 2, "subwords": 1, "characters": 5}[self.tokens]
