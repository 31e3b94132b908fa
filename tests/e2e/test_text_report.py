"""What a run says of texts: copies that are kept together, other languages, calibration, and the words that count."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kubetfx.components.report.facts import Facts, read
from tests.command import Finished
from tests.e2e.project import ANY_MODEL, Project, metrics_of, report_of

pytestmark = pytest.mark.long

SCRIPT = '<script>document.title = "taken over"</script>'
GOOD, BAD = ("wonderful", "brilliant"), ("dreadful", "boring")
OTHERS = tuple(f"word{chr(97 + first)}{chr(97 + second)}" for first in range(5) for second in range(8))
ROWS, AGAIN = 700, 120
SETTINGS = (
    *("--set", "training.epochs=40", "--set", "training.batch_size=32"),  # until it has learned the words,
    *("--set", "features.text_encoder={ngrams: 1}"),  # and no pairs of those that say nothing
    *("--set", "evaluation.calibrate=true", "--set", "features.text=[review]"),
)


def write(folder: Path) -> Project:
    """Reviews whose sentiment is in a word; some were posted twice, and one tries to break out."""
    drawn = np.random.default_rng(0)
    rows = []
    for number in range(ROWS):
        words = drawn.choice(OTHERS, 12).tolist()
        words.insert(int(drawn.integers(0, 12)), str(drawn.choice((GOOD, BAD)[number % 2])))
        rows.append((" ".join(words) + ("" if number else SCRIPT), number, ("good", "bad")[number % 2]))
    rows += [(f"RT: {text.upper()}!!", number + ROWS, label) for text, number, label in rows[:AGAIN]]
    (folder / "data").mkdir(parents=True)
    with (folder / "data" / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("review", "number", "label"), *rows])
    (folder / "pipeline.yaml").write_text("name: reviews\ndata: {path: data, label: label}\n", encoding="utf-8")
    return Project(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Facts]:
    project = write(tmp_path_factory.mktemp("text"))
    finished = project.run(*SETTINGS, *ANY_MODEL)
    assert finished.exit_code == 0, finished.stdout + finished.stderr
    found = read(report_of(finished).parent)
    assert found is not None
    return finished, found


def test_no_part_of_the_report_is_missing(run: tuple[Finished, Facts]) -> None:
    finished, found = run

    assert found.problems == []
    html = report_of(finished).read_text(encoding="utf-8")
    assert "Words of review" in html
    assert "<script" not in html


def test_key_words_are_those_that_have_the_sentiment(run: tuple[Finished, Facts]) -> None:
    finished, found = run

    assert metrics_of(finished)["metrics"]["accuracy"]["value"] > 0.95
    assert found.quality is not None
    assert found.quality.texts is not None
    key_words = {one.name: {word.word for word in one.words[:2]} for one in found.quality.texts.key_words}
    assert key_words == {"good": set(GOOD), "bad": set(BAD)}
    strongest = [max(one.pieces, key=lambda piece: piece.effect).text for one in found.quality.texts.right]
    assert {word.lower() for word in strongest} <= {*GOOD, *BAD}


def test_copies_are_counted_and_texts_described(run: tuple[Finished, Facts]) -> None:
    _, found = run

    assert found.data is not None
    assert any(f"{2 * AGAIN} rows have the text of another row" in note for note in found.data.notes)
    assert {one.split: round(one.unknown, 1) for one in found.data.texts} == {"train": 0, "validation": 0, "eval": 0}


def test_calibration_is_measured(run: tuple[Finished, Facts]) -> None:
    finished, found = run

    assert found.training is not None
    assert found.training.calibration is not None
    assert found.training.calibration.error_after is not None
    assert "calibration_error" in finished.document["metrics"]


@pytest.mark.long
def test_same_run_elsewhere_has_the_same_facts(run: tuple[Finished, Facts], tmp_path: Path) -> None:
    _, found = run
    again = read(report_of(write(tmp_path).run(*SETTINGS, *ANY_MODEL)).parent)

    def facts(one: Facts | None) -> Any:
        assert one is not None
        assert one.quality is not None
        return json.loads(one.quality.model_dump_json())

    assert facts(found) == facts(again)
