"""Versions, also of what an image has under another name."""

from importlib.metadata import PackageNotFoundError

import pytest

from kubetfx.version import library_version


def test_library_without_gpu_kernels_is_found_by_the_name_of_the_one_with_them(tmp_path, monkeypatch):
    facts = tmp_path / "shells_cpu-1.2.dist-info" / "METADATA"
    facts.parent.mkdir()
    facts.write_text("Metadata-Version: 2.1\nName: shells-cpu\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert library_version("shells") == library_version("shells-cpu") == "1.2"


def test_library_that_is_not_installed_is_named():
    with pytest.raises(PackageNotFoundError, match="no-such-library"):
        library_version("no-such-library")
