"""`evaluation.cross_validation` in a run, by its own command, and as a package's tasks; and `model.ensemble`, of
which each fold has one as the whole has."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_transform as tft
from sklearn import metrics as sklearn_metrics

from kubetfx.models.examples import files_in, read_blocks, together
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.serving.saved_model import read_signatures
from tests.command import Finished, kubetfx_here
from tests.e2e.project import ANY_MODEL, PENGUINS, Project, kubetfx, penguins_in, report_of

TRAINING = (
    *("--set", "training.epochs=8", "--set", "training.learning_rate=0.01"),
    *("--set", "training.early_stopping.enabled=false"),
)
FOLDS = ("--set", "evaluation.cross_validation.folds=2", "--set", "model.ensemble=2", *TRAINING)
THRESHOLDS = "evaluation.thresholds={cross_validated_accuracy: {at_least: %s}}"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Finished]:
    """The command, which pushes nothing."""
    project = penguins_in(tmp_path_factory.mktemp("folds"))
    finished = kubetfx("cross-validate", project.config, "--format", "json", *FOLDS)
    assert finished.exit_code == 0, finished.stdout + finished.stderr
    return project, finished


def folders(project: Project, node: str, key: str) -> list[Path]:
    found = project.workspace.glob(f"artifacts/{node}.*/{key}/*")
    return sorted((path for path in found if path.is_dir()), key=lambda path: path.parts[-3])


def test_all_rows_are_predicted_by_a_model_that_has_not_seen_them(here: tuple[Project, Finished]) -> None:
    project, finished = here
    rows = pq.read_table(finished.document["predictions"])

    with (PENGUINS / "data" / "penguins.csv").open(newline="", encoding="utf-8") as file:
        species = sorted(row["species"] for row in csv.DictReader(file))
    assert sorted(rows.column("species").to_pylist()) == species
    for number, folder in enumerate(folders(project, "FoldExamples", "fold_examples")):
        held_out = [row for block in read_blocks(files_in(folder / "Split-eval")) for row in block.to_pylist()]
        of_fold = rows.filter(np.array(rows.column("fold")) == number).select(list(held_out[0])).to_pylist()
        assert of_fold == held_out


def test_metrics_are_those_of_the_predictions(here: tuple[Project, Finished]) -> None:
    _, finished = here
    rows = pq.read_table(finished.document["predictions"]).to_pylist()

    for one in finished.document["folds"]:
        own = [row for row in rows if row["fold"] == one["fold"]]
        truth, named = [row["species"] for row in own], [row["prediction"] for row in own]
        scores = np.array([list(row["probabilities"].values()) for row in own])
        assert one["metrics"]["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, named))
        expected = sklearn_metrics.log_loss(truth, scores / scores.sum(axis=1, keepdims=True))
        assert one["metrics"]["cross_entropy"] == pytest.approx(expected, rel=1e-4)
    values = [one["metrics"]["accuracy"] for one in finished.document["folds"]]
    assert finished.document["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert finished.document["metrics"]["accuracy"]["deviation"] == pytest.approx(np.std(values, ddof=1))


def test_each_fold_is_analyzed_by_itself(here: tuple[Project, Finished]) -> None:
    project, _ = here
    graphs = folders(project, "FoldTransform", "transform_graph")
    examples = folders(project, "FoldExamples", "fold_examples")
    blocks = [together(list(read_blocks(files_in(folder / "Split-train")))) for folder in examples]

    assert len(graphs) == len(blocks) == 2
    for number, graph in enumerate(graphs):
        preprocessing = Preprocessing(tft.TFTransformOutput(str(graph)))
        own, other = (np.abs(means_of(preprocessing, blocks[(number + step) % 2])) for step in (0, 1))
        assert own.max() < 1e-5  # numbers have the mean 0 in the rows that were analyzed
        assert other.max() > 1e-3


def means_of(preprocessing: Preprocessing, block: pa.RecordBatch | None) -> np.ndarray:
    """(4,) of the features that are made of the columns of numbers."""
    assert block is not None
    features = preprocessing(preprocessing.inputs.pack(block))["numeric"].numpy()
    means: np.ndarray = features[:, :4].mean(axis=0)  # behind them, whether a cell is missing
    return means


def test_command_pushes_nothing_and_leaves_a_report(here: tuple[Project, Finished]) -> None:
    project, finished = here

    assert project.versions == []
    report = Path(finished.document["report"]).read_text()
    assert "2 folds, each with the classes in the shares of the table; seed 0" in report
    assert "Fold by fold" in report


@pytest.fixture(scope="module")
def run(here: tuple[Project, Finished]) -> Finished:
    """A run after it, whose model is not as good as was asked for."""
    project, _ = here
    return project.run(*FOLDS, "--set", THRESHOLDS % 1)


@pytest.mark.long
def test_run_takes_the_folds_from_the_cache_and_a_threshold_bounds_their_mean(
    here: tuple[Project, Finished], run: Finished
) -> None:
    _, finished = here

    mean = finished.document["metrics"]["accuracy"]["mean"]
    assert mean < 1
    assert run.exit_code == 4
    document = run.document["error"]["run"]
    assert {node["state"] for node in document["nodes"] if node["id"].startswith("Fold")} == {"cached"}
    assert document["metrics"]["cross_validated_accuracy"] == pytest.approx(mean)
    assert "Accuracy, cross-validated is" in run.stdout
    assert 'id="cross-validation"' in report_of(run).read_text()


@pytest.mark.long
def test_history_and_report_say_what_the_ensemble_gained(here: tuple[Project, Finished], run: Finished) -> None:
    project, _ = here
    (path,) = project.workspace.glob("artifacts/Trainer/model/*/history.json")
    found = json.loads(path.read_text())["ensemble"]

    assert found["metric"] == "cross_entropy"
    assert len(found["members"]) == 2
    assert found["value"] < np.mean(found["members"])  # cross entropy is convex
    assert f"Ensemble of 2 networks. Cross entropy on the {found['rows']} validation rows" in report_of(run).read_text()


@pytest.mark.long
def test_ensemble_is_the_mean_of_the_networks_that_its_seeds_train(tmp_path: Path) -> None:
    def pushed(name: str, *options: str) -> tuple[np.ndarray, dict[str, set[str]]]:
        project = penguins_in(tmp_path / name)
        finished = project.run(*TRAINING, *ANY_MODEL, *options)
        assert finished.exit_code == 0, finished.stdout
        rows = project.predict(PENGUINS / "rows.csv").document["predictions"]
        signatures = read_signatures(project.pushed / str(project.versions[-1]))
        outputs = {name: set(signature.outputs) for name, signature in signatures.items()}
        return np.array([list(row["probabilities"].values()) for row in rows]), outputs

    together, outputs = pushed("together", "--set", "model.ensemble=2")
    alone = [pushed(str(seed), "--set", f"training.seed={seed}") for seed in (0, 1)]

    np.testing.assert_allclose(together, np.mean([found for found, _ in alone], axis=0), atol=1e-6)
    assert [outputs, outputs] == [own for _, own in alone]


def test_column_that_the_rows_lack_is_named(here: tuple[Project, Finished]) -> None:
    project, _ = here
    done = kubetfx_here("cross-validate", project.config, *FOLDS, "--set", "evaluation.cross_validation.group=isle")

    assert done.exit_code == 2
    assert "evaluation.cross_validation.group: the data has no column 'isle'. Did you mean 'island'?" in done.stderr


@pytest.mark.long
def test_folds_in_turn_are_those_side_by_side(here: tuple[Project, Finished], tmp_path: Path) -> None:
    _, finished = here
    project = penguins_in(tmp_path)
    in_turn = ("--set", "evaluation.cross_validation.parallel=1")

    done = kubetfx("cross-validate", project.config, "--format", "json", *FOLDS, *in_turn)

    for ours, theirs in zip(finished.document["folds"], done.document["folds"], strict=True):
        assert ours["rows"] == theirs["rows"]
        assert ours["metrics"] == pytest.approx(theirs["metrics"], abs=1e-3)  # sums in another order


@pytest.mark.long
def test_fold_whose_process_is_killed_is_named_and_the_next_run_does_what_is_missing(tmp_path: Path) -> None:
    project = penguins_in(tmp_path)
    (project.folder / "killer.py").write_text(
        "import os, pathlib, keras\n"
        "def loss(labels, outputs):\n"
        "    if not pathlib.Path(__file__).with_name('spare').exists():\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return keras.losses.sparse_categorical_crossentropy(labels, outputs)\n"
    )
    options = (*FOLDS, "--set", "training.loss=killer:loss", "--set", "evaluation.cross_validation.parallel=2")

    killed = kubetfx("cross-validate", project.config, "--format", "json", *options)
    (project.folder / "spare").touch()
    done = kubetfx("cross-validate", project.config, "--format", "json", *options)

    assert killed.exit_code == 1
    assert "FoldTrainer" in killed.document["error"]["message"]
    assert "its process was killed" in killed.document["error"]["message"]
    assert done.exit_code == 0, done.stdout + done.stderr
    (record,) = project.workspace.glob(f"runs/{done.document['run']}/run.json")
    states = {node["id"]: node["state"] for node in json.loads(record.read_text())["nodes"]}
    assert {states["FoldTransform.0"], states["FoldTransform.1"]} == {"cached"}
    assert {states["FoldTrainer.0"], states["FoldTrainer.1"]} == {"done"}


@pytest.mark.long
def test_package_gives_the_folds_of_the_plain_run(here: tuple[Project, Finished], tmp_path: Path) -> None:
    _, finished = here
    other = penguins_in(tmp_path)

    done = other.run(*FOLDS, *ANY_MODEL, "--on", "kfp-local")
    assert done.exit_code == 0, done.stdout + done.stderr

    (path,) = other.workspace.glob("**/cross_validation.json")
    folds = json.loads(path.read_text())["folds"]
    for ours, theirs in zip(finished.document["folds"], folds, strict=True):
        assert ours["rows"] == theirs["rows"]
        assert ours["metrics"] == pytest.approx(theirs["metrics"], abs=1e-6)
    package = tmp_path / "package.yaml"
    assert kubetfx("compile", other.config, "--output", package, *FOLDS).exit_code == 0
    assert kubetfx("lint", package).exit_code == 0
