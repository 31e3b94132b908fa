"""WordPiece and byte pairs of a graph give the numbers of the Hugging Face tokenizer."""

import json
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_transform import annotators
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from kubetfx.models.columns.text.byte_pairs import BytePairs
from kubetfx.models.columns.text.wordpiece import WordPiece
from kubetfx.serving.saved_model import SavedModel
from tests.models.columns.text.corpus import NO_UTF8, TEXTS, random_texts

LENGTH = 64
RANDOM = random_texts(1_000)
_ENGLISH = ["the quick brown fox jumps over the lazy dog", "unaffable and unbelievable words join others again"]
_OTHERS = [text for text in TEXTS if len(text) < 100]
YOUNGER = {c for c in map(chr, range(0x30000)) if unicodedata.category(c)[0] in "PM"}
"""The reference tokenizer has an older Unicode, which does not know all of these."""
OF_ITS_UNICODE = [text for text in RANDOM if not YOUNGER & set(text)]


def as_reference(made: Tokenizer, first: str, last: str, padding: str) -> Tokenizer:
    """Cut and fill up texts as the graph does."""
    numbers = [(token, made.token_to_id(token)) for token in (first, last)]
    made.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=numbers)
    made.encode_special_tokens = True  # a special token that somebody writes is text
    made.enable_truncation(LENGTH)
    made.enable_padding(length=LENGTH, pad_id=made.token_to_id(padding), pad_token=padding)
    return made


def _in_order(made: Tokenizer) -> tuple[str, ...]:
    vocabulary = made.get_vocab()
    return tuple(sorted(vocabulary, key=vocabulary.__getitem__))


def _wordpiece(**options: Any) -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(**options)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=1_000, special_tokens=special, show_progress=False)
    made.train_from_iterator([*_ENGLISH, *_OTHERS], trainer)
    return as_reference(made, "[CLS]", "[SEP]", "[PAD]")


def _byte_pairs(*, has_space_before: bool) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=has_space_before)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([*_ENGLISH, *_OTHERS], trainer)
    return as_reference(made, "<s>", "</s>", "<pad>")


def _traced(tokenizer: WordPiece | BytePairs) -> tf.Module:
    """As tf.Transform traces a graph: it keeps the tables."""
    module, tracker = tf.Module(), annotators.ObjectTracker()
    signature = [tf.TensorSpec([None], tf.string, "texts")]
    traced = tf.function(lambda texts: {"tokens": tokenizer(texts, length=LENGTH)}, signature, autograph=False)
    with annotators.object_tracker_scope(tracker):
        module.tokens = traced.get_concrete_function()
    module.tables = tracker.trackable_objects
    return module


def _graph(tokenizer: WordPiece | BytePairs) -> Callable[[list[bytes]], list[list[int]]]:
    module = _traced(tokenizer)
    return lambda texts: module.tokens(tf.constant(texts, tf.string))["tokens"].numpy().tolist()


def check(tokenizer: WordPiece | BytePairs, reference: Tokenizer, texts: list[str]) -> None:
    """Compare the numbers of texts, and of bytes that are no text."""
    found = _graph(tokenizer)([*(text.encode() for text in texts), *NO_UTF8])
    texts = [*texts, *(text.decode(errors="replace") for text in NO_UTF8)]
    expected = [encoding.ids for encoding in reference.encode_batch(texts)]
    different = [text for text, *pair in zip(texts, found, expected, strict=True) if pair[0] != pair[1]]
    assert different == []


@pytest.mark.parametrize(
    ("options", "own"),
    [
        ({"lowercase": True}, {}),
        ({"lowercase": False}, {"lowercase": False, "strips_accents": False}),
        ({"lowercase": True, "strip_accents": False}, {"strips_accents": False}),
        ({"lowercase": True, "handle_chinese_chars": False}, {"splits_ideographs": False}),
    ],
)
def test_wordpiece_is_that_of_bert(options: dict[str, Any], own: dict[str, Any]) -> None:
    reference = _wordpiece(**options)
    check(WordPiece(_in_order(reference), **own), reference, [*TEXTS, *OF_ITS_UNICODE])


@pytest.mark.parametrize("has_space_before", [False, True])
def test_byte_pairs_are_those_of_roberta(has_space_before: bool) -> None:
    reference = _byte_pairs(has_space_before=has_space_before)
    merges = tuple(map(tuple, json.loads(reference.to_str())["model"]["merges"]))
    check(BytePairs(_in_order(reference), merges, has_space_before), reference, [*TEXTS, *RANDOM])


def test_nothing_at_all_gives_no_rows() -> None:
    assert _graph(WordPiece(_in_order(_wordpiece(lowercase=True))))([]) == []


def test_a_million_words_and_a_word_of_a_megabyte_take_no_long_time() -> None:
    reference = _byte_pairs(has_space_before=False)
    merges = tuple(map(tuple, json.loads(reference.to_str())["model"]["merges"]))
    wordpiece = WordPiece(_in_order(_wordpiece(lowercase=True)))
    for tokenizer in (wordpiece, BytePairs(_in_order(reference), merges)):
        (words, word) = _graph(tokenizer)([b"fox " * 250_000, b"ab" * 500_000])
        assert tokenizer.frame.padding not in words
        assert word[0] == tokenizer.frame.first


def test_a_tokenizer_runs_in_the_session_of_the_servers_loader(tmp_path) -> None:
    reference = _wordpiece(lowercase=True)
    module = _traced(WordPiece(_in_order(reference)))
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.tokens})
    answer = SavedModel(tmp_path).signature("serving_default")({"texts": [b"The quick brown fox!"]})
    assert answer["tokens"].tolist() == [reference.encode("The quick brown fox!").ids]


def test_corpus_is_large_enough() -> None:
    assert len(OF_ITS_UNICODE) > 300
