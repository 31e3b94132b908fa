"""What the tests of faults share: a place for temporary files that can be looked into, and where figures go."""

from pathlib import Path

import pytest

from tests.chaos.proofs import Proofs
from tests.e2e.project import REPOSITORY


@pytest.fixture(scope="session")
def proofs() -> Proofs:
    """The figures of this machine, which `python -m benchmarks.reliability` makes a table of."""
    return Proofs(REPOSITORY / "build" / "reliability.json")


@pytest.fixture
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands of the test use for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder
