import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kubetfx import storage
from kubetfx.errors import StorageError
from kubetfx.storage import ObjectPath, copy_folder, list_files, locate
from tests.s3_store import KEY, SECRET, S3Store, Wire


def use(monkeypatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def names(folder: ObjectPath, paths) -> list[str]:
    return [path.relative_to(folder) for path in paths]


def fill(folder: ObjectPath, *names: str) -> None:
    for name in names:
        (folder / name).write_text(name)


@pytest.mark.parametrize("url", ["s3://bucket", "gs://bucket/a/b.csv", "s3://b/a=1/*.parquet"])
def test_url_is_a_place_in_a_bucket_and_a_place_its_url(url):
    assert str(locate(url)) == url


def test_slashes_too_many_are_left_out():
    assert locate("s3://bucket//a/") == ObjectPath("s3", "bucket/a")
    assert locate("/a//b/") == Path("/a/b")


def test_parts_of_a_place_are_those_of_a_path():
    place = locate("s3://bucket/a") / Path("b") / "c.csv"

    assert (str(place), place.name, place.bucket) == ("s3://bucket/a/b/c.csv", "c.csv", "bucket")
    assert str(place.parent.parent) == "s3://bucket/a"
    assert locate("s3://bucket").parent == locate("s3://bucket")
    assert place.relative_to(locate("s3://bucket/a")) == "b/c.csv"


def test_object_comes_back_as_it_was_written(any_bucket, tmp_path):
    content = os.urandom(100_000)
    (tmp_path / "file.gz").write_bytes(content)

    (any_bucket / "file.gz").upload(tmp_path / "file.gz")
    (any_bucket / "file.gz").copy_to(any_bucket / "copy.gz")
    (any_bucket / "copy.gz").download(tmp_path / "copy.gz")

    assert (tmp_path / "copy.gz").read_bytes() == (any_bucket / "file.gz").read_bytes() == content
    assert (any_bucket / "file.gz").info().num_bytes == 100_000


def test_folder_is_there_as_long_as_an_object_is_in_it(any_bucket):
    assert not any_bucket.is_dir()
    fill(any_bucket, "a/b/c")

    assert (any_bucket / "a").is_dir()
    assert not (any_bucket / "a").is_file()
    assert (any_bucket / "a" / "b" / "c").is_file()
    assert [str(info.path) for info in any_bucket.files()] == [f"{any_bucket}/a/b/c"]

    (any_bucket / "a").remove_tree()
    assert any_bucket.files() == []
    assert not (any_bucket / "a").is_dir()


def test_what_is_not_there_is_not_found_and_deleted_without_a_word(any_bucket):
    place = any_bucket / "none"

    place.unlink()
    place.remove_tree()
    assert place.files() == []
    with pytest.raises(FileNotFoundError):
        place.read_bytes()
    with pytest.raises(FileNotFoundError):
        place.info()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a.csv", "b.csv"]),
        ("[ab].*", ["a.csv", "a.txt", "b.csv"]),
        ("day-?/*.csv", ["day-1/a.csv", "day-2/a.csv"]),
        ("day-1/*", ["day-1/a.csv"]),
        ("**/a.csv", ["a.csv", "day-1/a.csv", "day-1/deep/a.csv", "day-2/a.csv"]),
        ("a.csv", ["a.csv"]),
        ("none/*", []),
    ],
)
def test_glob_matches_as_that_of_a_folder_does(any_bucket, tmp_path, pattern, expected):
    files = ["a.csv", "a.txt", "b.csv", "day-1/a.csv", "day-1/deep/a.csv", "day-2/a.csv"]
    fill(any_bucket, *files)
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    assert names(any_bucket, list_files(any_bucket, pattern)) == expected
    assert [str(path.relative_to(tmp_path)) for path in list_files(tmp_path, pattern)] == expected


def test_files_of_a_folder_are_those_directly_in_it(any_bucket, tmp_path):
    fill(any_bucket, "b.csv", "a.csv", "deep/c.csv")
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.csv").touch()

    assert names(any_bucket, list_files(any_bucket)) == ["a.csv", "b.csv"]
    assert list_files(tmp_path) == [tmp_path / "a.csv"]


def test_folder_is_copied_from_either_side(any_bucket, tmp_path):
    fill(any_bucket / "model", "saved_model.pb", "variables/index")

    copy_folder(any_bucket / "model", tmp_path / "first")
    copy_folder(tmp_path / "first", tmp_path / "second")

    found = {
        str(path.relative_to(tmp_path / "second")): path.read_text() for path in list_files(tmp_path / "second", "**/*")
    }
    assert found == {"saved_model.pb": "saved_model.pb", "variables/index": "variables/index"}


def test_missing_bucket_is_told(bucket):
    place = locate("s3://there-is-none/tables")
    message = r"There is no bucket 'there-is-none' at http://127.*Create it, or correct its name"

    for attempt in (place.files, lambda: place.write_text("x"), lambda: storage.check_writable(place)):
        with pytest.raises(StorageError, match=message):
            attempt()


@pytest.mark.parametrize(
    ("key", "secret", "reason"),
    [("nobody", SECRET, "access key ID"), (KEY, "wrong", "signature")],
    ids=["unknown key", "wrong secret"],
)
def test_wrong_credentials_are_told(bucket, s3_store: S3Store, monkeypatch, key, secret, reason):
    use(monkeypatch, s3_store.environment(key=key, secret=secret))

    message = rf"http://127\S+ refuses the credentials \(.*{reason}.*Received: {bucket}.*Set AWS_ACCESS_KEY_ID and"
    for attempt in (bucket.files, bucket.is_dir, lambda: bucket.write_text("x")):
        with pytest.raises(StorageError, match=message):
            attempt()


