"""What an executor hands to workers who see a bucket, and not this machine."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kubetfx.artifact_store import ArtifactStore
from kubetfx.components.data.block_work import run_here
from kubetfx.components.data.shard_writer import WriteShards
from kubetfx.components.data.span_store import SpanStore
from kubetfx.engine.shared_places import SharedPlaces, folder_of, place_of, refuse, scratch_in, sharing
from kubetfx.errors import StorageError, UsageError
from kubetfx.models.examples import count_rows, files_in, first_rows, read_blocks, row_groups
from kubetfx.storage import ObjectPath, folder_here

ROWS = pa.record_batch({"x": [1, 2, 3, 4], "kind": ["a", "b", "a", "b"]})


@pytest.fixture
def store(any_bucket: ObjectPath, tmp_path: Path) -> ArtifactStore:
    workspace = tmp_path / "work"
    workspace.mkdir()
    store = ArtifactStore(workspace, any_bucket)
    store.begin(workspace / "metadata.sqlite")
    return store


@pytest.fixture
def examples(store: ArtifactStore) -> Path:
    return store.folder / "ExampleGen" / "examples" / "1"


@pytest.fixture
def places(store: ArtifactStore, any_bucket: ObjectPath, examples: Path) -> SharedPlaces:
    return SharedPlaces(
        store.uri_of, f"a workspace in a bucket, {store.bucket}", frozenset({str(examples)}), any_bucket / "scratch"
    )


def split_rows(shard: pa.RecordBatch):
    yield shard, np.array([0, 1] * (shard.num_rows // 2))


def write_shards(examples: Path) -> dict[str, int]:
    folders = {name: place_of(examples / f"Split-{name}") for name in ("train", "eval")}
    work = WriteShards(split_rows, folders, ROWS.schema, num_shards=2, compression="zstd")
    return run_here(work, [(0, ROWS), (1, ROWS.slice(0, 2))], threads=2)


def test_shards_are_written_to_the_bucket_and_read_from_it(
    store: ArtifactStore, places: SharedPlaces, examples: Path
) -> None:
    with sharing(places):
        assert write_shards(examples) == {"train": 3, "eval": 3}
        files = files_in(examples / "Split-train")
        assert files == [
            f"{store.place}/ExampleGen/examples/1/Split-train/data-{number:05d}-of-00002.parquet" for number in (0, 1)
        ]
        assert count_rows(files) == 3
        assert [block.column("x").to_pylist() for block in read_blocks(files, ["x"])] == [[1, 3], [1]]
        (group, footer), *_ = row_groups(files)
    assert not examples.exists()
    assert group.read(["kind", "other"], footer=footer).to_pylist() == [{"kind": "a", "other": None}] * 2
    head = first_rows(files, 1)
    assert head is not None
    assert head.to_pylist() == [{"x": 1, "kind": "a"}]


def test_rows_are_the_same_bytes_in_a_folder_and_in_a_bucket(
    store: ArtifactStore, places: SharedPlaces, examples: Path, tmp_path: Path
) -> None:
    for name in ("train", "eval"):
        (tmp_path / "here" / f"Split-{name}").mkdir(parents=True)
    write_shards(tmp_path / "here")
    with sharing(places):
        write_shards(examples)
    store.fetch(str(examples))
    for path in (tmp_path / "here").rglob("*.parquet"):
        assert (examples / path.relative_to(tmp_path / "here")).read_bytes() == path.read_bytes()


def test_folder_of_an_input_is_where_it_is_and_another_is_uploaded(
    places: SharedPlaces, examples: Path, tmp_path: Path
) -> None:
    graph = tmp_path / "graph"
    (graph / "variables").mkdir(parents=True)
    (graph / "variables" / "data").write_text("1")
    with sharing(places):
        assert folder_of(examples / "a") == place_of(examples / "a")
        place = folder_of(graph)
        assert scratch_in(tmp_path) == str(places.scratch)
    assert place.startswith(f"{places.scratch}/")
    copy = folder_here(place)
    assert copy != graph
    assert (copy / "variables" / "data").read_text() == "1"
    assert folder_here(place) == copy


def test_without_a_bucket_everything_is_where_it_is(tmp_path: Path) -> None:
    for function in (place_of, folder_of, scratch_in):
        assert function(tmp_path) == str(tmp_path)
    assert folder_here(str(tmp_path)) == tmp_path
    refuse("Nothing")


def test_what_workers_do_not_see_is_refused_or_left_out(places: SharedPlaces, examples: Path) -> None:
    assert SpanStore.beside(str(examples)) is not None
    with sharing(places):
        assert SpanStore.beside(str(examples)) is None
        with pytest.raises(
            UsageError, match=r"It needs files, and the workers of the engine do not see .* s3://|gs://"
        ):
            refuse("It needs files")


def test_worker_without_credentials_says_so(bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match="denies access to the bucket"):
        count_rows([str(bucket / "Split-train" / "data.parquet")])
