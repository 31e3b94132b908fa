import time
from pathlib import Path

import pytest

from kubetfx.components.push.mirror import mirror, mirrored
from kubetfx.components.push.push_directory import model_digest, push, remove, roll_back, versions
from kubetfx.errors import StorageError
from kubetfx.storage import locate
from tests.s3_store import Wire


@pytest.fixture
def saved_model(tmp_path) -> Path:
    (tmp_path / "model" / "variables").mkdir(parents=True)
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "model" / "variables" / "variables.index").write_bytes(b"index")
    return tmp_path / "model"


@pytest.fixture
def served(bucket, saved_model):
    for version in (7, 8):
        push(saved_model, bucket, version=version, replaced_version=None)
    return bucket


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def test_versions_come_and_go_as_in_the_bucket(served, folder, saved_model):
    (served / "9" / "variables" / "variables.index").write_text("half of a push")

    mirror(served, folder)
    assert versions(folder) == [7, 8]
    assert model_digest(folder / "8") == model_digest(saved_model)

    roll_back(served, to=7)
    mirror(served, folder)
    assert versions(folder) == [7]

    roll_back(served, to=8)
    mirror(served, folder)
    assert [path.name for path in sorted(folder.iterdir())] == ["7", "8"]


def test_empty_bucket_takes_nothing_from_the_server(served, folder):
    mirror(served, folder)
    for version in (7, 8):
        remove(served, version)

    mirror(served, folder)

    assert versions(folder) == [7, 8]


def test_version_that_cannot_be_copied_keeps_no_other_from_coming(served, folder):
    (folder / "7").write_text("in the way")

    with pytest.raises(OSError, match="7"):
        mirror(served, folder)

    assert versions(folder) == [8]


def test_last_version_goes_only_when_another_came(served, folder, saved_model):
    mirror(served, folder)
    push(saved_model, served, version=9, replaced_version=8)
    for version in (7, 8):
        remove(served, version)
    (folder / "9").write_text("in the way")

    with pytest.raises(OSError, match="9"):
        mirror(served, folder)
    assert versions(folder) == [7, 8]

    (folder / "9").unlink()
    mirror(served, folder)
    assert versions(folder) == [9]


@pytest.mark.usefixtures("impatient")
def test_cut_connection_leaves_nothing_in_part(served, folder, saved_model, wire: Wire):
    wire.reset(cut_after=2_500)

    with pytest.raises(StorageError, match="cannot be reached"):
        mirror(served, folder)

    assert {model_digest(path) for path in folder.iterdir()} <= {model_digest(saved_model)}
    assert {path.name for path in folder.iterdir()} <= {"7"}


def test_folder_follows_the_bucket_while_it_lasts(served, saved_model):
    with mirrored(served, poll_seconds=0.05) as folder:
        assert versions(folder) == [7, 8]
        push(saved_model, served, version=9, replaced_version=None)
        end = time.monotonic() + 20
        while versions(folder) != [7, 8, 9] and time.monotonic() < end:
            time.sleep(0.05)
        assert versions(folder) == [7, 8, 9]
    assert not folder.exists()


def test_bucket_that_cannot_be_read_is_told_at_once(bucket):
    with pytest.raises(StorageError, match="no bucket 'there-is-none'"), mirrored(locate("s3://there-is-none/x")):
        pass
