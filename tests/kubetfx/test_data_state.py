"""Which commit and which hash of DVC data are of. tests/e2e/test_dvc.py compares them with DVC's own."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kubetfx import data_state
from kubetfx.code_state import code_of, git_state
from kubetfx.data_state import state_of_data
from kubetfx.provenance import DataState, DvcState

OF_FOLDER = "296de000d23768caede116d23107fd98.dir"
"""What DVC 3.67 has for the three files below."""

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


def git(folder: Path, *arguments: str) -> str:
    options = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    return subprocess.run(
        ["git", *options, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a pipeline and a folder of data, as git and DVC have it."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "data" / "a").mkdir(parents=True)
    for name, text in {"z.txt": "x", "a/b.txt": "y", "a-b.txt": "q"}.items():
        (tmp_path / "data" / name).write_text(f"{text}\n")
    (tmp_path / "data.dvc").write_text(
        f"outs:\n- md5: {OF_FOLDER}\n  size: 6\n  nfiles: 3\n  hash: md5\n  path: data\n"
    )
    (tmp_path / "pipeline.yaml").write_text("name: birds\n")
    (tmp_path / ".gitignore").write_text("/data\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def state(path: Path | str) -> DataState:
    found = state_of_data(str(path))
    assert found is not None
    return found


def test_commit_of_a_clean_repository_and_hash_of_tracked_data(project):
    code, data = git_state(project), state(project / "data" / "*.txt")

    assert code is not None
    assert (code.commit, code.is_changed, code.root) == (git(project, "rev-parse", "HEAD"), False, str(project))
    assert data.git == code
    assert data.dvc == DvcState(path="data", tracked_by="data.dvc", md5=OF_FOLDER, is_recorded=True)
    assert str(data.dvc) == f"{OF_FOLDER} (data.dvc)"


def test_what_is_changed_is_named_for_code_and_data_apart(project):
    (project / "pipeline.yaml").write_text("name: other\n")
    (project / "mine.py").touch()
    (project / "notes.txt").touch()
    code, data = code_of(project).git, state(project / "data")
    assert code is not None
    assert (code.is_changed, code.changed) == (True, ["pipeline.yaml", "mine.py"])
    assert str(code).endswith(", with changes that are not committed: pipeline.yaml, mine.py")
    assert data.git is not None
    assert (data.git.is_changed, str(data.git)) == (False, code.commit)

    (project / "data.dvc").write_text((project / "data.dvc").read_text().replace("3", "4"))
    (project / "data" / "z.txt").write_text("changed")
    data = state(project / "data")
    assert data.git is not None
    assert data.dvc is not None
    assert data.git.changed == ["data.dvc"]
    assert data.dvc.is_recorded is False
    assert str(data.dvc).endswith(".dir, which is not in DVC's files (data.dvc)")


def test_lock_of_dvc_names_data_that_a_stage_reads(project):
    (project / "data.dvc").unlink()
    (project / "dvc.lock").write_text(
        f"schema: '2.0'\nstages:\n  train:\n    cmd: kubetfx run\n    deps:\n    - path: data\n      md5: {OF_FOLDER}\n"
    )

    expected = DvcState(path="data", tracked_by="dvc.lock", md5=OF_FOLDER, is_recorded=True)
    assert state(project / "data").dvc == expected


def test_one_file_of_data_in_a_folder_is_named_itself(project):
    md5 = "401b30e3b8b5d629635a5c613cdb7919"
    (project / "data.dvc").unlink()
    (project / "data" / "z.txt.dvc").write_text(f"outs:\n- md5: {md5}\n  path: z.txt\n")

    expected = DvcState(path="data/z.txt", tracked_by="data/z.txt.dvc", md5=md5, is_recorded=True)
    assert state(project / "data").dvc == expected


def test_hash_of_large_data_is_the_one_of_the_file(project, monkeypatch):
    monkeypatch.setattr(data_state, "_MAX_HASHED_BYTES", 1)

    expected = DvcState(path="data", tracked_by="data.dvc", md5=OF_FOLDER, is_recorded=None)
    assert state(project / "data").dvc == expected


def test_data_in_another_repository_has_its_own_commit(project, tmp_path_factory):
    code = tmp_path_factory.mktemp("code")
    git(code, "init", "-q")
    git(code, "commit", "-q", "--allow-empty", "-m", "empty")
    of_code, of_data = git_state(code), state(project / "data").git

    assert of_code is not None
    assert of_data is not None
    assert (of_code.root, of_data.root) == (str(code), str(project))


@pytest.mark.parametrize("path", ["s3://bucket/table.csv", "https://example.org/t.csv", "duckdb:///t.db"])
def test_data_elsewhere_has_no_state(path):
    assert state_of_data(path) is None


@pytest.mark.parametrize("content", ["{", "[]", "outs: 3", "outs: [3]", "outs: [{path: data}]", "\xff"])
def test_files_of_dvc_that_are_none_are_left_out(project, content):
    (project / "data.dvc").write_text(content, encoding="latin-1")
    found = state(project / "data").dvc

    assert found is not None
    assert (found.tracked_by, found.md5, found.is_recorded) == ("", OF_FOLDER, False)


def test_without_git_and_without_repository_nothing_is_said(project, tmp_path_factory, monkeypatch):
    outside = tmp_path_factory.mktemp("outside")
    assert state_of_data(str(outside / "nowhere.csv")) is None

    monkeypatch.setenv("PATH", str(outside))
    assert code_of(project).git is None
    found = state(project / "data")
    assert found.git is None
    assert found.dvc is not None
