"""From a CSV to a pushed model; then again with nothing changed, and with one thing changed at a time."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import kubetfx as kubetfx_library
from kubetfx.models.examples import files_in, read_blocks
from tests.command import Finished, kubetfx_here
from tests.e2e.project import (
    ANY_MODEL,
    PENGUINS,
    Project,
    command,
    environment,
    kubetfx,
    metrics_of,
    output_folders,
    penguins_in,
    report_of,
    watching,
)
from tests.ports import free_ports

COLUMNS = ["island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex", "year"]


def executed(run: Finished) -> list[str]:
    return [node["id"] for node in run.document["nodes"] if node["state"] == "done"]


def weights(project: Project) -> dict[str, np.ndarray]:
    (saved_model,) = project.workspace.glob("artifacts/Trainer/model/*/Format-Serving")
    checkpoint = tf.train.load_checkpoint(str(saved_model / "variables" / "variables"))
    names = [name for name in checkpoint.get_variable_to_shape_map() if name.startswith("variables/")]
    assert names
    return {name: checkpoint.get_tensor(name) for name in names}


def rows_by_split(project: Project) -> dict[str, list[dict[str, Any]]]:
    """The examples of each split, in the order of the files, feature by feature."""
    splits = {}
    for folder in sorted(project.workspace.glob("artifacts/TableExampleGen/examples/*/Split-*")):
        splits[folder.name] = [row for block in read_blocks(files_in(folder)) for row in block.to_pylist()]
    return splits


def test_first_run_executes_every_node_and_pushes_a_good_model(first_run: Finished, penguins: Project) -> None:
    document = first_run.document
    assert len(executed(first_run)) == 11
    assert document["blessed"]
    assert document["metrics"]["accuracy"] >= 0.95
    assert penguins.versions == [document["pushed_version"]]
    assert all(Path(node["log"]).is_file() for node in document["nodes"])


def test_json_run_prints_nothing_but_the_document(first_run: Finished) -> None:
    assert first_run.stderr == ""
    assert json.loads(first_run.stdout)["name"] == "penguins"


def test_history_stands_beside_the_model(first_run: Finished, penguins: Project) -> None:
    (path,) = penguins.workspace.glob("artifacts/Trainer/model/*/history.json")
    document = json.loads(path.read_text())
    assert len(document["history"]["val_loss"]) == document["epochs"]
    assert document["history"]["val_loss"][document["best_epoch"] - 1] == min(document["history"]["val_loss"])


def test_run_leaves_a_report_with_all_its_parts(first_run: Finished, penguins: Project) -> None:
    path = report_of(first_run)
    html = path.read_text(encoding="utf-8")

    assert path.stat().st_size < 1_000_000
    assert f"Pushed as version {first_run.document['pushed_version']}" in html
    for part in ("answer", "data", "training", "quality", "evaluation", "provenance", "card"):
        assert f'id="{part}" aria-labelledby' in html, part
    assert "A part of this report could not be made" not in html
    for words in (
        "bill_<wbr>length_<wbr>mm",
        "Confusion matrix",
        "Calibration",
        "What the model looks at",
        "ran in this run",
    ):
        assert words in html
    (facts,) = penguins.workspace.glob("artifacts/Report/report/*/facts.json")
    assert json.loads(facts.read_text())["problems"] == []
    assert "# Model card: penguins" in (path.parent / "model_card.md").read_text()


def test_metrics_for_machines_are_those_of_the_run(first_run: Finished) -> None:
    metrics = metrics_of(first_run)

    assert metrics["run"]["state"] == "pushed"
    assert metrics["pushed_version"] == first_run.document["pushed_version"]
    accuracy = metrics["metrics"]["accuracy"]
    assert accuracy["value"] == first_run.document["metrics"]["accuracy"]
    assert accuracy["lower"] < accuracy["value"] <= accuracy["upper"]
    assert sum(one["support"] for one in metrics["classes"]) == first_run.document["metrics"]["example_count"]
    assert metrics["data"]["splits"]["eval"] == first_run.document["metrics"]["example_count"]
    assert max(metrics["importance"], key=metrics["importance"].get).startswith(("bill", "flipper"))


def test_runs_and_the_report_of_each_can_be_found_again(first_run: Finished, penguins: Project) -> None:
    listed = kubetfx_here("runs", penguins.config, "--format", "json").document["runs"]
    first = next(run for run in listed if run["run_id"] == first_run.document["run_id"])
    assert (first["state"], first["pushed_version"]) == ("pushed", first_run.document["pushed_version"])

    found = kubetfx_here("report", penguins.config, "--run", first["run_id"])
    assert found.exit_code == 0, found.stderr
    assert Path(found.stdout.strip()).resolve() == report_of(first_run).resolve()


def test_predict_gives_species_for_raw_rows(first_run: Finished, penguins: Project) -> None:
    answer = penguins.predict(PENGUINS / "rows.csv").document
    assert [prediction["label"] for prediction in answer["predictions"]] == ["Adelie", "Gentoo", "Chinstrap"]
    for prediction in answer["predictions"]:
        assert prediction["score"] == max(prediction["probabilities"].values())
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@dataclass(frozen=True)
class Server:
    """`kubetfx serve`, over the pushed versions."""

    rest: str
    grpc: str

    def available(self) -> list[int]:
        answer = httpx.get(f"{self.rest}/v1/models/penguins").json()
        statuses = answer.get("model_version_status", [])
        return [int(status["version"]) for status in statuses if status["state"] == "AVAILABLE"]


@pytest.fixture(scope="module")
def server(first_run: Finished, penguins: Project) -> Iterator[Server]:
    ports = free_ports(2)
    flags = ("--rest-port", str(ports[0]), "--grpc-port", str(ports[1]), "--file-system-poll-wait-seconds", "0.2")
    process = subprocess.Popen(
        command("serve", penguins.config, *flags), stderr=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert process.stderr is not None
        assert any(f"REST at 127.0.0.1:{ports[0]}" in line for line in process.stderr)
        yield Server(f"http://127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}")
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_run_prints_calls_that_give_predictions(first_run: Finished, penguins: Project, server: Server) -> None:
    human = kubetfx("run", penguins.config).stderr
    (curl,) = re.findall(r"curl -d @(\S+) http://localhost:8501(\S+)", human)
    (predict,) = re.findall(r"kubetfx (predict .* --rows (\S+) --grpc) localhost:8500", human)

    answer = httpx.post(f"{server.rest}{curl[1]}", content=Path(curl[0]).read_bytes()).json()
    over_grpc = kubetfx_here(*predict[0].split(), server.grpc, "--format", "json").document
    offline = penguins.predict(Path(predict[1])).document

    for expected, ours, theirs in zip(
        offline["predictions"], answer["predictions"], over_grpc["predictions"], strict=True
    ):
        assert ours["label"] == theirs["label"] == expected["label"]
        assert ours["score"] == pytest.approx(expected["score"], abs=1e-6)
        assert theirs["score"] == pytest.approx(expected["score"], abs=1e-6)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_served_model_answers_as_predict_does(
    first_run: Finished, penguins: Project, server: Server, protocol: str
) -> None:
    rows = PENGUINS / "rows.csv"
    asked = kubetfx_here(
        "predict", penguins.config, "--rows", rows, f"--{protocol}", getattr(server, protocol), "--format", "json"
    )
    assert asked.exit_code == 0, asked.stderr
    assert asked.stderr == ""
    offline = penguins.predict(rows).document["predictions"]
    for ours, theirs in zip(asked.document["predictions"], offline, strict=True):
        assert ours["label"] == theirs["label"]
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-6)


def test_models_of_a_server_are_shown(first_run: Finished, penguins: Project, server: Server) -> None:
    version = first_run.document["pushed_version"]
    shown = kubetfx_here("models", "--rest", server.rest, "--format", "json").document
    (of_version,) = (one for one in shown["penguins"] if one["version"] == version)
    assert (of_version["state"], of_version["error"]) == ("AVAILABLE", None)
    default = of_version["signatures"]["serving_default"]
    assert (default["inputs"]["year"], default["inputs"]["island"]) == ("DT_DOUBLE", "DT_STRING")
    assert default["outputs"]["label"] == "DT_STRING"
    by_grpc = kubetfx_here("models", penguins.config, "--grpc", server.grpc)
    assert f"penguins  {version}  AVAILABLE" in by_grpc.stdout
    assert re.search(r"penguins serving_default: .* double, .* and \d more -> .*label string", by_grpc.stdout)


def test_push_is_verified_with_the_server_that_the_config_names(
    first_run: Finished, penguins: Project, server: Server
) -> None:
    endpoint = f"serving.endpoint={{rest: '{server.rest}', grpc: '{server.grpc}'}}"
    run = penguins.run("--set", endpoint)
    assert run.exit_code == 0, run.stderr
    assert executed(run) == ["Evaluator", "Pusher", "Report"]
    (version,) = kubetfx_here("versions", penguins.config, "--set", endpoint, "--format", "json").document["versions"]
    assert (version["version"], version["state"]) == (first_run.document["pushed_version"], "served")
    assert version["verified_at"] is not None
    assert version["metrics"] == first_run.document["metrics"]


def test_rollback_moves_the_server_back_and_on_again(first_run: Finished, penguins: Project, server: Server) -> None:
    endpoint = ("--set", f"serving.endpoint.rest={server.rest}")
    old, new = first_run.document["pushed_version"], first_run.document["pushed_version"] + 1
    shutil.copytree(penguins.pushed / str(old), penguins.pushed / str(new))
    try:
        back = kubetfx_here("rollback", penguins.config, *endpoint)
        assert back.exit_code == 0, back.stderr
        assert server.available() == [old]
        assert f"kubetfx rollback {penguins.config} --to {new}" in back.stderr
        on = kubetfx_here("rollback", penguins.config, "--to", str(new), *endpoint)
        assert on.exit_code == 0, on.stderr
        assert server.available() == [new]
        listed = kubetfx_here("versions", penguins.config, "--format", "json").document["versions"]
        assert [(entry["version"], entry["state"]) for entry in listed] == [(new, "served"), (old, "kept")]
        nowhere = kubetfx_here("rollback", penguins.config, "--to", "5")
        assert nowhere.exit_code == 2
        assert f"There are: {old}, {new}" in nowhere.stderr
    finally:
        shutil.rmtree(penguins.pushed / str(new))


def test_predict_takes_rows_with_missing_cells(first_run: Finished, penguins: Project, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([dict.fromkeys(COLUMNS), {**dict.fromkeys(COLUMNS), "island": "Atlantis"}]))
    answer = penguins.predict(rows).document
    assert len(answer["predictions"]) == 2


def test_batch_predict_says_what_predict_does(first_run: Finished, penguins: Project, tmp_path: Path) -> None:
    table, output = penguins.folder / "data" / "penguins.csv", tmp_path / "predictions.parquet"

    done = kubetfx("batch-predict", penguins.config, "--input", table, "--output", output, "--format", "json")

    assert (done.document["predictions"], done.document["errors"], done.stderr) == (344, 0, "")
    for ours, theirs in zip(
        pq.read_table(output).to_pylist(), penguins.predict(table).document["predictions"], strict=True
    ):
        assert ours["label"] == theirs["label"]
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-5)


def test_predict_names_the_columns_that_rows_lack(first_run: Finished, penguins: Project, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("island,sex\nDream,male\n")
    answer = penguins.predict(rows)
    assert answer.exit_code == 2
    assert "lacks columns of the model: bill_depth_mm" in answer.document["error"]["message"]


def test_second_run_in_a_fresh_workspace_gives_the_same_split_and_bit_identical_weights(
    first_run: Finished, penguins: Project, tmp_path: Path
) -> None:
    other = penguins_in(tmp_path / "again")
    second = other.run()
    assert second.exit_code == 0, second.stderr
    assert rows_by_split(other) == rows_by_split(penguins)
    ours, theirs = weights(penguins), weights(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    assert second.document["metrics"] == first_run.document["metrics"]


def newest_weights(project: Project) -> dict[str, np.ndarray]:
    checkpoint = tf.train.load_checkpoint(str(project.pushed / str(project.versions[-1]) / "variables" / "variables"))
    names = [name for name in checkpoint.get_variable_to_shape_map() if name.startswith("variables/")]
    return {name: checkpoint.get_tensor(name) for name in names}


@pytest.mark.long
def test_watching_run_does_what_a_change_touches_and_gives_what_a_fresh_process_gives(
    first_run: Finished, penguins: Project, new_penguins: Project
) -> None:
    text = new_penguins.config.read_text()
    new_penguins.config.write_text(text + "training: {sed: 1}\n")
    with watching(new_penguins) as watch:
        watch.wait_for("Ctrl-C ends it.")
        assert "Did you mean 'seed'?" in watch.said()
        new_penguins.config.write_text(text + "training: {seed: 1}\n")
        watch.wait_for("Ctrl-C ends it.", times=2)
        new_penguins.config.write_text(text)
        watch.wait_for("Ctrl-C ends it.", times=3)

        second = watch.said().rpartition("Changed: ")[2]
        assert second.splitlines()[0].endswith("penguins/pipeline.yaml")
        assert "Transform            cached" in second
        assert "Trainer              done" in second
        assert len(new_penguins.versions) == 2
        expected, found = weights(penguins), newest_weights(new_penguins)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)

        new_penguins.config.write_text(text + "training: {epochs: 5000, early_stopping: {enabled: false}}\n")
        watch.wait_for("Transform            cached", times=2)
        assert watch.interrupt() == 130
        assert "Interrupted. What was finished is kept" in watch.said()


def test_unchanged_run_executes_no_node(first_run: Finished, penguins: Project) -> None:
    again = penguins.run()
    assert again.exit_code == 0
    assert executed(again) == []
    assert not again.document["changed"]
    assert again.document["pushed_version"] == first_run.document["pushed_version"]
    assert again.document["metrics"] == first_run.document["metrics"]
    html = report_of(again).read_text(encoding="utf-8")
    assert f"Still served: version {first_run.document['pushed_version']}" in html
    assert html.count("Evaluator: cached") == 1


def test_pushed_version_that_was_deleted_is_pushed_again_without_training(
    first_run: Finished, penguins: Project
) -> None:
    shutil.rmtree(penguins.pushed)
    again = penguins.run()
    assert again.exit_code == 0, again.stderr
    assert executed(again) == ["Pusher", "Report"]
    assert penguins.versions == [again.document["pushed_version"]]


def test_missed_threshold_exits_with_4_and_pushes_nothing(first_run: Finished, penguins: Project) -> None:
    before = penguins.versions
    refused = penguins.run("--set", "evaluation.thresholds={cross_entropy: {at_most: 0.0001}}")
    assert refused.exit_code == 4
    assert penguins.versions == before
    assert "cross_entropy" in refused.stdout
    assert "must be at most 0.0001: it misses by" in refused.stdout
    html = report_of(refused).read_text(encoding="utf-8")
    assert "Not pushed: Cross entropy misses its threshold by " in html[html.index("<h1") : html.index("</h1>")]
    again = penguins.run("--set", "evaluation.thresholds={cross_entropy: {at_most: 0.0001}}")
    assert again.exit_code == 4


@pytest.mark.long
def test_worse_model_is_refused_against_the_served_one(first_run: Finished, penguins: Project) -> None:
    before = penguins.versions
    refused = penguins.run(
        "--set", "training.epochs=1", "--set", "evaluation.thresholds={accuracy: {worse_by_at_most: 0.01}}"
    )
    assert refused.exit_code == 4
    assert penguins.versions == before
    assert "may be at most 0.01 worse: it misses by" in refused.stdout


def test_new_model_is_pushed_beside_the_old_one_and_compared_with_it(first_run: Finished, penguins: Project) -> None:
    before = penguins.versions
    newer = penguins.run("--set", "training.seed=1", "--set", "training.epochs=150")
    assert newer.exit_code == 0, newer.stdout
    assert "TableExampleGen" not in executed(newer)
    assert "Trainer" in executed(newer)
    assert penguins.versions == [*before, newer.document["pushed_version"]]
    assert newer.document["served_metrics"]["accuracy"] == first_run.document["metrics"]["accuracy"]
    assert metrics_of(newer)["served_version"] == before[-1]

    runs = (first_run.document["run_id"], newer.document["run_id"])
    compared = kubetfx_here("compare", penguins.config, *runs, "--format", "json").document
    assert compared["config"]["training.seed"] == ["0", "1"]
    assert compared["metrics"]["accuracy"] == [run.document["metrics"]["accuracy"] for run in (first_run, newer)]
    assert "<polyline" in Path(compared["page"]).read_text(encoding="utf-8")


def test_anomalies_of_other_data_stop_the_run_before_training(
    first_run: Finished, penguins: Project, tmp_path: Path
) -> None:
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
    html = report_of(stopped).read_text(encoding="utf-8")
    assert "Stopped by anomalies of the data" in html[html.index("<h1") : html.index("</h1>")]
    assert "Atlantis" in html
    assert "let it pass with validation.features: {island: warn}" in html
    assert html.count("not reached") >= 6
    assert metrics_of(stopped)["data"]["rows"] == 344

    warned = ("--set", "data.schema_file=frozen.pbtxt", "--set", "validation.features={island: warn}")
    passed = project.run(*warned, "--set", "training.epochs=2", *ANY_MODEL)
    assert passed.exit_code == 0, passed.stdout


def test_examples_in_the_docstrings_of_the_library_are_true(
    first_run: Finished, penguins: Project, tmp_path: Path
) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "penguins").symlink_to(penguins.folder)
    shutil.copy(PENGUINS / "rows.csv", penguins.folder)
    functions = ("load_config", "run", "load_model", "compile", "lint", "metric", "prune", "run_node")
    program = (
        "import doctest, kubetfx\n"
        f"for name in {functions}:\n"
        "    doctest.run_docstring_examples(getattr(kubetfx, name), {}, name=name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )

    assert done.stdout == ""
    assert all(">>>" in getattr(kubetfx_library, name).__doc__ for name in functions)


def test_pruned_workspace_has_what_is_served_and_goes_on(first_run: Finished, penguins: Project) -> None:
    """The last run takes all from the cache, part of it made by runs that are gone."""
    before = penguins.run()
    served = penguins.versions
    size = sum(path.stat().st_size for path in penguins.workspace.rglob("*") if path.is_file())

    would = kubetfx_here("prune", penguins.config, "--keep", "1", "--dry-run", "--format", "json").document
    pruned = kubetfx_here("prune", penguins.config, "--keep", "1", "--older-than", "0h", "--format", "json").document

    assert would == pruned
    assert first_run.document["run_id"] in pruned["removed"]
    assert before.document["run_id"] in pruned["kept"]
    left = sum(path.stat().st_size for path in penguins.workspace.rglob("*") if path.is_file())
    assert size - left == pytest.approx(pruned["bytes"], rel=0.02)
    again = penguins.run("--set", "workspace.keep=2")
    assert (again.exit_code, executed(again)) == (0, [])
    assert Path(kubetfx_here("report", penguins.config).stdout.strip()).is_file()
    runs = kubetfx_here("runs", penguins.config, "--format", "json").document["runs"]
    assert len(runs) == 3  # the last two, and the one that pushed
    assert penguins.versions == served
    gone = kubetfx_here("compare", penguins.config, first_run.document["run_id"], again.document["run_id"])
    assert (gone.exit_code, "There is no such run" in gone.stderr) == (2, True)
    assert kubetfx_here("rollback", penguins.config).exit_code == 0
    refused = kubetfx_here("prune", penguins.config, "--older-than", "soon")
    assert (refused.exit_code, "for example 30m, 12h or 1d" in refused.stderr) == (2, True)


@pytest.fixture(scope="module")
def first_run(penguins: Project) -> Finished:
    return Finished(0, (penguins.folder / "first.json").read_text(), (penguins.folder / "first.err").read_text())
