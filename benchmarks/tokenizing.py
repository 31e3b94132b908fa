"""Cleaning and words in the graph, beside the same written by hand in Python.

    python -m benchmarks.tokenizing [SET ...] [--write]

The sets are those of benchmarks/texts.py. Both make the same words of every message, which is checked first; then each
does all messages, three times in turn, and the median counts. Exit code 1: the graph does less than half the messages
per second.
"""

import argparse
import csv
import html
import re
import statistics
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow_transform import annotators, graph_context

from benchmarks import texts
from benchmarks.readme import machine, write_section
from kubetfx.config.text_section import TextEncoderConfig
from kubetfx.models.columns.text.cleaning import ENGLISH
from kubetfx.models.columns.text.tokens import tokenize

BATCH = 1_024
LEAST = 0.5
_ROUNDS = 3
_SETS = ("reviews", "foods", "tweets")
_COMMENTS = re.compile(r"<!--.*?-->|<script\b.*?</script\s*>|<style\b.*?</style\s*>", re.IGNORECASE | re.DOTALL)
_TAGS = re.compile(r"</?[a-z][^<>]*>|<![a-z][^<>]*>", re.IGNORECASE | re.ASCII)
_URLS = re.compile(r"\b(?:https?|ftp)://[^\s]+|\bwww\.[^\s.]+\.[^\s]+", re.IGNORECASE | re.ASCII)
_ENTITIES = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_SIGNS = re.compile(r"[^\w\s']|_")
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff][\u0300-\u036f\u064b-\u065f\u3099\u309a]*"
)
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_CONTROLS = re.compile("[\x00-\x1f\x80-\x9f]")


def by_hand(text: str, contractions: dict[str, str]) -> list[str]:
    """Cut a message into words, as kubetfx/models/columns/text/cleaning.py does.

    Args:
        text: Its text.
        contractions: what words with an apostrophe are short for.

    Returns:
        Its words and signs.
    """
    text = _CONTROLS.sub(" ", text)
    if "<" in text:
        text = _TAGS.sub(" ", _COMMENTS.sub(" ", text))
    if "&" in text:
        text = _ENTITIES.sub(lambda found: html.unescape(found[0]), text)
    text = _URLS.sub(" url ", text)
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text.replace("\u2019", "'").replace("\u2018", "'").replace("\u02bc", "'"))
        text = _SPACELESS.sub(r" \g<0> ", _UNSEEN.sub("", text))
    words = _with_marks(text.lower()).split()
    if "'" not in text:
        return words
    return [part for word in words for part in contractions.get(word.strip("'"), word).replace("'", " ").split()]


def _with_marks(text: str) -> str:
    """Signs between spaces. Combining marks are part of a word, and none to Python."""
    if text.isascii():
        return _SIGNS.sub(r" \g<0> ", text)
    return "".join(
        f" {character} " if _SIGNS.match(character) and unicodedata.category(character)[0] not in "M" else character
        for character in text
    )


def in_graph(folder: Path) -> Callable[[tf.Tensor], tf.RaggedTensor]:
    """Return the function that Transform's graph has: (batch,) string to words, (batch, any).

    Args:
        folder: for TensorFlow Transform.
    """
    config = TextEncoderConfig()
    module, tracker = tf.Module(), annotators.ObjectTracker()
    with graph_context.TFGraphContext(module, str(folder), None), annotators.object_tracker_scope(tracker):
        function = tf.function(lambda batch: tokenize(batch, config, length=10**6), autograph=False)
        found = function.get_concrete_function(tf.TensorSpec([None], tf.string))
    found.tables = module, tracker  # the graph holds its tables no longer than somebody else does
    words: Callable[[tf.Tensor], tf.RaggedTensor] = found
    return words


def compare(path: Path, folder: Path) -> tuple[int, float, float]:
    """Time both on a set.

    Args:
        path: The path of its table.
        folder: for TensorFlow Transform.

    Returns:
        Messages, and how many per second the graph and Python do.

    Raises:
        AssertionError: they make other words of a message.
    """
    with path.open(newline="", encoding="utf-8") as file:
        messages = [row["text"] for row in csv.DictReader(file)]
    batches = [tf.constant(messages[start : start + BATCH]) for start in range(0, len(messages), BATCH)]
    contractions = dict(line.split("\t") for line in ENGLISH.read_text(encoding="utf-8").splitlines())
    function = in_graph(folder)
    words = [row for batch in batches for row in function(batch).to_list()]
    for message, found in zip(messages, words, strict=True):
        expected = by_hand(message, contractions)
        assert [word.decode() for word in found] == expected, (message, found, expected)
    seconds: dict[str, list[float]] = {"graph": [], "python": []}
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for batch in batches:
            function(batch).flat_values.numpy()
        seconds["graph"].append(time.perf_counter() - started)
        started = time.perf_counter()
        for message in messages:
            by_hand(message, contractions)
        seconds["python"].append(time.perf_counter() - started)
    graph, python = (len(messages) / statistics.median(own) for own in seconds.values())
    return len(messages), graph, python


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table.

    Args:
        arguments: The arguments of the command line.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=_SETS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    options = parser.parse_args(arguments)
    lines = ["| set | messages | graph, per second | Python, per second | ratio |", "|---|---|---|---|---|"]
    lowest = float("inf")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for text_set in texts.SETS:
            if text_set.name not in options.sets:
                continue
            number, graph, python = compare(texts.write(text_set, folder), folder)
            lowest = min(lowest, graph / python)
            lines.append(f"| {text_set.name} | {number:,} | {graph:,.0f} | {python:,.0f} | {graph / python:.2f} |")
    text = "\n".join([machine(busy=options.busy), "", *lines])
    print(text)
    if options.write:
        write_section("tokenizing", text)
    return int(lowest < LEAST)


if __name__ == "__main__":
    sys.exit(main())
