"""From a CSV to a pushed model; then again with nothing changed, and with one thing changed at a time."""

import csv
import json
import shutil
import socket
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
import tensorflow as tf

from tests.e2e.project import PENGUINS, Finished, Project, command, environment, penguins_in

COLUMNS = ["island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex", "year"]


def executed(run: Finished) -> list[str]:
    return [node["id"] for node in run.document["nodes"] if node["state"] == "done"]


def weights(project: Project) -> dict[str, np.ndarray]:
    (saved_model,) = project.workspace.glob("artifacts/Trainer/model/*/Format-Serving")
    checkpoint = tf.train.load_checkpoint(str(saved_model / "variables" / "variables"))
    names = [name for name in checkpoint.get_variable_to_shape_map() if name.startswith("variables/")]
    assert names
    return {name: checkpoint.get_tensor(name) for name in names}


def rows_by_split(project: Project) -> dict[str, list[dict[str, list]]]:
    """The examples of each split, in the order of the files, feature by feature."""
    splits = {}
    for folder in sorted(project.workspace.glob("artifacts/TableExampleGen/examples/*/Split-*")):
        records = tf.data.TFRecordDataset(sorted(map(str, folder.iterdir())), "GZIP").as_numpy_iterator()
        examples = [tf.train.Example.FromString(record).features.feature for record in records]
        splits[folder.name] = [{name: str(feature) for name, feature in sorted(e.items())} for e in examples]
    return splits


def test_first_run_executes_every_node_and_pushes_a_good_model(first_run: Finished, penguins: Project) -> None:
    document = first_run.document
    assert len(executed(first_run)) == 10
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


def test_predict_gives_species_for_raw_rows(first_run: Finished, penguins: Project) -> None:
    answer = penguins.predict(PENGUINS / "rows.csv").document
    assert [prediction["label"] for prediction in answer["predictions"]] == ["Adelie", "Gentoo", "Chinstrap"]
    for prediction in answer["predictions"]:
        assert prediction["score"] == max(prediction["probabilities"].values())
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_served_model_answers_a_rest_client_as_predict_does(first_run: Finished, penguins: Project) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        command("serve", penguins.config, "--rest-port", str(port), "--grpc-port", "0"),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert server.stderr is not None
        assert any(f"REST at 127.0.0.1:{port}" in line for line in server.stderr)
        with (PENGUINS / "rows.csv").open() as file:
            rows = [
                {name: value if name in ("island", "sex") else float(value) for name, value in row.items()}
                for row in csv.DictReader(file)
            ]
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/models/penguins:predict", json={"instances": rows}).json()
    finally:
        server.terminate()
        server.communicate(timeout=30)
    offline = penguins.predict(PENGUINS / "rows.csv").document
    assert [p["label"] for p in answer["predictions"]] == [p["label"] for p in offline["predictions"]]
    for ours, theirs in zip(answer["predictions"], offline["predictions"], strict=True):
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-6)


def test_predict_takes_rows_with_missing_cells(first_run: Finished, penguins: Project, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([dict.fromkeys(COLUMNS), {**dict.fromkeys(COLUMNS), "island": "Atlantis"}]))
    answer = penguins.predict(rows).document
    assert len(answer["predictions"]) == 2


def test_predict_names_the_columns_that_rows_lack(first_run: Finished, penguins: Project, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("island,sex\nDream,male\n")
    answer = penguins.predict(rows)
    assert answer.exit_code == 2
    assert "lack columns of the model: bill_depth_mm" in answer.document["error"]["message"]


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


def test_unchanged_run_executes_no_node(first_run: Finished, penguins: Project) -> None:
    again = penguins.run()
    assert again.exit_code == 0
    assert executed(again) == []
    assert not again.document["changed"]
    assert again.document["pushed_version"] == first_run.document["pushed_version"]
    assert again.document["metrics"] == first_run.document["metrics"]


def test_pushed_version_that_was_deleted_is_pushed_again_without_training(
    first_run: Finished, penguins: Project
) -> None:
    shutil.rmtree(penguins.pushed)
    again = penguins.run()
    assert again.exit_code == 0, again.stderr
    assert executed(again) == ["Pusher"]
    assert penguins.versions == [again.document["pushed_version"]]


def test_missed_threshold_exits_with_4_and_pushes_nothing(first_run: Finished, penguins: Project) -> None:
    before = penguins.versions
    refused = penguins.run("--set", "evaluation.thresholds={cross_entropy: {at_most: 0.0001}}")
    assert refused.exit_code == 4
    assert penguins.versions == before
    assert "cross_entropy" in refused.stdout
    assert "must be at most 0.0001: MISSED" in refused.stdout
    again = penguins.run("--set", "evaluation.thresholds={cross_entropy: {at_most: 0.0001}}")
    assert again.exit_code == 4


def test_worse_model_is_refused_against_the_served_one(first_run: Finished, penguins: Project) -> None:
    before = penguins.versions
    refused = penguins.run(
        "--set", "training.epochs=1", "--set", "evaluation.thresholds={accuracy: {worse_by_at_most: 0.01}}"
    )
    assert refused.exit_code == 4
    assert penguins.versions == before
    assert "at most 0.01 worse than served: MISSED" in refused.stdout


def test_new_model_is_pushed_beside_the_old_one_and_compared_with_it(first_run: Finished, penguins: Project) -> None:
    before = penguins.versions
    newer = penguins.run("--set", "training.seed=1", "--set", "training.epochs=40")
    assert newer.exit_code == 0, newer.stdout
    assert "TableExampleGen" not in executed(newer)
    assert "Trainer" in executed(newer)
    assert penguins.versions == [*before, newer.document["pushed_version"]]
    assert newer.document["served_metrics"]["accuracy"] == first_run.document["metrics"]["accuracy"]


@pytest.fixture(scope="module")
def first_run(penguins: Project) -> Finished:
    return Finished(0, (penguins.folder / "first.json").read_text(), (penguins.folder / "first.err").read_text())
