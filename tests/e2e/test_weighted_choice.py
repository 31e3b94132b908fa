"""`model.kind: auto` where a column weighs the rows: in the plain run, on Beam, and as a package's tasks."""

import csv
from pathlib import Path

import numpy as np
import pytest

from kubetfx.models.examples import files_in, read_blocks
from tests.command import Finished
from tests.e2e.project import ANY_MODEL, PENGUINS, Project, metrics_of, penguins_in
from tests.e2e.pushed import pushed_files, pushed_tensors

pytestmark = pytest.mark.long

WEIGHTS = {"Adelie": "3", "Chinstrap": "1", "Gentoo": "0.5"}
KEYS = (
    *("--set", "model.kind=auto", "--set", "model.trees.num_iterations=40"),
    *("--set", "training.sample_weight=times", "--set", "training.epochs=10", *ANY_MODEL),
)


def weighted_penguins_in(folder: Path) -> Project:
    project = penguins_in(folder)
    path = project.folder / "data" / "penguins.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{**row, "times": WEIGHTS[row["species"]]} for row in csv.DictReader(file)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return project


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Finished]:
    """The plain run."""
    project = weighted_penguins_in(tmp_path_factory.mktemp("weighted"))
    finished = project.run(*KEYS)
    assert finished.exit_code == 0, finished.stdout
    return project, finished


def candidates(run: Finished) -> dict[str, float]:
    found: dict[str, float] = metrics_of(run)["training"]["candidates"]
    return found


def test_rows_count_by_their_weight(here: tuple[Project, Finished]) -> None:
    project, finished = here
    (examples,) = project.workspace.glob("artifacts/TableExampleGen/examples/*/Split-eval")
    labels = [label for block in read_blocks(files_in(examples)) for label in block.column("species").to_pylist()]
    weights = {name: float(weight) * labels.count(name) for name, weight in WEIGHTS.items()}

    assert finished.document["metrics"]["example_count"] == len(labels)
    constant = finished.document["simple_metrics"]["constant"]["accuracy"]
    assert constant == pytest.approx(weights["Adelie"] / sum(weights.values()), abs=1e-9)
    assert candidates(finished).keys() == {"network", "trees", "average"}
    answer = project.predict(PENGUINS / "rows.csv").document["predictions"][0]  # rows to predict have no weight
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.long
def test_beam_finds_the_same(here: tuple[Project, Finished], tmp_path: Path) -> None:
    project, finished = here
    beam = "beam.arguments=[--direct_running_mode=in_memory]"
    by_beam = project.run(*KEYS, "--set", f"workspace={tmp_path}", "--set", beam)

    assert by_beam.exit_code == 0, by_beam.stdout
    assert candidates(by_beam) == pytest.approx(candidates(finished), rel=1e-4)
    assert by_beam.document["metrics"] == pytest.approx(finished.document["metrics"], rel=1e-4)


@pytest.mark.long
def test_tasks_of_a_package_push_the_same_model(here: tuple[Project, Finished], tmp_path: Path) -> None:
    plain, finished = here
    project = weighted_penguins_in(tmp_path / "penguins")
    in_tasks = project.run("--on", "kfp-local", "--set", "kubeflow.fuse=light", *KEYS)

    assert in_tasks.exit_code == 0, in_tasks.stdout
    ours, theirs = pushed_tensors(project), pushed_tensors(plain)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    assert pushed_files(project) == pushed_files(plain)
    assert candidates(in_tasks) == candidates(finished)
