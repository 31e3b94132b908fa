"""The dvc.yaml that is written. tests/e2e/test_dvc.py runs it with DVC."""

import json
from pathlib import Path

import pytest
import yaml

from kubetfx.errors import UsageError
from kubetfx.pipeline.dvc_scaffold import write_dvc
from tests.command import kubetfx_here

TABLE = "mass,island,species\n" + "".join(f"{i}.5,{'ab'[i % 2]},{'xy'[i % 2]}\n" for i in range(10))


def written(folder: Path, text: str) -> dict:
    (folder / "pipeline.yaml").write_text(text)
    path, _ = write_dvc(folder / "pipeline.yaml")
    document = yaml.safe_load(path.read_text())
    assert isinstance(document, dict)
    return document


def test_stage_has_data_keys_models_and_figures(tmp_path):
    (tmp_path / "data").mkdir()
    document = written(tmp_path, "name: birds\ndata: {path: data, label: species}\n")
    stage = document["stages"]["train"]

    assert stage["cmd"] == ["kubetfx run pipeline.yaml", "kubetfx report pipeline.yaml --export results"]
    assert stage["deps"] == ["data"]
    assert stage["params"] == [{"pipeline.yaml": None}]
    assert stage["outs"][0] == {".kubetfx/birds/pushed/birds": {"persist": True}}
    assert stage["metrics"] == [{"results/metrics.json": {"cache": False}}]
    assert [next(iter(plot)) for plot in document["plots"]] == ["loss", "f1", "importance"]
    assert document["plots"][0]["loss"]["y"] == {"results/curves.json": ["loss", "val_loss"]}


@pytest.mark.parametrize(
    ("text", "deps"),
    [
        ("data: {path: 'events/{YYYY}-{MM}-{DD}/*.csv', label: y}", ["events"]),
        ("data: {path: 'tables/*.csv', label: y}", ["tables"]),
        ("data: {path: s3://bucket/t.csv, label: y}", ["s3://bucket/t.csv"]),
        ("data: {path: t.csv, label: y, schema_file: frozen.pbtxt}", ["t.csv", "frozen.pbtxt"]),
        ("data: {path: t.csv, label: y}\nmodel: {module: my_network}", ["t.csv", "my_network.py"]),
    ],
)
def test_dependencies_are_what_a_run_reads(tmp_path, text, deps):
    for name in ("frozen.pbtxt", "my_network.py"):
        (tmp_path / name).touch()
    document = written(tmp_path, f"name: birds\n{text}\n")

    assert document["stages"]["train"]["deps"] == deps


def test_regression_has_no_classes_to_draw_and_a_bucket_no_output(tmp_path):
    text = "name: h\ndata: {path: t.csv, label: y}\nmodel: {task: regression}\nserving: {push_directory: s3://b/h}\n"
    (tmp_path / "pipeline.yaml").write_text(text)
    path, notes = write_dvc(tmp_path / "pipeline.yaml")
    document = yaml.safe_load(path.read_text())

    assert [next(iter(plot)) for plot in document["plots"]] == ["loss", "importance"]
    assert document["stages"]["train"]["outs"] == ["results/report.html", {"results/model_card.md": {"cache": False}}]
    assert notes == ["The models are in a bucket, which DVC does not track: s3://b/h."]


def test_file_that_exists_stays(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "pipeline.yaml").write_text("name: birds\ndata: {path: data, label: species}\n")

    with pytest.raises(UsageError, match=r"dvc\.yaml exists and is not overwritten\. Remove it"):
        write_dvc(tmp_path / "pipeline.yaml")
    assert (tmp_path / "dvc.yaml").read_text() == "stages: {}\n"


def test_command_writes_both_files_or_one_beside_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text(TABLE)

    assert kubetfx_here("init", "--dvc").exit_code == 2  # no pipeline.yaml yet
    none = kubetfx_here("init")
    assert none.exit_code == 2
    assert "init needs data to look at. Received: no DATA." in none.stderr

    both = kubetfx_here("init", "rows.csv", "--label", "species", "--dvc")
    assert both.exit_code == 0, both.stderr
    assert "Wrote pipeline.yaml and dvc.yaml. Next: dvc repro" in both.stderr
    (tmp_path / "dvc.yaml").unlink()
    one = kubetfx_here("init", "--dvc", "--format", "json")
    assert json.loads(one.stdout) == {"dvc": "dvc.yaml", "notes": []}
