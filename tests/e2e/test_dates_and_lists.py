"""A table with dates and lists: from the file to a model that a REST client asks with text and lists."""

import json
import random
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from kubetfx.artifacts import REQUEST
from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.server import RunningServer
from tests.e2e.project import Finished, Project, metrics_of
from tests.serving.conftest import options

CONFIG = """name: penguins
data:
  path: orders.csv
  label: state
  splits: {by: time, column: ordered}
model: {hidden_units: [32], members: 1}
training: {epochs: 15, batch_size: 32, learning_rate: 0.01}
evaluation:
  slices: [ordered_in]
  thresholds: {accuracy: {at_least: 0.85}}
"""
TAGS = ("fragile", "heavy", "cold", "gift", "express")
ROWS = 700


def make_table(path: Path) -> None:
    """An order is late two weeks after it was to be there, or one week if it is of something fragile."""
    chance = random.Random(0)
    lines = ["ordered,due,tags,ordered_in,state"]
    for _ in range(ROWS):
        ordered = date(2023, 1, 1) + timedelta(days=chance.randrange(700))
        days = chance.randrange(28)
        tags = chance.sample(TAGS, chance.randrange(4))
        due = f"{ordered + timedelta(days=days):%d.%m.%Y}" if chance.random() > 0.02 else ""
        late = days > (7 if "fragile" in tags else 14)
        month = f"{ordered:%Y-%m}" if ordered.year == 2024 and ordered.month > 6 else ""
        lines.append(
            f"{ordered:%b} {ordered.day} {ordered.year},{due},{'|'.join(tags)},{month},{'late' if late else 'fine'}"
        )
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("orders")
    make_table(folder / "orders.csv")
    (folder / "pipeline.yaml").write_text(CONFIG)
    return Project(folder)


@pytest.fixture(scope="module")
def run(project) -> Finished:
    return project.run()


@pytest.fixture(scope="module")
def rest(run, project) -> Iterator[httpx.Client]:
    with RunningServer(options(ModelConfig("orders", project.pushed))) as server:
        yield httpx.Client(base_url=f"http://127.0.0.1:{server.rest_port}", timeout=60, trust_env=False)


def test_time_between_two_dates_and_a_tag_decide(run):
    assert run.exit_code == 0, run.stdout
    metrics = metrics_of(run)
    assert metrics["metrics"]["accuracy"]["value"] > 0.85
    assert {"ordered_in=2024-11"} < {one["slice"] for one in metrics["slices"]}


def test_rest_takes_text_and_lists(rest, run, project):
    def states(*rows: dict[str, Any]) -> list[str]:
        answer = rest.post("/v1/models/orders:predict", json={"instances": rows})
        assert answer.status_code == 200, answer.text
        return [one["label"] for one in answer.json()["predictions"]]

    as_written = {"ordered": "Nov 1 2024", "due": "11.11.2024", "ordered_in": "2024-11"}
    in_iso = {"ordered": "2024-11-01", "due": "2024-11-11T00:00:00Z", "ordered_in": "2024-11-01"}
    for row in (as_written, in_iso):
        assert states(row | {"tags": ["gift", "cold"]}, row | {"tags": ["fragile", ""]}) == ["fine", "late"]
        assert states(row | {"tags": []}, row | {"tags": []}) == ["fine", "fine"]
    assert len(states(as_written | {"due": "soon", "tags": ["never seen"]})) == 1
    document = json.loads((project.pushed / str(project.versions[-1]) / REQUEST).read_text())
    assert isinstance(document["instances"][0]["tags"], list)
    assert len(states(*document["instances"])) == 1


def test_files_have_the_text_or_lists(run, project, tmp_path):
    header = "ordered,due,tags,ordered_in"
    (tmp_path / "rows.csv").write_text(
        f"{header}\nNov 1 2024,11.11.2024,gift|fragile,2024-11\nNov 1 2024,11.11.2024,,\n"
    )
    rows = [
        {"ordered": "2024-11-01", "due": "2024-11-11", "tags": ["gift", "fragile"], "ordered_in": "2024-11"},
        {"ordered": "2024-11-01", "due": "2024-11-11", "tags": None, "ordered_in": None},
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))

    found = [project.predict(tmp_path / name).document["predictions"] for name in ("rows.csv", "rows.json")]

    assert [[one["label"] for one in answers] for answers in found] == [["late", "fine"]] * 2
    assert [one["score"] for one in found[0]] == pytest.approx([one["score"] for one in found[1]], abs=1e-6)
