"""What is added up of requests, and what is found in it."""

import json
import math
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubetfx.artifacts import TEXTS, TRAIN, WORDS
from kubetfx.components.data.text_statistics import compare, statistics_of
from kubetfx.components.evaluation import scores
from kubetfx.components.evaluation.evaluation_result import EvaluationResult
from kubetfx.components.monitoring import findings, served
from kubetfx.components.monitoring import reference as references
from kubetfx.components.monitoring.late_labels import read_labels
from kubetfx.components.monitoring.reference import Reference, TrainingColumn, TrainingTexts
from kubetfx.components.monitoring.served import Adder, Plan
from kubetfx.components.report.facts import Column, ColumnSplit
from kubetfx.config.monitoring_section import ColumnBounds, MonitoringConfig
from kubetfx.errors import DataError
from kubetfx.serving.logged_rows import Block
from kubetfx.serving.model_facts import ModelFacts
from kubetfx.tables.csv_options import UNKNOWN_CSV

NEWEST = 1_000_000
DAY = 86_400


def texts(*values: Any) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def number(name: str, values: np.ndarray, missing: float = 0.0) -> TrainingColumn:
    edges = np.linspace(values.min(), values.max(), 11)
    counts = np.bincount(scores.bars_of(values, edges), minlength=12)[1:-1]
    column = Column(name=name, type="float", splits={TRAIN: ColumnSplit(missing=missing)})
    return TrainingColumn(name, column, False, edges, counts, {}, None)


def category(name: str, frequencies: dict[str, float], separator: str | None = None) -> TrainingColumn:
    column = Column(name=name, type="string", splits={TRAIN: ColumnSplit(missing=0.0)})
    known = None if separator else frozenset(frequencies)
    return TrainingColumn(name, column, True, np.zeros(0), np.zeros(0), frequencies, known, separator)


def reference(*columns: TrainingColumn, classes: tuple[str, ...] = (), outputs: np.ndarray | None = None) -> Reference:
    types = {one.name: "string" if one.is_text else "float32" for one in columns} | {"y": "string"}
    facts = ModelFacts("y", classes, tuple(one.name for one in columns), types)
    found = None if outputs is None else scores.describe(outputs)
    evaluation = EvaluationResult({}, {}, {}, [], is_blessed=True, scores=found)
    return Reference(3, "run", facts, {one.name: one for one in columns}, evaluation)


def block(rows: int, inputs: dict[str, np.ndarray], *, age: int = 0, version: int = 3, **outputs: Any) -> Block:
    return Block(version, np.full(rows, NEWEST - age), inputs, outputs)


def adder_of(plan: Plan, *blocks: Block) -> Adder:
    adder = Adder(plan)
    for one in blocks:
        adder.add(one)
    return adder


def found_in(adder: Adder, ref: Reference, **changes: Any) -> findings.Findings:
    config = MonitoringConfig(**{"min_rows": 10, **changes})
    return findings.find(adder, ref, config, period_names={}, seed=0)


def test_parts_that_are_merged_are_as_one() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=1_000)
    names = np.array([b"a", b"b", b""], object)[random.integers(0, 3, 1_000)]
    outputs = random.random((1_000, 2))
    ref = reference(number("x", values), category("c", {"a": 5, "b": 5}), classes=("n", "p"), outputs=outputs)
    plan = Plan(ref, NEWEST, DAY)
    parts = [
        block(250, {"x": values[i : i + 250], "c": names[i : i + 250]}, age=i * 400, probabilities=outputs[i : i + 250])
        for i in range(0, 1_000, 250)
    ]
    whole, merged = adder_of(plan, *parts), Adder(plan)
    for part in parts:
        merged.merge(adder_of(plan, part).state)
    ours, theirs = (found_in(one, ref) for one in (whole, merged))
    assert ours == theirs
    assert merged.state.rows == 1_000
    x, c = ours.columns
    assert x.skew is not None
    assert c.missing == pytest.approx((names == b"").mean())
    assert x.skew.value < 0.001


def test_columns_that_requests_lack_are_missing_and_other_types_are_counted() -> None:
    ref = reference(number("x", np.arange(100.0)), category("c", {"a": 1}))
    adder = adder_of(Plan(ref, NEWEST, DAY), block(20, {"c": np.zeros(20)}))
    x, c = found_in(adder, ref).columns
    assert (x.missing, x.crossed, x.skew) == (1.0, ("missing",), None)
    assert (c.rows, adder.state.odd) == (0, 20)


