"""The rows of a SQL query, as a data source: `data.source: kubetfx.tables.sql:read`.

    data:
      source: kubetfx.tables.sql:read
      source_options: {url: "${SHOP_URL}", query: "SELECT * FROM orders WHERE paid"}

Databases are reached by ADBC, which hands over Arrow batches: https://arrow.apache.org/adbc. Its driver for a database
is a package of its own, for example adbc-driver-postgresql or adbc-driver-sqlite; DuckDB has its own. `duckdb://` alone
is not a database: its queries read files (`SELECT * FROM 'orders/*.parquet'`).
"""

import importlib
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
    "duckdb": "adbc_driver_duckdb",
}
"""Module of the driver by the scheme of the URL."""
_PACKAGES = {"duckdb": "duckdb adbc-driver-manager"}
"""What to install for a driver whose package has not its name."""


def read(*, query: str, url: str) -> Iterator[pa.RecordBatch]:
    """Read the rows of a query.

    Args:
        query: in the database's own SQL. Give it an ORDER BY, so that the same rows are the same table.
        url: The URL of the database, for example `postgresql://HOST/NAME` or `sqlite:///FILE`.

    Yields:
        Batches of the columns that the query selects.

    Raises:
        ConfigError: there is no driver for the URL.
        DataError: the database refuses the query, or cannot be reached.
    """
    driver = _driver(url)
    location = _location(url)
    try:
        with driver.connect(location) if location else driver.connect() as connection, connection.cursor() as cursor:
            cursor.execute(query)
            yield from cursor.fetch_record_batch()
    except Exception as error:  # each driver has errors of its own
        said = str(error).replace(url, _shown(url))
        raise DataError(f"The query failed: {said}. Received: {query!r} at {_shown(url)}.") from None


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
        package = _PACKAGES.get(scheme, _DRIVERS[scheme].replace("_", "-"))
        raise ConfigError(
            f"data.source_options: the driver for {scheme} is not installed. Received: {_shown(address)}. Install it: "
            f"pip install {package} pyarrow"
        ) from error


def _location(address: str) -> str:
    """Return the URL as the driver takes it: those of SQLite and DuckDB take a path."""
    return address.partition("://")[2].removeprefix("/") if address.startswith(("sqlite:", "duckdb:")) else address


def _shown(address: str) -> str:
    """Return the URL without user and password."""
    parts = urlsplit(address)
    host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    return f"{parts.scheme}://{host}{parts.path}"
