"""scripts/check_words.py finds phrases that a native reader stumbles over, and nothing in code."""

import pytest

from tests.scripts import load

WORDS = load("check_words")


@pytest.mark.parametrize(
    ("path", "text", "advice"),
    [
        ("a.py", '"""Rows a second."""', "per"),
        ("a.py", "# What new rows are held against.", "compared with"),
        ("a.py", 'raise ValueError(f"{name} is no number")', "is not"),
        ("a.py", '"""Limits.\n\nOf each worker, the bytes.\n"""', "begin with the subject"),
        ("a.py", 'x = ("The report stands "\n     "in a folder")', "write `is`"),
        ("a.md", "An exit task is told\nhow the run ended.", "is reported"),
    ],
    ids=["per", "comment", "f-string", "of", "two-literals", "paragraph"],
)
def test_phrase_is_found_with_advice(path, text, advice):
    (finding,) = WORDS.findings(path, text)

    assert finding.startswith(f"{path}:")
    assert advice in finding


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", "rows_a_second = of.no(stands_in)\n"),
        ("a.py", '"""There is no file, and nothing is no longer there. Of course."""'),
        ("a.md", "Call `is no`:\n\n```\nrows a second\n```\n"),
    ],
    ids=["code", "idioms", "code-in-markdown"],
)
def test_code_and_idioms_are_left_alone(path, text):
    assert list(WORDS.findings(path, text)) == []


def test_exception_holds_for_its_file_alone(monkeypatch):
    monkeypatch.setitem(WORDS.ALLOWED, "a.py", {"is no number": "a quotation"})

    assert list(WORDS.findings("a.py", '"""It is no number."""')) == []
    assert len(list(WORDS.findings("b.py", '"""It is no number."""'))) == 1
