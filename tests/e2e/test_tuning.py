"""`kubetfx tune` on the penguins: searched, interrupted, killed, in parallel, written down, and trained with."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from kubetfx.components.tuning import tuning_results
from tests.e2e.project import ANY_MODEL, Project, command, environment, kubetfx, penguins_in

SECTION = """
model: {kind: trees, trees: {num_iterations: 30, learning_rate: 0.01, num_leaves: 4}} # fast
tuning:
  trials: 4
  metric: cross_entropy
  search:
    model.trees.learning_rate: {log: [0.05, 0.3]} # per tree
    model.trees.num_leaves: [4, 15]
    features.category_rows: [1, 10]
    features.integer_categories: [0, 20]
"""


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose search is over."""
    project = project_in(tmp_path_factory.mktemp("tuned"))
    done = kubetfx("tune", project.config, "--format", "json")
    assert done.exit_code == 0, done.stderr
    (project.folder / "tuned.json").write_text(done.stdout)
    return project


def project_in(folder: Path) -> Project:
    project = penguins_in(folder)
    with project.config.open("a") as file:
        file.write(SECTION)
    return project


def results_in(project: Project) -> tuning_results.TuningResults:
    (*_, newest) = sorted(
        (project.workspace / "artifacts" / "Tuner" / "tuner_results").iterdir(), key=lambda p: int(p.name)
    )
    found = tuning_results.read(newest)
    assert found is not None
    return found


def test_search_finds_settings_that_are_not_worse(tuned: Project) -> None:
    document = json.loads((tuned.folder / "tuned.json").read_text())

    assert [trial["number"] for trial in document["trials"]] == [0, 1, 2, 3]
    assert document["trials"][0]["settings"] == {}
    best = next(trial for trial in document["trials"] if trial["number"] == document["best"])
    assert best["value"] <= document["trials"][0]["value"]
    assert Path(document["report"]).is_file()
    (rows,) = (tuned.workspace / "artifacts" / "Tuner" / "tuner_results").glob("*/tuner_results.json")
    assert {row["score"] for row in json.loads(rows.read_text())} >= {best["value"]}


def test_run_trains_with_the_best_settings(tuned: Project) -> None:
    done = tuned.run(*ANY_MODEL)

    assert done.exit_code == 0, done.stdout
    states = {node["id"]: node["state"] for node in done.document["nodes"]}
    assert (states["Tuner"], states["Trainer"]) == ("cached", "done")
    best = results_in(tuned).best_settings["model.trees.learning_rate"]
    (history,) = (tuned.workspace / "artifacts" / "Trainer" / "model").glob("*/history.json")
    assert json.loads(history.read_text())["optimizer"] == f"LightGBM, learning rate {best:g}"


def test_best_values_are_written_and_comments_stay(tuned: Project, tmp_path: Path) -> None:
    before = tuned.config.read_text()
    done = kubetfx("tune", tuned.config, "--write")
    written = tuned.config.read_text()
    tuned.config.write_text(before)

    assert done.exit_code == 0, done.stderr
    assert "Wrote the best values" in done.stderr
    assert "# fast" in written
    assert "# per tree" in written
    best = results_in(tuned).best_settings
    document = yaml.safe_load(written)
    assert document["model"]["trees"]["num_leaves"] == best["model.trees.num_leaves"]
    assert document["model"]["trees"]["num_iterations"] == 30
    assert document["features"]["category_rows"] == best["features.category_rows"]


def begun(project: Project, *arguments: str, trials: int) -> "subprocess.Popen[bytes]":
    """A search that has ended some trials, and goes on."""
    process = subprocess.Popen(
        command("tune", project.config, "--set", "tuning.trials=400", *arguments),
        env=environment(),
        stderr=(project.folder / "tune.err").open("wb"),
        stdout=(project.folder / "tune.out").open("wb"),
    )
    latest = tuning_results.latest_path(project.workspace / "artifacts" / "Tuner")
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, (project.folder / "tune.err").read_text()
        if latest.is_file():
            found = json.loads(latest.read_text() or "{}").get("trials", [])
            if sum(trial["state"] != "running" for trial in found) >= trials:
                return process
        time.sleep(0.1)
    raise AssertionError("the search has not begun")


def test_killed_search_goes_on_and_ends_with_what_was_asked_for(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    process = begun(project, trials=3)
    process.kill()
    process.wait()
    before = json.loads(tuning_results.latest_path(project.workspace / "artifacts" / "Tuner").read_text())

    done = kubetfx("tune", project.config, "--set", "tuning.trials=12", "--format", "json")
    assert done.exit_code == 0, done.stderr
    trials = done.document["trials"]
    assert len(trials) == max(12, len(before["trials"]))
    assert {trial["state"] for trial in trials} <= {"complete", "pruned"}
    known = {trial["number"]: trial for trial in trials}
    for trial in before["trials"]:
        if trial["state"] == "complete":
            assert known[trial["number"]] == trial


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