def test_numbers_outside_the_training_range_are_far() -> None:
    ref = reference(number("x", np.arange(100.0)))
    adder = adder_of(Plan(ref, NEWEST, DAY), block(50, {"x": np.full(50, 1e6)}))
    (x,) = found_in(adder, ref).columns
    assert x.skew is not None
    assert (x.outside, round(x.skew.value, 6)) == (1.0, 1.0)
    (ignored,) = found_in(adder, ref, columns={"x": ColumnBounds(skew=1)}).columns
    assert ignored.crossed == ()


def test_values_of_lists_are_compared_one_by_one() -> None:
    ref = reference(category("tags", {"a": 10, "b": 10}, separator=","))
    cells = [
        texts(b"a,b", b"", b"b,a", b"a,b"),
        np.array([[b"a", b"b"], [b"", b""], [b"b", b"a"], [b"a", b"b"]], object),
        texts((b"a", b"b"), None, (b"b", b"a"), (b"a", b"b")),
    ]
    for own in cells:
        adder = adder_of(Plan(ref, NEWEST, DAY), block(4, {"tags": own}))
        (tags,) = found_in(adder, ref).columns
        assert tags.skew is not None
        assert (tags.missing, tags.skew.value, tags.unseen) == (0.25, 0.0, None)


def test_answers_of_a_regression_are_compared_with_those_at_the_push() -> None:
    values = np.random.default_rng(1).normal(size=2_000)
    ref = reference(number("x", values), outputs=values)
    plan = Plan(ref, NEWEST, DAY, task="regression")
    alike = found_in(adder_of(plan, block(2_000, {"x": values}, value=values)), ref)
    assert alike.answers is not None
    assert alike.answers.skew is not None
    assert alike.answers.skew.value < 0.001
    shifted = found_in(adder_of(plan, block(2_000, {"x": values}, value=values + 2)), ref)
    assert [(one.subject, one.kind) for one in shifted.crossed] == [("answers", "skew")]


def test_memory_of_a_column_of_free_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "MAX_VALUES", 50)
    ref = reference(category("c", {"a": 1}))
    adder = Adder(Plan(ref, NEWEST, DAY))
    for part in range(20):
        cells = texts(*[b"a"] * 30, *(b"%d" % (part * 100 + i) for i in range(100)))
        adder.merge(adder_of(Plan(ref, NEWEST, DAY), block(130, {"c": cells})).state)
    counted = adder.state.texts["c"]
    assert len(counted.counts[1]) <= 230
    assert counted.counts[1][b"a"] == 600
    assert counted.counts[1].total() + counted.others[1] == 2_600
    assert isinstance(counted.counts[1], Counter)


def written_column(trained: list[str]) -> TrainingColumn:
    words = pa.array(sorted({word for text in trained for word in text.split()}))
    statistics = statistics_of("review", TRAIN, compare(pa.array(trained), words))
    return replace(category("review", {}), vocabulary=None, texts=TrainingTexts(statistics, words))


TRAINED = [f"the film number {'abcdefghij'[i % 10]} was good fun" for i in range(100)]
FOREIGN = "der streifen war sehr langsam erzählt"


def test_texts_of_requests_are_compared_with_those_of_training() -> None:
    ref = reference(written_column(TRAINED))
    usual = texts(*(text.encode() for text in TRAINED[:50]), None)
    other = texts(*("этот фильм был очень хороший".encode() for _ in range(30)))

    same = found_in(adder_of(Plan(ref, NEWEST, DAY), block(51, {"review": usual})), ref)
    parts = adder_of(Plan(ref, NEWEST, DAY), block(51, {"review": usual}))
    parts.merge(adder_of(Plan(ref, NEWEST, DAY), block(30, {"review": other})).state)
    both = found_in(parts, ref, unseen=1, skew=1, scripts=0.2, unknown_words=0.3, strange_texts=0.5)

    assert [one.kind for one in same.crossed if one.subject == "review"] == []
    (found,) = both.columns
    assert found.changes is not None
    assert found.changes.scripts == pytest.approx(found.written.scripts["Cyrillic"], abs=0.02)
    assert found.changes.unknown_words == pytest.approx(150 / (50 * 7 + 150))
    assert found.changes.strange_texts == pytest.approx(30 / 81)
    assert [one.kind for one in both.crossed] == ["scripts"]
    assert "of its letters in other scripts than the training rows, and may have 0.2" in str(both.crossed[0])


