"""`model.ensemble`: networks of different seeds in one SavedModel."""

import json
from pathlib import Path

import numpy as np
import pytest

from kubetfx.serving.saved_model import read_signatures
from tests.e2e.project import ANY_MODEL, PENGUINS, Project, kubetfx, metrics_of, penguins_in, report_of

SHORT = ("--set", "training.epochs=10", "--set", "training.early_stopping.enabled=false", *ANY_MODEL)


def probabilities(project: Project) -> np.ndarray:
    """(rows, classes) of the pushed model."""
    rows = project.predict(PENGUINS / "rows.csv").document["predictions"]
    return np.array([list(row["probabilities"].values()) for row in rows])


def signatures(project: Project) -> dict[str, set[str]]:
    """Outputs by signature."""
    found = read_signatures(project.pushed / str(project.versions[-1]))
    return {name: set(signature.outputs) for name, signature in found.items()}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, object]]:
    """An ensemble of two networks, pushed."""
    project = penguins_in(tmp_path_factory.mktemp("together"))
    finished = project.run(*SHORT, "--set", "model.ensemble=2")
    assert finished.exit_code == 0, finished.stdout
    assert "Ensemble of 2 networks." in report_of(finished).read_text()
    return project, metrics_of(finished)


@pytest.mark.long
def test_ensemble_is_the_mean_of_the_networks_that_its_seeds_train(
    together: tuple[Project, dict[str, object]], tmp_path: Path
) -> None:
    project, _ = together
    alone = []
    for seed in (0, 1):
        other = penguins_in(tmp_path / str(seed))
        finished = other.run(*SHORT, "--set", f"training.seed={seed}")
        assert finished.exit_code == 0, finished.stdout
        alone.append(probabilities(other))

    np.testing.assert_allclose(probabilities(project), np.mean(alone, axis=0), atol=1e-6)
    assert signatures(project) == signatures(other)


def test_history_says_what_the_ensemble_gained(together: tuple[Project, dict[str, object]]) -> None:
    project, _ = together
    (path,) = project.workspace.glob("artifacts/Trainer/model/*/history.json")
    found = json.loads(path.read_text())["ensemble"]

    assert found["metric"] == "cross_entropy"
    assert len(found["members"]) == 2
    assert found["value"] < np.mean(found["members"])  # cross entropy is convex


def test_trees_are_no_networks(together: tuple[Project, dict[str, object]]) -> None:
    project, _ = together

    done = kubetfx("run", project.config, "--set", "model.ensemble=3", "--set", "model.kind=trees")

    assert done.exit_code == 2
    assert "model.ensemble is of networks" in done.stderr
