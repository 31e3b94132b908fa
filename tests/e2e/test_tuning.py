"""`kubetfx tune` on the penguins: killed, gone on with, interrupted, in parallel, written down, and trained with,
by the folds of cross-validation too."""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy
import tensorflow_transform as tft
import yaml

from kubetfx.components.tuning import tuning_results
from kubetfx.components.tuning.tuning_results import TuningResults
from kubetfx.models.asked_model import AskedModel
from kubetfx.models.examples import files_in, read_blocks
from kubetfx.serving.saved_model import SavedModel, read_signatures
from tests.command import Finished
from tests.components.tuning.databases import PASSWORD, running_postgresql
from tests.e2e.project import ANY_MODEL, Project, command, environment, kubetfx, penguins_in, report_of, states

TRIALS = 4
SECTION = f"""
model: {{kind: trees, trees: {{num_iterations: 10, learning_rate: 0.01, num_leaves: 4}}}} # fast
tuning:
  trials: {TRIALS}
  metric: cross_entropy
  search:
    model.trees.learning_rate: {{log: [0.05, 0.3]}} # per tree
    model.trees.num_leaves: [4, 15]
    features.integer_categories: [0, 1] # the year is a number
"""


@dataclass(frozen=True)
class Tuned:
    """A search that was killed, and gone on with."""

    project: Project
    before: TuningResults
    """When it was killed."""
    document: Any
    """What the command said in the end."""


def project_in(folder: Path) -> Project:
    project = penguins_in(folder)
    with project.config.open("a") as file:
        file.write(SECTION)
    return project


def so_far(project: Project) -> TuningResults | None:
    latest = tuning_results.latest_path(project.workspace / "artifacts" / "Tuner")
    text = latest.read_text() if latest.is_file() else ""
    return TuningResults.model_validate_json(text) if text else None


def begun(project: Project, *arguments: str, trials: int) -> "subprocess.Popen[bytes]":
    """A search that has ended some trials, and goes on, in a process group of its own."""
    process = subprocess.Popen(
        command("tune", project.config, "--set", "tuning.trials=400", *arguments),
        env=environment(),
        stderr=(project.folder / "tune.err").open("wb"),
        stdout=(project.folder / "tune.out").open("wb"),
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, (project.folder / "tune.err").read_text()
        found = so_far(project)
        if found and len(found.trials) - found.count("running") >= trials:
            return process
        time.sleep(0.1)
    raise AssertionError("the search has not begun")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    project = project_in(tmp_path_factory.mktemp("tuned"))
    process = begun(project, trials=2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = so_far(project)
    assert before is not None
    done = kubetfx("tune", project.config, "--format", "json")
    assert done.exit_code == 0, done.stderr
    return Tuned(project, before, done.document)


def results_in(project: Project) -> TuningResults:
    (*_, newest) = sorted(
        (project.workspace / "artifacts" / "Tuner" / "tuner_results").iterdir(), key=lambda p: int(p.name)
    )
    found = tuning_results.read(newest)
    assert found is not None
    return found


@pytest.mark.long
def test_killed_search_goes_on_and_ends_with_what_was_asked_for(tuned: Tuned) -> None:
    trials = tuned.document["trials"]

    assert len(trials) == max(TRIALS, len(tuned.before.trials))
    assert {trial["state"] for trial in trials} <= {"complete", "pruned"}
    known = {trial["number"]: trial for trial in trials}
    ended = [trial for trial in tuned.before.trials if trial.state == "complete"]
    assert len(ended) >= 2
    for trial in ended:
        assert known[trial.number] == trial.model_dump()


def test_search_finds_settings_that_are_not_worse(tuned: Tuned) -> None:
    document = tuned.document

    assert document["trials"][0]["settings"] == {}
    best = next(trial for trial in document["trials"] if trial["number"] == document["best"])
    assert best["value"] <= document["trials"][0]["value"]
    assert Path(document["report"]).is_file()
    (rows,) = (tuned.project.workspace / "artifacts" / "Tuner" / "tuner_results").glob("*/tuner_results.json")
    assert {row["score"] for row in json.loads(rows.read_text())} >= {best["value"]}


def test_best_values_are_written_and_comments_stay(tuned: Tuned) -> None:
    config = tuned.project.config
    before = config.read_text()
    done = kubetfx("tune", config, "--write")
    written = config.read_text()
    config.write_text(before)

    assert done.exit_code == 0, done.stderr
    assert "Wrote the best values" in done.stderr
    assert "# fast" in written
    assert "# per tree" in written
    best = results_in(tuned.project).best_settings
    document = yaml.safe_load(written)
    assert document["model"]["trees"]["num_leaves"] == best["model.trees.num_leaves"]
    assert document["model"]["trees"]["num_iterations"] == 10
    assert document["features"]["integer_categories"] == best["features.integer_categories"]


@pytest.fixture(scope="module")
def ensemble(tuned: Tuned) -> Finished:
    """A run with what the search found: its model is the mean of those of two folds."""
    folds = ("--set", "evaluation.cross_validation.folds=2", "--set", "model.ensemble=folds")
    done = tuned.project.run(*folds, *ANY_MODEL)
    assert done.exit_code == 0, done.stdout
    return done


def artifacts(project: Project, node: str, key: str) -> list[Path]:
    found = project.workspace.glob(f"artifacts/{node}/{key}/*")
    return sorted((path for path in found if path.is_dir()), key=lambda path: path.parts[-3])


def test_run_takes_the_search_from_the_cache_and_trains_with_the_best(tuned: Tuned, ensemble: Finished) -> None:
    found = states(ensemble)

    assert (found["Tuner"], found["FoldTrainer.0"], found["FoldEnsemble"]) == ("cached", "done", "done")
    rate = results_in(tuned.project).best_settings["model.trees.learning_rate"]
    models = artifacts(tuned.project, "FoldTrainer.*", "model")
    assert len(models) == 2
    for model in models:
        assert json.loads((model / "history.json").read_text())["optimizer"] == f"LightGBM, learning rate {rate:g}"


def test_folds_have_the_features_that_were_searched(tuned: Tuned, ensemble: Finished) -> None:
    (best,) = artifacts(tuned.project, "Tuner", "best_transform_graph")
    graphs = artifacts(tuned.project, "FoldTransform.*", "transform_graph")
    (plain,) = artifacts(tuned.project, "Transform", "transform_graph")

    of_best, of_file, *of_folds = (
        tft.TFTransformOutput(str(graph)).transformed_feature_spec()["numeric"] for graph in (best, plain, *graphs)
    )

    assert of_best != of_file
    assert of_folds == [of_best, of_best]


def test_no_fold_sees_a_row_of_the_evaluation_split(tuned: Tuned, ensemble: Finished) -> None:
    def rows(*folders: Path) -> list[str]:
        return sorted(str(row) for block in read_blocks(files_in(*folders)) for row in block.to_pylist())

    (examples,) = artifacts(tuned.project, "TableExampleGen", "examples")
    others = rows(examples / "Split-train", examples / "Split-validation")
    for fold in artifacts(tuned.project, "FoldExamples.*", "fold_examples"):
        assert rows(*fold.glob("Split-*")) == others
    assert "rows of the evaluation split are in none" in report_of(ensemble).read_text()


def test_pushed_model_is_the_mean_of_those_of_the_folds(tuned: Tuned, ensemble: Finished) -> None:
    paths = [model / "Format-Serving" for model in artifacts(tuned.project, "FoldTrainer.*", "model")]
    pushed = tuned.project.pushed / str(tuned.project.versions[-1])
    (examples,) = artifacts(tuned.project, "TableExampleGen", "examples")
    rows = next(iter(read_blocks(files_in(str(examples / "Split-eval")))))
    rows = rows.slice(0, 1)

    answers = []
    for path in (pushed, *paths):
        model = AskedModel(path)
        answers.append(model.ask(rows)[1])
        model.close()

    mean = np.mean(answers[1:], axis=0)
    assert (answers[1] != answers[2]).any()
    np.testing.assert_allclose(answers[0], mean, rtol=1e-5)
    assert {"transform_columns", "network"} <= read_signatures(paths[0]).keys()
    assert "serving_examples" not in read_signatures(paths[0])
    assert {"serving_examples", "classification"} <= read_signatures(pushed).keys()


def test_pushed_mean_answers_clients(tuned: Tuned, ensemble: Finished) -> None:
    pushed = tuned.project.pushed / str(tuned.project.versions[-1])
    request = json.loads((pushed / "assets.extra" / "request.json").read_text())["instances"]

    with SavedModel(pushed) as model:
        ask = model.signature("serving_default")
        answer = ask({name: np.array([row[name] for row in request]) for name in ask.signature.inputs})

    assert answer["label"] == answer["classes"][0][answer["probabilities"].argmax()]


def test_report_says_what_the_mean_of_the_folds_gained(tuned: Tuned, ensemble: Finished) -> None:
    (model,) = artifacts(tuned.project, "FoldEnsemble", "model")
    found = json.loads((model / "history.json").read_text())["ensemble"]

    assert len(found["members"]) == 2
    assert found["value"] < np.mean(found["members"])  # cross entropy is convex
    assert found["value"] == pytest.approx(ensemble.document["metrics"]["cross_entropy"], rel=1e-5)
    said = report_of(ensemble).read_text()
    assert f"Ensemble of the models of 2 folds. Cross entropy on the {found['rows']} evaluation rows, which" in said


@pytest.mark.long
def test_interrupted_search_ends_with_the_best_so_far(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    process = begun(project, trials=2)
    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130
    said = (project.folder / "tune.err").read_text()
    assert "cross_entropy on the validation rows: " in said
    assert "model.trees.learning_rate" in (project.folder / "tune.out").read_text()
    assert "Interrupted. What was finished is kept; the same command goes on from there." in said


@pytest.mark.long
def test_trials_run_in_several_processes_one_of_which_is_killed(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    process = begun(project, "--set", "tuning.parallel=2", trials=3)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    searching = [pid for pid in children if b"tuning_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(searching) == 2
    subprocess.run(["kill", "-9", searching[0]], check=True)
    process.send_signal(signal.SIGINT)
    process.wait(60)

    arguments = ("--set", "tuning.parallel=2", "--set", "tuning.trials=14", "--format", "json")
    done = kubetfx("tune", project.config, *arguments)
    assert done.exit_code == 0, done.stderr
    trials = done.document["trials"]
    assert len(trials) >= 14
    assert {trial["state"] for trial in trials} <= {"complete", "pruned"}


@pytest.mark.long
def test_tasks_of_a_package_pull_trials_from_one_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = project_in(tmp_path)
    monkeypatch.setenv("DB_PASSWORD", PASSWORD.replace(" ", "%20"))
    with running_postgresql() as database:
        options = (
            *("--set", "tuning.parallel=2", "--set", f"tuning.storage={database.url}"),
            *("--set", "kubeflow.resources={Trainer: {secrets: [{name: studies, env: {password: DB_PASSWORD}}]}}"),
        )
        done = project.run("--on", "kfp-local", *options, *ANY_MODEL, seconds=600)
        assert done.exit_code == 0, done.stdout
        with database.engine.connect() as connection:
            kept = connection.execute(sqlalchemy.text("SELECT state FROM trials")).scalars().all()
    package = tmp_path / "package.yaml"
    assert kubetfx("compile", project.config, "--output", package, *options).exit_code == 0
    assert kubetfx("lint", package).exit_code == 0

    (study,) = project.workspace.glob("kfp-local/**/best-trial/*/tuner_results/study.json")
    results = TuningResults.model_validate_json(study.read_text())
    assert len(kept) == len(results.trials) == TRIALS
    assert results.best_trial is not None
    assert [name for name in states(done) if name.startswith("Tuner")] == ["Tuner.0", "Tuner.1"]
    (history,) = project.workspace.glob("kfp-local/**/trainer/*/model/history.json")
    rate = results.best_settings["model.trees.learning_rate"]
    assert json.loads(history.read_text())["optimizer"] == f"LightGBM, learning rate {rate:g}"
    assert PASSWORD.replace(" ", "%20") not in package.read_text() + done.stdout + done.stderr
