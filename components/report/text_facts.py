"""Facts about a model of texts: what words do to its predictions, and what cleaning does.

They are the words that support or contradict its predictions for some texts, the key words of each class, and the
effect of cleaning.

A word's effect is the change when it is left out (occlusion: M. Zeiler, R. Fergus, "Visualizing and Understanding
Convolutional Networks", 2014), of the log-odds of a class or of the number that is predicted. The served model predicts
for raw texts, so this works for any encoder, and for the user's own network.
"""

import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kubetfx.arrays import Array
from kubetfx.components.report.fact import Model

if TYPE_CHECKING:
    import pyarrow as pa

    from kubetfx.components.report.predictions import Predictions
    from kubetfx.config.text_section import TextCleaningConfig
    from kubetfx.models.asked_model import AskedModel

SHOWN = 4
"""Texts of each kind."""
MAX_WORDS = 60
"""Number of words of a text, the first ones, that are left out in turn."""
PIECE_CHARACTERS = 100
"""Maximum number of characters that are shown of a word, or between words."""
MAX_TEXTS = 5_000
"""That key words are looked for in."""
LONGEST = 50_000
"""Characters of a text that are looked at, the first ones. Key words are looked for in texts that are shorter."""
MAX_READ = 5_000_000
"""Characters of all texts that key words are looked for in."""
MIN_TEXTS = 5
"""That a key word is in."""
MAX_CLASSES = 10
CANDIDATES, KEY_WORDS = 40, 12
"""Words of a class that are left out of texts, and those that are shown."""
TEXTS_OF_WORD = 32
"""That a word is left out of, at most."""
ERRORS = 2.0
"""Standard errors by which the mean effect of a word is lowered before words are ranked: the one with the most lucky
texts among many would be first otherwise.
"""
TEXTS_OF_ALL = 4
"""That the deviation among the effects of all words counts for, beside those of a word itself: a few texts may agree by
chance.
"""
MAX_ASKED, MAX_ASKED_COSTLY = 4_000_000, 200_000
"""Characters of all texts that words are left out of, shared by the classes: of an encoder that reads them fast, and of
one with attention. A count and not a time, so that the same run has the same words on any machine."""
BATCH = 1_024
STRONG = 0.5
"""Effect on log-odds, or share of the deviation of the predictions, below which a text has no strong word."""
MAX_CLEANED, CLEANED_CHARACTERS = 3, 300
_SMALLEST = 1e-7
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Scripts that are written without spaces, of which each letter is a word, with the marks behind it."""
_MARKS = "".join(chr(code) for code in range(0x0E00, 0x3100) if unicodedata.category(chr(code)).startswith("M"))
_WORD = re.compile(
    rf"(<[^<>]*>|&#?\w+;|https?://\S+)|(?:(?=[^\W_])[{_SPACELESS}])[{_MARKS}]*"
    rf"|[^\W_{_SPACELESS}]+(?:['\u2019][^\W_{_SPACELESS}]+)*"
)
"""A word, or in the group what is none: a tag, an entity, an address."""

Ask = Callable[[Sequence[str], Array], Array]
"""Predictions for texts that replace those of some rows."""


class Piece(Model):
    """A part of a text."""

    text: str
    effect: float = 0.0
    """Effect on the prediction: above 0 it supports the prediction, below 0 it contradicts it."""
    strength: float = 0.0
    """The same from -1 to 1, as it is coloured."""


class TextExample(Model):
    """A text, and the model's prediction."""

    pieces: list[Piece]
    is_cut: bool
    """Whether the text goes on."""
    said: str
    """The predicted class or number."""
    truth: str
    score: float | None = None
    """The probability of the class."""


class KeyWord(Model):
    """A word that supports a class, or a higher number."""

    word: str
    effect: float
    """On the log-odds of the class, or on the number, on average."""
    texts: int
    """That have it."""


class ClassWords(Model):
    """Key words of a class."""

    name: str
    words: list[KeyWord]


class CleanedText(Model):
    """A text before and after cleaning."""

    before: str
    after: str


