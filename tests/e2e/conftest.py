"""Projects to run."""

from pathlib import Path

import pytest

from tests.e2e.project import Project, penguins_in


@pytest.fixture
def new_penguins(tmp_path: Path) -> Project:
    """A penguins project that has not run."""
    return penguins_in(tmp_path / "penguins")


@pytest.fixture(scope="session")
def known_penguins(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A penguins project that ran once, for tests that only look at it."""
    return ran_once(tmp_path_factory.mktemp("known") / "penguins")


@pytest.fixture(scope="module")
def penguins(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A penguins project that ran once, for a module that runs it again."""
    return ran_once(tmp_path_factory.mktemp("e2e") / "penguins")


def ran_once(folder: Path) -> Project:
    project = penguins_in(folder)
    first = project.run()
    assert first.exit_code == 0, first.stderr
    (project.folder / "first.json").write_text(first.stdout)
    (project.folder / "first.err").write_text(first.stderr)
    return project
