"""What tokenizers share: from the pieces of distinct words to rows of numbers of one length."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import tensorflow as tf


class Frame(NamedTuple):
    """Numbers around the tokens of a text."""

    first: int
    last: int
    padding: int


class Framed:
    """A tokenizer that puts special tokens around those of a text."""

    vocabulary: tuple[str, ...]
    first: str
    last: str
    padding: str

    @property
    def frame(self) -> Frame:
        """Around the tokens of a text."""
        return Frame(*map(self.vocabulary.index, (self.first, self.last, self.padding)))

    @property
    def special_tokens(self) -> set[str]:
        """Those that the vocabulary has to have."""
        return {self.first, self.last, self.padding}


def token_rows(
    words: "tf.RaggedTensor", tokenize: "Callable[[tf.Tensor], Any]", *, length: int, frame: Frame
) -> "tf.Tensor":
    """Tokenize each distinct word once, and put the tokens of each text into a row.

    Args:
        words: (batch, any) string.
        tokenize: distinct words, (any,) string, to the numbers of their tokens, (any, any) int64.
        length: of a row.
        frame: around the tokens; what does not fit is cut off before `frame.last`.

    Returns:
        (batch, length) int64.
    """
    import tensorflow as tf

    distinct, index = tf.unique(words.flat_values)
    tokens = tokenize(distinct)
    of_words = tf.gather(tokens, index)
    splits = tf.gather(of_words.row_splits, words.row_splits)
    rows = tf.RaggedTensor.from_row_splits(of_words.flat_values, splits, validate=False)[:, : length - 2]
    ends = tf.ones([words.nrows(), 1], tf.int64)
    framed = tf.concat([ends * frame.first, rows, ends * frame.last], axis=1)
    return framed.to_tensor(default_value=frame.padding, shape=[None, length])


def valid_text(texts: "tf.Tensor") -> "tf.Tensor":
    """Replace bytes that are not UTF-8 by U+FFFD.

    Args:
        texts: (batch,) string.

    Returns:
        (batch,) string.
    """
    import tensorflow as tf

    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def split_at(texts: "tf.Tensor", mark: str | bytes) -> "tf.RaggedTensor":
    """Split texts, and leave out empty parts.

    Args:
        texts: (batch,) string.
        mark: between the parts.

    Returns:
        (batch, any) string.
    """
    import tensorflow as tf

    parts = tf.strings.split(texts, mark)
    return tf.ragged.boolean_mask(parts, tf.not_equal(parts, ""))


def table(keys: Sequence[Any], values: Sequence[Any], default: Any) -> Any:
    """Return a table of constants, which tf.Transform writes with the graph that is being traced.

    Args:
        keys: text or whole numbers.
        values: text or whole numbers.
        default: of another key.
    """
    import tensorflow as tf
    from tensorflow_transform import annotators

    dtype = tf.string if isinstance(default, str) else tf.int64
    key_dtype = tf.int64 if isinstance(keys[0], int) else tf.string
    initializer = tf.lookup.KeyValueTensorInitializer(tf.constant([*keys], key_dtype), tf.constant([*values], dtype))
    found = tf.lookup.StaticHashTable(initializer, default)
    annotators.track_object(found, None)
    return found
