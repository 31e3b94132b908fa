"""`kubetfx mirror`, the sidecar that keeps a copy of a bucket's models beside TensorFlow Serving."""

import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from kubetfx.storage import ObjectPath
from tests.command import Finished
from tests.s3_store import Wire

ROOT = Path(__file__).resolve().parents[2]
SIDECAR = ROOT / "kubeflow" / "manifests" / "serving" / "overlays" / "s3" / "models-from-bucket.yaml"


class Mirror:
    """Models in a bucket, and their copies."""

    def __init__(self, bucket: ObjectPath, folder: Path, kubetfx: Callable[..., Finished]) -> None:
        self.bucket, self.folder = bucket, folder
        self._kubetfx = kubetfx

    def push(self, version: str, *, model: str = "penguins", whole: bool = True) -> None:
        place = self.bucket / model / version
        (place / "variables" / "variables.index").write_text(f"variables of {version}")
        if whole:
            (place / "saved_model.pb").write_text(f"graph of {version}")

    def withdraw(self, version: str) -> None:
        (self.bucket / "penguins" / version).remove_tree()

    def once(self, *models: str) -> Finished:
        named = [part for model in models or ("penguins",) for part in ("--model", model)]
        return self._kubetfx("mirror", self.bucket, self.folder, *named, "--once")

    def versions(self, model: str = "penguins") -> list[str]:
        return sorted(path.name for path in (self.folder / model).iterdir())


@pytest.fixture
def mirror(
    any_bucket: ObjectPath,
    tmp_path: Path,
    kubetfx: Callable[..., Finished],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Mirror:
    caplog.set_level(logging.INFO)
    monkeypatch.delenv("MODEL_NAMES", raising=False)
    return Mirror(any_bucket, tmp_path / "models", kubetfx)


@pytest.fixture
def s3_mirror(bucket: ObjectPath, tmp_path: Path, kubetfx: Callable[..., Finished]) -> Mirror:
    return Mirror(bucket, tmp_path / "models", kubetfx)


def test_versions_of_the_named_models_are_copied_whole(mirror: Mirror) -> None:
    mirror.push("1")
    mirror.push("1795262235")
    mirror.push("7", model="flights")
    mirror.push("8", model="others")
    done = mirror.once("penguins", "flights")
    assert done.exit_code == 0, done.stderr
    assert mirror.versions() == ["1", "1795262235"]
    assert mirror.versions("flights") == ["7"]
    assert not (mirror.folder / "others").exists()
    copy = mirror.folder / "penguins" / "1"
    assert (copy / "variables" / "variables.index").read_text() == "variables of 1"
    assert (copy / "saved_model.pb").read_text() == "graph of 1"


def test_models_may_be_named_by_the_environment(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, kubetfx) -> None:
    mirror.push("1")
    mirror.push("7", model="flights")
    monkeypatch.setenv("MODEL_NAMES", "penguins flights")
    assert kubetfx("mirror", mirror.bucket, mirror.folder, "--once").exit_code == 0
    assert (mirror.versions(), mirror.versions("flights")) == (["1"], ["7"])


def test_a_version_without_its_saved_model_is_not_there_yet(mirror: Mirror) -> None:
    mirror.push("1")
    mirror.push("2", whole=False)
    assert mirror.once().exit_code == 0
    assert mirror.versions() == ["1"]
    (mirror.bucket / "penguins" / "2" / "saved_model.pb").write_text("graph of 2")
    assert mirror.once().exit_code == 0
    assert mirror.versions() == ["1", "2"]


@pytest.mark.parametrize("name", ["latest", "0", "01", "1.tmp", "-1"])
def test_what_is_no_version_is_left_alone(s3_mirror: Mirror, name: str) -> None:
    s3_mirror.push("1")
    s3_mirror.push(name)
    assert s3_mirror.once().exit_code == 0
    assert s3_mirror.versions() == ["1"]


def test_a_withdrawn_version_goes_here_too(mirror: Mirror, caplog: pytest.LogCaptureFixture) -> None:
    mirror.push("1")
    mirror.push("2")
    mirror.once()
    mirror.withdraw("2")
    assert mirror.once().exit_code == 0
    assert "penguins version 2: gone from the bucket" in caplog.text
    assert mirror.versions() == ["1"]


def test_an_empty_bucket_takes_nothing_from_the_server(mirror: Mirror, caplog: pytest.LogCaptureFixture) -> None:
    mirror.push("1")
    mirror.once()
    mirror.withdraw("1")
    assert mirror.once().exit_code == 0
    assert "penguins: no version is there. What was mirrored stays." in caplog.text
    assert mirror.versions() == ["1"]


def test_a_store_that_cannot_be_read_takes_nothing_from_the_server(
    s3_mirror: Mirror, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    s3_mirror.push("1")
    s3_mirror.once()
    wire.reset(cut_after=0)
    done = s3_mirror.once()
    assert done.exit_code == 1
    assert "Error: Not every model was mirrored. Received: penguins in s3://" in done.stderr
    assert "penguins: not mirrored, to be tried again." in caplog.text
    assert "cannot be reached" in caplog.text
    assert s3_mirror.versions() == ["1"]


def test_a_copy_that_was_cut_off_is_made_again(s3_mirror: Mirror) -> None:
    s3_mirror.push("1")
    half = s3_mirror.folder / "penguins" / ".mirroring"
    half.mkdir(parents=True)
    (half / "rubbish").write_text("")
    assert s3_mirror.once().exit_code == 0
    assert s3_mirror.versions() == ["1"]
    copy = s3_mirror.folder / "penguins" / "1"
    assert sorted(path.name for path in copy.iterdir()) == ["saved_model.pb", "variables"]


def test_a_model_that_cannot_be_copied_is_tried_again_and_keeps_no_other_from_it(s3_mirror: Mirror) -> None:
    s3_mirror.push("1")
    s3_mirror.push("7", model="flights")
    s3_mirror.folder.mkdir()
    blocked = s3_mirror.folder / "penguins"
    blocked.write_text("in the way")
    assert s3_mirror.once("penguins", "flights").exit_code == 1
    assert s3_mirror.versions("flights") == ["7"]
    blocked.unlink()
    assert s3_mirror.once().exit_code == 0
    assert s3_mirror.versions() == ["1"]


@pytest.mark.parametrize("source", ["models", "/models", "ftp://host/models", "s3://"])
def test_source_that_is_no_bucket_is_refused(kubetfx: Callable[..., Finished], tmp_path: Path, source: str) -> None:
    done = kubetfx("mirror", source, tmp_path, "--model", "penguins", "--once")
    assert done.exit_code == 2
    assert "s3://BUCKET/FOLDER" in done.stderr
    assert f"Received: {source}" in done.stderr


def test_a_model_has_to_be_named(mirror: Mirror, kubetfx: Callable[..., Finished]) -> None:
    done = kubetfx("mirror", mirror.bucket, mirror.folder, "--once")
    assert done.exit_code == 2
    assert "--model" in done.stderr


@contextlib.contextmanager
def sidecar(mirror: Mirror) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "kubetfx", "mirror", str(mirror.bucket), str(mirror.folder)]
    command += ["--model", "penguins", "--interval-seconds", "0.2"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.05)


def test_it_says_when_it_was_through_goes_on_looking_and_ends_on_sigterm(s3_mirror: Mirror) -> None:
    with sidecar(s3_mirror) as process:
        wait_for(s3_mirror.folder / ".mirrored")  # with nothing pushed yet
        s3_mirror.push("1")
        wait_for(s3_mirror.folder / "penguins" / "1")
        s3_mirror.push("2")
        wait_for(s3_mirror.folder / "penguins" / "2")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=2) == 0
        assert process.stderr is not None
        log = process.stderr.read()
    assert re.search(r"^2\d\d\d-\d\d-\d\d .* penguins version 2: mirrored\.$", log, re.MULTILINE)


