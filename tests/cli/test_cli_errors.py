import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kubetfx import errors
from kubetfx.cli.output import Output
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import AnomaliesError, NodeFailedError, NotBlessedError, PushError

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = Path(__file__).parent / "goldens"

YAML = "name: penguins\ndata: {path: data, label: species}\n"
TABLE = "mass,island,species\n" + "".join(f"{i}.5,{'ab'[i % 2]},{'xy'[i % 2]}\n" for i in range(10))


@pytest.fixture
def config(tmp_path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text(TABLE)
    path = tmp_path / "pipeline.yaml"
    path.write_text(YAML)
    return path


def test_version_is_that_of_the_project_and_of_what_is_installed(kubetfx):
    version = kubetfx("--version")

    assert version.exit_code == 0
    assert version.stdout.startswith("kubetfx 0.1.0 (tfx 1.21.0, tensorflow 2.21.0,")


CONFIG_ERRORS = [
    pytest.param("training.epoch=3", "training.epoch: unknown key. Did you mean 'epochs'?", id="unknown key"),
    pytest.param("training.epochs=many", "Received: 'many' (text).", id="wrong type"),
    pytest.param("training.epochs", "An override must have the form dotted.key=value", id="bad override"),
    pytest.param("data.splits.train=0.9", "must add up to 1", id="bad splits"),
    pytest.param("evaluation.thresholds={acuracy: {at_least: 1}}", "Did you mean 'accuracy'?", id="unknown metric"),
    pytest.param("data.label=specie", "There is no column 'specie' to predict. Did you mean 'species'?", id="no label"),
    pytest.param("data.path=nowhere", "data.path matches no file", id="no file"),
    pytest.param("features.numeric=[island]", "which holds text", id="wrong role"),
    pytest.param("model.task=regression", "a regression needs numbers", id="wrong task"),
    pytest.param("model.module=no_such_module", "model.module cannot be imported", id="no such module"),
    pytest.param("serving.push_directory=pipeline.yaml", "serving.push_directory cannot be written", id="not writable"),
]


@pytest.mark.parametrize(("override", "message"), CONFIG_ERRORS)
def test_run_refuses_before_anything_is_written(kubetfx, config, override, message):
    outcome = kubetfx("run", config, "--set", override)

    assert outcome.exit_code == 2
    assert outcome.stdout == ""
    assert "Error: " in outcome.stderr
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert sorted(entry.name for entry in config.parent.iterdir()) == ["data", "pipeline.yaml"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "rows.csv is empty"),
        (b"mass,island,species\n", "has a header and no rows"),
        (b"mass,island,species\n1,a,x\n2,y\n", "rows.csv, line 3: the header has 3 columns, this row has 2"),
        ("mass,island,species\n1,ééé,x\n".encode() + b"2,\xff,y\n", "is not UTF-8. Received: byte 0xff at offset 33"),
        (b"mass,mass,species\n1,2,x\n", "several columns of one name"),
        (b"mass,score,species\n1,2,x\n2,3,y\n", "Column 'score' has the name of something that the model returns"),
        (b"mass,island,species\n1,a,x\n2,b,x\n", "has one value, so there is nothing to learn"),
        (b"mass,island,species\n1,a,x\n2,b,\n3,b,y\n", "is missing in 1 of 3 rows"),
        (b"PAR1....PAR1", "rows.csv is a Parquet file"),
    ],
    ids=[
        "empty",
        "header only",
        "ragged",
        "not UTF-8",
        "duplicate columns",
        "column named like an output",
        "one class",
        "label missing",
        "Parquet",
    ],
)
def test_run_refuses_a_bad_table(kubetfx, config, content, message):
    (config.parent / "data" / "rows.csv").write_bytes(content)

    outcome = kubetfx("run", config)

    assert outcome.exit_code == 2
    assert message in outcome.stderr
    assert not (config.parent / ".kubetfx").exists()


def test_error_is_one_json_document_on_stdout(kubetfx, config):
    outcome = kubetfx("run", config, "--format", "json", "--set", "data.label=specie")

    assert outcome.exit_code == 2
    assert outcome.stderr == ""
    error = json.loads(outcome.stdout)["error"]
    assert error["exit_code"] == 2
    assert error["type"] == "DataError"
    assert error["message"].startswith("There is no column 'specie' to predict.")


