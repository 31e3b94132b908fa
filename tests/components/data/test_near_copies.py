"""Near copies of texts, against what a comparison of all pairs finds."""

import itertools
import pickle

import numpy as np
import pyarrow as pa
import pytest

from kubetfx.components.data import block_work, near_copies
from kubetfx.components.data.near_copies import FindTexts, Texts, find_groups, keys_of, num_copied, texts_of

WORDS = np.array([f"w{chr(97 + i)}{chr(97 + j)}{chr(97 + k)}" for i, j, k in itertools.product(range(8), repeat=3)])


def sentence(random: np.random.Generator, *, words: int = 20) -> str:
    return " ".join(random.choice(WORDS, words))


def groups_of(texts: list[str | None], *, num_rows: int | None = None) -> list[int]:
    """The number of the group of each text, in the order in which groups appear; -1: it is in none."""
    cells = pa.array(texts, pa.string())
    found = find_groups({"": texts_of(cells)}, num_rows=num_rows or len(texts))
    is_known, groups = found.of(keys_of(cells))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(g), len(numbers)) if k else -1 for k, g in zip(is_known, groups, strict=True)]


@pytest.mark.parametrize(
    "copy",
    [
        "WIN a free ticket for the Final!! Text WIN to 80888 before Sunday, 12 pm",
        "win a free ticket for the final text win to 5 before sunday, 3 pm",
        "<b>WIN</b> a free ticket for the Final: text WIN to 87121 before Sunday&nbsp;12 pm http://t.co/x1",
        "\uff37\uff29\uff2e a free ticket for the Final -- text WIN to 87121 before Sunday, 12 pm",
        "WIN a free ticket for the Final! Text WIN to 87121 before Sunday, 12 pm. Hurry",
    ],
)
def test_case_signs_numbers_tags_and_a_word_make_no_other_text(copy):
    text = "WIN a free ticket for the Final! Text WIN to 87121 before Sunday, 12 pm"

    assert groups_of([text, "Sorry, I will call you later this evening from the office", copy]) == [0, -1, 0]


def test_short_and_missing_texts_are_nobodys_copies():
    assert groups_of(["No damage.", "No damage.", None, None, "", "", "!" * 50, "!" * 50]) == [-1] * 8


def test_texts_without_spaces_and_of_any_script_have_copies():
    chinese = "房间连电吹风都没有也没有免费的矿泉水和茶叶包"
    arabic = "الغرفة نظيفة جدا والموظفون لطفاء وسوف نعود قريبا"

    assert groups_of([chinese, arabic, chinese + "!!", arabic + "؟"]) == [0, 1, 0, 1]


def test_messages_of_one_kind_are_no_copies():
    text = "Your order {} has left our house and is with you tomorrow"
    many = [text.format(number) for number in range(30)]

    assert groups_of(many, num_rows=1_000) == [-1] * 30
    assert groups_of(many, num_rows=5_000) == [0] * 30


def test_groups_are_those_of_all_pairs():
    random = np.random.default_rng(0)
    texts = []
    for _ in range(150):
        original = sentence(random, words=60)
        texts.append(original)
        words = original.split()
        for changes in range(random.integers(0, 3)):
            for place in random.choice(len(words), changes + 1, replace=False):
                words[place] = str(random.choice(WORDS))
            texts.append(" ".join(words))
    length = near_copies.SHINGLE
    shingles = [{text[at : at + length] for at in range(len(text) - length + 1)} for text in texts]
    groups = np.array(groups_of(texts))

    clear, missed = 0, 0
    for one, other in itertools.combinations(range(len(texts)), 2):
        shared = len(shingles[one] & shingles[other]) / len(shingles[one] | shingles[other])
        is_found = groups[one] == groups[other] != -1
        clear += shared > 0.9
        missed += shared > 0.9 and not is_found
        assert not (shared < 0.3 and is_found)
    assert clear > 20
    assert missed <= 0.05 * clear


def test_order_of_the_rows_and_blocks_change_nothing():
    random = np.random.default_rng(1)
    texts = [sentence(random) for _ in range(40)]
    texts += [text + " again" for text in texts[:15]]
    shuffled = random.permutation(texts).tolist()

    def read(item: list[str]):
        yield "train", pa.array(item)

    whole = find_groups({"": texts_of(pa.array(texts))}, num_rows=1_000)
    work = FindTexts(read)
    found = block_work.run_here(work, [shuffled[:9], shuffled[9:30], shuffled[30:]], threads=2)
    parts = find_groups(found, num_rows=1_000)

    assert whole.num_groups == 15
    assert (whole.num_rows, whole.num_groups) == (parts.num_rows, parts.num_groups) == (30, 15)
    np.testing.assert_array_equal(whole.keys, parts.keys)
    np.testing.assert_array_equal(whole.groups, parts.groups)


def test_works_and_states_can_be_sent_to_others():
    texts = texts_of(pa.array(["a text that is long enough to have copies of itself somewhere"] * 3))

    assert pickle.loads(pickle.dumps(texts)).rows.tolist() == [3]
    assert (
        find_groups({}, num_rows=0).of(keys_of(pa.array(["whatever this may be, it is not one of the texts"])))[0].sum()
        == 0
    )


def test_of_very_many_texts_those_are_copies_of_which_the_same_is_left(monkeypatch):
    monkeypatch.setattr(near_copies, "MAX_TEXTS", 2)
    text = "What a wonderful evening that was, with friends and good food"

    assert groups_of([text, text.upper(), text + " again", "Something else which is not about that evening"]) == [
        0,
        0,
        -1,
        -1,
    ]


def test_rows_with_a_copy_in_another_split_are_counted():
    seen = "What a wonderful evening that was, with friends and good food"
    texts = {
        "train": texts_of(pa.array([seen, "Nothing that anybody else would ever say of such an evening"])),
        "eval": texts_of(
            pa.array([seen + "!", seen.upper(), "It rained for days, and the tent was not waterproof at all"])
        ),
    }
    groups = find_groups(texts, num_rows=5)

    assert num_copied(texts["eval"], texts["train"], groups) == 2
    assert num_copied(Texts(), texts["train"], groups) == 0


def test_leader_of_a_text_is_its_first_near_copy():
    random = np.random.default_rng(0)
    texts = [sentence(random) for _ in range(5)]
    cells = pa.array([texts[0], texts[1], None, texts[0].upper(), "short", texts[2], texts[1] + "!", texts[0]])

    assert near_copies.leaders_of(cells).tolist() == [0, 1, 2, 0, 4, 5, 1, 0]
