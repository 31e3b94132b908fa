"""Cleaning of text in the graph: Unicode, HTML, addresses, contractions and signs, until words are between spaces."""

import functools
import html.entities
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from kubetfx.config.text_section import TextCleaningConfig
from kubetfx.models.columns.column_profile import SPACELESS
from kubetfx.temporary_files import of_this_process

ENGLISH = Path(__file__).with_name("contractions.tsv")
"""Contractions of English, and what they are short for."""
_COMMENTS = r"(?is)<!--.*?-->|<script\b.*?</script\s*>|<style\b.*?</style\s*>"
_TAGS = r"(?i)</?[a-z][^<>]*>|<![a-z][^<>]*>"
"""Only whole ones: what is behind a `<` that never closes is text."""
_ENTITY = r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
_URLS = r"(?i)\b(?:https?|ftp)://\S+|\bwww\.[^\s.]+\.\S+"
_LAST_DECOMPOSED = 0x2FA1D
"""The last code point that has a decomposition, since Unicode 3.1."""
_BREAK = "\x00"
"""Between the pieces of a text: cleaned text has no control characters."""


def clean(texts: tf.Tensor, config: TextCleaningConfig) -> tf.Tensor:
    """Clean texts.

    Args:
        texts: (batch,) string; invalid UTF-8 becomes spaces.
        config: what is done.

    Returns:
        (batch,) string: words and signs, with one space between each other.
    """
    texts = tf.strings.unicode_transcode(
        texts, "UTF-8", "UTF-8", errors="replace", replacement_char=0x20, replace_control_characters=True
    )
    texts = tf.strings.substr(texts, 0, config.characters, unit="UTF8_CHAR")
    if config.html:
        texts = _where_found("<", texts, lambda some: _replaced(_replaced(some, _COMMENTS, " "), _TAGS, " "))
        texts = _where_found("&", texts, _without_entities)
    if config.urls:
        texts = _replaced(texts, _URLS, " url ")
    texts = _where(_is_foreign(texts), texts, _decomposed)
    if config.lower_case:
        texts = tf.strings.lower(texts, encoding="utf-8")
    if config.digits == "zero":
        texts = _replaced(texts, r"\p{Nd}", "0")
    texts = _replaced(texts, rf"[^\pL\pM\pN\s']|[{SPACELESS}]\pM*", r" \0 ")
    if config.contractions == "english":
        texts = _where_found("'", texts, lambda some: _expanded(some, config))
    elif config.contractions:
        texts = _expanded(texts, config)
    texts = _replaced(texts, "'", " ")
    return tf.strings.strip(_replaced(texts, "  +", " "))


def _replaced(texts: tf.Tensor, pattern: str, rewrite: str) -> tf.Tensor:
    return tf.strings.regex_replace(texts, pattern, rewrite)


def _where(chosen: tf.Tensor, texts: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Change some of the texts: (batch,) bool."""
    indices = tf.where(chosen)
    return tf.tensor_scatter_nd_update(texts, indices, change(tf.gather_nd(texts, indices)))


def _where_found(character: str, texts: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    return _where(tf.strings.regex_full_match(texts, f"(?s).*{character}.*"), texts, change)


def _is_foreign(texts: tf.Tensor) -> tf.Tensor:
    return tf.not_equal(tf.strings.length(texts), tf.strings.length(texts, unit="UTF8_CHAR"))


def _decomposed(texts: tf.Tensor) -> tf.Tensor:
    """Unicode's normalization form NFKD (UAX #15); without what is not seen: format characters and variation selectors.

    Typographic apostrophes become plain ones, every kind of space a space.
    """
    texts = _replaced(texts, r"[\x{2018}\x{2019}\x{02BC}\x{FF07}]", "'")
    decoded = tf.raw_ops.UnicodeDecode(input=texts, input_encoding="UTF-8")
    flat = decoded.char_values
    number_of, firsts, lengths, parts = _decompositions()
    number = tf.gather(number_of, tf.minimum(flat, len(number_of) - 1))
    ends = tf.cumsum(tf.gather(lengths, number))  # each is one character at least
    starts = tf.concat([[0], ends], axis=0)
    total = starts[-1]
    source = tf.cumsum(tf.scatter_nd(ends[:, None], tf.ones_like(ends), total[None] + 1)[:-1])
    number = tf.gather(number, source)
    position = tf.range(total) - tf.gather(starts, source)
    code = tf.where(number > 0, tf.gather(parts, tf.gather(firsts, number) + position), tf.gather(flat, source))
    splits = tf.gather(starts, decoded.row_splits)
    texts = _encoded(tf.gather(code, _canonical_order(code, splits)), splits)
    return _replaced(_replaced(texts, r"[\p{Cf}\x{FE00}-\x{FE0F}]", ""), r"[\pZ\p{Cc}]+", " ")


def _encoded(codes: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
    """Return texts of code points; other code points become spaces."""
    splits = tf.cast(splits, tf.int64)
    return tf.raw_ops.UnicodeEncode(
        input_values=codes, input_splits=splits, output_encoding="UTF-8", errors="replace", replacement_char=0x20
    )


def _changed_pieces(texts: tf.Tensor, mark: str, change: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Change what is between marks, or with "" between spaces."""
    pieces = tf.raw_ops.StringSplitV2(input=texts, sep=mark)
    changed, rows = change(pieces.values), pieces.indices[:, 0]
    return tf.strings.unsorted_segment_join(changed, rows, tf.size(texts), separator="" if mark else " ")


def _canonical_order(codes: tf.Tensor, splits: tf.Tensor) -> tf.Tensor:
    """Indices that sort the marks behind each character by their combining class (UAX #15, canonical ordering)."""
    classes = tf.constant(_combining_classes())
    own = tf.gather(classes, tf.minimum(codes, len(_combining_classes()) - 1))
    starts = tf.scatter_nd(tf.cast(splits[:-1, None], tf.int64), tf.ones_like(splits[:-1]), [tf.size(codes) + 1])[:-1]
    group = tf.cumsum(tf.cast((own == 0) | (starts > 0), tf.int64))
    key = group * 256 + tf.cast(own, tf.int64)
    return tf.cond(
        tf.reduce_any(key[1:] < key[:-1]), lambda: tf.argsort(key, stable=True), lambda: tf.range(tf.size(codes))
    )


@functools.cache
def _decompositions() -> tuple[Any, Any, Any, Any]:
    """By code point the number of its decomposition, 0: none; and where each begins among the parts, and its length."""
    found = {code: text for code in range(_LAST_DECOMPOSED + 1) if (text := _decomposition(code)) is not None}
    number_of = np.zeros(max(found) + 2, np.int32)
    number_of[list(found)] = np.arange(1, len(found) + 1)
    lengths = np.array([1, *map(len, found.values())], np.int32)
    parts = np.array([0, *(ord(character) for text in found.values() for character in text)], np.int32)
    return number_of, np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int32), lengths, parts


