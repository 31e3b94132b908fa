"""Trees on transformed columns: their SavedModel beside LightGBM's own predictions, and what is recorded."""

import json
import math
from types import SimpleNamespace
from typing import Any

import lightgbm
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.components.report.facts import Training
from kubetfx.config.model_section import ModelConfig, TreesConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.errors import TrainingError
from kubetfx.models import fitting
from kubetfx.models.export import export_model
from kubetfx.models.features import LABEL
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.models.training_record import Fitted
from kubetfx.models.training_rows import TrainingRows
from kubetfx.models.tree_columns import Codes, SplitColumns
from kubetfx.models.trees import _parameters, fit_trees
from kubetfx.serving.saved_model import SavedModel
from tests.models.conftest import make_rows

CONFIG = TreesConfig(min_data_in_leaf=2, num_iterations=30, num_leaves=6, early_stopping_rounds=50)


def rows_of(preprocessed: Any, rows: list[dict[str, Any]]) -> TrainingRows:
    arrays = preprocessed.transform(rows)
    return TrainingRows(len(rows), arrays[LABEL].reshape(-1), arrays, tf.data.Dataset.range(0), arrays)


def fit(preprocessed: Any, folder: Any, **options: Any) -> Fitted:
    train, validation = rows_of(preprocessed, make_rows(60)), rows_of(preprocessed, make_rows(30))
    arguments = {"config": CONFIG, "training": TrainingConfig(), "features": preprocessed.features} | options
    spec = preprocessed.output.transformed_feature_spec()
    return fit_trees(train, validation, spec, log_folder=folder, **arguments)


def unseen(rows: list[dict[str, Any]], names: dict[str, str]) -> list[dict[str, Any]]:
    """Missing cells where training had none, categories that it never saw, and numbers far from its own."""
    gone = [{**row, names["float"]: None, names["dotted"]: None} for row in rows[:5]]
    return [*rows, *gone, {**rows[0], names["text"]: "island x", names["hashed"]: "?"}, {**rows[1], "bill": 1e6}]


@pytest.mark.parametrize("task", ["multiclass", "binary", "regression"])
def test_saved_model_answers_as_the_library_does(request, tmp_path, monkeypatch, rows, odd_names, task):
    preprocessed = request.getfixturevalue(task)
    boosters = []
    train = lightgbm.train
    monkeypatch.setattr(lightgbm, "train", lambda *a, **k: boosters.append(train(*a, **k)) or boosters[-1])
    fitted = fit(preprocessed, tmp_path / "logs")
    export_model(fitted.model, Preprocessing(preprocessed.output), preprocessed.features, tmp_path / "model")
    columns = SplitColumns(preprocessed.features, preprocessed.output.transformed_feature_spec())
    seen, asked = (
        columns({name: value for name, value in preprocessed.transform(own).items() if name != LABEL}).numpy()
        for own in (rows, unseen(rows, odd_names))
    )
    categories = range(columns.num_numbers, columns.num_numbers + columns.num_categories)
    Codes.of(seen, categories).encode(asked)
    expected = boosters[0].predict(asked)
    if task == "binary":
        expected = np.stack([1 - expected, expected], axis=1)
    assert len(np.unique(expected)) > 10

    model = SavedModel(tmp_path / "model")
    ask = model.signature("serving_default")
    answers = ask({name: _sent([row[name] for row in unseen(rows, odd_names)]) for name in ask.signature.inputs})
    model.close()

    found = answers["value" if task == "regression" else "probabilities"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 if task != "regression" else 0)


def _sent(values: list[Any]) -> np.ndarray:
    """What a client sends for the cells of a column."""
    if any(isinstance(value, str) for value in values):
        return np.array([(value or "").encode() for value in values], object)
    return np.array([math.nan if value is None else value for value in values])


def test_record_has_a_loss_for_each_round_and_says_which_was_kept(regression, tmp_path):
    history = fit(regression, tmp_path, config=CONFIG.model_copy(update={"early_stopping_rounds": 3})).history

    losses = history["history"]["val_loss"]
    assert len(losses) == len(history["history"]["loss"]) == len(history["seconds"]) == history["epochs"]
    assert history["best_epoch"] == 1 + losses.index(min(losses)) == history["trees"]
    assert history["stopped_early"] == (history["epochs"] < CONFIG.num_iterations)
    assert {path.name for path in tmp_path.iterdir()} == {"train", "validation"}
    json.dumps(history)