def test_node_of_a_run_whose_id_is_no_name_is_refused(kubetfx, config):
    outcome = kubetfx("node", config, "Trainer", "--run", "2026/12")

    assert outcome.exit_code == 2
    assert "The id of a run is made of letters, digits and _.~:+-" in outcome.stderr
    assert "Received: '2026/12'. Try 2026-12-01 or daily-17." in outcome.stderr
    assert sorted(entry.name for entry in config.parent.iterdir()) == ["data", "pipeline.yaml"]


def test_error_in_the_config_is_json_too(kubetfx, config):
    outcome = kubetfx("run", config, "--format", "json", "--set", "trainin.epochs=3")

    assert json.loads(outcome.stdout)["error"]["type"] == "ConfigError"
    assert outcome.stderr == ""


def test_brackets_in_a_message_are_no_markup(kubetfx, config):
    outcome = kubetfx("run", config, "--set", "data.path=[bold]nothing[/bold]*.csv")

    assert "[bold]nothing[/bold]*.csv" in outcome.stderr


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (AnomaliesError("The data has 2 anomalies"), 3),
        (NotBlessedError("The model missed a threshold", run={}), 4),
        (PushError("The disk is full"), 1),
        (NodeFailedError("Trainer", "no memory", log_path=Path("/logs/Trainer.log")), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_exit_code_says_how_a_run_ended(kubetfx, config, monkeypatch, error, exit_code):
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("kubetfx.pipeline.local_runner.LocalRunner.run", fail)

    outcome = kubetfx("run", config)

    assert outcome.exit_code == exit_code
    assert str(error) in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_failed_node_is_named_with_its_log_in_json(kubetfx, config, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise NodeFailedError("Trainer", "no memory", log_path=Path("/logs/Trainer.log"))

    monkeypatch.setattr("kubetfx.pipeline.local_runner.LocalRunner.run", fail)

    error = json.loads(kubetfx("run", config, "--format", "json").stdout)["error"]

    assert error["exit_code"] == 1
    assert (error["node"], error["log"]) == ("Trainer", "/logs/Trainer.log")


def test_failed_node_is_followed_by_its_log_and_the_command_that_goes_on(kubetfx, config, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise NodeFailedError("Trainer", "no memory", log_path=Path("/logs/Trainer.log"))

    monkeypatch.setattr("kubetfx.pipeline.local_runner.LocalRunner.run", fail)

    outcome = kubetfx("run", config, "--set", "training.epochs=3")

    assert "Trainer failed: no memory" in outcome.stderr
    assert "/logs/Trainer.log" in outcome.stderr
    assert f"kubetfx run {config}" in outcome.stderr
    assert "training.epochs=3" in outcome.stderr


def test_every_error_stands_in_the_tree_with_its_exit_code():
    documented = re.findall(r"(\w+Error) +([0-9]+)?", errors.__doc__.partition("\n\n")[2])
    defined = {
        name: error.exit_code
        for name, error in vars(errors).items()
        if not name.startswith("_") and isinstance(error, type) and issubclass(error, errors.KubetfxError)
    }

    assert {name for name, _ in documented} == set(defined)
    assert {name: int(code) for name, code in documented if code}.items() <= defined.items()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'CONFIG'"),
        (["run", "a.yaml", "--frmat", "json"], "No such option"),
        (["run", "a.yaml", "--format", "xml"], "'xml' is not one of 'human', 'json'"),
        (["rnu"], "No such command 'rnu'"),
        (["predict", "a.yaml"], "Missing option '--rows'"),
    ],
    ids=["no config", "unknown option", "unknown format", "unknown command", "no rows"],
)
def test_wrong_usage_ends_with_exit_code_2(kubetfx, arguments, message):
    outcome = kubetfx(*arguments)

    assert outcome.exit_code == 2
    assert message in " ".join(outcome.stderr.split())
    assert outcome.stdout == ""


def test_predict_before_the_first_push_says_what_to_do(kubetfx, config):
    outcome = kubetfx("predict", config, "--rows", config)

    assert outcome.exit_code == 2
    assert f"No model was pushed yet. Received: {config.parent}" in outcome.stderr.replace("\n", "")
    assert f"kubetfx run {config}" in outcome.stderr


def test_printed_command_can_be_pasted_into_a_shell(kubetfx, config, tmp_path):
    folder = tmp_path / "my [first] model's"
    folder.mkdir()
    moved = config.rename(folder / "pipeline.yaml")
    for version in "12":
        (folder / "pushed" / version).mkdir(parents=True)
        (folder / "pushed" / version / "saved_model.pb").touch()

    back = kubetfx("rollback", moved, "--set", "serving.push_directory=pushed")

    assert back.exit_code == 0, back.stderr
    (command,) = re.findall(r"To undo it: (.*)", back.stderr)
    assert shlex.split(command) == ["kubetfx", "rollback", str(moved), "--to", "2"]


@pytest.fixture(scope="session")
def half_plus_two(tmp_path_factory) -> Path:
    """A push directory with TensorFlow Serving's test model, x / 2 + 2."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("served")
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        x = tf.compat.v1.placeholder(tf.float32, [None], "x")
        signature = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"value": x / 2 + 2})
        builder = tf.compat.v1.saved_model.Builder(str(folder / "1"))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    return folder


def test_predict_needs_no_workspace(kubetfx, config, half_plus_two, tmp_path):
    """The model is in the push directory, wherever it was trained."""
    rows = tmp_path / "rows.csv"
    rows.write_text("x,other\n1,a\n2,b\n")

    outcome = kubetfx(
        "predict", config, "--rows", rows, "--format", "json", "--set", f"serving.push_directory={half_plus_two}"
    )

    assert outcome.exit_code == 0, outcome.stderr
    assert json.loads(outcome.stdout) == {
        "model_name": "penguins",
        "version": 1,
        "predictions": [{"value": 2.5}, {"value": 3.0}],
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", None, "There is no such file of rows"),
        ("rows.csv", "", "is empty. A CSV file starts with"),
        ("rows.csv", "x\n", "There are no rows"),
        ("rows.csv", "z\n1\n", "lacks columns of the model: x. Received: z."),
        ("rows.csv", "x\nmany\n", "many"),
        ("rows.json", "[{", "The rows cannot be read"),
        ("rows.json", "3", "a list of objects, a row each, was expected"),
        ("rows.json", "[]", "rows"),
        ("rows.jsonl", '{"x": "many"}\n', "Column 'x' holds numbers. Received: 'many'."),
        ("rows.jsonl", '{"x": true}\n{"x": [1]}\n', "Column 'x' holds numbers. Received: [1]."),
        ("folder.csv", "folder", "There is no file to read (.csv, "),
    ],
    ids=[
        "no file",
        "empty",
        "header only",
        "other columns",
        "text as number",
        "broken JSON",
        "JSON of a number",
        "JSON of no rows",
        "JSON lines of text",
        "JSON lines of a list",
        "folder",
    ],
)
def test_predict_refuses_bad_rows(kubetfx, config, half_plus_two, tmp_path, name, content, message):
    rows = tmp_path / name
    if content == "folder":
        rows.mkdir()
    elif content is not None:
        rows.write_text(content)
    (tmp_path / ".kubetfx" / "penguins").mkdir(parents=True)

    outcome = kubetfx("predict", config, "--rows", rows, "--set", f"serving.push_directory={half_plus_two}")

    assert outcome.exit_code == 2
    assert message in outcome.stderr


def test_schema_is_json(kubetfx):
    outcome = kubetfx("schema")

    assert outcome.exit_code == 0
    assert json.loads(outcome.stdout) == PipelineConfig.model_json_schema()
    assert outcome.stderr == ""


@pytest.mark.parametrize("command", ["", "run", "predict", "batch-predict", "init", "schema"])
def test_help_is_as_it_was_reviewed(kubetfx, command):
    outcome = kubetfx(*command.split(), "--help")

    shown = re.sub(r"python -m \w+\.kubetfx", "kubetfx", outcome.stdout)  # typer looks at how pytest was started
    shown = "\n".join(line.rstrip() for line in shown.splitlines()).strip() + "\n"
    golden = GOLDENS / f"help{command and '_'}{command}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(shown)
    assert outcome.exit_code == 0
    assert shown == golden.read_text(), f"{golden} differs; UPDATE_GOLDEN=1 rewrites it"


def test_module_is_the_console_script(config):
    """One whole process: what the shell sees."""
    result = subprocess.run(
        [sys.executable, "-m", "kubetfx", "run", str(config), "--format", "json", "--set", "trainin.epochs=3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 2
    assert json.loads(result.stdout)["error"]["exit_code"] == 2
    assert result.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_output_of_any_locale_is_whole_and_tables_are_not_flooded(monkeypatch, encoding):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    output = Output("json")
    output.document({"größe": "é" * 1_500_000})
    output.table(["name"], [["é" * 1_500_000]])
    sys.stdout.flush()
    lines = written.getvalue().decode(encoding).split("\n")
    assert json.loads("".join(lines[:3])) == {"größe": "é" * 1_500_000}
    table = "".join(lines[3:])
    assert table.count("é" if encoding == "utf-8" else "\\xe9") == 300
    assert "[1,499,700 characters more]" in table
