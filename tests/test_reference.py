"""docs/reference is what scripts/make_reference.py writes."""

import os

import pytest

from tests import scripts

reference = scripts.load("make_reference")


@pytest.mark.parametrize("name", reference.PAGES)
def test_page_is_what_the_code_says(name):
    path, expected = reference.FOLDER / name, reference.PAGES[name]()
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(expected, encoding="utf-8")

    assert path.read_text(encoding="utf-8") == expected, "Run scripts/make_reference.py, and look at the difference."


def test_every_key_is_there_and_says_what_it_takes():
    rows = [line for line in reference.config_page().splitlines() if line.startswith("| `")]

    for row in rows:
        key, takes, _, words = (part.strip() for part in row.replace("\\|", "").strip("|").split("|"))
        assert takes, key
        assert words, key
    keys = {row.split("`")[1] for row in rows}
    assert {
        "training.epochs",
        "serving.endpoint.grpc",
        "features.text_encoder.cleaning.html",
        "data.csv.encoding",
    } <= keys
