"""Versions in a bucket. Those on a disk are in test_push_directory.py, for which both look alike."""

import os
from pathlib import Path

import pytest

from kubetfx.artifacts import PUSH_RECORD
from kubetfx.components.push import version_store
from kubetfx.components.push.push_directory import (
    copy_version,
    mark_verified,
    model_digest,
    prune,
    push,
    read_record,
    remove,
    request_path,
    roll_back,
    rolled_back_versions,
    versions,
)
from kubetfx.errors import PushError
from kubetfx.storage import ObjectPath
from tests.s3_store import READER_KEY, READER_SECRET, S3Store, Wire

MEGABYTE = 2**20


@pytest.fixture
def served(any_bucket: ObjectPath) -> ObjectPath:
    return any_bucket / "models" / "penguins"


@pytest.fixture
def served_on_s3(bucket: ObjectPath) -> ObjectPath:
    return bucket / "models" / "penguins"


@pytest.fixture
def saved_model(tmp_path) -> Path:
    return write_model(tmp_path / "model", b"one")


def write_model(path: Path, content: bytes, *, num_bytes: int = 1_000) -> Path:
    (path / "variables").mkdir(parents=True)
    (path / "assets").mkdir()
    (path / "saved_model.pb").write_bytes(content)
    (path / "variables" / "variables.index").write_bytes(content)
    (path / "variables" / "variables.data-00000-of-00001").write_bytes(os.urandom(num_bytes))
    return path


def content_of(folder: Path | ObjectPath) -> dict[str, bytes]:
    if isinstance(folder, Path):
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {info.path.relative_to(folder): info.path.read_bytes() for info in folder.files()}


def push_versions(saved_model: Path, served: ObjectPath, *numbers: int) -> None:
    for number in numbers:
        push(saved_model, served, version=number, replaced_version=None)


def test_directory_that_is_not_there_has_no_versions(served):
    assert versions(served) == []
    assert rolled_back_versions(served) == []
    assert read_record(served, 7) is None
    assert request_path(served) is None


def test_push_copies_the_model_and_its_record(saved_model, served):
    record = push(saved_model, served, version=7, replaced_version=3, metrics={"auc": 0.5})

    content = content_of(served / "7")
    del content[str(PUSH_RECORD)]
    assert content == content_of(saved_model)
    assert read_record(served, 7) == record
    assert versions(served) == [7]
    assert {info.path.relative_to(served).split("/")[0] for info in served.files()} == {"7"}


def test_version_counts_by_its_saved_model_and_nothing_else(saved_model, served):
    push_versions(saved_model, served, 9, 10, 100)
    for other in (
        "v3/saved_model.pb",
        "11/variables/variables.index",
        "12/12/saved_model.pb",
        "13",
        "014/saved_model.pb",
    ):
        (served / other).write_bytes(b"x")

    assert versions(served) == [9, 10, 100]


def test_copy_has_the_version_whole(saved_model, served, tmp_path):
    push_versions(saved_model, served, 7)

    copy_version(served, 7, tmp_path / "copy")

    assert model_digest(tmp_path / "copy") == model_digest(saved_model)


def test_existing_version_is_never_overwritten(saved_model, served, tmp_path):
    push_versions(saved_model, served, 7)
    before = content_of(served)

    with pytest.raises(PushError, match=r"Version 7 exists and is never overwritten\. Received: (s3|gs)://.*/7"):
        push_versions(write_model(tmp_path / "other", b"two"), served, 7)

    assert content_of(served) == before


def test_what_others_keep_under_the_number_is_not_overwritten(saved_model, served):
    (served / "7" / "table.csv").write_bytes(b"theirs")

    with pytest.raises(PushError, match=r"/7: \[Errno 17\] File exists"):
        push_versions(saved_model, served, 7)

    assert content_of(served) == {"7/table.csv": b"theirs"}


def test_verified_version_says_so(saved_model, served):
    push(saved_model, served, version=7, replaced_version=None, to_be_verified=True)
    assert read_record(served, 7).is_pending

    mark_verified(served, 7)

    assert not read_record(served, 7).is_pending
    assert model_digest(saved_model) == read_record(served, 7).model_digest


def test_removed_version_leaves_nothing(saved_model, served):
    push_versions(saved_model, served, 7, 8)

    remove(served, 8)
    remove(served, 9)

    assert versions(served) == [7]
    assert {name.split("/")[0] for name in content_of(served)} == {"7"}


def test_prune_keeps_the_newest_and_what_is_served(saved_model, served):
    push_versions(saved_model, served, 1, 2, 3, 4)
    roll_back(served, to=3)

    assert prune(served, keep=1, protected={1}) == [2]
    assert prune(served, keep=1) == [1]
    assert versions(served) == [3]
    assert rolled_back_versions(served) == [4]


