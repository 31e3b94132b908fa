"""An exported model with random weights, asked the way the report asks it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pytest

from kubetfx.components.evaluation import row_sample
from kubetfx.components.evaluation.row_sample import Sample, draw
from kubetfx.components.report import predictions as predicting
from kubetfx.config.model_section import ModelConfig
from kubetfx.models.asked_model import AskedModel
from kubetfx.models.export import export_model
from kubetfx.models.network import build_model, feature_positions
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.serving.saved_model import SavedModel
from tests.models.conftest import make_rows, preprocess, to_block, to_examples, write_split  # noqa: F401 - a fixture

ROWS = make_rows(80)


@dataclass(frozen=True)
class Exported:
    path: Path
    preprocessed: Any
    rows: pa.RecordBatch
    examples: list[bytes]
    """The same, serialized."""

    @property
    def positions(self) -> dict[str, list[tuple[str, int]]]:
        return feature_positions(self.preprocessed.features)


@pytest.fixture(scope="module", params=["classification", "regression"])
def exported(request, preprocess, tmp_path_factory) -> Iterator[Exported]:  # noqa: F811
    task, label = request.param, "species" if request.param == "classification" else "mass"
    preprocessed = preprocess(ROWS, label=label, task=task)
    keras.utils.set_random_seed(1)
    network = build_model(
        preprocessed.output,
        model=ModelConfig(hidden_units=(8,), embedding_size=3),
        features=preprocessed.config,
        num_outputs=len(preprocessed.features.classes) or 1,
    )
    head = keras.layers.Softmax() if task == "classification" else keras.layers.Rescaling(scale=9.0, offset=4.0)
    path = tmp_path_factory.mktemp("model") / "Format-Serving"
    export_model(
        keras.Model(network.input, head(network.output)),
        Preprocessing(preprocessed.output),
        preprocessed.features,
        path,
    )
    return Exported(path, preprocessed, to_block(ROWS), to_examples(ROWS))


def test_part_of_the_graph_answers_as_the_whole_does(exported: Exported) -> None:
    whole = SavedModel(exported.path)
    signature = whole.signatures["serving_examples"]
    name = "probabilities" if exported.preprocessed.features.classes else "value"
    (expected,) = whole.run(
        [signature.inputs["examples"].tensor_name],
        [np.array(exported.examples, dtype=object)],
        [signature.outputs[name].tensor_name],
    )
    model = AskedModel(exported.path, with_raw_columns=True)

    found = predicting.predict(model, exported.rows)
    np.testing.assert_allclose(found.outputs, expected[found.known], rtol=1e-5)
    raw = model.outputs_of_columns(model.raw_columns(exported.rows))
    np.testing.assert_allclose(raw, expected, rtol=1e-5)
    for one in (model, whole):
        one.close()


def test_labels_are_indices_of_the_classes_or_numbers(exported: Exported) -> None:
    model = AskedModel(exported.path)
    found = predicting.predict(model, exported.rows)
    model.close()
    features = exported.preprocessed.features
    truth = [row[features.label] for row in ROWS]

    if features.classes:
        assert [features.classes[index] for index in found.labels] == [str(value) for value in truth]
    else:
        np.testing.assert_allclose(found.labels, np.array(truth, float), rtol=1e-6)


def test_importance_is_the_same_by_features_and_by_raw_columns(exported: Exported) -> None:
    model = AskedModel(exported.path, with_raw_columns=True)
    sample = Sample(exported.rows, len(exported.examples))
    found = predicting.predict(model, exported.rows)
    by_features, rows, repetitions = predicting.importance(model, sample, found, positions=exported.positions, seed=3)
    by_columns, _, _ = predicting.importance(model, sample, found, positions=None, seed=3)
    model.close()

    assert (rows, repetitions) == (len(found.labels), predicting.IMPORTANCE_REPETITIONS)
    assert {one.column for one in by_features} == set(exported.preprocessed.features.inputs)
    ours, theirs = ({one.column: one.value for one in found} for found in (by_features, by_columns))
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], rel=1e-3, abs=1e-4), name


def test_time_that_is_up_leaves_rows_out(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "PREDICT_BATCH", 16)
    model = AskedModel(exported.path)
    found = predicting.predict(model, exported.rows, seconds=0)
    model.close()

    assert len(found.known) == len(ROWS)
    assert 0 < found.known.sum() == len(found.labels) <= 16
    assert not found.known[16:].any()


def numbers_of(sample: predicting.Sample | None) -> list[int]:
    assert sample is not None
    return [int(text) for text in sample.rows.column("text").to_pylist()]


@pytest.mark.parametrize("chunk", [7, 100, 2**20])
@pytest.mark.parametrize("number", [1, 40, 300, 1_000])
def test_sample_is_the_rows_with_the_lowest_random_numbers(tmp_path, monkeypatch, number, chunk):
    monkeypatch.setattr(row_sample, "_CHUNK", chunk)
    files = write_split(tmp_path, [{"number": row} for row in range(300)], group_rows=70)
    drawn = draw(files, rows=number, seed=3)
    expected = np.argsort(np.random.default_rng(3).random(300))[:number]
    assert drawn.rows.column("number").to_pylist() == expected.tolist()
    assert drawn.total_rows == 300


def test_drawn_rows_are_as_many_as_asked_for_and_the_same_again(tmp_path: Path) -> None:
    files = write_split(tmp_path, [{"text": str(number)} for number in range(1000)], group_rows=300)
    first, second = (draw(files, rows=50, seed=1) for _ in range(2))

    assert numbers_of(first) == numbers_of(second)
    assert first is not None
    assert (len(set(numbers_of(first))), first.total_rows) == (50, 1000)
    assert numbers_of(first) != numbers_of(draw(files, rows=50, seed=2))
    assert 250 < np.mean(numbers_of(draw(files, rows=500, seed=0))) < 750
    everything = numbers_of(draw(files, rows=5000, seed=0))
    assert everything != sorted(everything) == list(range(1000))


def test_large_rows_are_drawn_up_to_a_limit_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_split(tmp_path, [{"text": f"{number:0100}"} for number in range(5_000)])
    everything = draw(files, rows=5_000, seed=1)
    monkeypatch.setattr(row_sample, "SAMPLE_BYTES", 42_000)

    drawn = draw(files, rows=5_000, seed=1)

    assert drawn is not None
    assert 350 < drawn.rows.num_rows <= 410
    assert drawn.total_rows == 5_000
    assert numbers_of(drawn) == numbers_of(everything)[: drawn.rows.num_rows]


def test_split_without_a_row_has_no_sample(tmp_path: Path) -> None:
    assert draw(write_split(tmp_path, [{"text": "a"}])[:0], rows=5, seed=0) is None


def test_model_of_another_kind_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kubetfx did not export this model"):
        AskedModel(tmp_path)
