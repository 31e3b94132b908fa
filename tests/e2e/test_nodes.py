"""`kubetfx node` on penguins: a run of a process per node, as an orchestrator starts them."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.command import Finished, kubetfx_here
from tests.e2e.project import ANY_MODEL, Project, command, environment, kubetfx, penguins_in, report_of

pytestmark = pytest.mark.long

NODES = (
    "TableExampleGen",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "AnomalyGate",
    "Transform",
    "Trainer",
    "ServedModelResolver",
    "Evaluator",
    "Pusher",
    "Report",
)
FAST = ("--set", "training.epochs=3", *ANY_MODEL)


def node(project: Project, name: str, run_id: str, *options: str) -> Finished:
    return kubetfx("node", project.config, name, "--run", run_id, "--format", "json", *options)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a run `daily-1` of which all nodes before the Pusher have ended."""
    project = penguins_in(tmp_path_factory.mktemp("nodes") / "penguins")
    for name in NODES[: NODES.index("Pusher")]:
        done = node(project, name, "daily-1", *FAST)
        assert done.exit_code == 0, done.stdout
        assert (done.document["state"], done.document["run"]) == ("done", None)
    return project


@pytest.fixture(scope="module")
def killed(evaluated: Project) -> Project:
    """The Pusher's process was killed while it copied the model, and that of its next try when the version was there,
    and nobody knew of it yet."""
    for pattern in (".pushing-*", "[0-9]*"):
        line = command("node", evaluated.config, "Pusher", "--run", "daily-1", *FAST)
        process = subprocess.Popen(line, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not list(evaluated.pushed.glob(pattern)):
            assert process.poll() is None
            time.sleep(0.0005)
        process.kill()
        assert process.wait() == -9
    return evaluated


def test_pusher_whose_process_was_killed_does_not_push_twice(killed: Project) -> None:
    (version,) = killed.versions
    assert node(killed, "Pusher", "daily-1", *FAST).exit_code == 0
    assert killed.versions == [version]

    last = node(killed, "Report", "daily-1", *FAST)
    assert last.exit_code == 0, last.stdout
    run = last.document["run"]
    assert (run["pushed_version"], run["is_new_version"], run["blessed"]) == (version, True, True)
    record = json.loads((Path(run["report"]).parent / "run.json").read_text())
    assert (record["state"], record["versions_before"]) == ("pushed", [])
    assert [one["state"] for one in record["nodes"]] == ["done"] * len(NODES)


def test_next_run_is_taken_from_the_cache_and_pushes_nothing(killed: Project) -> None:
    node(killed, "Pusher", "daily-1", *FAST)
    node(killed, "Report", "daily-1", *FAST)
    before = killed.versions
    states = [node(killed, name, "daily-2", *FAST).document for name in NODES]

    assert {one["state"] for one in states} == {"cached"}
    assert states[-1]["run"]["is_new_version"] is False
    assert killed.versions == before
    listed = kubetfx_here("runs", killed.config, "--format", "json").document["runs"]
    assert [(run["run_id"], run["state"]) for run in listed] == [("daily-2", "unchanged"), ("daily-1", "pushed")]


def test_last_node_says_that_the_model_missed_a_threshold(killed: Project) -> None:
    options = ("--set", "training.epochs=3", "--set", "evaluation.thresholds={accuracy: {at_least: 1}}")
    for name in NODES[:-1]:
        done = node(killed, name, "strict", *options)
        assert done.exit_code == 0, done.stdout
    before = killed.versions
    last = node(killed, "Report", "strict", *options)

    assert last.exit_code == 4
    assert last.document["error"]["message"].startswith("The model was not pushed, because it missed a threshold")
    assert report_of(last).is_file()
    assert killed.versions == before
