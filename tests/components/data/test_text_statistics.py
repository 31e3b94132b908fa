"""Statistics of texts, and the rules that are made of them, on texts of which everything is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubetfx.components.data import block_work, text_statistics
from kubetfx.components.data.example_parts import Part
from kubetfx.components.data.text_judgement import TextStatistics, judge
from kubetfx.models.examples import RowGroup

ENGLISH = (
    *("the", "film", "was", "good", "bad", "and", "long", "but", "story", "music", "funny", "slow", "we", "liked"),
    *("actors", "of", "a", "very", "nice", "end"),
)
GERMAN = ("der", "streifen", "war", "gut", "schlecht", "und", "lang", "aber", "handlung", "langsam", "wir", "mochten")
RUSSIAN = ("фильм", "был", "хорошим", "плохим", "и", "длинным", "но", "музыка", "медленно", "нам", "понравился")


def sentences(words: tuple[str, ...], number: int, *, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(words, 12)).capitalize() + "." for _ in range(number)]


def gibberish(number: int) -> list[str]:
    random = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    return [" ".join("".join(random.choice(letters, 7)) for _ in range(8)) for _ in range(number)]


def described(folder: Path, **splits: list[str | None]) -> dict[str, TextStatistics]:
    parts = []
    for name, cells in splits.items():
        file = str(folder / f"{name}.parquet")
        pq.write_table(pa.table({"text": pa.array(cells, pa.string())}), file, row_group_size=70)
        parts += [Part(name, number, RowGroup(file, number)) for number in range(pq.ParquetFile(file).num_row_groups)]
    found = text_statistics.describe(
        "text",
        parts,
        num_rows=sum(map(len, splits.values())),
        run=lambda work, items: block_work.run_here(work, items, threads=2),
    )
    return {one.split: one for one in found.splits}


def titles(found: dict[str, TextStatistics]) -> set[tuple[str, str]]:
    return {(split, title) for split, title, _ in judge(list(found.values()))}


TRAIN = sentences(ENGLISH, 200)
EVAL = sentences(ENGLISH, 60, seed=1)


def test_cells_compared_later_have_the_statistics_of_a_split(tmp_path):
    russian = ["совсем другие слова на чужом языке", None, *EVAL]
    expected = described(tmp_path, train=TRAIN, eval=russian)["eval"]
    words = pa.array(sorted({word for text in TRAIN for word in text.lower().strip(".").split()}))

    counts = text_statistics.compare(pa.array(russian), words)

    found = text_statistics.statistics_of("text", "eval", counts)
    assert replace(found, entropy=expected.entropy) == expected
    assert counts.words == counts.characters == {}
    assert found.unknown == 6 / (6 + 60 * 12)


def test_what_is_counted_is_what_is_there(tmp_path):
    cells = ["One two, two!", "три 4", None, "", "<br>房间</br> https://t.co/x", *["abc abc"] * 15]

    found = described(tmp_path, train=cells)["train"]

    letters = {"Latin": 9 + 2 + 2 + 5 + 5 + 15 * 6, "Cyrillic": 3, "Han": 2}
    total = sum(letters.values())
    assert found.scripts == pytest.approx({name: count / total for name, count in letters.items()}, abs=0.02)
    assert (found.cells, found.empty, found.median_words) == (20, 2, 2)
    unknown = ["one", "two", "two", "три", "0", "房", "间"]
    assert found.unknown == pytest.approx(len(unknown) / (len(unknown) + 30))


def test_entropy_is_that_of_the_characters(tmp_path):
    assert described(tmp_path, train=["abcd" * 10] * 5)["train"].entropy == pytest.approx(2)
    assert described(tmp_path, train=["aaaa"] * 5)["train"].entropy == pytest.approx(0)
    assert described(tmp_path, train=[None, ""])["train"].entropy == 0


def test_splits_of_the_same_texts_are_nothing_to_mention(tmp_path):
    found = described(tmp_path, train=TRAIN, eval=EVAL)

    assert titles(found) == set()
    assert found["eval"].unknown == 0


def test_another_language_of_the_same_script_has_unknown_words(tmp_path):
    found = described(tmp_path, train=TRAIN, eval=sentences(GERMAN, 60))

    assert titles(found) == {("eval", "Unknown words"), ("eval", "Strange texts")}
    assert found["eval"].unknown == 1


def test_another_script_is_named(tmp_path):
    found = described(tmp_path, train=TRAIN, eval=[*EVAL, *sentences(RUSSIAN, 20)])

    (said,) = [said for _, title, said in judge(list(found.values())) if title == "Another script"]
    assert "of the letters are Cyrillic, of the training rows 0.0%." in said


def test_a_language_that_is_also_in_training_is_nothing_to_mention(tmp_path):
    both = [*TRAIN, *sentences(GERMAN, 200)]

    assert titles(described(tmp_path, train=both, eval=[*EVAL, *sentences(GERMAN, 60, seed=1)])) == set()


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("cells", [gibberish(20), ["spam ham " * 40] * 20, ["word " * 100_000] * 20])
def test_gibberish_is_found_in_any_split(tmp_path, split, cells):
    splits = {"train": TRAIN, "eval": EVAL}

    found = described(tmp_path, **{**splits, split: [*splits[split], *cells]})

    assert (split, "Strange texts") in titles(found)
    assert found[split].strange == pytest.approx(20 / (len(splits[split]) + 20))


def test_few_texts_of_which_each_has_words_of_its_own_are_not_judged(tmp_path):
    assert titles(described(tmp_path, train=gibberish(60), eval=gibberish(60))) == set()
    assert titles(described(tmp_path, train=TRAIN[:10], eval=sentences(RUSSIAN, 60))) == set()


def test_emoji_marks_and_signs_alone_are_no_words(tmp_path):
    odd = ["🐧🐧", "\u0301", "?!", "\u200b", "e\u0301te\u0301 e\u0301te\u0301", None] * 10

    found = described(tmp_path, train=odd)["train"]

    assert found.empty == 40
    assert found.unknown == 0


def test_large_tables_are_described_by_some_of_their_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(text_statistics, "MAX_CELLS", 100)

    assert described(tmp_path, train=TRAIN, eval=EVAL)["train"].cells == 70


def test_a_cell_of_a_million_words_or_letters_does_not_decide_what_is_usual(tmp_path):
    foreign = sentences(GERMAN, 60)
    long = [" again" * 1_000_000, "\u044f" * 1_000_000]

    found = described(tmp_path, train=[*TRAIN, *long], eval=foreign)

    assert found["train"].unknown < 0.15
    assert found["train"].scripts["Latin"] > 0.8
    assert ("eval", "Unknown words") in titles(found)
    assert ("eval", "Strange texts") in titles(found)
