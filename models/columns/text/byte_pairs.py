"""The tokenizer of GPT-2 and RoBERTa, byte pairs, out of TensorFlow's core operations.

The numbers are those of the Hugging Face tokenizer.
"""

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubetfx.models.columns.text.token_rows import Framed, split_at, table, token_rows, valid_text
from kubetfx.models.columns.text.unicode_classes import in_categories, matching

if TYPE_CHECKING:
    import tensorflow as tf

_MARK = b"\xff"
"""Between words. No UTF-8 has this byte."""
_LONGEST = 1_000
"""Characters of a word: what is longer is several words, so that a text that is one word does not take for ever."""
_NONE = 2**62
"""Rank of two tokens that are not a pair."""
_SPACES = "\t\n\v\f\r\x85"
"""Control characters that are spaces."""


@dataclass(frozen=True)
class BytePairs(Framed):
    """Words are split off with the space before them, and the bytes of each are joined pair by pair.

    The pairs are joined in the order in which they were learnt.
    """

    vocabulary: tuple[str, ...]
    """Tokens by their number, their bytes written as the letters of `byte_letters`."""
    merges: tuple[tuple[str, str], ...]
    """Pairs of tokens, those that are joined first at the beginning."""
    has_space_before: bool = False
    """Whether a text is taken as if it began with a space."""
    first: str = "<s>"
    last: str = "</s>"
    padding: str = "<pad>"

    def __call__(self, texts: "tf.Tensor", *, length: int) -> "tf.Tensor":
        """Tokenize texts.

        Args:
            texts: (batch,) string; U+FFFD stands for bytes that are not UTF-8.
            length: tokens of a row, those at its ends among them.

        Returns:
            (batch, length) int64.
        """
        import tensorflow as tf

        before_word, word, long_word = _patterns()
        texts = valid_text(texts)
        if self.has_space_before:
            texts = tf.strings.regex_replace(texts, r"(?s)^([^ ])", r" \1")
        texts = tf.strings.regex_replace(texts, before_word, _MARK + rb"\1\2")
        texts = tf.strings.regex_replace(texts, word, rb"\0" + _MARK)
        texts = tf.strings.regex_replace(texts, long_word, rb"\0" + _MARK)
        words = split_at(texts, _MARK)[:, :length]  # each has a token at least
        return token_rows(words, self._join, length=length, frame=self.frame)

    def _join(self, words: "tf.Tensor") -> "tf.RaggedTensor":
        """(words, any) int64: in each word the pair that was learnt first is joined, again and again."""
        import tensorflow as tf

        ranks = table(list(self._ranks), range(len(self._ranks)), -1)
        joined = tf.constant(self._joined, tf.int64)

        def ranked(tokens: Any, of_words: Any) -> tuple[Any, Any, Any]:
            """Beside each token the rank of the pair that it begins."""
            rank = ranks.lookup(tokens[:-1] * len(self.vocabulary) + tokens[1:])
            rank = tf.where(tf.equal(of_words[:-1], of_words[1:]) & (rank >= 0), rank, _NONE)
            return tokens, of_words, tf.concat([rank, tf.fill([tf.minimum(tf.size(tokens), 1)], _NONE)], 0)

        def join(tokens: Any, of_words: Any, rank: Any) -> tuple[Any, Any, Any]:
            """Join the first pair of each word, wherever it is in the word; of pairs that overlap every other one."""
            first = tf.gather(tf.math.segment_min(rank, of_words), of_words)
            is_first = (rank < _NONE) & tf.equal(rank, first)
            begins = is_first & ~tf.concat([[False], is_first[:-1]], 0)
            run = tf.cumsum(tf.cast(begins, tf.int64))
            position = tf.range(tf.size(run))
            is_even = tf.equal((position - tf.gather(tf.math.segment_min(position, run), run)) % 2, 0)
            is_joined = is_first & is_even
            kept = ~tf.concat([[False], is_joined[:-1]], 0)
            tokens = tf.where(is_joined, tf.gather(joined, tf.where(is_joined, rank, 0)), tokens)
            return ranked(tf.boolean_mask(tokens, kept), tf.boolean_mask(of_words, kept))

        whole = table(list(self._whole), list(self._whole.values()), -1).lookup(words)
        is_whole = whole >= 0
        done = tf.reshape(tf.where(is_whole), [-1])
        opened = tf.reshape(tf.where(~is_whole), [-1])
        parts = tf.strings.bytes_split(tf.gather(words, opened))
        codes = tf.cast(tf.io.decode_raw(parts.flat_values, tf.uint8, fixed_length=1)[:, 0], tf.int32)
        tokens, of_words, _ = tf.while_loop(
            lambda tokens, of_words, rank: tf.reduce_any(rank < _NONE),
            join,
            ranked(tf.gather(tf.constant(self._of_bytes, tf.int64), codes), tf.gather(opened, parts.value_rowids())),
            shape_invariants=(tf.TensorShape([None]),) * 3,
        )
        of_words = tf.concat([of_words, done], 0)
        order = tf.argsort(of_words, stable=True)  # tokens of a word are in their order
        tokens = tf.gather(tf.concat([tokens, tf.gather(whole, done)], 0), order)
        return tf.RaggedTensor.from_value_rowids(
            tokens, tf.gather(of_words, order), nrows=tf.size(words, tf.int64), validate=False
        )

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.vocabulary)}

    @functools.cached_property
    def _of_bytes(self) -> list[int]:
        """The token of each byte."""
        return [self._numbers[letter] for letter in byte_letters()]

    @functools.cached_property
    def _ranks(self) -> dict[int, int]:
        """Return the rank of each pair of tokens, which are one number."""
        pairs = ((self._numbers[left], self._numbers[right]) for left, right in self.merges)
        return {left * len(self.vocabulary) + right: rank for rank, (left, right) in enumerate(pairs)}

    @functools.cached_property
    def _joined(self) -> list[int]:
        """What the pair of each rank becomes."""
        return [self._numbers[left + right] for left, right in self.merges]

    @functools.cached_property
    def _whole(self) -> dict[bytes, int]:
        """The words that become one token, which need no joining.

        These are nearly all tokens, but not those that lie inside of words only.
        """
        codes = {letter: code for code, letter in enumerate(byte_letters())}
        found = {}
        for token, number in self._numbers.items():
            if codes.keys() >= set(token):
                word = bytes(codes[letter] for letter in token)
                if self._tokens_of(word) == [number]:
                    found[word] = number
        return found

    def _tokens_of(self, word: bytes) -> list[int]:
        size, ranks = len(self.vocabulary), self._ranks
        tokens = [self._of_bytes[code] for code in word]
        while len(tokens) > 1:
            found = [ranks.get(left * size + right, _NONE) for left, right in itertools.pairwise(tokens)]
            first = min(found)
            if first == _NONE:
                break
            place = found.index(first)
            tokens[place : place + 2] = [self._joined[first]]
        return tokens


@functools.cache
def byte_letters() -> str:
    """Return the letter that each byte is written as in a vocabulary.

    It is itself where it can be seen, otherwise one from U+0100 on.
    """
    seen = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(code if code in seen else next(others)) for code in range(256))


@functools.cache
def _patterns() -> tuple[str, str, str]:
    """The end of spaces before a word, which is a part of the word; words; and what is too long for one."""
    space = matching(in_categories("Z", also=_SPACES))
    letter, digit = matching(in_categories("L")), matching(in_categories("N"))
    no_space = f"[^{space[1:]}"
    other = f"[^{space[1:-1]}{letter[1:-1]}{digit[1:]}"
    word = f"'s|'t|'re|'ve|'m|'ll|'d| ?{letter}+| ?{digit}+| ?{other}+|{space}+"
    return f"({space})({no_space})", word, f"(?s).{{{_LONGEST}}}"
