import json
import os
import re
import resource
import threading
import time
from pathlib import Path

import pytest

from components import push_directory
from components.push_directory import RECORD, PushRecord, model_digest, next_version, push, read_record, versions
from pipeline.errors import PushError


@pytest.fixture
def saved_model(tmp_path) -> Path:
    return write_model(tmp_path / "model", "one")


@pytest.fixture
def served(tmp_path) -> Path:
    return tmp_path / "served"


def write_model(path: Path, content: str) -> Path:
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_text(content)
    (path / "variables" / "variables.data-00000-of-00001").write_bytes(b"\0" * 50_000)
    return path


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_push_makes_a_numbered_folder_with_the_model_and_its_record(saved_model, served):
    record = push(saved_model, served, version=7, replaced_version=None)

    content = content_of(served / "7")
    assert json.loads(content.pop(str(RECORD))) == record.model_dump()
    assert content == content_of(saved_model)
    assert [entry.name for entry in served.iterdir()] == ["7"]


def test_record_says_what_was_pushed_and_what_it_replaced(saved_model, served):
    push(saved_model, served, version=7, replaced_version=3)

    record = read_record(served, 7)

    assert record == PushRecord(
        version=7, model_digest=model_digest(saved_model), replaced_version=3, pushed_at=record.pushed_at
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record.pushed_at)


def test_version_of_somebody_else_has_no_record(served):
    write_model(served / "5", "theirs")

    assert read_record(served, 5) is None


def test_existing_version_is_never_overwritten(saved_model, served, tmp_path):
    push(saved_model, served, version=7, replaced_version=None)
    before = content_of(served)

    with pytest.raises(PushError, match=r"Version 7 exists and is never overwritten\. Received: .*/7"):
        push(write_model(tmp_path / "other", "two"), served, version=7, replaced_version=None)

    assert content_of(served) == before


def test_version_appears_whole(saved_model, served):
    """Whoever looks at the push directory, as TensorFlow Serving does, never sees a part of a version."""
    expected = {*content_of(saved_model), str(RECORD)}
    for number in range(20):
        (saved_model / "variables" / f"{number}").write_bytes(b"\0" * 100)
        expected.add(f"variables/{number}")
    seen = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for version in versions(served):
                seen.append((version, set(content_of(served / str(version)))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for version in range(1, 4):
        push(saved_model, served, version=version, replaced_version=None)
    time.sleep(0.02)
    stop.set()
    watcher.join()

    assert {version for version, _ in seen} >= {3}
    assert all(names == expected for _, names in seen)


def test_leftovers_of_a_killed_push_are_cleaned(saved_model, served):
    write_model(served / ".pushing-5", "half")

    push(saved_model, served, version=6, replaced_version=None)

    assert [entry.name for entry in served.iterdir()] == ["6"]


def test_leftovers_of_a_killed_push_are_no_version(served):
    write_model(served / ".pushing-5", "half")

    assert versions(served) == []


def test_versions_are_the_folders_that_serving_sees_in_numeric_order(served):
    for name in ("10", "9", "100", "v3", "4.tmp", ".5", "-6"):
        (served / name).mkdir(parents=True)
    (served / "11").touch()

    assert versions(served) == [9, 10, 100]


def test_push_directory_that_is_not_there_has_no_versions(served):
    assert versions(served) == []


def test_first_version_is_the_time(served):
    assert abs(next_version(served) - time.time()) < 5


def test_versions_increase_even_where_the_clock_went_back(served):
    future = int(time.time()) + 1_000_000
    (served / str(future)).mkdir(parents=True)

    assert next_version(served) == future + 1


def test_versions_of_two_pushes_within_a_second_differ(saved_model, served):
    first = next_version(served)
    push(saved_model, served, version=first, replaced_version=None)

    assert next_version(served) > first


@pytest.fixture
def no_file_beyond_10_kb():
    """Writing more fails, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_disk_that_is_full_leaves_nothing_behind(saved_model, served, tmp_path, no_file_beyond_10_kb):
    (served / "3").mkdir(parents=True)

    with pytest.raises(PushError, match=r"could not be copied to .*/7: .*What is served is unchanged\. Free the disk"):
        push(saved_model, served, version=7, replaced_version=3)

    assert [entry.name for entry in served.iterdir()] == ["3"]


@pytest.mark.parametrize("below", ["", "deeper/still"], ids=["a file", "below a file"])
def test_push_directory_that_is_a_file_is_refused(saved_model, tmp_path, below):
    file = tmp_path / "served"
    file.write_text("not a folder")

    with pytest.raises(PushError, match="What is served is unchanged"):
        push(saved_model, file / below, version=7, replaced_version=None)

    assert file.read_text() == "not a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_push_directory_without_permission_is_refused(saved_model, served):
    served.mkdir()
    served.chmod(0o500)

    with pytest.raises(PushError, match=r"Permission denied.*grant write permission"):
        push(saved_model, served, version=7, replaced_version=None)

    assert list(served.iterdir()) == []


def test_model_that_is_gone_is_an_error_and_leaves_nothing_behind(served, tmp_path):
    with pytest.raises(PushError, match="could not be copied"):
        push(tmp_path / "nothing", served, version=7, replaced_version=None)

    assert list(served.iterdir()) == []


def test_digest_is_of_names_and_contents(tmp_path):
    one = write_model(tmp_path / "one", "same")
    two = write_model(tmp_path / "two", "same")

    assert model_digest(one) == model_digest(two)
    (two / "saved_model.pb").write_text("other")
    assert model_digest(one) != model_digest(two)
    (two / "saved_model.pb").write_text("same")
    (two / "saved_model.pb").rename(two / "renamed.pb")
    assert model_digest(one) != model_digest(two)


def test_digest_of_a_version_is_that_of_the_model_that_was_pushed(saved_model, served):
    push(saved_model, served, version=7, replaced_version=None)

    assert model_digest(push_directory.version_path(served, 7)) == model_digest(saved_model)
