"""docs/reference/artifacts.md names each file of a run's artifacts."""

import re

import pytest

from tests.e2e.project import REPOSITORY, Project

OF_TENSORFLOW = re.compile(r"variables\.|categorical$")
"""Weights, and a vocabulary that is named after the type of its columns: the page names their folders."""


@pytest.mark.long
def test_each_file_of_an_artifact_is_in_the_reference(known_penguins: Project) -> None:
    page = (REPOSITORY / "docs" / "reference" / "artifacts.md").read_text()
    folders = [*known_penguins.workspace.glob("artifacts/[!.]*/[!.]*/*"), *known_penguins.pushed.iterdir()]
    files = {path.name for folder in folders for path in folder.rglob("*") if path.is_file()}
    names = {re.sub(r"(?<=-)\d{5}-of-\d{5}|(?<=events\.out\.)tfevents.*", "*", name) for name in files}

    assert len(names) > 20
    assert {name for name in names if name not in page and not OF_TENSORFLOW.match(name)} == set()
