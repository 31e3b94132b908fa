import json
from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from kubetfx.artifacts import IMAGE_NOTES
from kubetfx.components.report import markdown
from kubetfx.kubeflow import visualizations
from kubetfx.kubeflow.visualizations import NodeRun
from tests.components.image_runs import run_executor
from tests.components.pictures import write_classes


def page(kind: str, run: NodeRun) -> str:
    text = visualizations.draw(kind, run)
    assert isinstance(text, str)
    return text


def example_gen(examples: standard_artifacts.Examples) -> NodeRun:
    executor = "kubetfx.components.example_gen.Executor"
    return NodeRun("ImageExampleGen", executor, {}, {"examples": [examples]}, {})


def test_page_of_the_images_has_classes_broken_files_and_copies(tmp_path):
    root = write_classes(tmp_path / "images", number=20, classes=("cat", "a|b <i>"))
    (root / "cat" / "copy.png").write_bytes((root / "cat" / "000.png").read_bytes())
    (root / "cat" / "no*picture.png").write_bytes(b"this is no picture")
    (root / "emu").mkdir()
    examples = run_executor(root, tmp_path / "out", max_broken_fraction=0.1)

    text = page("examples_page", example_gen(examples))

    lines = text.splitlines()
    counts = json.loads((tmp_path / "out" / IMAGE_NOTES).read_text())["classes"]["cat"]
    assert f"| cat | {counts['train']} | {counts['validation']} | {counts['eval']} |" in lines
    assert any(line.startswith("| a\\|b \\<i\\> |") for line in lines)
    assert "| cat/no\\*picture.png | it is not a JPEG, PNG, BMP, GIF or WebP file, whatever its name says |" in lines
    assert any("1 images are exact copies of others" in line for line in lines)
    assert any("The class 'emu' has no image" in line for line in lines)


def test_page_names_only_the_first_of_many_broken_files(tmp_path, monkeypatch):
    monkeypatch.setattr(markdown, "MAX_BROKEN_FILES", 2)
    root = write_classes(tmp_path / "images", number=20)
    for number in range(5):
        (root / "cat" / f"broken-{number}.png").write_bytes(b"")

    text = page("examples_page", example_gen(run_executor(root, tmp_path / "out", max_broken_fraction=0.2)))

    assert text.count("| it is empty: 0 bytes |") == 2
    assert f"And 3 more: {IMAGE_NOTES} of the artifact has them all." in text


@pytest.mark.parametrize(("image", "call"), [(None, "columns of the table"), ({"max_pixels": 1}, '"image_bytes"')])
def test_page_of_a_push_says_how_the_model_is_called(tmp_path, image, call):
    facts = tmp_path / "model" / "Format-Serving" / "assets.extra" / "kubetfx.json"
    facts.parent.mkdir(parents=True)
    facts.write_text(json.dumps({"image": image}))
    model, pushed = standard_artifacts.Model(), standard_artifacts.PushedModel()
    model.uri = str(facts.parents[2])
    pushed.set_string_custom_property("pushed_version", "7")
    pushed.set_string_custom_property("pushed_destination", "/models/plants/7")

    text = page("push_page", NodeRun("Pusher", "x", {"model": [model]}, {"pushed_model": [pushed]}, {}))

    assert call in text
    assert "models/plants:predict" in text


def test_pages_of_tables_say_nothing_of_images(tmp_path):
    examples = standard_artifacts.Examples()
    examples.uri = str(Path(tmp_path))
    examples.set_string_custom_property("num_examples", json.dumps({"train": 3, "eval": 1}))

    assert page("examples_page", example_gen(examples)).strip().endswith("| eval | 1 | 25.0% |")
