"""The keys below `features.text_encoder`: how columns of text become numbers."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kubetfx.config.section import Section

TRANSFORMER_SIZE = 64
"""Dimensions of a transformer by default."""

Share = Annotated[float, Field(ge=0, lt=1)]


class TextCleaningConfig(Section):
    """What is done to a text before it is cut into tokens, in training and in the served model alike. Characters are
    always decomposed (Unicode's form NFKD), so that one that can be written in several ways is one."""

    lower_case: bool = True
    """`Good` and `good` are one word."""
    html: bool = True
    """Tags, comments, scripts and styles of HTML are removed; entities such as `&eacute;` become their characters."""
    urls: bool = True
    """Every address of the web becomes the word `url`."""
    contractions: Literal["english"] | dict[str, str] = "english"
    """`english`: `don't` becomes `do not`, by a table of kubetfx. Otherwise a table of your own, such as `{don't: do
    not}`, or a file of it, with a tab between the two on each line; `{}`: none."""
    digits: Literal["keep", "zero"] = "keep"
    """`zero`: every digit becomes 0, so that numbers of equal length are one word."""
    characters: int = Field(20_000, ge=1)
    """Characters of a cell beyond this number are left out."""


class TextPretrainConfig(Section):
    """For `transformer`: what it learns from the texts alone, before the training. Some of their tokens are hidden, and
    it guesses them."""

    epochs: int = Field(5, ge=1)
    """Passes over the training rows."""
    share: float = Field(0.15, gt=0, le=0.5)
    """Of the tokens that are guessed."""
    learning_rate: float = Field(1e-3, gt=0)
    """Initial learning rate."""
    batch_size: int = Field(64, ge=1)
    """Texts per step."""


class TextFineTuneConfig(Section):
    """For `pretrained`: how the encoder itself learns, besides the layers behind it."""

    learning_rate: float = Field(3e-5, gt=0)
    """Initial learning rate of the uppermost layer; what is behind the encoder has that of `training`."""
    layer_decay: float = Field(0.9, gt=0, le=1)
    """What the rate of a layer is multiplied by for the one below it; below the first are the vectors of tokens."""
    layers: Annotated[int, Field(ge=1)] | None = None
    """Layers that learn, from the top. None: all, and the vectors of tokens."""


class TextAugmentationConfig(Section):
    """How texts are changed at random in training, each time anew. A served model does none of it. 0: not at all."""

    drop: Share = 0
    """Share of the words that are left out; the model sees that there was one. For `bag` and `fasttext`: `dropout`."""
    swap: Share = 0
    """Share of the pairs of neighbours that change places."""
    synonyms: dict[str, tuple[str, ...]] = {}
    """Other words by word, such as `{film: [movie, picture]}`; or a file of them, on each line a word and its synonyms,
    with tabs between them."""
    replace: Share = 0.1
    """Share of the words with synonyms that one of them replaces."""

    @model_validator(mode="after")
    def _words_have_synonyms(self) -> Self:
        if "replace" in self.changed and not self.synonyms:
            raise ValueError(
                f"replace is the share of the words with synonyms. Received: replace: {self.replace}, and no synonyms. "
                "Add some, such as synonyms: {film: [movie]}, or leave replace out"
            )
        return self


class TextEncoderConfig(Section):
    """How columns of text become features, and a vector of the network."""

    kind: Literal["auto", "bag", "fasttext", "cnn", "transformer", "pretrained"] = "auto"
    """`bag`: the tf-idf of n-grams, to a dense layer. `fasttext`: n-grams are embedded and averaged. `cnn`: tokens are
    embedded, and convolutions look at their order. `transformer`: attention does, as in BERT. `pretrained`: an encoder
    that somebody else has trained, of the folder `pretrained`. `auto`: `bag` of few messages, `fasttext` of many."""
    tokens: Literal["words", "subwords", "characters"] = "words"
    """What a text is cut into: words, of languages without spaces characters; `subwords`: words and the three to five
    neighbouring characters within them, which helps with misspelled and inflected words; or characters."""
    ngrams: Annotated[int, Field(ge=1, le=5)] | None = None
    """Up to so many neighbouring tokens are a token, too, in `bag` and `fasttext`. None: 2 of words, 1 of subwords, 5
    of characters."""
    vocabulary_size: int = Field(30_000, ge=1)
    """Tokens that are known at most: the most frequent ones."""
    min_count: int = Field(2, ge=1)
    """Times that the training rows have to have a token for it to be known."""
    length: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Words of a text at most, or tokens of `pretrained`, or `characters`; those after them are left out. Where the
    training rows are shorter, it is less. None: 256, or 512 characters."""
    size: Annotated[int, Field(ge=1)] | None = None
    """Dimensions of the vector that a token becomes; of `cnn`, channels of each convolution too. None: 64; of
    `bag` and `fasttext` as many as there are classes, from 4 to 16."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the tokens of a text that are left out at random in training."""
    cleaning: TextCleaningConfig = TextCleaningConfig()
    augmentation: TextAugmentationConfig | None = None
    """Texts are changed at random in training. None: not."""
    layers: int = Field(2, ge=1, le=48)
    """For `transformer`: layers of attention."""
    heads: int = Field(4, ge=1)
    """For `transformer`: what each layer looks for at a time; they divide `size`."""
    pretrain: TextPretrainConfig | None = None
    """For `transformer`: what it learns from the texts alone, such as `{epochs: 5}`. None: nothing."""
    pretrained: str | None = None
    """For `pretrained`: a folder with BERT, DistilBERT or RoBERTa: one of Hugging Face (config.json, model.safetensors
    and the tokenizer's files), or a preset of KerasHub, on this machine or in a bucket. Its tokenizer goes before
    `tokens` and `cleaning`."""
    fine_tune: TextFineTuneConfig | None = None
    """For `pretrained`: how the encoder learns, too, such as `{}`. None: it stays as it is, and vectors are computed
    once."""

    @model_validator(mode="before")
    @classmethod
    def _a_folder_says_the_kind(cls, document: Any) -> Any:
        if isinstance(document, dict) and document.get("pretrained") and "kind" not in document:
            return {**document, "kind": "pretrained"}
        return document

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> Self:
        if self.kind == "pretrained" and not self.pretrained:
            raise ValueError(
                "pretrained: FOLDER is missing, where the encoder is. Received: kind: pretrained. Name the folder, or "
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
                f"a pretrained encoder has a tokenizer and sizes of its own. Received: kind: pretrained, and "
                f"{min(own)}. Leave {min(own)} out"
            )
        if self.kind == "transformer" and (self.size or TRANSFORMER_SIZE) % self.heads:
            raise ValueError(
                f"heads divide size. Received: size: {self.size or TRANSFORMER_SIZE}, heads: {self.heads}. Set size to "
                f"{self.heads * 32}"
            )
        return self

    @model_validator(mode="after")
    def _dropout_has_something_to_drop(self) -> Self:
        if self.kind == "pretrained" and self.fine_tune is None and "dropout" in self.changed:
            raise ValueError(
                f"dropout is of an encoder that learns. Received: dropout: {self.dropout}, kind: pretrained, and no "
                "fine_tune. Leave dropout out, or let the encoder learn: fine_tune: {}"
            )
        return self

    @model_validator(mode="after")
    def _augmentation_fits_the_kind(self) -> Self:
        if self.augmentation is None or self.kind in ("cnn", "transformer"):
            return self
        if wrong := sorted({"drop", "swap"} & self.augmentation.changed):
            remedy = "set dropout" if wrong[0] == "drop" else "leave swap out"
            raise ValueError(
                f"augmentation.{wrong[0]} is of kind: cnn and transformer, which look at the order of words. Received: "
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
                f"subwords are in no order, which a {self.kind} looks at. Received: kind: {self.kind}, tokens: "
                "subwords. Choose tokens: words or characters"
            )
        return self

    @property
    def most_tokens(self) -> int:
        """`length`, or its default."""
        return self.length or (512 if self.tokens == "characters" else 256)

    @property
    def num_grams(self) -> int:
        """Tokens of the longest n-gram."""
        return self.ngrams or {"words": 2, "subwords": 1, "characters": 5}[self.tokens]
