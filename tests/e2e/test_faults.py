"""What happens when a run is killed, stopped by its data, or out of disk."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.project import Finished, Project, command, environment, kubetfx, penguins_in


def interrupt(project: Project, *, after: str, with_signal: signal.Signals) -> Finished:
    """Start a run and send a signal when the node after `after` is running."""
    process = subprocess.Popen(
        command("run", project.config),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if after in line:
            process.send_signal(with_signal)
    assert process.stdout is not None
    return Finished(process.wait(timeout=60), process.stdout.read(), "".join(lines))


def states(run: Finished) -> dict[str, str]:
    return {node["id"]: node["state"] for node in run.document["nodes"]}


def output_folders(project: Project, node: str) -> list[str]:
    return sorted(path.name for path in project.workspace.glob(f"artifacts/{node}/[!.]*/*"))


def test_killed_and_interrupted_runs_resume_and_leave_nothing_that_is_used(new_penguins: Project) -> None:
    project = new_penguins
    killed = interrupt(project, after="StatisticsGen", with_signal=signal.SIGKILL)
    assert killed.exit_code == -signal.SIGKILL

    interrupted = interrupt(project, after="AnomalyGate", with_signal=signal.SIGINT)
    assert interrupted.exit_code == 130
    assert "cached" in next(line for line in interrupted.stderr.splitlines() if "StatisticsGen" in line)
    assert "Transform" in interrupted.stderr
    assert "interrupted" in interrupted.stderr
    assert "the same command goes on from there" in interrupted.stderr
    assert output_folders(project, "Transform") == []

    terminated = interrupt(project, after="Transform", with_signal=signal.SIGTERM)
    assert terminated.exit_code == 130
    assert output_folders(project, "Trainer") == []

    half_pushed = project.pushed / ".pushing-17"  # what a kill in the Pusher leaves
    half_pushed.mkdir(parents=True)
    finished = project.run()
    assert finished.exit_code == 0, finished.stdout
    assert states(finished)["Transform"] == "cached"
    assert states(finished)["Trainer"] == "done"
    assert not half_pushed.exists()
    assert project.versions == [finished.document["pushed_version"]]


def test_two_runs_in_one_workspace_are_refused(new_penguins: Project) -> None:
    project = new_penguins
    first = subprocess.Popen(command("run", project.config), stderr=subprocess.PIPE, text=True, env=environment())
    try:
        assert first.stderr is not None
        for line in first.stderr:
            if "TableExampleGen" in line:
                break
        second = project.run()
        assert second.exit_code == 2
        assert "Another run is using the workspace" in second.stdout
    finally:
        first.kill()
        first.communicate()


def test_anomalies_of_the_data_stop_the_run_before_training(penguins: Project, tmp_path: Path) -> None:
    (schema,) = penguins.workspace.glob("artifacts/SchemaGen/schema/*/schema.pbtxt")
    project = penguins_in(tmp_path / "penguins")
    shutil.copy(schema, project.folder / "frozen.pbtxt")
    table = project.folder / "data" / "penguins.csv"
    table.write_text(table.read_text().replace("Dream", "Atlantis"))

    stopped = project.run("--set", "data.schema_file=frozen.pbtxt")
    assert stopped.exit_code == 3
    message = stopped.document["error"]["message"]
    assert "island" in message
    assert "Atlantis" in message
    assert "validation.features: {island: warn}" in message
    assert output_folders(project, "Transform") == []
    assert project.versions == []

    passed = project.run("--set", "data.schema_file=frozen.pbtxt", "--set", "validation.features={island: warn}")
    assert passed.exit_code == 0, passed.stdout


def test_disk_that_runs_full_leaves_nothing_half_written(new_penguins: Project, tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces, to mount a small disk")
    inside = " ".join(command("run", new_penguins.config, "--format", "json", "--set", f"workspace={mount}/workspace"))
    script = (
        f"mount -t tmpfs -o size=300k tmpfs {mount} && {inside}; code=$?; "
        f"ls {mount}/workspace/pushed/penguins 2>/dev/null; ls -d {mount}/workspace/artifacts/*/[!.]*/*; exit $code"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "No space left on device" in done.stdout or "disk" in done.stdout
    assert "Format-Serving" not in done.stdout


def test_users_own_module_beside_the_config_is_used_and_its_edits_are_noticed(new_penguins: Project) -> None:
    project = new_penguins
    module = project.folder / "my_network.py"
    module.write_text(
        "import keras\n"
        "from models.tabular import build_model as build_default, preprocessing_fn\n\n"
        "def build_model(transform_output, *, model, features, num_outputs):\n"
        "    network = build_default(transform_output, model=model, features=features, num_outputs=num_outputs)\n"
        "    return keras.Model(network.input, network.output, name='mine')\n"
    )
    arguments = ["--set", "model.module=my_network", "--set", "training.epochs=2", "--set", "evaluation.thresholds={}"]
    first = project.run(*arguments)
    assert first.exit_code == 0, first.stdout
    (log,) = [node["log"] for node in first.document["nodes"] if node["id"] == "Trainer"]
    assert 'Model: "mine"' in Path(log).read_text()
    module.write_text(module.read_text() + "\n# edited\n")
    second = project.run(*arguments)
    assert states(second)["Trainer"] == "done"


def test_init_on_an_unseen_table_then_run_works_without_an_edit(tmp_path: Path) -> None:
    table = tmp_path / "häuser prices.csv"
    header = "Row ID,living area (m²),District,rooms,empty,score,price €"
    districts = ["North", '"South, old"', "East"]
    rows = [
        f"R{i:04d},{'' if i % 17 == 0 else area},{districts[i % 3]},{i % 5 + 1},,7,{area * 3000 + i % 3 * 9000}"
        for i, area in ((i, 40 + i * 7 % 90) for i in range(600))
    ]
    table.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    made = kubetfx("init", table.name, "--label", "price €", cwd=tmp_path)
    assert made.exit_code == 0, made.stderr
    text = (tmp_path / "pipeline.yaml").read_text()
    assert "task: regression" in text
    assert "drop: [score]" in text

    done = kubetfx("run", "pipeline.yaml", "--format", "json", cwd=tmp_path)
    assert done.exit_code == 0, done.stdout
    assert set(done.document["excluded_columns"]) == {"Row ID", "empty"}

    rows_path = tmp_path / "rows.csv"
    rows_path.write_text("\n".join([header, *rows[:3]]) + "\n", encoding="utf-8")
    answer = kubetfx("predict", "pipeline.yaml", "--rows", rows_path, "--format", "json", cwd=tmp_path)
    assert len(answer.document["predictions"]) == 3
    assert all(prediction["value"] > 0 for prediction in answer.document["predictions"])

    again = kubetfx("init", table.name, "--label", "price €", cwd=tmp_path)
    assert again.exit_code == 2
    assert "is not overwritten" in again.stderr


def test_push_directory_that_cannot_be_written_is_an_error_before_any_work(new_penguins: Project) -> None:
    blocker = new_penguins.folder / "file"
    blocker.write_text("")
    refused = new_penguins.run("--set", f"serving.push_directory={blocker}/models")
    assert refused.exit_code == 2
    assert "serving.push_directory cannot be written" in refused.document["error"]["message"]
    assert not (new_penguins.workspace / "logs").exists()
    assert os.path.getsize(blocker) == 0