class TextFacts(Model):
    """Facts about a model and the texts of a column."""

    column: str
    is_classifier: bool
    wrong: list[TextExample] = []
    """The model is most certain about them, or farthest off."""
    right: list[TextExample] = []
    key_words: list[ClassWords] = []
    """Key words by class; for a regression those that raise the number, and those that lower it."""
    texts: int = 0
    """That key words were looked for in."""
    cleaned: list[CleanedText] = []


@dataclass(frozen=True)
class Texts:
    """Texts of a sample, and how the model is asked for others in their place."""

    texts: Sequence[str]
    """No longer than LONGEST."""
    predictions: "Predictions"
    """For them as they came."""
    ask: Ask

    @property
    def is_classifier(self) -> bool:
        """Whether the model predicts a class."""
        return bool(self.predictions.classes)

    def scores(self, outputs: Array, index: int) -> Array:
        """Return the scores on which effects are measured, (rows,): the log-odds of a class, or the number.

        Args:
            outputs: The outputs of the model.
            index: of the class.
        """
        if not self.is_classifier:
            return outputs
        likely = np.clip(outputs[:, index], _SMALLEST, 1 - _SMALLEST)
        found: Array = np.log(likely) - np.log1p(-likely)
        return found

    @property
    def strong(self) -> float:
        """Effect that is strongly coloured."""
        return STRONG if self.is_classifier else STRONG * float(self.predictions.outputs.std())


def describe(
    model: "AskedModel",
    rows: "pa.RecordBatch",
    predictions: "Predictions",
    *,
    column: str,
    seed: int,
    cleaning: "TextCleaningConfig | None",
    is_costly: bool = False,
) -> TextFacts:
    """Return facts about a model and the texts of a column.

    Args:
        model: to ask.
        rows: The rows of a sample.
        predictions: for the sample.
        column: The column of the texts.
        seed: by which texts are drawn.
        cleaning: what is done to texts; None: nothing that is known.
        is_costly: whether each text takes the model long, as with attention.
    """
    known = np.flatnonzero(predictions.known)
    kept = rows.take(known[: len(predictions.labels)].tolist())
    texts = [(text or "")[:LONGEST] for text in kept.column(column).to_pylist()]
    columns = model.raw_columns(kept)
    served = model.facts.served_name(column)

    def ask(changed: Sequence[str], positions: Array) -> Array:
        answers = []
        for start in range(0, len(changed), BATCH):
            own = slice(start, start + BATCH)
            others = {name: cells[positions[own]] for name, cells in columns.items()}
            others[served] = np.array([text.encode() for text in changed[own]], object)
            answers.append(model.outputs_of_columns(others))
        return np.concatenate(answers).astype(np.float64)

    found = Texts(texts, predictions, ask)
    drawn = np.random.default_rng(seed)
    wrong, right = _chosen(found, drawn)
    looked_in = _looked_in(texts)
    return TextFacts(
        column=column,
        is_classifier=found.is_classifier,
        wrong=[_example(found, position) for position in wrong],
        right=[_example(found, position) for position in right],
        key_words=list(_key_words(found, drawn, looked_in, most_asked=MAX_ASKED_COSTLY if is_costly else MAX_ASKED)),
        texts=len(looked_in),
        cleaned=_cleaned(texts, cleaning) if cleaning else [],
    )


def words_of(text: str) -> list[re.Match[str]]:
    """Return the words of a text where they are.

    Args:
        text: as it came.
    """
    return list(_words_in(text))


def _words_in(text: str) -> Iterator[re.Match[str]]:
    return (found for found in _WORD.finditer(text) if found[1] is None)


