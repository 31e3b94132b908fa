"""`kubetfx init --dvc` with a real DVC, of an environment of its own: KUBETFX_DVC=/path/to/dvc."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kubetfx.run_record import read_all
from tests.command import kubetfx_here
from tests.e2e.project import Project, environment, penguins_in

DVC = os.environ.get("KUBETFX_DVC", "")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not DVC, reason="KUBETFX_DVC does not name a dvc, such as that of `uv venv; uv pip install dvc`"
    ),
    pytest.mark.skipif(shutil.which("git") is None, reason="there is no git"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Penguins whose data DVC tracks, after a first `dvc repro`."""
    made = penguins_in(tmp_path_factory.mktemp("dvc") / "penguins")
    bounds = "{at_least: 0.1, better_than_baseline: false}"
    text = made.config.read_text().replace("{at_least: 0.95, worse_by_at_most: 0.02}", bounds)
    made.config.write_text(text + "training: {epochs: 20}\n")
    run(made, "git", "init", "-q")
    run(made, DVC, "init", "-q")
    run(made, DVC, "add", "-q", "data/penguins.csv")
    assert kubetfx_here("init", "--dvc", "--output", made.config).exit_code == 0
    (made.folder / ".gitignore").write_text(".kubetfx/\ndvc_plots/\n")
    commit(made, "start")
    run(made, DVC, "repro")
    commit(made, "first model")
    return made


def run(project: Project, *command: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**environment(), "PATH": path, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=project.folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commit(project: Project, message: str) -> None:
    run(project, "git", "add", "-A")
    run(project, "git", "-c", "user.name=me", "-c", "user.email=me@example.org", "commit", "-qm", message)


def test_unchanged_repro_does_nothing(project):
    before = [record.run_id for record in read_all(project.workspace)]
    assert "Data and pipelines are up to date." in run(project, DVC, "repro")
    assert run(project, "git", "status", "--porcelain") == ""
    assert [record.run_id for record in read_all(project.workspace)] == before


def test_run_names_the_hash_of_dvc_and_the_commit(project):
    record = next(read_all(project.workspace))
    tracked = yaml.safe_load((project.folder / "data" / "penguins.csv.dvc").read_text())

    assert record.code is not None
    assert record.code.git is not None
    assert record.code.git.commit == run(project, "git", "rev-parse", "HEAD~1").strip()
    assert record.code.git.is_changed is False
    assert record.data_state is not None
    assert record.data_state.git is not None
    assert record.data_state.git.commit == record.code.git.commit
    assert record.data_state.dvc is not None
    assert record.data_state.dvc.md5 == tracked["outs"][0]["md5"]
    assert record.data_state.dvc.is_recorded
    report = (project.folder / "results" / "report.html").read_text()
    said = kubetfx_here("lineage", project.config, str(project.versions[-1])).stdout
    for shown in (record.code.git.commit, record.data_state.dvc.md5):
        assert shown in report
        assert shown in said


def test_changed_key_is_a_new_model_beside_the_old_one_and_metrics_and_plots_differ(project):
    served = project.versions
    text = project.config.read_text()
    project.config.write_text(text.replace("epochs: 20", "epochs: 60"))
    assert "training.epochs" in run(project, DVC, "params", "diff")
    run(project, DVC, "repro")

    assert len(project.versions) == 2
    assert set(served) < set(project.versions)
    changes = json.loads(run(project, DVC, "metrics", "diff", "--json"))["results/metrics.json"]
    assert changes["metrics.cross_entropy.value"]["diff"] != 0
    run(project, DVC, "plots", "diff")
    page = (project.folder / "dvc_plots" / "index.html").read_text()
    for drawn in ("val_loss", "epoch", "bill_length_mm", "Gentoo"):
        assert drawn in page, drawn
    record = next(read_all(project.workspace))
    assert record.code is not None
    assert record.code.git is not None
    assert "pipeline.yaml" in record.code.git.changed
