"""A run over a folder of images, and what is asked of it afterwards."""

from pathlib import Path

import pytest
import yaml

from tests.components.pictures import encoded
from tests.e2e.project import Finished, kubetfx, metrics_of, report_of, states
from tests.models.image_project import CLASSES, sample

CONFIG = {
    "name": "sides",
    "data": {"path": "data", "format": "images"},
    "model": {"kind": "image", "image_size": 12, "filters": [8, 16], "augmentation": {"noise": 0.02}},
    "training": {"epochs": 12, "batch_size": 16, "learning_rate": 0.01},
    "evaluation": {
        "metrics": ["accuracy", "kappa", "top_k_accuracy"],
        "thresholds": {"accuracy": {"at_least": 0.9}, "kappa": {"at_least": 0.8}},
        "slices": ["label", "image_size"],
        "robustness": {"jpeg": [30]},
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project that ran once."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(CONFIG, allow_unicode=True), encoding="utf-8")
    for number, label in enumerate(CLASSES):
        (folder / "data" / label).mkdir(parents=True)
        for seed in range(40):
            content = encoded(sample(label, 100 * seed + number), ("PNG", "JPEG")[seed % 2])
            (folder / "data" / label / f"{seed}.{('png', 'jpg')[seed % 2]}").write_bytes(content)
    (folder / "data" / "left" / "copy.png").write_bytes((folder / "data" / "left" / "0.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def first(project) -> Finished:
    return kubetfx("run", project / "pipeline.yaml", "--format", "json")


def test_folder_of_images_becomes_a_pushed_model(first):
    assert first.exit_code == 0, first.stderr
    document = first.document
    assert document["metrics"]["accuracy"] >= 0.9
    assert {check["metric"] for check in document["checks"]} == {"accuracy", "kappa"}
    assert "drop_jpeg_30" in document["metrics"]
    assert set(document["by_class"]) == set(CLASSES)
    assert "label=übrig" in document["slices"]
    assert any("exact copies" in note for note in document["notes"])
    assert any("waited" in note for note in document["notes"])


def test_report_shows_what_a_table_has_and_pictures_have_besides(first):
    html = report_of(first).read_text(encoding="utf-8")
    metrics = metrics_of(first)

    assert "A part of this report could not be made" not in html
    for words in (
        "Confusion matrix",
        "ROC",
        "Calibration",
        "Mistakes",
        "Robustness",
        "JPEG quality 30",
        "Learning rate",
    ):
        assert words in html, words
    assert [one["name"] for one in metrics["classes"]] == sorted(CLASSES)
    assert metrics["metrics"]["kappa"]["value"] > 0.8
    assert metrics["metrics"]["top_k_accuracy"]["lower"] < 1
    assert metrics["training"]["parameters"] > 0
    assert metrics["training"]["seconds_per_step"] > 0


def test_nothing_is_executed_again(project, first):
    again = kubetfx("run", project / "pipeline.yaml", "--format", "json")

    assert set(states(again).values()) == {"cached"}


def test_pushed_model_names_pictures(project, first, tmp_path):
    for label in CLASSES:
        (tmp_path / f"{label}.webp").write_bytes(encoded(sample(label, 77_000), "WEBP"))

    predicted = kubetfx("predict", project / "pipeline.yaml", "--rows", tmp_path, "--format", "json")

    assert {p["path"]: p["label"] for p in predicted.document["predictions"]} == {f"{n}.webp": n for n in CLASSES}


def test_model_that_misses_a_bound_of_images_alone_is_not_pushed(project, first):
    run = kubetfx(
        "run",
        project / "pipeline.yaml",
        "--format",
        "json",
        "--set",
        "evaluation.thresholds={kappa: {at_least: 1}, drop_jpeg_30: {at_most: -1}}",
    )

    assert run.exit_code == 4
    assert "Accuracy lost to JPEG quality 30 is " in run.document["error"]["message"]


def test_broken_files_stop_the_run_with_exit_code_3(project, first):
    broken = project / "data" / "left" / "broken.png"
    broken.write_bytes(b"no picture")
    try:
        run = kubetfx("run", project / "pipeline.yaml", "--set", "data.max_broken_fraction=0")
    finally:
        broken.unlink()

    assert run.exit_code == 3
    assert "left/broken.png: it is no JPEG, PNG, BMP, GIF or WebP file" in run.stderr


def test_mistakes_are_shown(project, first, tmp_path):
    inspected = kubetfx("inspect", project / "pipeline.yaml", "--output", tmp_path, "--format", "json")

    assert inspected.exit_code == 0, inspected.stderr
    assert {"mistakes.png", "heat_maps.png", "projector"} <= {path.name for path in tmp_path.iterdir()}
