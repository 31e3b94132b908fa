"""Markdown is read by a parser of its own here: what matters is what it takes the text for."""

import re

import pytest

from kubetfx.components.report import markdown
from tests.components.report import sample

NASTY = (
    *sample.NASTY_NAMES,
    "- list",
    "+ list",
    "1. list",
    "12) list",
    "# heading",
    "~~~",
    "===",
    "---",
    "![x](y)",
    "$x$",
)


@pytest.mark.parametrize("text", NASTY)
def test_escaped_text_is_nothing_but_text(text: str) -> None:
    found = markdown.escaped(text)
    bare = re.sub(r"\\[\\`*_\[\]<>|#&~$.)+=-]", "", found)

    assert "\n" not in found
    assert not re.search(r"[`*_\[\]<>|#&~$]", bare)
    assert not re.match(r"[-+=]|\d+[.)](\s|$)", found)
    assert re.sub(r"\\(.)", r"\1", found) == " ".join(text.split()).replace("\\", "")


def test_code_holds_its_own_backticks() -> None:
    assert markdown.code("a`b") == "`` a`b ``"
    assert markdown.code("plain") == "`plain`"


def test_push_says_where_it_is_and_how_to_serve_and_call_it() -> None:
    text = markdown.push(version="7", destination="s3://models/houses/7")

    assert text.startswith("### Version 7 is pushed")
    assert "`s3://models/houses/7`" in text
    assert "--model_name=houses --model_base_path=s3://models/houses" in text
    assert "http://HOST:8501/v1/models/houses:predict" in text
    assert "Not pushed" in markdown.push(version=None)


def test_examples_have_rows_and_shares_where_they_are_known() -> None:
    known = markdown.examples("TableExampleGen", {"train": 750, "eval": 250}, span=3)

    assert "| train | 750 | 75.0% |" in known
    assert "Span: 3" in known
    assert "| train |  |  |" in markdown.examples("ImportExampleGen", {"train": None}, span=None)


def test_cells_of_a_table_stay_in_their_cells() -> None:
    (row,) = markdown.artifacts("Node", [("out", "Type", "a | b <script>")]).splitlines()[-1:]

    assert row == "| out | Type | a \\| b \\<script\\> |"
