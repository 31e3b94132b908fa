"""A table with a photo in it: trained on with its numbers, pushed, and asked through `serving_default`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from kubetfx.serving.model_facts import read_facts
from kubetfx.serving.saved_model import SavedModel
from tests.command import kubetfx_here
from tests.e2e.project import ANY_MODEL, Finished, Project, metrics_of, states

ROWS = 240
CONFIG = """name: digits-and-sizes
data: {path: table, label: kind}
features: {image: [picture]}
model: {image_size: 8, filters: [8, 16]}
training: {epochs: 30, batch_size: 32, learning_rate: 0.01}
evaluation:
  robustness: {blur: [3], fgsm: [0.3]}
  thresholds:
    accuracy: {at_least: 0.8}
    top_k_accuracy: {at_least: 0.9}
"""


def make_table(folder: Path) -> None:
    """Zeros and ones, each small or large by a number: neither the picture nor the number alone says more than half."""
    digits = load_digits(n_class=2)
    sizes = np.random.default_rng(0).normal(size=ROWS)
    (folder / "pictures").mkdir(parents=True)
    lines = ["picture,size,kind"]
    for number, (pixels, digit, size) in enumerate(zip(digits.images, digits.target, sizes, strict=False)):
        Image.fromarray((pixels * 15).astype(np.uint8)).save(folder / "pictures" / f"{number}.png")
        lines.append(f"pictures/{number}.png,{size:.4f},{'large' if size > 0 else 'small'} {digit}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    folder = tmp_path_factory.mktemp("mixed")
    make_table(folder / "table")
    (folder / "pipeline.yaml").write_text(CONFIG)
    return Project(folder)


@pytest.fixture(scope="module")
def first(project) -> Finished:
    return project.run()


def test_picture_and_number_together_say_what_neither_says_alone(first):
    assert first.exit_code == 0, first.stdout
    assert metrics_of(first)["metrics"]["accuracy"]["value"] > 0.8
    assert any("waited" in note for note in first.document["notes"])
    assert {"kappa", "top_k_accuracy", "drop_blur_3"} <= metrics_of(first)["metrics"].keys()
    assert metrics_of(first)["metrics"]["drop_fgsm_0.3"]["value"] > 0.1  # the sizes stay as they are
    assert set(metrics_of(first)["importance"]) == {"picture", "size"}
    assert min(metrics_of(first)["importance"].values()) > 0.1


def test_pushed_model_is_asked_with_the_bytes_of_the_picture_and_the_number(project, first):
    version = Path(first.document["push_directory"]) / str(first.document["pushed_version"])
    contents = [(project.folder / "table" / "pictures" / f"{number}.png").read_bytes() for number in (0, 1)]
    rows = {
        "picture_bytes": np.array([content for content in contents for _ in range(2)], object),
        "size": np.array([-1.5, 1.5, -1.5, 1.5], np.float32),
    }

    with SavedModel(version, only=("serving_default",)) as model:
        answer = model.signature("serving_default")(rows)

    assert answer["label"].tolist() == [b"small 0", b"large 0", b"small 1", b"large 1"]
    assert answer["top_labels"][:, 0].tolist() == answer["label"].tolist()
    facts = read_facts(version)
    assert facts is not None
    assert facts.inputs == ("picture", "size")


def test_mistakes_and_what_the_network_looked_at_are_shown(project, first, tmp_path):
    inspected = kubetfx_here("inspect", project.config, "--output", tmp_path, "--format", "json")

    assert inspected.exit_code == 0, inspected.stderr
    assert Image.open(tmp_path / "heat_maps.png").width > 100
    lines = (tmp_path / "projector" / "metadata.tsv").read_text().splitlines()
    assert lines[1].endswith("\trow 1")
    assert inspected.document["images"] == len(lines) - 1


def test_rows_are_predicted_with_the_paths_that_the_table_has(project, first):
    table = project.folder / "table" / "table.csv"

    answer = project.predict(table)

    assert answer.exit_code == 0, answer.stderr
    kinds = [line.rpartition(",")[2] for line in table.read_text().splitlines()[1:]]
    right = [one["label"] == kind for one, kind in zip(answer.document["predictions"], kinds, strict=True)]
    assert sum(right) / len(right) > 0.8


@pytest.mark.long
def test_changed_picture_is_no_cache_hit_and_a_broken_one_stops_the_run(project, first):
    assert set(states(project.run()).values()) <= {"cached"}
    picture = project.folder / "table" / "pictures" / "3.png"
    picture.write_bytes(b"no picture")

    stopped = project.run("--set", "data.max_broken_fraction=0")

    assert stopped.exit_code == 3
    assert "pictures/3.png" in stopped.document["error"]["message"]
    assert "data.max_broken_fraction" in stopped.document["error"]["message"]
    elsewhere = f"serving.push_directory={project.folder / 'pushed elsewhere'}"
    allowed = project.run("--set", "training.epochs=2", *ANY_MODEL, "--set", elsewhere)
    assert allowed.exit_code == 0, allowed.stdout
    assert states(allowed)["TableExampleGen"] == "done"