def test_rolled_back_version_comes_back_as_it_was(saved_model, served):
    push_versions(saved_model, served, 5, 6, 7)
    before = content_of(served)

    roll_back(served, to=5)
    assert versions(served) == [5]
    assert rolled_back_versions(served) == [6, 7]
    assert read_record(served, 7).version == 7

    roll_back(served, to=7)
    roll_back(served, to=6)
    roll_back(served, to=7)
    assert versions(served) == [5, 6, 7]
    assert rolled_back_versions(served) == []
    assert content_of(served) == before


def test_reader_may_look_and_not_push(saved_model, served_on_s3, s3_store: S3Store, monkeypatch):
    push_versions(saved_model, served_on_s3, 7)
    for name, value in s3_store.environment(key=READER_KEY, secret=READER_SECRET).items():
        monkeypatch.setenv(name, value)

    assert versions(served_on_s3) == [7]
    message = r"denies access to the bucket '.*Received: s3://.*AWS_ACCESS_KEY_ID.* What is served is unchanged"
    with pytest.raises(PushError, match=message):
        push_versions(saved_model, served_on_s3, 8)
    with pytest.raises(PushError, match=r"Version 5 could not be brought back\. .* denies access"):
        roll_back(served_on_s3, to=5)


@pytest.mark.parametrize("share", [0.5, 0.97], ids=["halfway", "at the end"])
@pytest.mark.usefixtures("impatient")
def test_cut_connection_leaves_nothing_half_visible_and_the_retry_succeeds(served_on_s3, wire: Wire, tmp_path, share):
    push_versions(write_model(tmp_path / "old", b"old"), served_on_s3, 7)
    model = write_model(tmp_path / "new", b"new" * 1_000, num_bytes=MEGABYTE)
    wire.reset()
    push_versions(model, served_on_s3, 8)
    num_bytes = wire.num_bytes
    remove(served_on_s3, 8)

    wire.reset(cut_after=int(num_bytes * share))
    with pytest.raises(
        PushError, match=r"could not be copied to s3://.*/9\. .* cannot be reached .*served is unchanged"
    ):
        push_versions(model, served_on_s3, 9)
    assert wire.is_cut
    wire.reset()

    assert versions(served_on_s3) == [7]
    assert "9/saved_model.pb" not in content_of(served_on_s3)
    push_versions(model, served_on_s3, 9)
    assert versions(served_on_s3) == [7, 9]
    names = {name for name in content_of(served_on_s3) if not name.startswith(("7/", "9/"))}
    assert names == set()
    assert content_of(served_on_s3 / "9").keys() == {*content_of(model), str(PUSH_RECORD)}


def test_of_two_pushes_of_one_number_one_wins_whole(served, tmp_path, monkeypatch):
    first, second = (write_model(tmp_path / name, name.encode()) for name in ("first", "other"))
    upload = ObjectPath.upload

    def upload_while_another_pushes(self: ObjectPath, path: Path) -> None:
        monkeypatch.setattr(ObjectPath, "upload", upload)
        upload(self, path)
        push_versions(second, served, 7)

    monkeypatch.setattr(ObjectPath, "upload", upload_while_another_pushes)
    with pytest.raises(PushError, match=r"/7: \[Errno 17\] another push took its place"):
        push_versions(first, served, 7)

    assert versions(served) == [7]
    assert read_record(served, 7).model_digest == model_digest(second)
    copy_version(served, 7, tmp_path / "copy")
    assert (tmp_path / "copy" / "saved_model.pb").read_bytes() == b"other"


def test_what_a_broken_push_left_goes_with_a_later_one_and_a_push_that_goes_on_stays(saved_model, served, monkeypatch):
    (served / ".unfinished-8").write_bytes(b"")
    (served / "8" / "variables" / "variables.index").write_bytes(b"half")
    (served / "9" / "table.csv").write_bytes(b"theirs")

    push_versions(saved_model, served, 10)
    assert "8/variables/variables.index" in content_of(served)

    monkeypatch.setattr(version_store, "STALE_SECONDS", -5)  # an hour later
    push_versions(saved_model, served, 11)
    assert {name.split("/")[0] for name in content_of(served)} == {"9", "10", "11"}


def test_version_whose_end_was_not_noted_stays(saved_model, served, monkeypatch):
    push_versions(saved_model, served, 7)
    (served / ".unfinished-7").write_bytes(b"")
    monkeypatch.setattr(version_store, "STALE_SECONDS", -5)  # an hour later

    push_versions(saved_model, served, 8)

    assert versions(served) == [7, 8]
    assert ".unfinished-7" not in content_of(served)
