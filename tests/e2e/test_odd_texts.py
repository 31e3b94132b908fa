"""A table of text, numbers and categories with cells that nobody expects, from CSV to the report; and what a server,
its log and the monitoring of it say of such texts."""

import base64
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from kubetfx.components.report.facts import Facts, read
from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.request_log import RequestLogOptions
from kubetfx.serving.server import RunningServer, ServerOptions
from tests.command import Finished, kubetfx_here
from tests.e2e.project import ANY_MODEL, Project, kubetfx, metrics_of, report_of

pytestmark = pytest.mark.long

GOOD, BAD = ("wonderful", "brilliant"), ("dreadful", "boring")
OTHERS = tuple(f"word{chr(97 + first)}{chr(97 + second)}" for first in range(5) for second in range(8))
ODD = (
    "x" * 2**20,
    "again " * 1_000_000,
    "wonderful <!-- never closed",
    "wonderful <script>document.title = 1",
    "wonderful <style>p {color: red}",
    "<" * 5_000,
    "!!! ... ???",
    "e\u0301\u200b\u00ad \U0001f600 \u05e9\u05dc\u05d5\u05dd",
    "\u8fd9\u90e8\u7535\u5f71\u5f88\u597d",
    "",
)
ROWS = 500
REPORT_SECONDS = 20
FOREIGN = "ett h\u00e4rligt verk som alla borde se om de bara f\u00e5r tid till det"


def table() -> list[dict[str, str]]:
    """Three of five labels are known by the text, one by the number, and one by the category."""
    drawn = np.random.default_rng(0)
    rows = []
    for number in range(ROWS):
        is_good, shop, stars = number % 2 == 0, "ab"[number // 2 % 2], int(drawn.integers(40, 60))
        words = drawn.choice(OTHERS, 12).tolist()
        if number % 5 < 3:
            words.insert(int(drawn.integers(0, 12)), str(drawn.choice(GOOD if is_good else BAD)))
        elif number % 5 == 3:
            stars = 90 if is_good else 10
        else:
            shop = "c" if is_good else "d"
        rows.append({"review": " ".join(words), "stars": str(stars), "shop": shop, "label": ("bad", "good")[is_good]})
    for number, text in enumerate(ODD):
        rows[number * 40 + 1] |= {"review": text}
    return rows


def write(rows: list[dict[str, str]], path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "data").mkdir()
    write(table(), folder / "data" / "rows.csv")
    document = {
        "name": "penguins",
        "data": {"path": "data", "label": "label"},
        "features": {"text": ["review"]},
        "training": {"epochs": 60, "batch_size": 32},
    }
    (folder / "pipeline.yaml").write_text(json.dumps(document), encoding="utf-8")
    return Project(folder)


@pytest.fixture(scope="module")
def run(project: Project) -> Finished:
    finished = project.run(*ANY_MODEL, seconds=600)
    assert finished.exit_code == 0, finished.stdout + finished.stderr
    return finished


@pytest.fixture(scope="module")
def facts(run: Finished) -> Facts:
    found = read(report_of(run).parent)
    assert found is not None
    return found


def serving(project: Project, log: RequestLogOptions | None = None) -> RunningServer:
    models = (ModelConfig("penguins", project.pushed),)
    return RunningServer(ServerOptions(models=models, rest_port=0, grpc_port=0, request_log=log or RequestLogOptions()))


@pytest.fixture(scope="module")
def server(run: Finished, project: Project) -> Iterator[RunningServer]:
    with serving(project) as started:
        yield started


def test_text_number_and_category_are_all_of_use(run: Finished) -> None:
    found = metrics_of(run)

    assert found["metrics"]["accuracy"]["value"] > 0.85  # the text alone says 0.8
    assert set(found["importance"]) == {"review", "stars", "shop"}
    assert min(found["importance"].values()) > 0.02


def test_report_shows_odd_cells_cut_and_takes_no_time_for_them(run: Finished, facts: Facts) -> None:
    assert facts.problems == []
    assert facts.quality is not None
    assert facts.quality.texts is not None
    key_words = {one.name: one.words[0].word for one in facts.quality.texts.key_words}
    assert key_words["good"] in GOOD
    assert key_words["bad"] in BAD
    html = report_of(run).read_text(encoding="utf-8")
    assert "<script" not in html
    assert len(html) < 2**20
    (seconds,) = [node["seconds"] for node in run.document["nodes"] if node["id"] == "Report"]
    assert seconds < REPORT_SECONDS


def test_odd_cells_have_the_same_answer_in_every_way(project: Project, server: RunningServer, tmp_path: Path) -> None:
    asked = [{"review": text, "stars": "5", "shop": "a"} for text in ODD]
    rows, output = write(asked, tmp_path / "rows.csv"), tmp_path / "found.parquet"
    instances = [one | {"stars": 5} for one in asked]

    rest = httpx.post(url_of(server), json={"instances": instances}, timeout=60, trust_env=False).json()["predictions"]
    offline = project.predict(rows)
    over_grpc = kubetfx_here(
        "predict", project.config, "--rows", rows, "--grpc", f"127.0.0.1:{server.grpc_port}", "--format", "json"
    )
    in_bulk = kubetfx("batch-predict", project.config, "--input", rows, "--output", output)

    assert in_bulk.exit_code == 0, in_bulk.stderr
    answers = [offline.document["predictions"], over_grpc.document["predictions"], pq.read_table(output).to_pylist()]
    found = [[list(one["probabilities"].values()) for one in of_one_way] for of_one_way in answers]
    found.append([one["probabilities"] for one in rest])
    assert len(found[0]) == len(ODD)
    for probabilities in found:
        np.testing.assert_allclose(probabilities, found[0], atol=1e-5)


def test_invalid_utf8_in_a_request_is_answered_as_the_bytes_that_it_is(server: RunningServer) -> None:
    encoded = base64.b64encode(b"wonderful \xff\xfe fun").decode()
    row = {"review": {"b64": encoded}, "stars": 5, "shop": "a"}
    body = json.dumps({"instances": [row | {"review": "wonderful ? fun"}]}).encode().replace(b"?", b"\xff\xfe")

    answered = httpx.post(url_of(server), json={"instances": [row]}, timeout=60, trust_env=False)
    as_text = httpx.post(url_of(server), content=body, timeout=60, trust_env=False)
    whole = httpx.post(
        url_of(server), json={"instances": [row | {"review": "wonderful fun"}]}, timeout=60, trust_env=False
    )

    assert answered.status_code == as_text.status_code == 200, answered.text + as_text.text
    found, same, expected = (one.json()["predictions"][0]["probabilities"] for one in (answered, as_text, whole))
    assert found == same
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_logged_requests_in_another_language_are_on_the_page_of_the_monitoring(
    run: Finished, project: Project, tmp_path: Path
) -> None:
    log = tmp_path / "requests"
    instances = [{"review": f"{FOREIGN} {number}", "stars": 5, "shop": "a"} for number in range(400)]
    with serving(project, RequestLogOptions(log, 1.0)) as server:
        assert httpx.post(url_of(server), json={"instances": instances}, timeout=60, trust_env=False).is_success

    done = kubetfx("monitor", project.config, "--requests", log, "--format", "json", "--output", tmp_path)

    crossed = {(one["subject"], one["kind"]) for one in done.document["crossed"]}
    assert crossed >= {("review", "unknown_words"), ("review", "strange_texts")}
    assert done.exit_code == 3
    page = (tmp_path / "monitoring.html").read_text(encoding="utf-8")
    assert "Strange texts, in training" in page


def url_of(server: RunningServer) -> str:
    return f"http://127.0.0.1:{server.rest_port}/v1/models/penguins:predict"
