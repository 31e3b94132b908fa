"""The commands that look back, on records of runs that never ran."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kubetfx import run_record
from kubetfx.cli import output
from kubetfx.cli.report_commands import app
from kubetfx.config.loading import load_config
from kubetfx.errors import UsageError
from kubetfx.pipeline import training_logs


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text("name: shells\ndata: {path: data, label: kind}\nevaluation: {thresholds: {auc: {at_least: 0.5}}}\n")
    return path


def recorded(config: Path, run_id: str, state: run_record.RunState, **fields) -> run_record.RunRecord:
    loaded = load_config(config)
    record = run_record.begin(loaded, run_id=run_id, command=["kubetfx", "run", str(config)])
    record = run_record.ended(record, state, seconds=12.34, **fields)
    run_record.write(loaded.workspace_path, record)
    return record


def kubetfx(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_runs_are_listed_with_metrics_that_have_a_threshold_first(config: Path) -> None:
    recorded(
        config,
        "20260101-000000-aaa",
        "pushed",
        metrics={"example_count": 9, "accuracy": 0.9, "auc": 0.8},
        pushed_version=5,
    )
    recorded(config, "20260102-000000-bbb", "failed", error="ValueError: no")

    lines = kubetfx("runs", config).splitlines()
    assert lines[0].split() == ["run", "end", "version", "auc", "accuracy", "time"]
    assert lines[1].split() == ["20260102-000000-bbb", "failed", "12.3", "s"]
    assert lines[2].split() == ["20260101-000000-aaa", "pushed", "5", "0.8", "0.9", "12.3", "s"]


@pytest.mark.parametrize("width", [80, 120])
def test_table_of_runs_breaks_no_word_and_no_number(config: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Metrics that there is no room for are left out, those with a threshold last."""
    monkeypatch.setattr(output, "_WIDTH_OF_PIPES", width)
    names = ("accuracy", "auc", "auc_precision_recall", "squared_pearson_correlation")
    for day, state in ((1, "pushed"), (2, "stopped_by_anomalies")):
        recorded(config, f"2026010{day}-000000-bbb", state, metrics=dict.fromkeys(names, 0.1234))

    lines = kubetfx("runs", config).splitlines()

    assert max(map(len, lines)) <= width
    assert len(lines) == 3
    header = lines[0].split()
    assert header[:4] == ["run", "end", "version", "auc"]
    assert len(header) == (6 if width == 80 else 7)
    assert lines[1].split()[-3:] == ["0.1234", "12.3", "s"]


def test_id_of_a_run_stays_on_one_line_beside_metrics_of_long_names(config: Path) -> None:
    names = (f"my_metrics:a_name_that_is_longer_than_its_{noun}" for noun in ("value", "column", "table"))
    recorded(config, "20260102-000000-bbbbbb", "pushed", metrics=dict.fromkeys(names, 0.5), pushed_version=1795915271)

    (line,) = (line for line in kubetfx("runs", config).splitlines() if line.startswith("2026"))
    assert line.split()[::2][:2] == ["20260102-000000-bbbbbb", "1795915271"]


def test_runs_are_a_document_too(config: Path) -> None:
    recorded(config, "20260102-000000-bbb", "failed", error="ValueError: no")

    (run,) = json.loads(kubetfx("runs", config, "--format", "json"))["runs"]
    assert (run["state"], run["error"], run["report"]) == ("failed", "ValueError: no", None)


def test_report_of_a_run_that_left_nothing_is_made(config: Path) -> None:
    recorded(config, "20260102-000000-bbb", "running")

    path = Path(kubetfx("report", config).strip())
    assert path.name == "report.html"
    assert "Running, or killed without a word" in path.read_text(encoding="utf-8")
    assert json.loads((path.parent / "metrics.json").read_text())["blessed"] is None


@pytest.mark.parametrize("opens", [True, False])
def test_report_is_opened_where_there_is_a_browser(config: Path, monkeypatch: pytest.MonkeyPatch, opens: bool) -> None:
    recorded(config, "20260102-000000-bbb", "failed", error="ValueError: no")
    asked = []
    monkeypatch.setattr("webbrowser.open", lambda url: asked.append(url) or opens)
    result = CliRunner().invoke(app, ["report", str(config), "--open"], catch_exceptions=False)

    assert asked == [Path(result.stdout.strip()).resolve().as_uri()]
    assert ("No browser could be started" in result.stderr) is not opens


def test_two_runs_are_compared(config: Path) -> None:
    recorded(config, "20260101-000000-aaa", "pushed", metrics={"auc": 0.8})
    second = recorded(config, "20260102-000000-bbb", "pushed", metrics={"auc": 0.7})
    changed = {**second.config, "training": {**second.config["training"], "epochs": 3}}
    run_record.write(load_config(config).workspace_path, second.model_copy(update={"config": changed}))

    text = kubetfx("compare", config, "20260101", "20260102")
    assert "-0.1 worse" in text
    assert ["training.epochs", "200", "3"] in [line.split() for line in text.splitlines()]


def test_logs_of_runs_that_trained_are_linked_by_run(config: Path, tmp_path: Path) -> None:
    workspace = load_config(config).workspace_path
    with pytest.raises(UsageError, match="No run has trained yet"):
        training_logs.link_logs(workspace)
    logs = tmp_path / "logs"
    logs.mkdir()
    for run_id, state in (("1", "done"), ("2", "cached")):
        node = run_record.NodeRecord(id="Trainer", state=state, seconds=1, log="", outputs={"model_run": [str(logs)]})
        recorded(config, run_id, "pushed", nodes=[node])

    folder = training_logs.link_logs(workspace)
    assert [link.name for link in folder.iterdir()] == ["1"]
    assert (folder / "1").resolve() == logs
    assert training_logs.link_logs(workspace) == folder


def test_looking_back_imports_neither_tensorflow_nor_tfx(config: Path) -> None:
    recorded(config, "20260101-000000-aaa", "pushed", metrics={"auc": 0.8})
    program = (
        "import sys\n"
        "from kubetfx.cli.report_commands import app\n"
        f"app(['report', {str(config)!r}], standalone_mode=False)\n"
        "print(sorted({'tensorflow', 'tfx', 'apache_beam', 'pyarrow'} & set(sys.modules)))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.splitlines()[-1] == "[]"
