"""BERT's tokenizer out of TensorFlow's core operations: the numbers are those of the Hugging Face tokenizer."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubetfx.models.columns.text.token_rows import Framed, split_at, table, token_rows, valid_text
from kubetfx.models.columns.text.unicode_classes import (
    assigned,
    ideographs,
    in_categories,
    is_punctuation,
    matching,
    without_accents,
)

if TYPE_CHECKING:
    import tensorflow as tf

_SPACES = "\t\n\r"
"""Control characters that are spaces."""
_INSIDE = "##"
"""Begins a piece that is not the first of its word."""
_ALL = 2**30
"""Characters: of a whole rest."""
_ITSELF = "\0"
"""In the place of a folded character: it is its own. No word has this character."""


@dataclass(frozen=True)
class WordPiece(Framed):
    """Words are split at spaces and around punctuation, and each into the longest pieces that the vocabulary has."""

    vocabulary: tuple[str, ...]
    """Pieces by their number."""
    lowercase: bool = True
    strips_accents: bool = True
    splits_ideographs: bool = True
    """Whether each Chinese character is a word."""
    max_characters: int = 100
    """A longer word is unknown."""
    unknown: str = "[UNK]"
    first: str = "[CLS]"
    last: str = "[SEP]"
    padding: str = "[PAD]"

    @property
    def special_tokens(self) -> set[str]:
        """Those that the vocabulary has to have."""
        return {*super().special_tokens, self.unknown}

    def __call__(self, texts: "tf.Tensor", *, length: int) -> "tf.Tensor":
        """Tokenize texts.

        Args:
            texts: (batch,) string; U+FFFD stands for bytes that are not UTF-8.
            length: tokens of a row, those at its ends among them.

        Returns:
            (batch, length) int64.
        """
        import tensorflow as tf

        removed, word, space = _patterns(self.lowercase, self.strips_accents, self.splits_ideographs)
        texts = tf.strings.regex_replace(valid_text(texts), removed, "")
        texts = tf.strings.regex_replace(texts, word, r" \0 ")
        texts = tf.strings.regex_replace(texts, f"{space}+", " ")
        return token_rows(split_at(texts, " "), self._tokenize, length=length, frame=self.frame)

    def _tokenize(self, words: "tf.Tensor") -> "tf.RaggedTensor":
        return self._pieces(self._fold(words))

    def _fold(self, words: "tf.Tensor") -> "tf.Tensor":
        """Lower case, and no accents."""
        import tensorflow as tf

        folded = _folded(self.lowercase, self.strips_accents)
        if not folded:
            return words
        lowered = tf.strings.lower(words) if self.lowercase else words  # of ASCII alone
        others = tf.where(tf.strings.length(words) > tf.strings.length(words, "UTF8_CHAR"))
        parts = tf.strings.unicode_split(tf.gather_nd(lowered, others), "UTF-8")
        found = table(list(folded), list(folded.values()), _ITSELF).lookup(parts.flat_values)
        found = tf.where(tf.equal(found, _ITSELF), parts.flat_values, found)
        number = tf.shape(others)[0]
        joined = tf.strings.unsorted_segment_join(found, tf.cast(parts.value_rowids(), tf.int32), number)
        return tf.tensor_scatter_nd_update(lowered, others, joined)

    def _pieces(self, words: "tf.Tensor") -> "tf.RaggedTensor":
        """Return the pieces of each word, (words, any) int64.

        Where a word is not a piece itself, it is the longest one that it begins with, then the longest that its rest
        begins with, and so on; if a rest begins with none, the whole word is unknown.
        """
        import tensorflow as tf

        vocabulary = table(self.vocabulary, range(len(self.vocabulary)), -1)
        longest = max(map(len, self.vocabulary))

        def cut(step: Any, ids: Any, rests: Any, of_words: Any, pieces: Any) -> tuple[Any, ...]:
            """Cut a piece off the rest of each word that is not at its end."""
            skipped = tf.where(step > 0, len(_INSIDE), 0)
            most = tf.minimum(tf.strings.length(rests, "UTF8_CHAR") - skipped, longest)
            sizes = tf.ragged.range(1, most + 1)
            prefixes = tf.strings.substr(
                tf.repeat(rests, most), tf.zeros_like(sizes.flat_values), sizes.flat_values + skipped, "UTF8_CHAR"
            )
            numbers = vocabulary.lookup(prefixes)
            best = tf.math.segment_max(tf.where(numbers >= 0, sizes.flat_values, 0), sizes.value_rowids())
            chosen = tf.gather(numbers, sizes.row_starts() + tf.cast(tf.maximum(best, 1) - 1, tf.int64))
            rests = tf.strings.substr(rests, best + skipped, tf.fill(tf.shape(best), _ALL), "UTF8_CHAR")
            goes_on = (best > 0) & tf.not_equal(rests, "")
            return (
                step + 1,
                tf.boolean_mask(ids, goes_on),
                tf.strings.join([_INSIDE, tf.boolean_mask(rests, goes_on)]),
                tf.concat([of_words, ids], 0),
                tf.concat([pieces, chosen], 0),
            )

        sizes = tf.strings.length(words, "UTF8_CHAR")
        number = tf.size(words, tf.int64)
        whole = vocabulary.lookup(words)
        is_whole = (whole >= 0) | (sizes > self.max_characters)
        done = tf.reshape(tf.where(is_whole), [-1])
        opened = tf.reshape(tf.where(~is_whole & (sizes > 0)), [-1])
        _, _, _, of_words, pieces = tf.while_loop(
            lambda step, ids, *_: tf.size(ids) > 0,
            cut,
            (tf.constant(0), opened, tf.gather(words, opened), done, tf.gather(whole, done)),
            shape_invariants=(tf.TensorShape([]), *[tf.TensorShape([None])] * 4),
        )
        is_unknown = tf.math.unsorted_segment_min(pieces, of_words, number) < 0
        is_known = ~tf.gather(is_unknown, of_words)
        unknown = tf.reshape(tf.where(is_unknown), [-1])
        of_words = tf.concat([tf.boolean_mask(of_words, is_known), unknown], 0)
        number_of_unknown = tf.constant(self.vocabulary.index(self.unknown), tf.int64)
        pieces = tf.concat([tf.boolean_mask(pieces, is_known), tf.fill(tf.shape(unknown), number_of_unknown)], 0)
        order = tf.argsort(of_words, stable=True)  # pieces of a word are in their order
        return tf.RaggedTensor.from_value_rowids(
            tf.gather(pieces, order), tf.gather(of_words, order), nrows=number, validate=False
        )


@functools.cache
def _patterns(lowercase: bool, strips_accents: bool, splits_ideographs: bool) -> tuple[str, str, str]:
    """Return patterns of the characters that are removed, of those that are words (plain or folded), and of spaces.

    What Unicode has not assigned stays, as in the Hugging Face tokenizer.
    """
    folded = _folded(lowercase, strips_accents)

    words = {c for c in assigned() if any(map(is_punctuation, folded.get(c, c)))}
    words.update(ideographs() if splits_ideographs else ())
    removed = (c for c in in_categories("Cc", "Cf", "Co", also="\ufffd") if c not in _SPACES)
    return matching(removed), matching(sorted(words)), matching(in_categories("Z", also=_SPACES))


@functools.cache
def _folded(lowercase: bool, strips_accents: bool) -> dict[str, str]:
    """Characters that become something else."""
    found = {}
    for character in assigned():
        folded = without_accents(character) if strips_accents else character
        folded = "".join(part.lower() for part in folded) if lowercase else folded
        if folded != character:
            found[character] = folded
    return found
