"""Tables behind http://, from a small server on loopback."""

import base64
import gzip
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from kubetfx.components.data import data_source, tables
from kubetfx.config.data_section import DataConfig
from kubetfx.errors import DataError
from kubetfx.serving.bulk_input import find_input
from kubetfx.serving.model_columns import ModelColumns
from kubetfx.serving.row_source import open_rows
from kubetfx.tables.files import TableFiles

ROWS = b"x,y\n1,a\n2,b\n"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/moved.csv":
            self.send_response(302)
            self.send_header("Location", "/open/rows.csv")
            self.end_headers()
            return
        wanted = f"Basic {base64.b64encode(b'me:open sesame').decode()}"
        if path.startswith("/secret/") and self.headers["Authorization"] != wanted:
            self.send_error(401)
            return
        if path not in ("/open/rows.csv", "/open/rows.csv.gz", "/secret/rows.csv", "/open/rows"):
            self.send_error(404, f"no {query}")
            return
        content = gzip.compress(ROWS, mtime=0) if path.endswith(".gz") else ROWS
        self.send_response(200)
        if path.endswith(".gz"):
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content) + (99 if query == "cut" else 0)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(autouse=True)
def _in_a_folder_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def section(url: str, **fields: object) -> DataConfig:
    return DataConfig.model_validate({"path": url, "label": "y", **fields})


@pytest.mark.parametrize("name", ["open/rows.csv", "open/rows.csv.gz", "moved.csv"])
def test_file_behind_a_url_is_a_table(server: str, name: str) -> None:
    data = section(f"http://{server}/{name}")

    files = tables.find_files(data)
    first = Path(files.paths[0]).stat()

    assert tables.inspect_table(files, data).num_rows == 2
    assert Path(files.paths[0]).name == name.rpartition("/")[2]
    data_source.fetched(data, anew=True)
    again = Path(tables.find_files(data).paths[0]).stat()
    assert (again.st_size, again.st_mtime_ns) == (first.st_size, first.st_mtime_ns)


def test_format_may_be_said(server: str) -> None:
    data = section(f"http://{server}/open/rows", format="csv")
    assert tables.inspect_table(tables.find_files(data), data).num_rows == 2


def test_password_comes_from_the_environment_and_is_not_told(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = section(f"http://me:${{SHOP_PASSWORD}}@{server}/secret/rows.csv")
    monkeypatch.setenv("SHOP_PASSWORD", "open%20sesame")
    assert tables.inspect_table(tables.find_files(data), data).num_rows == 2

    monkeypatch.setenv("SHOP_PASSWORD", "wrong")
    with pytest.raises(
        DataError, match=r"http://me:\$\{SHOP_PASSWORD\}@.* the server answers 401 Unauthorized"
    ) as told:
        data_source.fetched(data, anew=True)
    assert "wrong" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://{server}/open/none.csv", "the server answers 404"),
        ("http://{server}/open/rows.csv?cut", "cannot be read: peer closed connection"),
        ("http://127.0.0.1:1/rows.csv", "Connection refused"),
    ],
)
def test_what_cannot_be_fetched_is_an_error(server: str, url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        tables.find_files(section(url.format(server=server)))
    assert not list(tmp_path.glob("*/*rows*"))


def test_rows_to_predict_may_be_behind_a_url(server: str, tmp_path: Path) -> None:
    model = ModelColumns({"x": np.dtype(np.float32)}, {"x": False})

    (rows,) = open_rows(f"http://me:open%20sesame@{server}/secret/rows.csv", model).blocks
    found = find_input(f"http://{server}/open/rows.csv.gz", images=False)

    assert rows.table.to_pylist() == [{"x": 1.0}, {"x": 2.0}]
    assert isinstance(found, TableFiles)
    assert (found.format, Path(found.paths[0]).name) == ("csv", "rows.csv.gz")
    with pytest.raises(DataError, match=rf"^http://{server}/secret/rows\.csv cannot be read: the server answers 401"):
        open_rows(f"http://me:wrong@{server}/secret/rows.csv?token=1", model)