def test_few_strange_texts_are_not_judged() -> None:
    ref = reference(written_column(TRAINED))
    usual = [text.encode() for text in TRAINED[:50]]
    kinds = {}
    for number in (4, 5):
        cells = texts(*usual, *[FOREIGN.encode()] * number)
        found = found_in(adder_of(Plan(ref, NEWEST, DAY), block(len(cells), {"review": cells})), ref, unseen=1, skew=1)
        kinds[number] = "strange_texts" in {one.kind for one in found.crossed}

    assert kinds == {4: False, 5: True}


def test_texts_of_which_half_of_the_words_are_expected_to_be_unknown_are_judged_by_their_scripts_alone() -> None:
    column = written_column(TRAINED)
    assert column.texts is not None
    rare = replace(column.texts, statistics=replace(column.texts.statistics, unknown=0.6))
    ref = reference(replace(column, texts=rare))
    cells = texts(*[FOREIGN.encode()] * 30)

    found = found_in(adder_of(Plan(ref, NEWEST, DAY), block(30, {"review": cells})), ref, unseen=1, skew=1)

    (changes,) = (one.changes for one in found.columns)
    assert changes is not None
    assert (changes.unknown_words, changes.strange_texts) == (None, None)
    assert changes.scripts is not None


def test_fewer_than_twenty_texts_are_not_judged() -> None:
    cells = texts(*["это совсем другой длинный язык".encode()] * 15)
    few, many = (reference(written_column(trained)) for trained in (TRAINED[:15], TRAINED))
    more = texts(*cells, *cells)

    for ref, own in ((many, cells), (few, more)):
        found = found_in(adder_of(Plan(ref, NEWEST, DAY), block(len(own), {"review": own})), ref, unseen=1, skew=1)
        assert found.crossed == []
        assert found.columns[0].texts_document["changes"] == dict.fromkeys(
            ["scripts", "unknown_words", "strange_texts"]
        )


@pytest.mark.parametrize(
    ("cells", "expected", "odd"),
    [
        (texts((b"good", b"film"), b"good fun"), ["good film", "good fun"], 0),
        (texts(b"good fun", (b"good", b"film"), None), ["good fun", "good film", ""], 0),
        (texts(b"good fun", 1.5), ["good fun"], 1),
        (texts((b"good", 1.5), (1.0, 2.0), b"fun"), ["fun"], 2),
        (texts(1.5, (2.0, 3.0)), [], 2),
        (np.array([[b"good", b"film"], [b"", b"fun"]], object), ["good film", "fun"], 0),
    ],
    ids=["tuple first", "tuple second", "number", "numbers in tuples", "numbers alone", "two dimensions"],
)
def test_cells_of_several_values_are_joined_and_those_of_numbers_are_odd(cells, expected, odd) -> None:
    ref = reference(written_column(TRAINED))

    adder = adder_of(Plan(ref, NEWEST, DAY), block(len(cells), {"review": cells}))

    assert adder.state.odd == odd
    (found,) = found_in(adder, ref, min_rows=1).columns
    assert found.rows == len(expected)
    alone = texts(*(text.encode() for text in expected))
    other = adder_of(Plan(ref, NEWEST, DAY), block(len(alone), {"review": alone}))
    assert found.written == found_in(other, ref).columns[0].written


def test_words_of_training_rows_are_read_as_examplevalidator_writes_them(tmp_path: Path) -> None:
    found = {name: compare(pa.array(["one two", "two three"]), pa.array(["two"])) for name in ("a", "b")}
    statistics = [statistics_of(name, split, one) for name, one in found.items() for split in (TRAIN, "eval")]
    (tmp_path / TEXTS).write_text(json.dumps([asdict(one) for one in statistics]))
    pq.write_table(pa.table({"column": ["a", "b", "b"], "word": ["two", "one", "three"]}), tmp_path / WORDS)

    texts = references._texts(tmp_path)

    assert texts["a"].statistics == statistics[0]
    assert {name: one.words.to_pylist() for name, one in texts.items()} == {"a": ["two"], "b": ["one", "three"]}
    assert references._texts(tmp_path / "earlier") == {}


