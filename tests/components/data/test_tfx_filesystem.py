"""TFX's fileio on a bucket, beside what it does on a folder."""

import os

import pytest
from tfx.dsl.io import fileio
from tfx.dsl.io.filesystem_registry import DEFAULT_FILESYSTEM_REGISTRY
from tfx.utils import io_utils

from kubetfx.components.data import tfx_filesystem

FILES = ["model/saved_model.pb", "model/variables/data", "model/variables/index", "note.txt"]


@pytest.fixture(params=["tmp_path", "bucket", "gcs_bucket"], ids=["folder", "s3", "gs"])
def place(request) -> str:
    tfx_filesystem.register()
    root = str(request.getfixturevalue(request.param))
    for name in FILES:
        fileio.makedirs(os.path.dirname(f"{root}/{name}"))
        io_utils.write_string_file(f"{root}/{name}", name)
    return root


@pytest.mark.parametrize("scheme", ["s3://", "gs://"])
def test_schemes_of_object_stores_are_ours(scheme):
    tfx_filesystem.register()
    tfx_filesystem.register()

    assert DEFAULT_FILESYSTEM_REGISTRY.get_filesystem_for_scheme(scheme) is tfx_filesystem.ObjectFilesystem


def test_files_are_read_as_text_and_as_bytes(place):
    assert fileio.open(f"{place}/note.txt").read() == "note.txt"
    with fileio.open(f"{place}/note.txt", "rb") as file:
        assert file.read() == b"note.txt"


def test_what_is_there_is_told_by_kind(place):
    assert fileio.exists(f"{place}/model")
    assert fileio.isdir(f"{place}/model")
    assert fileio.exists(f"{place}/note.txt")
    assert not fileio.isdir(f"{place}/note.txt")
    assert not fileio.exists(f"{place}/mode")


def test_glob_and_listing_and_walk_agree(place):
    assert sorted(fileio.glob(f"{place}/model/*/*")) == [f"{place}/model/variables/{n}" for n in ("data", "index")]
    assert fileio.glob(f"{place}/none*") == []
    assert sorted(fileio.listdir(f"{place}/model")) == ["saved_model.pb", "variables"]
    assert [(top, sorted(folders), sorted(files)) for top, folders, files in fileio.walk(place)] == [
        (place, ["model"], ["note.txt"]),
        (f"{place}/model", ["variables"], ["saved_model.pb"]),
        (f"{place}/model/variables", [], ["data", "index"]),
    ]
    with pytest.raises(fileio.NotFoundError):
        fileio.listdir(f"{place}/none")


def test_stat_has_size_and_time(place):
    stat = fileio.stat(f"{place}/note.txt")

    assert stat.length == len("note.txt")
    assert stat.mtime_nsec > 1.7e18
    with pytest.raises(fileio.NotFoundError):
        fileio.stat(f"{place}/none")


def test_copies_and_renames_do_not_overwrite_unless_told(place):
    fileio.copy(f"{place}/note.txt", f"{place}/copy.txt")
    fileio.rename(f"{place}/note.txt", f"{place}/other.txt")
    fileio.rename(f"{place}/model", f"{place}/moved")

    assert fileio.open(f"{place}/copy.txt").read() == "note.txt"
    assert fileio.exists(f"{place}/other.txt")
    assert not fileio.exists(f"{place}/note.txt")
    assert fileio.glob(f"{place}/model/*") == []
    assert fileio.open(f"{place}/moved/variables/data").read() == "model/variables/data"
    with pytest.raises(Exception, match=r"exists"):
        fileio.copy(f"{place}/copy.txt", f"{place}/other.txt")
    fileio.copy(f"{place}/moved/saved_model.pb", f"{place}/other.txt", overwrite=True)
    assert fileio.open(f"{place}/other.txt").read() == "model/saved_model.pb"


def test_files_and_folders_are_removed(place):
    fileio.remove(f"{place}/note.txt")
    fileio.rmtree(f"{place}/model")

    assert not fileio.exists(f"{place}/note.txt")
    assert fileio.glob(f"{place}/*") == fileio.glob(f"{place}/model/*/*") == []


def test_file_is_copied_from_a_bucket_to_a_folder(bucket, tmp_path):
    tfx_filesystem.register()
    (bucket / "note.txt").write_text("note")

    fileio.copy(f"{bucket}/note.txt", str(tmp_path / "note.txt"))

    assert (tmp_path / "note.txt").read_text() == "note"