def test_no_credentials_are_told(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(StorageError, match=r"denies access to the bucket .*Set AWS_ACCESS_KEY_ID and AWS_SECRET"):
        bucket.files()


def test_store_that_does_not_answer_is_told_within_seconds(monkeypatch, s3_store: S3Store):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    use(monkeypatch, s3_store.environment(url=url))

    message = rf"{url} cannot be reached \(.*connect.*Received: s3://bucket/x\. Look at .*AWS_ENDPOINT_URL"
    with pytest.raises(StorageError, match=message):
        locate("s3://bucket/x").files()


def test_reading_goes_on_after_a_store_was_busy(bucket, wire: Wire):
    content = os.urandom(3 * 2**20)
    (bucket / "big").write_bytes(content)
    with (bucket / "big").open_stream() as file:
        found = file.read(1_000)
        wire.busy_until = time.monotonic() + 4

        found += file.read()

    assert found == content
    assert wire.num_refused > 1
    wire.busy_until = time.monotonic() + 4
    assert (bucket / "big").read_bytes() == content


def test_busy_store_is_told_before_anything_is_read(bucket, wire: Wire):
    wire.busy_until = time.monotonic() + 60
    with pytest.raises(StorageError, match=r"Received: s3://"):
        bucket.files()
    wire.busy_until = 0


def test_endpoint_without_a_scheme_is_told(monkeypatch, s3_store: S3Store):
    use(monkeypatch, s3_store.environment(url=f"127.0.0.1:{s3_store.port}"))

    with pytest.raises(StorageError, match=r"AWS_ENDPOINT_URL needs a scheme\. Received: 127\.0\.0\.1:\d+\. Put http"):
        locate("s3://bucket/x").files()


def test_cut_connection_is_told_and_the_object_does_not_appear(bucket, wire: Wire):
    wire.reset(cut_after=50_000)

    with pytest.raises(StorageError, match=r"cannot be reached"):
        (bucket / "big").write_bytes(os.urandom(200_000))
    wire.reset()

    assert bucket.files() == []


def test_missing_bucket_of_google_is_told(gcs_store, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_store)
    place = locate("gs://there-is-none/tables")

    for attempt in (place.files, lambda: place.write_text("x")):
        with pytest.raises(
            StorageError, match=r"There is no bucket 'there-is-none' at http\S+\. Received: gs://there-is-none/tables"
        ):
            attempt()


def test_google_that_does_not_answer_is_told(monkeypatch):
    monkeypatch.setattr(storage, "GCS_RETRY_SECONDS", 1)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:1")

    with pytest.raises(StorageError, match=r"127\.0\.0\.1:1 cannot be reached \(.*connect.*Received: gs://bucket/x"):
        locate("gs://bucket/x").files()


def test_credentials_of_google_that_are_not_there_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(storage, "GCS_RETRY_SECONDS", 1)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))

    message = (
        r"finds no credentials that it takes \(Cannot open credentials file .*none\.json\).* Set GOOGLE_APPLICATION_CR"
    )
    with pytest.raises(StorageError, match=message):
        locate("gs://bucket/x").files()


CONFIG = """\
[default]
region = us-west-2
[profile team]
endpoint_url = http://of-profile
[profile with-services]
services = ours
endpoint_url = http://of-profile
[services ours]
s3 =
  endpoint_url = http://of-service
"""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"AWS_PROFILE": "team"}, "http://of-profile"),
        ({"AWS_PROFILE": "with-services"}, "http://of-service"),
        ({"AWS_PROFILE": "unknown"}, None),
        ({"AWS_PROFILE": "team", "AWS_ENDPOINT_URL": "http://any"}, "http://any"),
        ({"AWS_ENDPOINT_URL": "http://any", "AWS_ENDPOINT_URL_S3": "http://s3"}, "http://s3"),
        ({"AWS_ENDPOINT_URL": "http://any", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, None),
    ],
    ids=["default", "profile", "services", "unknown profile", "variable", "variable of S3", "ignored"],
)
def test_endpoint_is_where_the_sdks_look_for_it(monkeypatch, tmp_path, environment, expected):
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    (tmp_path / "config").write_text(CONFIG)
    use(monkeypatch, {"AWS_CONFIG_FILE": str(tmp_path / "config"), **environment})

    assert storage.s3_endpoint() == expected


def test_profile_gives_credentials_and_endpoint(bucket, s3_store: S3Store, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(f"[profile team]\nendpoint_url = {s3_store.url}\n")
    (tmp_path / "credentials").write_text(f"[team]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    files = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "credentials"}
    use(monkeypatch, {"AWS_PROFILE": "team", **{name: str(tmp_path / file) for name, file in files.items()}})

    fill(bucket, "x")

    assert names(bucket, list_files(bucket)) == ["x"]


def test_light_modules_need_arrow_only_for_a_bucket(tmp_path):
    program = f"""
import sys
from kubetfx.components.push import push_directory
from kubetfx.storage import locate
push_directory.versions(locate({str(tmp_path)!r}))
assert not [name for name in sys.modules if name.startswith("pyarrow")], "pyarrow is imported"
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
