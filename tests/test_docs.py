"""What the documents speak of is there: commands and options, keys of pipeline.yaml, components, files. Each module
has a name that no other has."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from kubetfx.cli.app import app
from kubetfx.config.kubeflow_section import COMPONENTS
from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.yaml_text import parse

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md")]
    + [path for folder in ("benchmarks", "docs", "examples", "kubeflow") for path in (ROOT / folder).rglob("*.md")]
)
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))

FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()}
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SECTIONS = set(PipelineConfig.model_fields)
NEEDED = {"name": "documented", "data": {"path": "data", "label": "label"}}
"""What a part of a pipeline.yaml in a document leaves out."""


def calls_in(document: Path) -> Iterator[list[str]]:
    """The words of each `kubetfx ...`, in a block or in a line, without its comment."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    for call in re.findall(r"(?:^ +|`|; |bin/)(kubetfx [^`\n]*)", text, re.MULTILINE):
        lexer = shlex.shlex(call.replace("[", "").replace("]", ""), posix=True, punctuation_chars=";&|()")
        lexer.whitespace_split = True
        words = list(lexer)
        end = next((index for index, word in enumerate(words) if set(word) <= set(";&|()")), len(words))
        yield words[1:end]


def configs_in(document: Path) -> Iterator[dict[str, Any]]:
    """Parts of a pipeline.yaml: blocks of YAML whose keys are sections of it."""
    for block in re.findall(r"```yaml\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
        content = parse(block, PipelineConfig)
        if isinstance(content, dict) and set(content) & SECTIONS:
            yield content


def described(schema: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Each key of the JSON schema, and whether it says what it means; a section says so itself."""
    definitions = schema["$defs"]
    for title, model in {"": schema, **definitions}.items():
        for key, field in model.get("properties", {}).items():
            section = definitions[field["$ref"].rpartition("/")[2]] if "$ref" in field else {}
            yield f"{title}.{key}", bool(field.get("description") or section.get("description"))


@each_document
def test_commands_and_options_that_a_document_shows_are_there(document):
    for command, *words in filter(None, calls_in(document)):
        if command.startswith("-"):
            continue
        assert command in COMMANDS, f"kubetfx {command}"
        known = {option for parameter in COMMANDS[command].params for option in parameter.opts}
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= known | {"--help"}, f"kubetfx {command} {' '.join(words)}"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_is_shown_in_a_document(command):
    documents = [document for document in DOCUMENTS if document.name != "CHANGELOG.md"]
    assert any(command in words[:1] for document in documents for words in calls_in(document))


@each_document
def test_configs_that_a_document_shows_are_valid(document):
    for content in configs_in(document):
        load_config({**NEEDED, **content, "data": {**NEEDED["data"], **content.get("data", {})}})


def test_readme_shows_configs():
    assert len(list(configs_in(ROOT / "README.md"))) >= 5


@pytest.mark.parametrize(("key", "is_described"), list(described(PipelineConfig.model_json_schema())))
def test_each_key_of_a_config_says_what_it_means(key, is_described):
    assert is_described


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_is_in_the_architecture(component):
    assert component in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_no_two_modules_have_one_name():
    packages = ("kubetfx", "cli", "serving", "models", "components", "pipeline", "kubeflow")
    modules = [path for package in packages for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]
    names = Counter(path.name for path in modules)

    assert [str(path.relative_to(ROOT)) for path in modules if names[path.name] > 1] == []


@each_document
def test_files_that_a_document_names_are_there(document):
    text = document.read_text(encoding="utf-8")
    links = set(re.findall(r"\]\(([^)#:]+)\)", text))
    paths = set(re.findall(r"`((?:\w+/)+\w+\.(?:py|md|yaml|json))`", text))
    named = {path for path in paths if path.partition("/")[0] in FOLDERS}

    assert {path for path in links if not (document.parent / path).exists()} == set()
    assert {path for path in named if not any((folder / path).exists() for folder in (ROOT, document.parent))} == set()
