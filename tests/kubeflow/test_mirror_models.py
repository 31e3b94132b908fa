"""The sidecar that keeps a copy of a bucket's models beside TensorFlow Serving.

The bucket is a folder here: rclone reads it by the same commands.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "kubeflow/manifests/serving/overlays/s3/mirror_models.sh"
RCLONE = shutil.which("rclone") or shutil.which("rclone", path=str(Path(sys.executable).parent))

pytestmark = pytest.mark.skipif(RCLONE is None, reason="rclone is not installed")


class Mirror:
    def __init__(self, folder: Path) -> None:
        self.bucket, self.models = folder / "bucket", folder / "models"
        self.bucket.mkdir()
        self.models.mkdir()

    def push(self, version: str, *, model: str = "penguins", whole: bool = True) -> None:
        folder = self.bucket / model / version
        (folder / "variables").mkdir(parents=True)
        (folder / "variables" / "variables.index").write_text(f"variables of {version}")
        if whole:
            (folder / "saved_model.pb").write_text(f"graph of {version}")

    def environment(self, **settings: str) -> dict[str, str]:
        assert RCLONE
        return {
            "PATH": f"{Path(RCLONE).parent}:{os.environ['PATH']}",
            "HOME": str(self.models),
            "RCLONE_CONFIG": str(self.models.parent / "none.conf"),
            "MODEL_NAMES": "penguins",
            "SOURCE": str(self.bucket),
            "TARGET": str(self.models),
            "INTERVAL_SECONDS": "0",
        } | settings

    def once(self, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", SCRIPT], env=self.environment(**settings), capture_output=True, text=True, check=False, timeout=60
        )

    def versions(self, model: str = "penguins") -> list[str]:
        return sorted(path.name for path in (self.models / model).iterdir())


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path)


def test_versions_of_the_named_models_are_copied_whole(mirror: Mirror) -> None:
    mirror.push("1")
    mirror.push("1795262235")
    mirror.push("7", model="flights")
    mirror.push("8", model="others")
    done = mirror.once(MODEL_NAMES="penguins flights")
    assert done.returncode == 0, done.stderr
    assert mirror.versions() == ["1", "1795262235"]
    assert mirror.versions("flights") == ["7"]
    assert not (mirror.models / "others").exists()
    copy = mirror.models / "penguins" / "1"
    assert (copy / "variables" / "variables.index").read_text() == "variables of 1"
    assert (copy / "saved_model.pb").read_text() == "graph of 1"


def test_a_version_without_its_saved_model_is_not_there_yet(mirror: Mirror) -> None:
    mirror.push("1")
    mirror.push("2", whole=False)
    assert mirror.once().returncode == 0
    assert mirror.versions() == ["1"]
    (mirror.bucket / "penguins" / "2" / "saved_model.pb").write_text("graph of 2")
    assert mirror.once().returncode == 0
    assert mirror.versions() == ["1", "2"]


@pytest.mark.parametrize("name", ["latest", "0", "01", "1.tmp", "-1"])
def test_what_is_no_version_is_left_alone(mirror: Mirror, name: str) -> None:
    mirror.push("1")
    mirror.push(name)
    assert mirror.once().returncode == 0
    assert mirror.versions() == ["1"]


def test_a_withdrawn_version_goes_here_too(mirror: Mirror) -> None:
    mirror.push("1")
    mirror.push("2")
    mirror.once()
    shutil.rmtree(mirror.bucket / "penguins" / "2")
    done = mirror.once()
    assert "penguins version 2: gone from the bucket" in done.stderr
    assert mirror.versions() == ["1"]
    assert not list((mirror.models / ".aside").iterdir())


def test_an_empty_bucket_takes_nothing_from_the_server(mirror: Mirror) -> None:
    mirror.push("1")
    mirror.once()
    shutil.rmtree(mirror.bucket / "penguins" / "1")
    done = mirror.once()
    assert "no version there; what was mirrored stays" in done.stderr
    assert mirror.versions() == ["1"]


def test_a_store_that_cannot_be_read_takes_nothing_from_the_server(mirror: Mirror) -> None:
    mirror.push("1")
    mirror.once()
    done = mirror.once(SOURCE=str(mirror.bucket.parent / "gone"))
    assert done.returncode == 1
    assert "not mirrored" in done.stderr
    assert mirror.versions() == ["1"]


def test_a_copy_that_was_cut_off_is_made_again(mirror: Mirror) -> None:
    mirror.push("1")
    half = mirror.models / ".aside" / "penguins-1"
    half.mkdir(parents=True)
    (half / "rubbish").write_text("")
    assert mirror.once().returncode == 0
    assert sorted(path.name for path in (mirror.models / "penguins" / "1").iterdir()) == ["saved_model.pb", "variables"]


def test_a_file_that_cannot_be_copied_leaves_no_version_and_is_tried_again(mirror: Mirror) -> None:
    mirror.push("1")
    blocked = mirror.models / "penguins"
    blocked.write_text("in the way")
    assert mirror.once().returncode == 1
    blocked.unlink()
    assert mirror.once().returncode == 0
    assert mirror.versions() == ["1"]


def test_it_says_when_it_was_through_goes_on_looking_and_ends_on_sigterm(mirror: Mirror) -> None:
    mirror.push("1")
    process = subprocess.Popen(["sh", SCRIPT], env=mirror.environment(INTERVAL_SECONDS="1"), stderr=subprocess.PIPE)
    try:
        _wait_for(mirror.models / ".mirrored")
        assert mirror.versions() == ["1"]
        mirror.push("2")
        _wait_for(mirror.models / "penguins" / "2")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0
    finally:
        process.kill()
        process.communicate()


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.05)


def test_settings_that_are_missing_are_named(mirror: Mirror) -> None:
    environment = mirror.environment()
    del environment["SOURCE"]
    done = subprocess.run(["sh", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "SOURCE: where the models are" in done.stderr
