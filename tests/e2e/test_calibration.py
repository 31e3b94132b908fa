"""`evaluation.calibrate` in runs, of a network, of trees and of the mean of folds."""

import csv
from typing import Any

import numpy as np
import pytest

from tests.command import Finished
from tests.e2e.project import ANY_MODEL, Project, metrics_of, report_of

ROWS = 3_000
FACTOR = 3
LOSS = f"""
import keras

def loss(labels, outputs):
    cooler = keras.ops.softmax(keras.ops.log(keras.ops.maximum(outputs, 1e-12)) / {FACTOR})
    return keras.losses.sparse_categorical_crossentropy(labels, cooler)
"""
"""Its best network is too certain by this factor."""
NETWORK = ("--set", "training.loss=certain:loss", "--set", "training.epochs=10", "--set", "training.learning_rate=0.01")
TREES = ("--set", "model.kind=trees", "--set", "model.trees.num_iterations=4")
FOLDS = ("--set", "evaluation.cross_validation.folds=2", "--set", "model.ensemble=folds")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A table whose label is drawn with a probability that its columns tell."""
    folder = tmp_path_factory.mktemp("calibration")
    random = np.random.default_rng(0)
    numbers = random.normal(size=(ROWS, 3))
    labels = random.uniform(size=ROWS) < 1 / (1 + np.exp(-2 * numbers[:, 0] - numbers[:, 1]))
    (folder / "data").mkdir()
    with (folder / "data" / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("a", "b", "c", "label"))
        writer.writerows((*own, "yes" if label else "no") for own, label in zip(numbers, labels, strict=True))
    (folder / "certain.py").write_text(LOSS, encoding="utf-8")
    (folder / "pipeline.yaml").write_text("name: noise\ndata: {path: data, label: label}\n", encoding="utf-8")
    return Project(folder)


def run(project: Project, *options: str) -> tuple[Finished, dict[str, Any]]:
    finished = project.run(*ANY_MODEL, "--set", "evaluation.calibrate=true", *options)
    assert finished.exit_code == 0, finished.stdout + finished.stderr
    metrics = metrics_of(finished)
    found = metrics["training"]["calibration"]
    assert metrics["metrics"]["calibration_error"]["value"] == pytest.approx(found["error_after"], abs=1e-4)
    return finished, found


@pytest.mark.long
def test_network_that_is_too_certain_is_calibrated_and_it_is_reported(project: Project) -> None:
    finished, found = run(project, *NETWORK)

    assert found["temperature"] == pytest.approx(FACTOR, rel=0.25)
    assert found["error_before"] > 0.08
    assert found["error_after"] < found["error_before"] / 2
    said = f"Probabilities are calibrated by the temperature {found['temperature']:.2f}: less certain than before."
    assert said in report_of(finished).read_text()


@pytest.mark.long
def test_trees_that_are_not_certain_enough_are_calibrated(project: Project) -> None:
    _, found = run(project, *TREES)

    assert found["temperature"] < 0.8
    assert found["error_after"] < found["error_before"] / 2


@pytest.mark.long
def test_mean_of_folds_is_calibrated_by_rows_that_no_fold_has_seen(project: Project) -> None:
    finished, found = run(project, *NETWORK, *FOLDS)

    assert found["temperature"] == pytest.approx(FACTOR, rel=0.25)
    assert found["error_after"] < found["error_before"] / 2
    assert "rows of the evaluation split and the validation split are in none" in report_of(finished).read_text()
