import json
import os
import re
import resource
import threading
import time
from pathlib import Path

import pytest

from kubetfx.artifacts import PUSH_RECORD
from kubetfx.components.push import push_directory
from kubetfx.components.push.push_directory import (
    PushRecord,
    mark_verified,
    model_digest,
    next_version,
    prune,
    push,
    read_record,
    remove,
    roll_back,
    rolled_back_versions,
    versions,
)
from kubetfx.errors import PushError


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
    assert json.loads(content.pop(str(PUSH_RECORD))) == record.model_dump()
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
    expected = {*content_of(saved_model), str(PUSH_RECORD)}
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


@pytest.fixture
def four(saved_model, served) -> Path:
    """A directory with the versions 1 to 4."""
    for version in (1, 2, 3, 4):
        push(saved_model, served, version=version, replaced_version=version - 1 or None)
    return served


def test_rollback_puts_the_newer_versions_out_of_sight(four):
    roll_back(four, to=2)

    assert versions(four) == [1, 2]
    assert rolled_back_versions(four) == [3, 4]
    assert read_record(four, 4).version == 4


def test_rollback_moves_the_newest_version_last_so_that_none_between_is_served(four, monkeypatch):
    moved = []
    rename = Path.rename

    def spy(path: Path, target: Path) -> Path:
        moved.append(path.name)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", spy)
    roll_back(four, to=1)

    assert moved == ["2", "3", "4"]


@pytest.mark.parametrize(("to", "there", "away"), [(4, [1, 2, 4], [3]), (3, [1, 2, 3], [4]), (1, [1], [2, 3, 4])])
def test_version_that_was_rolled_back_comes_back(four, to, there, away):
    roll_back(four, to=2)

    roll_back(four, to=to)

    assert versions(four) == there
    assert rolled_back_versions(four) == away


def test_number_of_a_version_that_was_rolled_back_is_not_given_again(saved_model, served):
    future = int(time.time()) + 1_000_000
    push(saved_model, served, version=1, replaced_version=None)
    push(saved_model, served, version=future, replaced_version=1)
    roll_back(served, to=1)

    assert next_version(served) == future + 1


def test_prune_keeps_the_newest(four):
    assert prune(four, keep=2) == [1, 2]
    assert versions(four) == [3, 4]
    assert sorted(entry.name for entry in four.iterdir()) == ["3", "4"]


def test_prune_never_removes_what_is_served(four):
    assert prune(four, keep=1, protected={2}) == [1, 3]
    assert versions(four) == [2, 4]


def test_prune_with_fewer_versions_than_it_keeps_removes_none(four):
    assert prune(four, keep=9) == []
    assert versions(four) == [1, 2, 3, 4]


def test_prune_forgets_what_was_rolled_back_before_the_oldest_that_is_kept(four, saved_model):
    roll_back(four, to=2)
    for version in (5, 6):
        push(saved_model, four, version=version, replaced_version=None)

    assert prune(four, keep=2) == [1, 2, 3, 4]
    assert rolled_back_versions(four) == []


def test_version_is_removed_whole(four):
    remove(four, 3)
    remove(four, 3)  # somebody else was faster

    assert sorted(entry.name for entry in four.iterdir()) == ["1", "2", "4"]


def test_verification_is_recorded(four):
    before = read_record(four, 4)

    mark_verified(four, 4)

    record = read_record(four, 4)
    assert record == before.model_copy(update={"verified_at": record.verified_at})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record.verified_at)
    assert not list(four.rglob("*.aside"))