def test_same_seed_gives_the_same_trees(binary, tmp_path):
    config = CONFIG.model_copy(update={"feature_fraction": 0.5, "bagging_fraction": 0.5})
    features = {name: value for name, value in binary.transform(make_rows(40)).items() if name != LABEL}

    first, again, other = (
        fit(binary, tmp_path, config=config, training=TrainingConfig(seed=seed)).model(features).numpy()
        for seed in (1, 1, 2)
    )

    assert (first == again).all()
    assert (first != other).any()


def test_weights_of_classes_move_the_probabilities(binary, tmp_path):
    male = binary.features.classes[1]
    features = {name: value for name, value in binary.transform(make_rows(40)).items() if name != LABEL}
    config = CONFIG.model_copy(update={"num_iterations": 1})

    even, weighted = (
        fit(binary, tmp_path, config=config, training=TrainingConfig(class_weights=weights)).model(features).numpy()
        for weights in ({}, {male: 9.0})
    )

    assert weighted[:, 1].mean() > even[:, 1].mean() + 0.2


def test_number_of_threads_changes_nothing():
    random = np.random.default_rng(0)
    rows, labels = random.normal(size=(4_000, 5)), random.integers(0, 2, 4_000)
    shape = rows.shape

    one, three = (
        lightgbm.train(
            _parameters(CONFIG, TrainingConfig(), shape=shape, num_classes=2)
            | {"num_threads": threads, "early_stopping_rounds": 0},
            lightgbm.Dataset(rows, labels),
            num_boost_round=20,
        ).model_to_string()
        for threads in (1, 3)
    )

    assert [line for line in one.splitlines() if "num_threads" not in line] == [
        line for line in three.splitlines() if "num_threads" not in line
    ]


@pytest.mark.parametrize(
    ("shape", "num_classes", "expected"),
    [
        (
            (500, 10),
            2,
            {"num_iterations": 2_000, "learning_rate": 0.05, "early_stopping_rounds": 100, "num_leaves": 15},
        ),
        (
            (40_000, 100),
            10,
            {"num_iterations": 100, "learning_rate": 0.2, "early_stopping_rounds": 25, "max_bin": 63},
        ),
        ((40_000, 100), 0, {"num_iterations": 1_000, "learning_rate": 0.05, "num_class": 1, "objective": "regression"}),
    ],
    ids=["few rows", "many cells and classes", "a number"],
)
def test_rounds_and_rate_follow_the_rows(shape, num_classes, expected):
    found = _parameters(TreesConfig(), TrainingConfig(), shape=shape, num_classes=num_classes)
    own = TreesConfig(
        num_iterations=10, learning_rate=0.5, num_leaves=3, early_stopping_rounds=2, bagging_fraction=1, max_bin=9
    )

    assert {name: found[name] for name in expected} == expected
    assert own.model_dump().items() <= _parameters(own, TrainingConfig(), shape=shape, num_classes=2).items()


def test_rows_that_are_not_in_memory_are_refused_in_words(binary, tmp_path):
    rows = rows_of(binary, make_rows(20))
    streamed = TrainingRows(rows.num_rows, rows.labels, None, rows.stored, rows.sample)
    spec = binary.output.transformed_feature_spec()

    with pytest.raises(TrainingError, match=r"all rows in memory\. Received: 20 rows.*training\.cache_bytes: 5,000"):
        fit_trees(
            streamed,
            rows,
            spec,
            features=binary.features,
            config=CONFIG,
            training=TrainingConfig(cache_bytes=5_000),
            log_folder=tmp_path,
        )


@pytest.mark.parametrize(("kind", "is_told"), [("auto", True), ("network", False)])
def test_rows_that_are_not_in_memory_are_the_networks_alone(binary, monkeypatch, kind, is_told):
    rows = rows_of(binary, make_rows(20))
    streamed = TrainingRows(rows.num_rows, rows.labels, None, rows.stored, rows.sample)
    monkeypatch.setattr(fitting, "_fit_network", lambda *_, **__: Fitted("the network", {"epochs": 3}))
    work = SimpleNamespace(model=ModelConfig(kind=kind), training=TrainingConfig())

    fitted = fitting.fit_model(work, streamed, rows, None, load_seconds=0)

    assert fitted.model == "the network"
    told = Training.model_validate(fitted.history | {"history": {}}).taken
    assert told == (
        "Model: network. Trees are left out: the rows take more than training.cache_bytes." if is_told else ""
    )
