"""What the documents speak of is there: commands and options, keys of pipeline.yaml, components, files. What tutorials
and how-tos show is what is printed. Each module has a name that no other has."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer._click.exceptions import UsageError

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
    for call in re.findall(r"(?:^ +|^\$ |`|; |bin/)(kubetfx [^`\n]*)", text, re.MULTILINE):
        lexer = shlex.shlex(call.replace("[", "").replace("]", ""), posix=True, punctuation_chars=";&|()<>")
        lexer.whitespace_split = True
        words = list(lexer)
        end = next((index for index, word in enumerate(words) if set(word) <= set(";&|()<>")), len(words))
        yield words[1:end]


def configs_in(document: Path) -> Iterator[dict[str, Any]]:
    """Parts of a pipeline.yaml: blocks of YAML whose keys are sections of it."""
    for block in re.findall(r"```yaml(?: title=.*?)?\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
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


@dataclass(frozen=True)
class Command:
    """A command that a page shows, and lines that it prints."""

    text: str
    expected: tuple[str, ...]


def steps_of(document: Path) -> Iterator[tuple[str, str] | Command]:
    """What a reader of a page does, in order: files to save, by name and text, and commands."""
    blocks = re.findall(r"^```(\w+)(?: title=\"(.+?)\")?\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    for language, title, text in blocks:
        if title:
            yield title, text
        elif language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, *expected = part.splitlines()
                yield Command(command, tuple(expected))


def without_figures(line: str) -> str:
    """A line without what differs between two runs: ids, times, figures and the width of columns."""
    line = re.sub(r"\d{8}-\d{6}-[0-9a-f]{6}|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", "WHEN", line)
    return " ".join(re.sub(r"\d[\d,]*(\.\d+)?(e-?\d+)?", "N", line).split())


def lines_not_printed(expected: tuple[str, ...], printed: str) -> list[str]:
    """Expected lines that were not printed, or not in this order."""
    lines = iter([without_figures(line) for line in printed.splitlines()])
    return [line for line in expected if without_figures(line) and without_figures(line) not in lines]


class Shell:
    """A shell in which the commands of a page run, one after the other."""

    _END = "the end of a command"

    def __init__(self, folder: Path) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._process = subprocess.Popen(
            ["bash"], cwd=folder, env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def run(self, command: str) -> tuple[str, int]:
        """Run a command, and return what it prints to both streams, and its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{{\n{command}\n}} </dev/null\nprintf '\\n%s %s\\n' '{self._END}' $?\n")
        self._process.stdin.flush()
        lines: list[str] = []
        while not lines or not lines[-1].startswith(self._END):
            lines.append(self._process.stdout.readline())
            assert lines[-1], f"The shell ended in: {command}"
        return "".join(lines[:-1]), int(lines[-1].split()[-1])

    def end(self) -> None:
        """End the shell, and what runs in the background."""
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.communicate()


def prepare(document: Path, folder: Path) -> None:
    """Put into a folder what a page says to copy there."""
    penguins = ROOT / "examples" / "penguins"
    ignored = shutil.ignore_patterns(".kubetfx")
    if document.name == "text.md":
        table = ROOT / "examples" / "reviews" / "data" / "reviews.csv"
        if not table.exists():
            pytest.skip("needs the reviews: python -m examples.reviews.prepare")
        shutil.copy(table, folder)
    elif document.name == "cluster.md":
        name, program = next(step for step in steps_of(document.with_name("table.md")) if isinstance(step, tuple))
        (folder / name).write_text(program)
        subprocess.run([sys.executable, name], cwd=folder, check=True)
    elif document.parent.name == "how-to" or document.name == "kubeflow.md":
        shutil.copytree(penguins, folder, ignore=ignored, dirs_exist_ok=True)
    elif document.name == "quickstart.md":
        shutil.copytree(penguins, folder / "examples" / "penguins", ignore=ignored)
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin" / "activate").touch()


FOLLOWED = [
    pytest.param(document, marks=pytest.mark.long, id=document.stem)
    for document in DOCUMENTS
    if {document.parent.name, document.stem} & {"tutorials", "how-to", "quickstart"}
    and any(isinstance(step, Command) for step in steps_of(document))
]


@pytest.mark.parametrize("document", FOLLOWED)
def test_page_shows_what_its_commands_print(document, tmp_path):
    prepare(document, tmp_path)
    shell = Shell(tmp_path)
    try:
        for step in steps_of(document):
            if isinstance(step, Command):
                printed, exit_code = shell.run(step.text)
                assert lines_not_printed(step.expected, printed) == [], f"$ {step.text}\n{printed}"
                assert exit_code == 0 or step.expected, (
                    f"It failed, and the page does not say so: {step.text}\n{printed}"
                )
            else:
                (tmp_path / step[0]).write_text(step[1])
    finally:
        shell.end()


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        pytest.param("docs/how-to/python.md", marks=pytest.mark.long),
        pytest.param("docs/how-to/debug.md", marks=pytest.mark.long),
    ],
)
def test_python_of_a_page_runs_on_the_penguins(name, tmp_path):
    shutil.copytree(ROOT / "examples/penguins", tmp_path, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    shutil.copy(tmp_path / "rows.csv", tmp_path / "new_houses.csv")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-c", "\n".join(blocks)]

    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert blocks
    assert done.returncode == 0, done.stderr


def fault_of(name: str, words: list[str]) -> str | None:
    """What the command line's own parser says against a call; None where only a file is missing, which is the reader's,
    or an argument, which a sentence about the command leaves out."""
    try:
        COMMANDS[name].make_context(name, words)
    except UsageError as error:
        if not re.search("does not exist|Missing parameter|requires an argument", str(error)):
            return str(error)
    return None


@each_document
def test_commands_and_options_that_a_document_shows_are_there(document):
    for name, *words in filter(None, calls_in(document)):
        if name.startswith("-") or name.isupper() or words[:1] == ["OPTIONS"]:  # a synopsis
            continue
        assert name in COMMANDS, f"kubetfx {name}"
        given = ["1" if word == "VERSION" else word for word in words if word != "--help" and word[0] != "{"]
        assert fault_of(name, given) is None, f"kubetfx {name} {' '.join(words)}"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_is_shown_in_a_document(command):
    documents = [document for document in DOCUMENTS if document.name != "CHANGELOG.md"]
    assert any(command in words[:1] for document in documents for words in calls_in(document))


@each_document
def test_configs_that_a_document_shows_are_valid(document):
    for content in configs_in(document):
        load_config({**NEEDED, **content, "data": {**NEEDED["data"], **content.get("data", {})}})


def test_documents_show_configs():
    assert sum(len(list(configs_in(document))) for document in DOCUMENTS) >= 40


def test_readme_is_short_and_names_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 120
    assert all(words in text for words in ("make run", "make test", "fresh clone", "Python 3.11", "package index"))


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
