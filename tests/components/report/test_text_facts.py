"""Words of a model whose log-odds are known: a sum of the weights of its words."""

import itertools
import re
import time
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from kubetfx.components.report import text_facts
from kubetfx.components.report.predictions import Predictions
from kubetfx.config.text_section import TextCleaningConfig
from tests.components.report import sample

WEIGHTS = {"good": 1.5, "great": 2.0, "bad": -1.5, "awful": -2.5, "the": 0.05}
PAIRS = {("fluke", "here"): 9.0}
CLASSES = ("negative", "positive")
COLUMN = "review"


def score(text: str) -> float:
    words = re.findall(r"\w+", text.lower())
    of_pairs = sum(PAIRS.get(pair, 0.0) for pair in itertools.pairwise(words))
    return sum(WEIGHTS.get(word, 0.0) for word in words) + of_pairs


class LinearModel:
    """What a model says by the weights of the words, and by a number beside them."""

    def __init__(self, *, is_classifier: bool = True) -> None:
        self._is_classifier = is_classifier
        self.facts = SimpleNamespace(served_name=lambda name: f"served {name}")
        self.asked = 0

    def raw_columns(self, block: pa.RecordBatch) -> dict[str, np.ndarray]:
        texts = [(text or "").encode() for text in block.column(COLUMN).to_pylist()]
        return {f"served {COLUMN}": np.array(texts, object), "number": block.column("number").to_numpy()}

    def outputs_of_columns(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        self.asked += len(columns["number"])
        scores = np.array([score(text.decode()) for text in columns[f"served {COLUMN}"]]) + columns["number"]
        if not self._is_classifier:
            return scores
        positive = 1 / (1 + np.exp(-scores))
        return np.stack([1 - positive, positive], axis=1)


def described(
    texts: list[str | None], labels: list[float], *, is_classifier: bool = True, **options
) -> text_facts.TextFacts:
    model = LinearModel(is_classifier=is_classifier)
    numbers = np.linspace(-0.2, 0.2, len(texts))
    rows = pa.RecordBatch.from_pydict({COLUMN: pa.array(texts, pa.string()), "number": numbers})
    outputs = model.outputs_of_columns(model.raw_columns(rows))
    known = np.ones(len(texts), bool)
    labels = np.array(labels, np.int64 if is_classifier else np.float64)
    predictions = Predictions(CLASSES if is_classifier else (), labels, outputs, known, np.ones(len(texts)))
    arguments = {"column": COLUMN, "seed": 0, "cleaning": None} | options
    return text_facts.describe(model, rows, predictions, **arguments)


def test_effect_of_a_word_is_its_weight_in_the_log_odds() -> None:
    found = described(["The food was great, not bad.", "awful"], [1, 1])

    (right,), (wrong,) = found.right, found.wrong
    effects = {piece.text: piece.effect for piece in right.pieces if piece.text.strip(" ,.")}
    named = 1 if right.said == "positive" else -1
    assert {word: named * effect for word, effect in effects.items()} == pytest.approx(
        {"The": 0.05, "great": 2, "bad": -1.5, "food": 0, "was": 0, "not": 0}, abs=1e-6
    )
    assert "".join(piece.text for piece in right.pieces) == "The food was great, not bad."
    assert (wrong.said, wrong.truth, right.truth) == ("negative", "positive", "positive")
    assert wrong.score > 0.9
    assert wrong.pieces[0].strength == 1


def test_effect_on_a_number_is_what_the_word_adds() -> None:
    found = described(["good and great", "so bad", "nothing"], [9.0, -1.5, 0.2], is_classifier=False)

    assert not found.is_classifier
    assert found.wrong[0].truth == "9"
    effects = {piece.text: piece.effect for piece in found.wrong[0].pieces if piece.text.strip()}
    assert effects == pytest.approx({"good": 1.5, "and": 0, "great": 2}, abs=1e-9)
    assert found.wrong[0].score is None


def many(number: int = 300) -> tuple[list[str | None], list[float]]:
    drawn = np.random.default_rng(0)
    words = [*WEIGHTS, *(f"word{index}" for index in range(30))]
    texts = [" ".join(drawn.choice(words, 12)) for _ in range(number)]
    return list(texts), [float(score(text) > 0) for text in texts]


def test_key_words_are_those_with_weight_in_their_order() -> None:
    found = described(*many())

    words = {one.name: [word.word for word in one.words] for one in found.key_words}
    assert words["positive"][:2] == ["great", "good"]
    assert words["negative"][:2] == ["awful", "bad"]
    (great,) = [word for one in found.key_words for word in one.words if word.word == "great"]
    assert great.effect > 2 - 1e-9  # as often as it is there
    assert great.texts > 50


def test_word_that_had_luck_in_a_few_texts_comes_after_those_that_are_certain() -> None:
    texts, labels = many()
    lucky = [f"word0 fluke {after} word1" for after in ("here", "here", "there", "there", "there", "there")]

    found = described([*texts, *lucky], [*labels, *([1.0] * len(lucky))])

    (positive,) = [one for one in found.key_words if one.name == "positive"]
    assert [word.word for word in positive.words[:3]] == ["great", "good", "fluke"]
    assert positive.words[2].effect == pytest.approx(3)  # on average; 9 in two of six texts
    assert max(word.effect for word in positive.words[:2]) < 3


def test_key_words_of_a_number_raise_or_lower_it() -> None:
    texts, _ = many()
    found = described(texts, [score(text or "") for text in texts], is_classifier=False)

    words = {one.name: [word.word for word in one.words] for one in found.key_words}
    assert words["higher"][:2] == ["great", "good"]
    assert words["lower"][:2] == ["awful", "bad"]


def test_same_seed_gives_the_same_words_and_texts() -> None:
    assert described(*many()) == described(*many())
    assert described(*many()).right != described(*many(), seed=1).right


def test_right_examples_are_of_all_classes() -> None:
    found = described(*many())

    assert {one.said for one in found.right} == set(CLASSES)
    assert len(found.right) == text_facts.SHOWN


def test_long_texts_are_cut_and_texts_without_words_are_left_out() -> None:
    long = "good " * 500
    found = described([long, None, "", "?!", "<br />"], [1, 0, 1, 0, 1])

    (shown,) = [*found.right, *found.wrong]
    assert shown.is_cut
    assert sum(piece.text == "good" for piece in shown.pieces) == text_facts.MAX_WORDS


def test_a_megabyte_in_a_word_or_between_words_is_cut() -> None:
    found = described([f"good {'x' * 1_000_000} bad{'!' * 1_000_000}"], [1])

    (shown,) = [*found.right, *found.wrong]
    assert len("".join(piece.text for piece in shown.pieces)) < 300


def test_a_text_of_a_million_words_takes_no_more_than_a_long_one() -> None:
    texts, labels = many(40)
    started = time.process_time()

    found = described(["great " * 1_000_000, *texts], [0, *labels])

    assert time.process_time() - started < 5
    (shown,) = [one for one in found.wrong if one.is_cut]
    assert len(shown.pieces) <= 2 * text_facts.MAX_WORDS + 1
    assert found.texts == 40


@pytest.mark.parametrize("is_costly", [False, True])
def test_no_class_is_left_out_on_a_slow_machine_or_with_long_texts(is_costly: bool, monkeypatch) -> None:
    monkeypatch.setattr(text_facts, "MAX_ASKED_COSTLY", 10)
    texts, labels = many()

    found = described(texts, labels, is_costly=is_costly)

    words = {one.name: [word.word for word in one.words] for one in found.key_words}
    assert set(words) == set(CLASSES)
    assert words["positive"][:2] == ["great", "good"]
    assert words["negative"][:2] == ["awful", "bad"]


def test_the_model_is_asked_for_a_bounded_number_of_characters(monkeypatch) -> None:
    texts, labels = many()
    asked: list[int] = []
    answer = LinearModel.outputs_of_columns
    of = f"served {COLUMN}"
    monkeypatch.setattr(
        LinearModel,
        "outputs_of_columns",
        lambda self, cells: (asked.append(sum(map(len, cells[of]))), answer(self, cells))[1],
    )
    described(texts, labels)
    whole = sum(asked[-2:])  # the last two are of the key words of the two classes
    asked.clear()
    monkeypatch.setattr(text_facts, "MAX_ASKED", 10)

    described(texts, labels)

    assert sum(asked[-2:]) < whole / 5


def test_no_text_at_all_is_no_error() -> None:
    found = described([None, ""], [0, 1], cleaning=TextCleaningConfig())

    assert (found.right, found.wrong, found.key_words, found.cleaned) == ([], [], [], [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It isn't <b>bold</b> &amp; https://t.co/x?y=1 \u2019tis", ["It", "isn't", "bold", "tis"]),
        ("房间很好 ok", ["房", "间", "很", "好", "ok"]),
        ("شكرا جزيلا", ["شكرا", "جزيلا"]),
        ("a<b", ["a", "b"]),
        ("\u200b🐧", []),
    ],
)
def test_words_are_found_in_any_script_and_not_in_tags(text: str, words: list[str]) -> None:
    assert [word[0] for word in text_facts.words_of(text)] == words


def test_cleaning_is_shown_on_texts_that_it_changes() -> None:
    nasty = f"{sample.SCRIPT} It isn't <i>that</i> bad &eacute; http://x.y/z"
    found = described(["plain words", nasty, "É is é"], [0, 1, 1], cleaning=TextCleaningConfig())

    assert found.cleaned[0].before == nasty
    assert found.cleaned[0].after == "it is not that bad e\u0301 url"
    assert "plain words" not in [one.before for one in found.cleaned]
