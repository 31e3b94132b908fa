"""Tables behind http:// and https://: they are fetched into files, and read as such."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kubetfx import temporary_files
from kubetfx.errors import DataError
from kubetfx.proxies import is_loopback, proxy_of
from kubetfx.tables.csv_dialect import compression_of

_EARLIEST, _SECONDS = 1_000_000_000, 500_000_000
"""Times of files: a second of the years 2001 to 2017 that the content chooses."""
_SECONDS_TO_WAIT = 30.0
_PIECE_BYTES = 2**20


def fetch(url: str, *, shown: str | None = None) -> Path:
    """Fetch a file, into a folder of its own among the temporary files of this machine.

    Args:
        url: The URL of the file, with user and password or token if it needs them.
        shown: the URL as messages may have it; the folder goes by it. Default: without user, password and query.

    Returns:
        The file. Its name is that in the URL, and its time depends on its content alone: the cache takes an unchanged
        file for the same.

    Raises:
        DataError: the server cannot be reached, or refuses.
    """
    name = Path(unquote(urlsplit(url).path)).name or "rows"
    digest_of_url = hashlib.sha256((shown or url).encode()).hexdigest()[:16]
    folder = temporary_files.shared_folder() / f"kubetfx-download-{os.getuid()}-{digest_of_url}"
    folder.mkdir(mode=0o700, exist_ok=True)
    parts = urlsplit(url)
    shown = shown or f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    aside = folder / f".{name}.{os.getpid()}"
    digest = hashlib.sha256()
    try:
        with _stream(url, name, shown) as pieces, aside.open("wb") as file:
            for piece in pieces:
                digest.update(piece)
                file.write(piece)
        seconds = _EARLIEST + int(digest.hexdigest(), 16) % _SECONDS
        os.utime(aside, (seconds, seconds))
        return aside.rename(folder / name)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def _stream(url: str, name: str, shown: str) -> Iterator[Iterator[bytes]]:
    import httpx

    try:
        with httpx.stream(
            "GET",
            url,
            follow_redirects=True,
            timeout=_SECONDS_TO_WAIT,
            headers={"Accept-Encoding": "identity"},
            trust_env=not is_loopback(url),
        ) as response:
            if not response.is_success:
                raise DataError(
                    f"{shown} cannot be read: the server answers {response.status_code} {response.reason_phrase}. "
                    "Try the address in a browser; an environment variable for a token is ${TOKEN} in it."
                )
            # a server may say that a compressed file is a compressed transfer
            yield response.iter_raw(_PIECE_BYTES) if compression_of(name) else response.iter_bytes(_PIECE_BYTES)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        said = re.sub(r"https?://\S+", shown, str(error)) or type(error).__name__
        proxy = proxy_of(url)
        through = f"Requests go through the proxy {proxy}, as the environment says." if proxy else "Is it mistyped?"
        raise DataError(f"{shown} cannot be read: {said}. {through}") from None
