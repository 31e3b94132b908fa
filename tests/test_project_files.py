"""Workflows, templates and notes of releases: they name what is there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import scripts

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FILES = [
    *WORKFLOWS,
    *sorted((ROOT / ".github").rglob("*.yml")),
    ROOT / ".pre-commit-config.yaml",
    ROOT / "CITATION.cff",
]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_is_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_runs_targets_and_scripts_that_are_there(path):
    text = path.read_text()
    document = yaml.safe_load(text)
    targets = set(re.findall(r"run: make ([a-z-]+)", text))
    for job in document["jobs"].values():
        targets |= set(job.get("strategy", {}).get("matrix", {}).get("target", ()))
        assert job["steps"]
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])

    assert targets <= TARGETS
    assert all((ROOT / script).is_file() for script in re.findall(r"scripts/\w+\.py", text))
    assert all("@" in action for action in re.findall(r"uses: (\S+)", text))


def pages_of(nav: Any) -> Iterator[str]:
    """The documents that a navigation names."""
    for entry in nav if isinstance(nav, list) else nav.values():
        if isinstance(entry, str):
            yield entry
        else:
            yield from pages_of(entry)


def test_site_has_every_document_of_users_and_none_that_is_not_there():
    nav = set(pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    made = {"docs/decisions/index.md"}  # scripts/stage_docs.py writes it

    assert all((ROOT / page).is_file() for page in nav - made)
    documents = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert {path for path in documents if not path.startswith("docs/decisions/")} <= nav


def test_site_loads_nothing_from_elsewhere():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    assert config["theme"]["font"] is False
    assert [path for path in config["extra"]["polyfills"] if "iframe-worker" in path]  # or the theme adds its own
    loaded = [*config["extra"]["polyfills"], *config["extra_css"]]
    assert all(
        (ROOT / path).is_file() and path.removeprefix("docs/") in scripts.load("stage_docs").ASSETS for path in loaded
    )


def test_version_is_said_once_more_in_the_citation_alone():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (version,) = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert citation["version"] == version


def test_notes_of_a_release_are_its_section_of_the_changelog():
    script = scripts.load("release_notes")
    text = "# Changelog\n\n## Unreleased\n\n- new\n\n## 0.2.0 (today)\n\n### Server\n\n- fast\n\n## 0.1.0\n\n- first\n"

    assert script.notes_of("0.2.0", text) == "### Server\n\n- fast"
    assert script.notes_of("0.1.0", text) == "- first"
    with pytest.raises(
        SystemExit, match=r"no section of this version. Received: 0.3.0, and sections Unreleased, 0.2.0"
    ):
        script.notes_of("0.3.0", text)
