"""A small Google Cloud Storage on loopback: what Google's client asks of the JSON API, over objects in memory.

The lock has no such store. What this one does not know it refuses, and it knows one bucket.
"""

import contextlib
import datetime
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "kubetfx-tests"
Answer = tuple[int, dict[str, str], bytes]


class GcsStore:
    """Objects by name, each with its content and the time of its writing."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, datetime.datetime]] = {}
        self.url = ""
        self._uploads: dict[str, tuple[str, bytearray]] = {}
        objects = r"/storage/v1/b/(?P<bucket>[^/]+)/o"
        self._routes: list[tuple[str, str, Callable[..., Answer]]] = [
            ("GET", objects.removesuffix("/o"), self._bucket),
            ("GET", objects, self._list),
            ("GET", rf"{objects}/(?P<name>[^/]+)", self._get),
            ("DELETE", rf"{objects}/(?P<name>[^/]+)", self._delete),
            ("POST", rf"{objects}/(?P<name>[^/]+)/rewriteTo/b/(?P<to_bucket>[^/]+)/o/(?P<to>[^/]+)", self._copy),
            ("POST", r"/upload/storage/v1/b/(?P<bucket>[^/]+)/o", self._begin_upload),
            ("PUT", r"/uploads/(?P<upload>\w+)", self._upload),
        ]

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """What a request is answered with: status, headers, body."""
        url = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        for its_method, pattern, call in self._routes:
            if method == its_method and (match := re.fullmatch(pattern, url.path)):
                parts = {name: unquote(value) for name, value in match.groupdict().items()}
                if parts.pop("bucket", BUCKET) != BUCKET or parts.pop("to_bucket", BUCKET) != BUCKET:
                    return _error(404, "The specified bucket does not exist.")
                return call(**parts, query=query, headers=headers, body=body)
        return _error(501, f"{method} {path}")

    def _bucket(self, **_: Any) -> Answer:
        return _json({"kind": "storage#bucket", "name": BUCKET})

    def _list(self, *, query: dict[str, str], **_: Any) -> Answer:
        prefix = query.get("prefix", "")
        names = [name for name in sorted(self.objects) if name.startswith(prefix)]
        folders = set()
        if delimiter := query.get("delimiter"):
            below = [name for name in names if delimiter in name[len(prefix) :]]
            folders = {prefix + name[len(prefix) :].partition(delimiter)[0] + delimiter for name in below}
            names = [name for name in names if name not in below]
        items = [self._metadata(name) for name in names]
        return _json({"kind": "storage#objects", "items": items, "prefixes": sorted(folders)})

    def _get(self, *, name: str, query: dict[str, str], headers: Mapping[str, str], **_: Any) -> Answer:
        if name not in self.objects:
            return _error(404, f"No such object: {BUCKET}/{name}")
        if query.get("alt") != "media":
            return _json(self._metadata(name))
        content = self.objects[name][0]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("Range", "bytes=0-"))
        assert asked is not None
        start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if start and start >= len(content):
            return 416, {"Content-Range": f"bytes */{len(content)}"}, b""
        is_part = "Range" in headers
        place = {"Content-Range": f"bytes {start}-{end}/{len(content)}"} if is_part else {}
        return 206 if is_part else 200, place, content[start : end + 1]

    def _delete(self, *, name: str, **_: Any) -> Answer:
        if name not in self.objects:
            return _error(404, f"No such object: {BUCKET}/{name}")
        del self.objects[name]
        return 204, {}, b""

    def _copy(self, *, name: str, to: str, **_: Any) -> Answer:
        if name not in self.objects:
            return _error(404, f"No such object: {BUCKET}/{name}")
        content = self.objects[name][0]
        size = str(len(content))
        done = {"kind": "storage#rewriteResponse", "totalBytesRewritten": size, "objectSize": size, "done": True}
        return _json({**done, "resource": self._put(to, content)})

    def _begin_upload(self, *, query: dict[str, str], **_: Any) -> Answer:
        if query.get("uploadType") != "resumable":
            return _error(501, "another kind of upload")
        upload = uuid.uuid4().hex
        self._uploads[upload] = query["name"], bytearray()
        return 200, {"Location": f"{self.url}/uploads/{upload}"}, b""

    def _upload(self, *, upload: str, headers: Mapping[str, str], body: bytes, **_: Any) -> Answer:
        name, content = self._uploads[upload]
        content += body
        if headers.get("Content-Range", "").endswith("/*"):  # more is to come
            return 308, {"Range": f"bytes=0-{len(content) - 1}"} if content else {}, b""
        return _json(self._put(name, bytes(content)))

    def _put(self, name: str, content: bytes) -> dict[str, Any]:
        self.objects[name] = content, datetime.datetime.now(datetime.UTC)
        return self._metadata(name)

    def _metadata(self, name: str) -> dict[str, Any]:
        content, written = self.objects[name]
        time = written.isoformat().replace("+00:00", "Z")
        numbers = {"size": str(len(content)), "generation": str(int(written.timestamp() * 1e6)), "metageneration": "1"}
        return {
            **numbers,
            "kind": "storage#object",
            "name": name,
            "bucket": BUCKET,
            "timeCreated": time,
            "updated": time,
        }


@contextlib.contextmanager
def running_gcs_store() -> Iterator[str]:
    """Start the store in a process of its own, since pyarrow keeps Python's lock in some of its requests; its URL."""
    command = [sys.executable, "-m", "tests.gcs_store"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def serve() -> None:
    """Say the URL, and answer until the process is ended."""
    store = GcsStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536  # an answer in two packets waits for the client's acknowledgement

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, content = store.answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store.url = f"http://127.0.0.1:{server.server_port}"
    print(store.url, flush=True)
    server.serve_forever()


def _json(document: dict[str, Any]) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()


def _error(status: int, message: str) -> Answer:
    content = json.dumps({"error": {"code": status, "message": message, "errors": [{"message": message}]}})
    return status, {"Content-Type": "application/json"}, content.encode()


if __name__ == "__main__":
    serve()
