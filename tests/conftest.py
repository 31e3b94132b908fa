"""What tests of several folders need."""

import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubetfx import storage
from kubetfx.storage import ObjectPath
from tests.command import Finished, kubetfx_here
from tests.gcs_store import BUCKET as GCS_BUCKET
from tests.gcs_store import running_gcs_store
from tests.s3_store import BUCKET, S3Store, Wire, running_s3_store

for folder in ("cli", "components", "kubeflow", "models", "pipeline", "serving"):
    sys.modules[folder] = None  # type: ignore[assignment]  # importable here by chance, and nowhere else

_LONGEST = ("e2e", "test_image_training.py", "test_versions.py", "test_bulk.py")
"""Folders and files whose tests come first, so that both workers end at about the same time."""


def pytest_configure() -> None:
    """A shell's background job ignores Ctrl-C, and so would every command that a test starts and interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; within a file the order stays."""
    items.sort(key=lambda item: not any(part in _LONGEST for part in item.path.parts))


@pytest.fixture
def kubetfx(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """The console script, in this process, as wide as a pipe has it and without colours."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    return kubetfx_here


@pytest.fixture(scope="session")
def s3_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Store]:
    """A store that is started when a test first asks for it."""
    folder: Path = tmp_path_factory.mktemp("s3-store")
    with running_s3_store(folder) as store:
        yield store


@pytest.fixture
def bucket(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> ObjectPath:
    """An empty folder of a bucket, which the environment says how to reach."""
    for name, value in s3_store.environment().items():
        monkeypatch.setenv(name, value)
    return ObjectPath("s3", BUCKET) / uuid.uuid4().hex[:12]


@pytest.fixture(scope="session")
def gcs_store() -> Iterator[str]:
    """URL of a store that is started when a test first asks for it."""
    with running_gcs_store() as url:
        yield url


@pytest.fixture
def gcs_bucket(gcs_store: str, monkeypatch: pytest.MonkeyPatch) -> ObjectPath:
    """An empty folder of a bucket of Google's, which the environment says how to reach."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_store)
    return ObjectPath("gs", GCS_BUCKET) / uuid.uuid4().hex[:12]


@pytest.fixture(params=["bucket", "gcs_bucket"], ids=["s3", "gs"])
def any_bucket(request: pytest.FixtureRequest) -> ObjectPath:
    """An empty folder of a bucket, on S3 and on Google Cloud Storage."""
    folder: ObjectPath = request.getfixturevalue(request.param)
    return folder


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of a bucket do not wait for half a minute until they say that it cannot be reached."""
    monkeypatch.setattr(storage, "_READ_ATTEMPTS", storage._ATTEMPTS)


@pytest.fixture
def wire(s3_store: S3Store, bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """What the environment says to reach the bucket by, and can be cut."""
    wire = Wire(s3_store.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
    yield wire
    wire.close()