def _chosen(found: Texts, drawn: np.random.Generator) -> tuple[list[int], list[int]]:
    """Return misclassified rows, the most certain first; and some of the others, of all classes."""
    labels, outputs = found.predictions.labels, found.predictions.outputs
    has_words = np.array([any(_words_in(text)) for text in found.texts], bool)
    if not found.is_classifier:
        order = np.argsort(-np.abs(outputs - labels), kind="stable")
        order = order[has_words[order]]
        wrong, rest = order[:SHOWN], order[len(order) // 2 :]
        return wrong.tolist(), drawn.permutation(rest)[:SHOWN].tolist()
    named = outputs.argmax(axis=1)
    is_wrong = named != labels
    wrong = np.flatnonzero(is_wrong & has_words)
    wrong = wrong[np.argsort(-outputs.max(axis=1)[wrong], kind="stable")][:SHOWN]
    right = drawn.permutation(np.flatnonzero(~is_wrong & has_words))
    turn = [np.count_nonzero(labels[right[:place]] == labels[row]) for place, row in enumerate(right[:MAX_TEXTS])]
    return wrong.tolist(), right[np.argsort(turn, kind="stable")][:SHOWN].tolist()


def _example(found: Texts, position: int) -> TextExample:
    text, predictions = found.texts[position], found.predictions
    words = list(itertools.islice(_words_in(text), MAX_WORDS))
    output = predictions.outputs[position]
    index = int(output.argmax()) if found.is_classifier else 0
    changed = [f"{text[: word.start()]} {text[word.end() :]}" for word in words]
    before, *after = found.scores(found.ask([text, *changed], np.full(len(words) + 1, position)), index)
    effects = before - np.array(after)
    strongest = max(float(np.abs(effects).max()), found.strong)
    pieces, end = [], 0
    for word, effect in zip(words, effects.tolist(), strict=True):
        if word.start() > end:
            pieces.append(Piece(text=_shortened(text[end : word.start()])))
        strength = effect / strongest if strongest else 0.0
        pieces.append(Piece(text=_shortened(word[0]), effect=effect, strength=strength))
        end = word.end()
    rest = text[end:]
    is_cut = len(text) == LONGEST or any(_words_in(rest))
    if rest and not is_cut:
        pieces.append(Piece(text=_shortened(rest)))
    classes, label = predictions.classes, predictions.labels[position]
    return TextExample(
        pieces=pieces,
        is_cut=is_cut,
        said=classes[index] if classes else f"{output:.4g}",
        truth=classes[label] if classes else f"{label:.4g}",
        score=float(output[index]) if classes else None,
    )


def _shortened(text: str) -> str:
    return text if len(text) <= PIECE_CHARACTERS else f"{text[:PIECE_CHARACTERS]}…"


def _looked_in(texts: Sequence[str]) -> list[int]:
    """Return the positions of the texts that key words are looked for in."""
    positions: list[int] = []
    read = 0
    for position, text in enumerate(texts):
        if len(text) == LONGEST:
            continue
        read += len(text)
        if read > MAX_READ or len(positions) == MAX_TEXTS:
            break
        positions.append(position)
    return positions


def _key_words(
    found: Texts, drawn: np.random.Generator, looked_in: Sequence[int], *, most_asked: int
) -> Iterator[ClassWords]:
    """Yield, for the largest classes, words that go with the prediction and whose absence changes it most."""
    rows_by_word = _rows_by_word(found.texts, looked_in)
    classes = found.predictions.classes
    counts = np.bincount(found.predictions.labels, minlength=len(classes)) if classes else np.zeros(0)
    of_classes = [(classes[index], int(index), 1) for index in np.argsort(-counts, kind="stable")[:MAX_CLASSES]]
    sides = of_classes or [("higher", 0, 1), ("lower", 0, -1)]
    for name, index, sign in sides:
        scores = sign * found.scores(found.predictions.outputs, index)
        candidates = _candidates(rows_by_word, scores, scores[looked_in])
        chosen = list(_chosen_texts(found.texts, candidates, drawn, most=most_asked // len(sides)))
        effects = _effects(found, chosen, scores, index=index, sign=sign)
        certain = _certain(effects)
        best = sorted((word for word in effects if certain[word] > 0), key=lambda word: (-certain[word], word))
        words = [
            KeyWord(word=word, effect=float(np.mean(effects[word])), texts=len(rows_by_word[word]))
            for word in best[:KEY_WORDS]
        ]
        if words:
            yield ClassWords(name=name, words=words)


def _rows_by_word(texts: Sequence[str], looked_in: Sequence[int]) -> dict[str, Array]:
    """Return positions of the texts that have a word, in lower case, of words that several have."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for position in looked_in:
        for word in dict.fromkeys(word[0].lower() for word in _words_in(texts[position])):
            rows[word].append(position)
    return {word: np.array(own) for word, own in rows.items() if len(own) >= MIN_TEXTS}


def _candidates(rows_by_word: Mapping[str, Array], scores: Array, of_all: Array) -> dict[str, Array]:
    """Return words whose texts have higher scores than others by more than chance explains, with these texts."""
    if not rows_by_word:
        return {}
    mean, deviation = of_all.mean(), of_all.std() or 1.0
    above = {word: (scores[rows].mean() - mean) / deviation * len(rows) ** 0.5 for word, rows in rows_by_word.items()}
    best = sorted(above, key=lambda word: (-above[word], word))[:CANDIDATES]
    return {word: rows_by_word[word] for word in best if above[word] > 0}


def _chosen_texts(
    texts: Sequence[str], candidates: Mapping[str, Array], drawn: np.random.Generator, *, most: int
) -> Iterator[tuple[str, int]]:
    """Yield words, and the positions of texts to leave them out of.

    There is one text of each word, then a second of each, up to a number of characters. The best words have one text in
    any case.
    """
    positions = {word: drawn.permutation(rows)[:TEXTS_OF_WORD].tolist() for word, rows in candidates.items()}
    asked = 0
    for turn in range(TEXTS_OF_WORD):
        for rank, (word, own) in enumerate(positions.items()):
            if turn >= len(own):
                continue
            asked += len(texts[own[turn]])
            if asked > most and (turn or rank >= KEY_WORDS):
                return
            yield word, own[turn]


def _effects(
    found: Texts, chosen: Sequence[tuple[str, int]], scores: Array, *, index: int, sign: int
) -> dict[str, list[float]]:
    """Return by how much the score falls when a word is left out, for each of its texts."""
    if not chosen:
        return {}
    changed = [_without(found.texts[position], word) for word, position in chosen]
    positions = np.array([position for _, position in chosen])
    lowered = scores[positions] - sign * found.scores(found.ask(changed, positions), index)
    by_word: defaultdict[str, list[float]] = defaultdict(list)
    for (word, _), effect in zip(chosen, lowered.tolist(), strict=True):
        by_word[word].append(effect)
    return dict(by_word)


def _certain(effects: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return a lower bound of the mean effect of each word in all texts that may have it.

    The deviation of a word's effects is that among its texts, and as that of all words among themselves where these
    are few. With one text of each word nothing is known of it, and the bound is the effect.
    """
    squares = {word: float(np.square(np.array(own) - np.mean(own)).sum()) for word, own in effects.items()}
    freedom = sum(len(own) - 1 for own in effects.values())
    of_all = sum(squares.values()) / freedom if freedom else 0.0
    found = {}
    for word, own in effects.items():
        variance = (squares[word] + TEXTS_OF_ALL * of_all) / (len(own) - 1 + TEXTS_OF_ALL)
        found[word] = float(np.mean(own)) - ERRORS * (variance / len(own)) ** 0.5
    return found


def _without(text: str, left_out: str) -> str:
    parts, end = [], 0
    for word in _words_in(text):
        if word[0].lower() == left_out:
            parts.append(text[end : word.start()])
            end = word.end()
    return " ".join([*parts, text[end:]])


def _cleaned(texts: Sequence[str], cleaning: "TextCleaningConfig") -> list[CleanedText]:
    """Return short texts in which cleaning changes more than case and spaces, the most changed first."""
    import tensorflow as tf

    from kubetfx.models.columns.text.cleaning import clean

    short = [text for text in dict.fromkeys(texts[:MAX_TEXTS]) if text.strip() and len(text) <= CLEANED_CHARACTERS]
    if not short:
        return []
    with tf.device("CPU:0"):
        after = [text.decode() for text in clean(tf.constant(short), cleaning).numpy()]
    changes = [_changed(before, own) for before, own in zip(short, after, strict=True)]
    order = sorted(range(len(short)), key=lambda row: (-changes[row], row))[:MAX_CLEANED]
    return [CleanedText(before=short[row], after=after[row]) for row in order if changes[row]]


def _changed(before: str, after: str) -> int:
    """Return how many words and signs are on one side alone."""
    composed = (unicodedata.normalize("NFKC", text).lower() for text in (before, after))
    ours, theirs = (set(re.findall(r"\w+|[^\w\s]", text)) for text in composed)
    return len(ours ^ theirs)
