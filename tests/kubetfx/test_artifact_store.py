"""Artifacts in a bucket, and their copies here."""

import time
from pathlib import Path

import pytest

from kubetfx.artifact_store import ArtifactStore, is_whole
from kubetfx.errors import StorageError, UsageError
from kubetfx.storage import ObjectPath, patiently
from tests.s3_store import Wire

EXAMPLES = "artifacts/ExampleGen/examples/1"


@pytest.fixture
def store(any_bucket: ObjectPath, tmp_path: Path) -> ArtifactStore:
    return new_store(any_bucket, tmp_path)


def new_store(bucket: ObjectPath, folder: Path) -> ArtifactStore:
    workspace = folder / "work"
    workspace.mkdir(parents=True, exist_ok=True)
    store = ArtifactStore(workspace, bucket / "team")
    store.begin(workspace / "metadata.sqlite")
    return store


def write(store: ArtifactStore, **files: str) -> str:
    """Publish examples, as a node does."""
    path = store.workspace / EXAMPLES
    store.open(str(path))
    for name, text in {"profile.json": "{}", "Split-train/data.parquet": "rows", **files}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    store.publish(str(path))
    return store.uri_of(str(path))


def names_in(place: ObjectPath | Path) -> set[str]:
    if isinstance(place, Path):
        return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    return {info.path.relative_to(place) for info in place.files()}


def test_artifact_is_fetched_where_it_is_not(store: ArtifactStore) -> None:
    uri = write(store)
    assert uri.startswith(f"{store.bucket}/")
    assert names_in(store.place) == {
        "ExampleGen/examples/1/profile.json",
        "ExampleGen/examples/1/Split-train/data.parquet",
    }
    store.discard(store.path_of(uri))

    without_rows = store.find(uri, with_rows=False)

    assert without_rows is not None
    assert names_in(without_rows) == {"profile.json"}
    assert not is_whole(without_rows)
    whole = store.find(uri)
    assert whole == without_rows
    assert names_in(whole) == {"profile.json", "Split-train/data.parquet"}
    assert is_whole(whole)


def test_artifact_that_is_here_is_not_asked_for(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = write(store)
    monkeypatch.setattr(ObjectPath, "files", lambda _: pytest.fail("the bucket was asked"))
    assert store.find(uri) == store.workspace / EXAMPLES


def test_later_try_begins_without_the_files_of_the_one_before(store: ArtifactStore) -> None:
    write(store, old="x")
    write(store)
    assert names_in(store.place / "ExampleGen/examples/1") == {"profile.json", "Split-train/data.parquet"}
    assert names_in(store.workspace / EXAMPLES) == {"profile.json", "Split-train/data.parquet"}


def test_artifact_without_files_is_there(store: ArtifactStore) -> None:
    path = store.workspace / "artifacts" / "Gate" / "decision" / "4"
    store.open(str(path))
    path.mkdir()
    store.publish(str(path))
    uri = store.uri_of(str(path))
    store.discard(str(path))

    assert store.find(uri) == path
    assert names_in(path) == set()


def test_artifact_that_is_gone_is_none_to_a_reader_and_told_to_a_node(store: ArtifactStore) -> None:
    uri = store.uri_of(str(store.workspace / EXAMPLES))
    assert store.find(uri) is None
    with pytest.raises(FileNotFoundError, match=r"not in the bucket any more\. Received: .*/examples/1\. Run"):
        store.fetch(store.path_of(uri))
    assert store.find("s3://other/bucket/artifacts/ExampleGen/examples/1") is None


def test_what_is_no_artifact_stays_as_it_is(store: ArtifactStore) -> None:
    for text in ("", "/elsewhere/model", "s3://elsewhere/model", "a word", str(store.workspace / "artifacts")):
        assert store.uri_of(text) == text
        assert store.path_of(text) == text
        store.fetch(text)
        store.publish(text)


def test_folders_are_described_and_removed_here_and_there(store: ArtifactStore) -> None:
    uri = write(store)
    store.discard(store.path_of(uri))
    system = store.folder / "ExampleGen" / ".system" / "executor_execution" / "1"
    system.mkdir(parents=True)

    found = store.folders()

    assert list(found) == [system, store.workspace / EXAMPLES]
    assert found[store.workspace / EXAMPLES].num_bytes == len("{}") + len("rows")
    assert found[store.workspace / EXAMPLES].modified_at == pytest.approx(time.time(), abs=600)
    assert set(store.of_execution(1)) == set(found)
    for path in found:
        store.remove(path)
    assert store.folders() == {}
    assert store.find(uri) is None


def test_workspaces_that_name_one_bucket_have_a_folder_each(bucket: ObjectPath, tmp_path: Path) -> None:
    first, second = new_store(bucket, tmp_path / "a"), new_store(bucket, tmp_path / "b")
    uris = write(first, who="a"), write(second, who="b")
    assert uris[0] != uris[1]
    assert (first.workspace / EXAMPLES / "who").read_text() == "a"
    assert first.find(uris[1]) is None


def test_workspace_that_began_elsewhere_is_refused(bucket: ObjectPath, tmp_path: Path) -> None:
    metadata = tmp_path / "metadata.sqlite"
    metadata.touch()
    with pytest.raises(UsageError, match=r"artifacts in this folder\. Received: workspace: s3://"):
        ArtifactStore(tmp_path, bucket).begin(metadata)
    store = new_store(bucket, tmp_path)
    for other in (None, bucket / "else"):
        with pytest.raises(UsageError, match=r"artifacts in s3://.*/team\. Received: workspace: "):
            ArtifactStore(store.workspace, other).begin(store.workspace / "metadata.sqlite")
    place = store.place
    store.begin(store.workspace / "metadata.sqlite")
    assert store.place == place


def test_store_that_is_busy_for_a_while_is_asked_again(wire: Wire, bucket: ObjectPath, tmp_path: Path) -> None:
    store = new_store(bucket, tmp_path)
    wire.busy_until = time.monotonic() + 3
    with patiently():
        uri = write(store)
    assert wire.num_refused
    assert names_in(store.place) >= {"ExampleGen/examples/1/Split-train/data.parquet"}
    assert store.find(uri)


@pytest.mark.usefixtures("impatient")
def test_upload_that_breaks_off_is_told_and_no_artifact(wire: Wire, bucket: ObjectPath, tmp_path: Path) -> None:
    store = new_store(bucket, tmp_path)
    wire.reset(cut_after=20_000)
    with pytest.raises(StorageError, match="cannot be reached"):
        write(store, large="x" * 2**22)
    assert not is_whole(store.workspace / EXAMPLES)
    wire.reset()
    write(store)
    assert names_in(store.place / "ExampleGen/examples/1") == {"profile.json", "Split-train/data.parquet"}
