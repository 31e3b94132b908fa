"""The rows of a SQL query, as a data source: `data.source: kubetfx.tables.sql:read`.

    data:
      source: kubetfx.tables.sql:read
      source_options: {url: "postgresql://localhost/shop", query: "SELECT * FROM orders WHERE paid"}

Databases are reached by ADBC, which hands over Arrow batches: https://arrow.apache.org/adbc. Its driver for a database
is a package of its own, for example adbc-driver-postgresql or adbc-driver-sqlite.
"""

import importlib
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from kubetfx.errors import ConfigError, DataError

_DRIVERS = {
    "postgresql": "adbc_driver_postgresql",
    "postgres": "adbc_driver_postgresql",
    "sqlite": "adbc_driver_sqlite",
    "snowflake": "adbc_driver_snowflake",
}
"""Module of the driver by the scheme of the URL."""


def read(*, query: str, url: str | None = None, url_variable: str | None = None) -> Iterator[pa.RecordBatch]:
    """Read the rows of a query.

    Args:
        query: in the database's own SQL. Give it an ORDER BY, so that the same rows are the same table.
        url: of the database, for example `postgresql://HOST/NAME` or `sqlite:///FILE`.
        url_variable: the environment variable that holds the URL, so that a password is not in a file.

    Yields:
        Batches of the columns that the query selects.

    Raises:
        ConfigError: there is no URL, or no driver for it.
        DataError: the database refuses the query, or cannot be reached.
    """
    address = _address(url, url_variable)
    driver = _driver(address)
    try:
        with driver.connect(_location(address)) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            yield from cursor.fetch_record_batch()
    except Exception as error:  # each driver has errors of its own
        raise DataError(f"The query failed: {error}. Received: {query!r} at {_shown(address)}.") from error


def _address(url: str | None, url_variable: str | None) -> str:
    address = os.environ.get(url_variable) if url_variable else url
    if not address:
        received = f"url_variable: {url_variable}, which is not set" if url_variable else "neither url nor url_variable"
        raise ConfigError(f"data.source_options: the URL of a database is needed. Received: {received}.")
    return address


def _driver(address: str) -> Any:
    scheme = urlsplit(address).scheme.partition("+")[0]
    if scheme not in _DRIVERS:
        raise ConfigError(
            f"data.source_options: there is no driver for {scheme or 'a URL without a scheme'}. Received: "
            f"{_shown(address)}. Known: {', '.join(_DRIVERS)}. Write a source of your own for another database."
        )
    try:
        return importlib.import_module(f"{_DRIVERS[scheme]}.dbapi")
    except ModuleNotFoundError as error:
        package = _DRIVERS[scheme].replace("_", "-")
        raise ConfigError(
            f"data.source_options: the driver for {scheme} is not installed. Received: {_shown(address)}. Install it: "
            f"pip install {package} pyarrow"
        ) from error


def _location(address: str) -> str:
    """The URL as the driver takes it: SQLite's takes a path."""
    return address.removeprefix("sqlite:///") if address.startswith("sqlite:") else address


def _shown(address: str) -> str:
    """The URL without user and password."""
    parts = urlsplit(address)
    host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    return f"{parts.scheme}://{host}{parts.path}"