def test_drift_needs_two_periods_and_rows_of_other_versions_are_left_out() -> None:
    ref = reference(number("x", np.arange(100.0)))
    plan = Plan(ref, NEWEST, DAY, oldest=NEWEST - 10 * DAY)
    one = block(50, {"x": np.arange(50.0)})
    adder = adder_of(plan, one, block(9, {}, version=2), block(7, {"x": np.zeros(7)}, age=11 * DAY))
    (x,) = found_in(adder, ref).columns
    assert x.drift is None
    assert (adder.state.other_versions, adder.state.too_old) == ({2: 9}, 7)
    adder.add(block(50, {"x": np.arange(50.0, 100.0)}, age=2 * DAY))
    (x,) = found_in(adder, ref).columns
    assert x.drift is not None
    assert x.drift.value == pytest.approx(1.0, abs=0.05)


# Labels


def labels_file(folder: Path, text: str) -> str:
    (folder / "labels.csv").write_text(text)
    return str(folder / "labels.csv")


def test_labels_are_found_by_text_numbers_and_both(tmp_path: Path) -> None:
    facts = ModelFacts("y", ("n", "p"), ("x", "c"), {"x": "float32", "c": "string", "y": "string"})
    path = labels_file(tmp_path, "id,x,c,y\n17,39.1,a,p\n18,2.5,b,n\n18,2.5,b,n\n19,7,a,?\n20,1,c,\n")
    by_both = read_labels(path, ["x", "c"], facts, UNKNOWN_CSV)
    columns = {"x": np.array([2.5, np.float32(39.1), 39.1, 5]), "c": texts(b"b", b"a", b"b", None)}
    rows, positions = by_both.find(columns)
    assert rows.tolist() == [0, 1]
    assert by_both.values[positions].tolist() == [0, 1]
    assert (by_both.duplicates, by_both.contradictions, by_both.unknown, by_both.missing) == (1, 0, 1, 1)
    by_id = read_labels(path, ["id"], facts, UNKNOWN_CSV)
    for cells in (np.array([18.0, 99]), texts(b"18", b"99")):
        assert by_id.find({"id": cells})[0].tolist() == [0]
    assert by_id.find({"other": np.zeros(3)})[0].tolist() == []


def test_labels_of_a_regression_are_numbers(tmp_path: Path) -> None:
    facts = ModelFacts("y", (), ("c",), {"c": "string", "y": "float32"})
    found = read_labels(labels_file(tmp_path, "c,y\na,1.5\nb,2\na,3\n"), ["c"], facts, UNKNOWN_CSV)
    rows, positions = found.find({"c": texts(b"a", b"b")})
    assert rows.tolist() == [0, 1]
    assert found.values[positions].tolist() == [3.0, 2.0]
    assert found.contradictions == 1


def test_labels_without_their_columns_are_an_error(tmp_path: Path) -> None:
    facts = ModelFacts("y", (), ("c",), {"c": "string", "y": "float32"})
    with pytest.raises(DataError, match=r"lacks columns: k, y\. Received: a, b\."):
        read_labels(labels_file(tmp_path, "a,b\n1,2\n"), ["k"], facts, UNKNOWN_CSV)


def test_quality_is_that_of_the_metric_object_in_each_scope(tmp_path: Path) -> None:
    column = category("c", {"a": 1, "b": 1})
    ref = reference(column, classes=("n", "p"))
    path = labels_file(tmp_path, "c,y\n" + "".join(f"k{i},{'np'[i % 2]}\n" for i in range(40)))
    labels = read_labels(path, ["c"], ref.facts, UNKNOWN_CSV)
    plan = Plan(ref, NEWEST, DAY, labels=labels, metrics=("accuracy", "auc"), slices=(("c",),))
    outputs = np.array([[0.9, 0.1], [0.2, 0.8]] * 20)
    outputs[:4] = outputs[:4, ::-1]
    keys = texts(*(b"k%d" % i for i in range(40)))
    adder = Adder(plan)
    for part in (slice(0, 20), slice(20, 40)):
        own = block(20, {"c": keys[part]}, age=part.start * DAY, probabilities=outputs[part])
        adder.merge(adder_of(plan, own).state)
    quality = found_in(adder, ref).quality
    assert quality is not None
    assert {one.name: one.value for one in quality.overall}["accuracy"] == pytest.approx(0.9)
    assert [[one.value for one in group.metrics if one.name == "accuracy"] for group in quality.periods] == [
        [1.0],
        [pytest.approx(0.8)],
    ]
    assert len(quality.slices) == 40
    (accuracy,) = (one for one in quality.overall if one.name == "accuracy")
    assert accuracy.interval is not None
    assert accuracy.interval.lower < 0.9 < accuracy.interval.upper
    assert math.isfinite(accuracy.interval.lower)
