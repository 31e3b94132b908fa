"""examples/extending/metric: a metric of the user's own, here, by Beam and in a package."""

import json
import shutil
from pathlib import Path

import pytest
import tensorflow_model_analysis as tfma
import yaml

from kubetfx.config.loading import load_config
from kubetfx.kubeflow import package as kubetfx_package
from tests.command import Finished
from tests.e2e.project import PENGUINS, Project, kubetfx, metrics_of, report_of
from tests.kubeflow.conftest import specs

EXAMPLE = PENGUINS.parent / "extending" / "metric"
METRIC = "my_metrics:balanced_accuracy"


class OwnMetric(Project):
    @property
    def workspace(self) -> Path:
        return self.folder / ".kubetfx" / "own-metric"

    @property
    def pushed(self) -> Path:
        return self.workspace / "pushed" / "own-metric"

    @property
    def evaluation(self) -> Path:
        """Folder of the newest evaluation artifact."""
        return max(self.workspace.glob("artifacts/Evaluator/evaluation/*"), key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> OwnMetric:
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(PENGUINS / "data", folder / "penguins" / "data")
    shutil.copytree(EXAMPLE, folder / "extending" / "metric", ignore=shutil.ignore_patterns(".kubetfx", "__pycache__"))
    return OwnMetric(folder / "extending" / "metric")


@pytest.fixture(scope="module")
def here(project: OwnMetric) -> Finished:
    finished = project.run()
    assert finished.exit_code == 0, finished.stdout
    return finished


def executed(run: Finished) -> list[str]:
    return [node["id"] for node in run.document["nodes"] if node["state"] == "done"]


def test_it_decides_and_has_slices_and_an_interval(project: OwnMetric, here: Finished) -> None:
    document = metrics_of(here)
    found = document["metrics"][METRIC]

    assert list(document["metrics"]) == ["accuracy", METRIC]
    assert 0.9 <= found["value"] <= 1
    assert [entry["metric"] for entry in document["thresholds"]] == [METRIC, METRIC, METRIC]
    assert document["metrics"][METRIC]["constant"] == 1 / 3
    assert document["slices_ranked_by"] == METRIC
    assert {one["slice"] for one in document["slices"]} == {"island=Biscoe", "island=Dream", "island=Torgersen"}
    assert all(0 <= one["metrics"][METRIC] <= 1 for one in document["slices"])
    assert here.document["pushed_version"] in project.versions
    assert "Balanced accuracy" in report_of(here).read_text()


def test_it_is_in_the_list_of_runs_and_in_tfma_s_files(project: OwnMetric, here: Finished) -> None:
    (run,) = kubetfx("runs", project.config, "--format", "json").document["runs"]
    result = tfma.load_eval_result(str(project.evaluation))

    assert run["metrics"][METRIC] == here.document["metrics"][METRIC]
    assert result.get_metrics_for_slice(())[METRIC]["doubleValue"] == here.document["metrics"][METRIC]


@pytest.mark.long
def test_weak_model_has_an_interval_and_is_not_pushed(project: OwnMetric, here: Finished) -> None:
    weak = project.run(
        "--set", "training.epochs=1", "--set", f"evaluation.thresholds={{{METRIC!r}: {{at_least: 1.01}}}}"
    )  # fmt: skip

    assert weak.exit_code == 4
    found = metrics_of(weak)["metrics"][METRIC]
    assert found["lower"] < found["value"] < found["upper"] <= 1
    assert "Balanced accuracy is" in json.loads(weak.stdout)["error"]["message"]
    notes = json.loads(weak.stdout)["error"]["run"]["evaluation_notes"]
    assert any(note.startswith("A linear model of the same features does better: its Balanced acc") for note in notes)


def test_edit_is_noticed_and_nothing_is_trained_again(project: OwnMetric, here: Finished) -> None:
    module = project.folder / "my_metrics.py"
    text = module.read_text()
    module.write_text(text.replace("float(np.mean(", "0.5 + 0.5 * float(np.mean("))

    again = project.run()
    module.write_text(text)

    assert {"Evaluator", "Report"} <= set(executed(again))
    assert "Trainer" not in executed(again)
    before, after = here.document["metrics"][METRIC], again.document["metrics"][METRIC]
    assert after == pytest.approx(0.5 + 0.5 * before)


@pytest.mark.long
def test_beam_finds_the_same(project: OwnMetric, here: Finished, tmp_path: Path) -> None:
    by_beam = project.run(
        "--set", f"workspace={tmp_path}", "--set", "beam.arguments=[--direct_running_mode=in_memory]"
    )  # fmt: skip

    assert by_beam.exit_code == 0, by_beam.stdout
    assert set(by_beam.document["slices"]) == set(here.document["slices"])
    assert 0.9 <= by_beam.document["metrics"][METRIC] <= 1


def test_it_travels_to_the_nodes_that_compute_it(project: OwnMetric, tmp_path: Path) -> None:
    overrides = {"data.path": "s3://team/data", "serving.push_directory": "s3://team/models"}
    path = tmp_path / "package.yaml"

    kubetfx_package.compile_to_file(load_config(project.config, overrides=overrides), path)

    modules = {name: spec.modules for name, spec in specs(next(yaml.safe_load_all(path.read_text()))).items()}
    source = {"my_metrics": (project.folder / "my_metrics.py").read_text()}
    assert {name: found for name, found in modules.items() if found} == {"evaluator": source, "report": source}


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("my_metrics:unknown", "the module my_metrics has no unknown"),
        ("no_metrics:f1", "the module no_metrics cannot be imported"),
        ("my_metrics:np", "is not a metric. Received: module."),
    ],
)
@pytest.mark.parametrize("command", ["run", "compile"])
def test_metric_that_is_not_there_is_told_before_anything_runs(
    project: OwnMetric, tmp_path: Path, command: str, module: str, words: str
) -> None:
    place = ("--output", tmp_path / "package.yaml") if command == "compile" else ()
    arguments = ("--set", f"evaluation={{metrics: ['{module}']}}", "--set", f"workspace={tmp_path / 'workspace'}")

    refused = kubetfx(command, project.config, *place, *arguments)

    assert refused.exit_code == 2
    assert words in " ".join((refused.stdout + refused.stderr).split())
    assert not (tmp_path / "workspace" / "artifacts").exists()
