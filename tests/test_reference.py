"""docs/reference is what scripts/make_reference.py writes."""

import functools
import os

import pytest

from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from tests import scripts

reference = scripts.load("make_reference")
examples = scripts.load("config_examples")
SCHEMA = PipelineConfig.model_json_schema()


@pytest.fixture(scope="module")
def own_modules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    examples.write_own_modules(folder)
    return folder


@pytest.mark.parametrize(("key", "example"), reference.examples(SCHEMA, SCHEMA["$defs"]))
def test_example_of_a_key_is_valid(key, example, monkeypatch, own_modules):
    for name, value in examples.SECRETS.items():
        monkeypatch.setenv(name, value)
    _, config = examples.without_and_with(key, example)

    load_config(config, folder=own_modules)


@pytest.mark.parametrize(
    ("key", "node"),
    [
        ("data.drop", "TableExampleGen"), ("features.vocabulary_size", "SchemaGen"), ("training.epochs", "Trainer"),
        ("evaluation.thresholds", "Evaluator"), ("card.owner", "Report"), ("kubeflow.image", "nothing"),
    ],
)  # fmt: skip
def test_reference_says_from_which_node_a_changed_key_runs_again(key, node):
    page = (reference.FOLDER / "config.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{key}`")]

    assert row.replace("\\|", "").split("|")[4].strip() == node


@functools.cache
def page(name: str) -> str:
    """What the code says, which takes seconds to put together."""
    written: str = reference.PAGES[name]()
    return written


@pytest.mark.parametrize("name", reference.PAGES)
def test_page_is_what_the_code_says(name):
    path, expected = reference.FOLDER / name, page(name)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(expected, encoding="utf-8")

    assert path.read_text(encoding="utf-8") == expected, "Run scripts/make_reference.py, and look at the difference."


def test_every_key_is_there_and_says_what_it_takes():
    rows = [line for line in page("config.md").splitlines() if line.startswith("| `")]

    for row in rows:
        key, takes, _, _, words = (part.strip() for part in row.replace("\\|", "").strip("|").split("|"))
        assert takes, key
        assert words, key
    keys = {row.split("`")[1] for row in rows}
    assert {
        "training.epochs",
        "serving.endpoint.grpc",
        "features.text_encoder.cleaning.html",
        "data.csv.encoding",
    } <= keys