def _decomposition(code: int) -> str | None:
    if 0xD800 <= code < 0xE000:  # surrogates are not characters
        return None
    text = unicodedata.normalize("NFKD", chr(code))
    return None if text == chr(code) else text


@functools.cache
def _combining_classes() -> Any:
    """By code point; the last is 0."""
    classes = np.fromiter((unicodedata.combining(chr(code)) for code in range(0x20000)), np.int32)
    return classes[: np.flatnonzero(classes)[-1] + 2]


def _without_entities(texts: tf.Tensor) -> tf.Tensor:
    """Entities of HTML become the characters that they mean; what is none stays."""

    def changed(pieces: tf.Tensor) -> tf.Tensor:
        pieces = _looked_up(pieces, pieces, "html_entities", lambda: _pairs(_entities()))
        return _where(tf.strings.regex_full_match(pieces, "&#([0-9]+|[xX][0-9a-fA-F]+);"), pieces, _of_digits)

    return _changed_pieces(_replaced(texts, _ENTITY, rf"{_BREAK}&\1;{_BREAK}"), _BREAK, changed)


def _of_digits(entities: tf.Tensor) -> tf.Tensor:
    """Return the characters whose numbers are in entities, of the base 10, or 16 behind an x."""
    base = tf.where(tf.strings.regex_full_match(entities, ".*[xX].*"), 16, 10)
    digits = tf.strings.lower(_replaced(entities, "[&#xX;]", ""))
    padded = tf.strings.substr(tf.strings.join(["0000000", digits]), -7, 7)
    codes = tf.cast(tf.io.decode_raw(padded, tf.uint8, fixed_length=7), tf.int32)
    values = tf.where(codes < ord("a"), codes - ord("0"), codes - ord("a") + 10)
    code = tf.reduce_sum(values * base[:, None] ** tf.range(6, -1, -1), axis=1)
    return _encoded(code, tf.range(tf.size(code) + 1))


def _entities() -> dict[str, str]:
    return {f"&{name}": text for name, text in html.entities.html5.items() if name.endswith(";")}


def _expanded(texts: tf.Tensor, config: TextCleaningConfig) -> tf.Tensor:
    """Contractions become what they are short for, whatever their case, and in quotes too."""

    def changed(words: tf.Tensor) -> tf.Tensor:
        keys = tf.strings.lower(_replaced(words, "^'+|'+$", ""), encoding="utf-8")
        return _looked_up(words, keys, "contractions", lambda: _contractions(config))

    return _changed_pieces(texts, "", changed)


def _contractions(config: TextCleaningConfig) -> Any:
    path = ENGLISH if config.contractions == "english" else _table_file(tuple(config.own_contractions.items()))
    return tf.lookup.TextFileInitializer(str(path), tf.string, 0, tf.string, 1, delimiter="\t")


@functools.cache
def _table_file(contractions: tuple[tuple[str, str], ...]) -> Path:
    """Write a table of the user's as a file, which SavedModels have a copy of. It stays as long as the process."""
    folder = tempfile.mkdtemp(prefix="contractions-", dir=of_this_process())
    path = Path(folder) / ENGLISH.name
    path.write_text("".join(f"{word}\t{long}\n" for word, long in contractions), encoding="utf-8")
    return path


def _pairs(values: Mapping[str, str]) -> Any:
    return tf.lookup.KeyValueTensorInitializer([*values], [*values.values()], tf.string, tf.string)


def _looked_up(texts: tf.Tensor, keys: tf.Tensor, name: str, initializer: Callable[[], Any]) -> tf.Tensor:
    """What a table has for the keys, and the texts where it has nothing.

    The table goes with the graph of a preprocessing_fn; outside of a graph it is simply there.
    """

    def make() -> Any:
        return tf.lookup.StaticHashTable(initializer(), "")

    table = tft.make_and_track_object(make, name) if tf.inside_function() else make()
    found = table.lookup(keys)
    return tf.where(found == "", texts, found)