def test_a_store_that_comes_back_is_read_and_only_then_it_says_so(s3_mirror: Mirror, wire: Wire) -> None:
    s3_mirror.push("1")
    wire.reset(cut_after=0)
    with sidecar(s3_mirror) as process:
        assert process.stderr is not None
        assert "not mirrored, to be tried again" in process.stderr.readline()
        assert not (s3_mirror.folder / ".mirrored").exists()
        wire.reset()
        wait_for(s3_mirror.folder / ".mirrored")
    assert s3_mirror.versions() == ["1"]


def test_it_ends_at_once_while_it_waits_for_a_store(s3_mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with sidecar(s3_mirror) as process:
            asked, _ = silent.accept()
            with asked:
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=2) == 0


USED = """
import json, sys
from pathlib import Path
from kubetfx.cli.app import main
try:
    main()
finally:
    status = Path("/proc/self/status").read_text()
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    print(json.dumps({"modules": list(sys.modules), "peak_mib": peak_kib / 1024}))
"""


def test_it_needs_no_tensorflow_and_half_of_the_memory_that_the_sidecar_has(s3_mirror: Mirror) -> None:
    (s3_mirror.bucket / "penguins" / "1" / "variables" / "variables.data").write_bytes(os.urandom(64 * 2**20))
    s3_mirror.push("1")
    command = [sys.executable, "-c", USED, "mirror", str(s3_mirror.bucket), str(s3_mirror.folder)]
    done = subprocess.run(
        [*command, "--model", "penguins", "--once"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert s3_mirror.versions() == ["1"]
    used = json.loads(done.stdout)
    assert "pyarrow.fs" in used["modules"]
    assert not {"tensorflow", "tfx"} & set(used["modules"])
    (container,) = yaml.safe_load(SIDECAR.read_text())["spec"]["template"]["spec"]["initContainers"]
    limit_mib = int(container["resources"]["limits"]["memory"].removesuffix("Mi"))
    assert used["peak_mib"] < limit_mib / 2
