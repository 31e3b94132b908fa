"""Runs on other data: newer, another table, another network."""

import json
import re
from pathlib import Path

import pytest

from tests.command import kubetfx_here
from tests.e2e.project import ANY_MODEL, Project, kubetfx, metrics_of, report_of, states

PENGUINS_COLUMNS = (
    "island",
    "bill_length_mm",
    "bill_depth_mm",
    "flipper_length_mm",
    "body_mass_g",
    "sex",
    "year",
)


@pytest.mark.long
def test_users_own_module_beside_the_config_is_used_and_its_edits_are_noticed(new_penguins: Project) -> None:
    project = new_penguins
    module = project.folder / "my_network.py"
    module.write_text(
        "import keras\n"
        "from kubetfx.models.tabular import build_model as build_default, preprocessing_fn\n\n"
        "def build_model(transform_output, *, model, features, num_outputs):\n"
        "    network = build_default(transform_output, model=model, features=features, num_outputs=num_outputs)\n"
        "    return keras.Model(network.input, network.output, name='mine')\n"
    )
    arguments = ["--set", "model.module=my_network", "--set", "training.epochs=2", *ANY_MODEL]
    first = project.run(*arguments)
    assert first.exit_code == 0, first.stdout
    (log,) = [node["log"] for node in first.document["nodes"] if node["id"] == "Trainer"]
    assert 'Model: "mine"' in Path(log).read_text()
    assert set(metrics_of(first)["importance"]) == set(PENGUINS_COLUMNS)  # by asking for raw columns
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
    assert "task: regression  # more than 20 whole numbers are taken for amounts; if they are classes:" in text
    assert "drop: [score]" in text
    assert "kind: auto  # a network and boosted trees" in text

    done = kubetfx("run", "pipeline.yaml", "--format", "json", cwd=tmp_path)
    assert done.exit_code == 0, done.stdout
    assert set(done.document["excluded_columns"]) == {"Row ID", "empty"}
    html = report_of(done).read_text(encoding="utf-8")
    assert "Residuals" in html
    assert "A part of this report could not be made" not in html
    importance = metrics_of(done)["importance"]
    assert max(importance, key=importance.get) == "living area (m²)"
    training = metrics_of(done)["training"]
    assert training["model"] == min(training["candidates"], key=training["candidates"].get)
    (note,) = done.document["notes"]
    assert note.startswith(f"Model: {training['model']}")
    assert note in html
    assert re.search("<h3>(Trees|Network) beside it</h3>", html)

    rows_path = tmp_path / "rows.csv"
    rows_path.write_text("\n".join([header, *rows[:3]]) + "\n", encoding="utf-8")
    answer = kubetfx_here("predict", tmp_path / "pipeline.yaml", "--rows", rows_path, "--format", "json")
    assert len(answer.document["predictions"]) == 3
    assert all(prediction["value"] > 0 for prediction in answer.document["predictions"])

    again = kubetfx("init", table.name, "--label", "price €", cwd=tmp_path)
    assert again.exit_code == 2
    assert "is not overwritten" in again.stderr


@pytest.mark.long
def test_newest_span_is_read_and_a_newer_one_is_noticed(new_penguins: Project) -> None:
    data = new_penguins.folder / "data"
    (data / "span-1").mkdir()
    (data / "penguins.csv").rename(data / "span-1" / "penguins.csv")
    arguments = ["--set", "data.path=data/span-{SPAN}/*.csv", "--set", "training.epochs=2"]
    arguments += ANY_MODEL
    assert new_penguins.run(*arguments).exit_code == 0
    lines = (data / "span-1" / "penguins.csv").read_text().splitlines(keepends=True)
    (data / "span-2").mkdir()
    (data / "span-2" / "penguins.csv").write_text("".join(lines[:200]))
    newer = new_penguins.run(*arguments)
    assert states(newer)["TableExampleGen"] == "done"
    totals = [
        json.loads(path.read_text())["num_rows"]
        for path in new_penguins.workspace.glob("artifacts/TableExampleGen/examples/*/table_profile.json")
    ]
    assert sorted(totals) == [199, 344]
    data = metrics_of(newer)["data"]
    assert (data["span"], data["rows"]) == (2, 199)
    assert "island" in data["drifted"]  # the first 199 penguins are from other islands than all


@pytest.mark.long
def test_an_ugly_table_is_understood_and_an_odd_cell_stops_at_the_gate(tmp_path: Path) -> None:
    """Semicolons, decimal commas, cp1252, currency, codes with zeros; and one cell that is no number."""
    rows = [
        f"{i % 90 + 1}.{i % 900 + 100},{i % 10}5 €;{'0' if i % 3 else ''}{i % 7 + 1}01;{'Köln' if i % 2 else 'Zürich'};"
        f"{'ja' if i % 90 > 40 else 'nein'}"
        for i in range(1200)
    ]
    table = tmp_path / "umsätze.csv"
    table.write_bytes("\n".join(["umsatz;plz;ort;bleibt", *rows, ""]).encode("cp1252"))
    made = kubetfx("init", table.name, "--label", "bleibt", cwd=tmp_path)
    assert made.exit_code == 0, made.stderr
    text = (tmp_path / "pipeline.yaml").read_text(encoding="utf-8")
    assert "umsätze.csv is separated by semicolons, with decimal commas, in cp1252." in text
    assert "#   umsatz: numeric, decimal numbers" in text
    assert 'csv: {decimal: ","}' in text
    assert "#   plz: vocabulary" in text

    done = kubetfx("run", "pipeline.yaml", "--set", "training.epochs=2", "--format", "json", cwd=tmp_path)
    assert done.exit_code == 0, done.stdout
    assert "is read as 1100.05" in report_of(done).read_text(encoding="utf-8")
    question = tmp_path / "neu.csv"
    question.write_text('umsatz,plz,ort\n"1,250.50 €",0101,Köln\n-,201,Zürich\n', encoding="utf-8")
    asked = kubetfx("predict", "pipeline.yaml", "--rows", question.name, "--format", "json", cwd=tmp_path)
    assert asked.exit_code == 0, asked.stderr
    assert len(asked.document["predictions"]) == 2
    question.write_text("umsatz;plz;ort\n5,5;0101;Köln\nviel;201;Zürich\n", encoding="utf-8")
    asked = kubetfx("predict", "pipeline.yaml", "--rows", question.name, "--format", "json", cwd=tmp_path)
    assert "row 2" in asked.stdout
    assert "Column 'umsatz' holds numbers. Received: 'viel'" in asked.stdout

    rows[700] = "1.000,5o €;101;Köln;ja"
    table.write_bytes("\n".join(["umsatz;plz;ort;bleibt", *rows, ""]).encode("cp1252"))
    kubetfx("init", table.name, "--label", "bleibt", "--output", "again.yaml", cwd=tmp_path)
    assert "    umsatz: warn  # 1 of 1,200 cells" in (tmp_path / "again.yaml").read_text(encoding="utf-8")
    stopped = kubetfx("run", "pipeline.yaml", "--set", "training.epochs=2", "--format", "json", cwd=tmp_path)
    assert stopped.exit_code == 3, stopped.stdout
    assert "1 of 1,200 cells is not a number, the first '1.000,5o €' in row 701" in stopped.stdout
    passed = kubetfx(
        *("run", "pipeline.yaml", "--set", "training.epochs=2", "--set", "validation.features={umsatz: warn}"),
        *("--format", "json"),
        cwd=tmp_path,
    )
    assert passed.exit_code == 0, passed.stdout
