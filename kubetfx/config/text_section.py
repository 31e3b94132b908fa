"""The keys below `features.text_encoder`: how columns of text become numbers."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kubetfx.config.section import Section


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
    not}`; `{}`: none."""
    digits: Literal["keep", "zero"] = "keep"
    """`zero`: every digit becomes 0, so that numbers of equal length are one word."""
    characters: int = Field(20_000, ge=1)
    """Characters of a cell beyond this number are left out."""


class TextEncoderConfig(Section):
    """How columns of text become features, and a vector of the network."""

    kind: Literal["auto", "bag", "fasttext", "cnn"] = "auto"
    """`bag`: the tf-idf of n-grams, to a dense layer. `fasttext`: n-grams are embedded and averaged. `cnn`: tokens are
    embedded, and convolutions look at their order. `auto`: `bag` of few messages, `fasttext` of many."""
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
    length: int = Field(256, ge=1, le=8192)
    """Tokens of a text at most; those after them are left out. Where the training rows are shorter, it is less."""
    size: Annotated[int, Field(ge=1)] | None = None
    """Dimensions of the vector that a token becomes; of `cnn`, channels of each convolution too. None: 16 of `bag` and
    `fasttext`, 64 of others."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the tokens of a text that are left out at random in training."""
    cleaning: TextCleaningConfig = TextCleaningConfig()

    @model_validator(mode="after")
    def _ngrams_are_of_bags(self) -> Self:
        if self.kind == "cnn" and self.ngrams not in (None, 1):
            raise ValueError(
                f"ngrams are of kind: bag and fasttext. Received: kind: {self.kind}, ngrams: {self.ngrams}. Leave "
                "ngrams out"
            )
        if self.kind == "cnn" and self.tokens == "subwords":
            raise ValueError(
                "subwords are in no order, which a cnn looks at. Received: kind: cnn, tokens: subwords. Choose tokens: "
                "words or characters"
            )
        return self

    @property
    def num_grams(self) -> int:
        """Tokens of the longest n-gram."""
        return self.ngrams or {"words": 2, "subwords": 1, "characters": 5}[self.tokens]
