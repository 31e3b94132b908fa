"""ML Metadata's file, and the small files beside it, when another program has locked or torn them."""

import shutil
import sqlite3
from collections.abc import Callable

import pytest

from kubetfx.workspace import METADATA
from tests.chaos.proofs import Proofs
from tests.chaos.small_pipelines import Project

pytestmark = pytest.mark.chaos


def without_end(content: bytes) -> bytes:
    return content[: len(content) // 2]


def with_zeros(content: bytes) -> bytes:
    """A page in the middle was never written."""
    middle = len(content) // 2 // 4096 * 4096
    return content[:middle] + bytes(4096) + content[middle + 4096 :]


def of_another_kind(content: bytes) -> bytes:
    return b"this is a text\n" * (len(content) // 15)


def with_a_torn_first_page(content: bytes) -> bytes:
    return content[:2000] + bytes(2096) + content[4096:]


TEARS: tuple[Callable[[bytes], bytes], ...] = (without_end, with_zeros, of_another_kind, with_a_torn_first_page)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that ran once."""
    made = Project(tmp_path_factory.mktemp("metadata") / "project")
    made.make()
    made.change(0)
    first = made.run()
    assert first is not None
    assert first.exit_code == 0, first.stdout
    return made


def said_by(project: Project) -> tuple[int, str]:
    finished = project.run()
    assert finished is not None
    return finished.exit_code, finished.document.get("error", {}).get("message", "")


def test_torn_metadata_is_said_and_a_copy_heals_it(project: Project, proofs: Proofs) -> None:
    path = project.workspace / METADATA
    whole = path.read_bytes()
    found = []
    for number, tear in enumerate(TEARS, start=1):
        project.change(number)  # so that nodes look up and write
        path.write_bytes(tear(whole))
        exit_code, message = said_by(project)
        if exit_code:
            assert "ML Metadata cannot be read: its file is damaged. Received: " in message, (tear, message)
            assert "Traceback" not in message
        found.append(f"{tear.__name__.replace('_', ' ')}: {'said in words' if exit_code else 'not needed'}")
        for beside in path.parent.glob(f"{METADATA}-*"):
            beside.unlink()
        path.write_bytes(whole)
    project.change(9)
    assert said_by(project) == (0, "")
    proofs.add(
        "ML Metadata",
        done="its file was torn",
        times=len(TEARS),
        result=f"{'; '.join(found)}. With a copy of the file in its place, the next run pushed.",
    )


def test_locked_metadata_is_said(project: Project, proofs: Proofs) -> None:
    project.change(10)
    other = sqlite3.connect(project.workspace / METADATA, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    exit_code, message = said_by(project)
    other.close()
    assert exit_code == 1
    assert "Another program has locked ML Metadata. Received: " in message
    assert said_by(project) == (0, "")
    proofs.add(
        "ML Metadata",
        done="another program had locked its file",
        times=1,
        result="Said in words; when the lock was gone, the same command pushed.",
    )


def test_other_torn_files_of_the_workspace_cost_no_run(project: Project, proofs: Proofs) -> None:
    files = [
        path
        for path in project.workspace.iterdir()
        if path.is_file() and path.name[:1] != "." and path.name != METADATA
    ]
    records = [*project.workspace.glob("runs/*/run.json")]
    assert files
    assert records
    shutil.copytree(project.workspace / "runs", project.folder / "runs")
    for number, tear in enumerate((without_end, of_another_kind), start=11):
        project.change(number)
        for path in (*files, *records):
            if path.exists():
                path.write_bytes(tear(path.read_bytes()))
        assert said_by(project) == (0, "")
    names = ", ".join(sorted({path.name for path in (*files, *records)}))
    proofs.add("The workspace", done=f"torn: {names}", times=2, result="The next run did without them, and pushed.")
