"""Messages: from `init` to a model that is asked for raw sentences by REST, gRPC, offline and in bulk."""

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from kubetfx.artifacts import HISTORY
from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.server import RunningServer
from tests.command import kubetfx_here
from tests.e2e.project import ANY_MODEL, Finished, Project, kubetfx, metrics_of, report_of
from tests.e2e.pushed import pushed_tensors
from tests.serving.conftest import options

SUBJECTS = ["the film", "this plot", "her acting", "our hero", "every scene", "that song", "the ending", "his voice"]
GOOD = ["wonderful", "great fun", "a <b>delight</b>", "moving &amp; wise", "not bad"]
BAD = ["dreadful", "not great", "a bore", "flat and silly", "no fun"]
ASKED = [
    "The ending wasn't great :-(",
    "A DELIGHT!",
    "",
    "\U0001f600",
    "\u8fd9\u90e8\u7535\u5f71\u5f88\u597d",
    "great " * 5_000,
]


def make_table(path: Path, *, rows: int = 900) -> None:
    """What is said of one thing decides, and what is said of another is a detail."""
    chance = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "sentiment"])
        for number in range(rows):
            sentiment = ["negative", "positive"][number % 2]
            said = [chance.choice(GOOD if number % 2 else BAD) for _ in range(2)]
            first, second = chance.sample(SUBJECTS, 2)
            writer.writerow([f"{first} was {said[0]}, and {second} {said[1]}! ({number})", sentiment])


def project_in(folder: Path) -> Project:
    """As `init` writes it, under the name that Project looks for."""
    folder.mkdir()
    make_table(folder / "reviews.csv")
    made = kubetfx_here("init", folder / "reviews.csv", "--label", "sentiment", "--output", folder / "pipeline.yaml")
    assert made.exit_code == 0, made.stderr
    text = (folder / "pipeline.yaml").read_text()
    (folder / "pipeline.yaml").write_text(text.replace("name: reviews", "name: penguins"))
    return Project(folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return project_in(tmp_path_factory.mktemp("text") / "reviews")


@pytest.fixture(scope="module")
def run(project) -> Finished:
    return project.run()


@pytest.fixture(scope="module")
def server(run, project) -> Iterator[RunningServer]:
    with RunningServer(options(ModelConfig("penguins", project.pushed))) as started:
        yield started


def test_init_chooses_text_and_says_why(project):
    text = project.config.read_text()

    assert "#   review: text, 900 different cells, of" in text
    assert "hidden_units: []  # of text alone" in text


def test_model_of_text_beats_a_constant_and_is_pushed(run):
    assert run.exit_code == 0, run.stdout
    assert metrics_of(run)["metrics"]["accuracy"]["value"] > 0.95


def test_raw_sentences_have_the_same_answer_in_every_way(run, project, server, tmp_path):
    rest = httpx.post(
        f"http://127.0.0.1:{server.rest_port}/v1/models/penguins:predict",
        json={"instances": [{"review": text} for text in ASKED]},
        timeout=60,
    ).json()["predictions"]
    output = tmp_path / "found.parquet"
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["review", "row"], *([text, number] for number, text in enumerate(ASKED))])
    offline = project.predict(tmp_path / "rows.csv").document["predictions"]
    over_grpc = kubetfx_here(
        "predict", project.config, "--rows", tmp_path / "rows.csv", "--grpc", f"127.0.0.1:{server.grpc_port}",
        "--format", "json",
    )  # fmt: skip
    in_bulk = kubetfx("batch-predict", project.config, "--input", tmp_path / "rows.csv", "--output", output)

    assert [one["label"] for one in rest[:2]] == ["negative", "positive"]
    assert over_grpc.exit_code == 0, over_grpc.stderr
    assert in_bulk.exit_code == 0, in_bulk.stderr
    answers = [offline, over_grpc.document["predictions"], pq.read_table(output).to_pylist()]
    found = [[list(one["probabilities"].values()) for one in of_one_way] for of_one_way in answers]
    found.append([one["probabilities"] for one in rest])
    for probabilities in found:
        np.testing.assert_allclose(probabilities, found[0], atol=1e-5)


ATTENTION = (
    "--set",
    "features.text_encoder={kind: transformer, layers: 1, heads: 2, size: 16, length: 32, pretrain: {epochs: 2}}",
    *("--set", "training={epochs: 3, batch_size: 64, class_weights: balanced}"),
    *("--set", "model.kind=network"),
    *ANY_MODEL,
)


@pytest.mark.long
def test_pretraining_of_a_transformer_is_in_the_report_and_bit_identical_elsewhere(tmp_path):
    ours, theirs = (project_in(tmp_path / name) for name in ("one", "two"))
    first, second = (one.run(*ATTENTION) for one in (ours, theirs))

    assert first.exit_code == 0, first.stdout
    assert "Pretrained for 2 epochs by guessing masked tokens" in report_of(first).read_text(encoding="utf-8")
    history = read_history(ours)["pretraining"]["text_transformer"]
    assert history == read_history(theirs)["pretraining"]["text_transformer"]
    assert history["val_loss"][1] < history["val_loss"][0]
    assert second.document["metrics"] == first.document["metrics"]
    assert_equal_weights(ours, theirs)


@pytest.mark.long
def test_run_in_a_fresh_workspace_gives_bit_identical_weights(run, project, tmp_path):
    other = project_in(tmp_path / "reviews")
    again = other.run()

    assert again.document["metrics"] == run.document["metrics"]
    assert_equal_weights(project, other)


def read_history(project: Project) -> dict[str, Any]:
    (path,) = project.workspace.glob(f"artifacts/Trainer/model/*/{HISTORY}")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def assert_equal_weights(project: Project, other: Project) -> None:
    ours, theirs = pushed_tensors(project), pushed_tensors(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
