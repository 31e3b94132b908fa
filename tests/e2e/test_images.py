"""A run of the digits as their yaml has it, on fewer epochs, and what is asked of the model afterwards."""

import base64
import re
import shutil
from pathlib import Path

import httpx
import pytest

from examples.digits.prepare import write_images
from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.server import RunningServer
from tests.command import Finished, kubetfx_here
from tests.e2e.project import REPOSITORY, kubetfx, metrics_of, report_of, states
from tests.serving.conftest import options

CHANGES = {
    "training.epochs": "6",
    "evaluation.metrics": "[accuracy, kappa, top_k_accuracy]",
    "evaluation.slices": "[label, image_size]",
    "evaluation.robustness": "{jpeg: [30]}",
}
"""For the example: it promises its score for 30 epochs (benchmarks/README.md)."""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The digits, with a copy of a picture and a class of another name."""
    folder = tmp_path_factory.mktemp("digits")
    shutil.copy(REPOSITORY / "examples" / "digits" / "pipeline.yaml", folder)
    assert write_images(folder / "data") == 1_797
    (folder / "data" / "7").rename(folder / "data" / "sieben, nicht fünf")
    (folder / "data" / "3" / "copy.png").write_bytes(next((folder / "data" / "3").iterdir()).read_bytes())
    return folder


def run(project: Path, *options: str, **more: str) -> Finished:
    changes = [f"{key}={value}" for key, value in {**CHANGES, **more}.items()]
    arguments = [argument for change in changes for argument in ("--set", change)]
    return kubetfx("run", project / "pipeline.yaml", "--format", "json", *options, *arguments)


@pytest.fixture(scope="module")
def first(project) -> Finished:
    return run(project)


@pytest.fixture(scope="module")
def some(project, tmp_path_factory) -> Path:
    """A folder with a few digits."""
    folder = tmp_path_factory.mktemp("some")
    for label in sorted((project / "data").iterdir()):
        picture = sorted(label.iterdir())[0]
        shutil.copy(picture, folder / f"{label.name}.png")
    return folder


def test_folder_of_images_becomes_a_pushed_model(first):
    assert first.exit_code == 0, first.stderr
    document = first.document
    assert document["metrics"]["accuracy"] >= 0.98  # the bound of the yaml
    assert document["metrics"]["kappa"] >= 0.97
    assert {check["metric"] for check in document["checks"]} == {"accuracy"}
    assert "drop_jpeg_30" in document["metrics"]
    assert set(document["by_class"]) == {*"012345689", "sieben, nicht fünf"}
    assert "label=sieben, nicht fünf" in document["slices"]
    assert any("exact copies" in note for note in document["notes"])
    assert any("waited" in note for note in document["notes"])


@pytest.mark.long
def test_package_gives_the_metrics_and_the_notes_of_the_plain_run(project, first, tmp_path):
    packaged = run(project, "--on", "kfp-local", **{"workspace": str(tmp_path / "work"), "kubeflow.fuse": "light"})

    assert packaged.exit_code == 0, packaged.stderr
    assert packaged.document["metrics"] == pytest.approx(first.document["metrics"], abs=1e-6)
    assert packaged.document["by_class"] == first.document["by_class"]
    copies, speed, *_ = packaged.document["notes"]  # a further one says that the last epoch was the best, if it was
    assert copies == first.document["notes"][0]
    assert "waited" in speed


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
        "1 images are exact copies of others, such as 3/",
        "Waited for images",
    ):
        assert words in html, words
    assert [one["name"] for one in metrics["classes"]] == [*"012345689", "sieben, nicht fünf"]
    assert metrics["metrics"]["kappa"]["value"] > 0.8
    assert metrics["metrics"]["top_k_accuracy"]["lower"] < 1
    assert metrics["training"]["parameters"] > 0
    assert metrics["training"]["seconds_per_step"] > 0


def test_served_model_answers_a_posted_png_as_grpc_and_offline_do(project, first, some):
    base = project / ".kubetfx" / "digits" / "pushed" / "digits"
    predict = ("predict", project / "pipeline.yaml", "--rows", some, "--format", "json")
    offline = kubetfx_here(*predict).document["predictions"]
    with RunningServer(options(ModelConfig("digits", base))) as server:
        over_grpc = kubetfx_here(*predict, "--grpc", f"127.0.0.1:{server.grpc_port}").document["predictions"]
        for number, path in enumerate(sorted(some.iterdir())):
            body = {"instances": [{"image_bytes": {"b64": base64.b64encode(path.read_bytes()).decode()}}]}
            response = httpx.post(f"http://127.0.0.1:{server.rest_port}/v1/models/digits:predict", json=body)
            (answer,) = response.json()["predictions"]
            posted = dict(zip(answer["classes"], answer["probabilities"], strict=True))
            for prediction in (offline[number], over_grpc[number]):
                assert prediction["path"] == path.name
                assert prediction["label"] == answer["label"]
                assert prediction["probabilities"] == pytest.approx(posted, abs=1e-4)

    assert sum(prediction["label"] == prediction["path"].removesuffix(".png") for prediction in offline) >= 9


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_picture_that_the_server_refuses_is_named(project, first, some, tmp_path, protocol):
    shutil.copytree(some, tmp_path / "pictures")
    (tmp_path / "pictures" / "5b.png").write_bytes(b"no picture")
    with RunningServer(options(ModelConfig("digits", project / ".kubetfx/digits/pushed/digits"))) as server:
        address = {"rest": f"http://127.0.0.1:{server.rest_port}", "grpc": f"127.0.0.1:{server.grpc_port}"}[protocol]
        asked = ("--rows", tmp_path / "pictures", f"--{protocol}", address, "--batch-size", "4")
        refused = kubetfx_here("predict", project / "pipeline.yaml", *asked)

    assert refused.exit_code == 2
    _, _, error = refused.stderr.partition("Error: ")
    assert error.startswith("The model refuses row 7, 5b.png: image_bytes is not a picture: the bytes are")
    assert "function_node" not in error


def test_nothing_is_executed_again_and_tensorflow_is_not_imported(project, first, monkeypatch):
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    again = run(project)

    assert set(states(again).values()) == {"cached"}
    logs = Path(again.document["nodes"][0]["log"]).parent.glob("*.log")
    imported = again.stderr + "".join(log.read_text(encoding="utf-8") for log in logs)
    assert re.search(r"\| +tfx\.", imported)
    assert not re.search(r"\| +tensorflow\.python", imported)


def test_model_that_misses_a_bound_of_images_alone_is_not_pushed(project, first):
    missed = run(project, **{"evaluation.thresholds": "{kappa: {at_least: 1}, drop_jpeg_30: {at_most: -1}}"})

    assert missed.exit_code == 4
    assert "Accuracy lost to JPEG quality 30 is " in missed.document["error"]["message"]


def test_broken_files_stop_the_run_with_exit_code_3(project, first):
    broken = project / "data" / "1" / "broken.png"
    broken.write_bytes(b"no picture")
    try:
        stopped = kubetfx("run", project / "pipeline.yaml", "--set", "data.max_broken_fraction=0")
    finally:
        broken.unlink()

    assert stopped.exit_code == 3
    assert "1/broken.png: it is not a JPEG, PNG, BMP, GIF or WebP" in stopped.stderr


def test_mistakes_are_shown(project, first, tmp_path):
    (project / ".kubetfx/digits/artifacts/ImageExampleGen/examples/999").mkdir()  # as a run that is killed leaves it
    inspected = kubetfx_here("inspect", project / "pipeline.yaml", "--output", tmp_path, "--format", "json")

    assert inspected.exit_code == 0, inspected.stderr
    assert {"mistakes.png", "heat_maps.png", "projector"} <= {path.name for path in tmp_path.iterdir()}
