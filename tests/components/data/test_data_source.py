"""Rows from a function in place of files."""

import sqlite3
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from kubetfx.components.data import data_source, tables
from kubetfx.config.data_section import DataConfig
from kubetfx.errors import ConfigError, DataError

SOURCE = """
import pyarrow as pa

def batches(num_rows, size, first=0):
    for start in range(0, num_rows, size):
        rows = [first + row for row in range(start, min(start + size, num_rows))]
        yield pa.RecordBatch.from_pydict({"x": rows, "y": ["ab"[row % 2] for row in rows]})

def table():
    return pa.table({"x": [1, 2], "y": ["a", "b"]})

def nothing():
    return iter(())

def rows():
    yield {"x": 1, "y": "a"}

def two_schemas():
    yield pa.RecordBatch.from_pydict({"x": [1], "y": ["a"]})
    yield pa.RecordBatch.from_pydict({"x": ["one"], "y": ["b"]})

def tells(password):
    raise OSError(f"access denied: {password}")

def fails():
    yield pa.RecordBatch.from_pydict({"x": [1], "y": ["a"]})
    raise OSError("the station is closed")
"""


@pytest.fixture
def section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = f"source_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(function: str, *, path: str | None = None, **options: object) -> DataConfig:
        place = path or str(tmp_path / "workspace" / "source")
        return DataConfig(path=place, label="y", source=f"{name}:{function}", source_options=options)

    yield make
    sys.modules.pop(name, None)


def stamp(data: DataConfig) -> tuple[str, int, int]:
    """What the fingerprint of TFX's driver is made of."""
    (path,) = tables.find_files(data).paths
    found = Path(path).stat()
    return Path(path).name, found.st_size, found.st_mtime_ns


def test_rows_are_a_table_like_any_other(section):
    data = section("batches", num_rows=10, size=3)

    files = tables.find_files(data)
    profile = tables.inspect_table(files, data)

    assert profile.num_rows == 10
    assert {column.name: column.type for column in profile.columns} == {"x": "int64", "y": "string"}
    blocks = tables.read_blocks(files.paths[0], profile.columns, file_format=files.format, data=data)
    assert [x for block in blocks for x in block.column("x").to_pylist()] == list(range(10))


def test_whole_table_is_taken_too(section):
    data = section("table")
    assert tables.inspect_table(tables.find_files(data), data).num_rows == 2


def test_fingerprint_depends_on_the_rows_alone(section, tmp_path):
    first = stamp(section("batches", num_rows=200_000, size=1_000))
    same = stamp(section("batches", num_rows=200_000, size=77_777, path=str(tmp_path / "elsewhere")))
    other = stamp(section("batches", num_rows=200_000, size=1_000, first=1, path=str(tmp_path / "other")))

    assert first == same
    assert first != other


def test_source_is_asked_once_in_a_process_until_it_is_to_be_asked_anew(section, tmp_path):
    data = section("batches", num_rows=4, size=2)
    before = stamp(data)
    module = sys.modules[data.source.partition(":")[0]]
    module.batches = lambda **_: module.table()

    assert stamp(data) == before
    assert data_source.fetched(data, anew=True).path == data.path
    assert stamp(data) != before


def test_unchanged_rows_leave_the_file_as_it_was(section):
    data = section("table")
    (path,) = tables.find_files(data).paths
    before = Path(path).stat()

    data_source.fetched(data, anew=True)

    assert (Path(path).stat().st_ino, Path(path).stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_place_that_cannot_be_written_is_replaced_by_a_folder_of_the_rows_own(section, tmp_path):
    (tmp_path / "file").write_text("in the way")
    data = section("table", path=str(tmp_path / "file" / "source"))

    place = Path(data_source.fetched(data).path)

    assert (place / data_source.FILE).is_file()
    assert place.name.startswith("kubetfx-source-")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nothing", r"data\.source yielded no rows\. Received: \S+:nothing"),
        ("rows", r"must yield Arrow record batches or tables\. Received: dict from .*from_pylist"),
        ("two_schemas", r"one schema\. Received: x: int64, then string from"),
        ("fails", r"data\.source failed: OSError: the station is closed\. Received: \S+:fails with no options"),
    ],
)
def test_source_that_yields_no_table_is_told_in_words(section, function, message):
    with pytest.raises(DataError, match=message):
        tables.find_files(section(function))
    assert not Path(section(function).path).exists()


def test_unknown_function_and_wrong_options_are_told(section):
    with pytest.raises(ConfigError, match=r"data\.source: the module \S+ has no read\."):
        tables.find_files(section("read"))
    with pytest.raises(DataError, match=r"TypeError: .*unexpected keyword argument 'rows'.* with rows"):
        tables.find_files(section("table", rows=3))


def test_what_a_source_says_of_a_secret_is_not_said_on(section, monkeypatch):
    monkeypatch.setenv("SHOP_PASSWORD", "open sesame")
    with pytest.raises(DataError, match=r"OSError: access denied: \$\{SHOP_PASSWORD\}\. Received: .* with password"):
        tables.find_files(section("tells", password="${SHOP_PASSWORD}"))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE orders (id INTEGER, price REAL, returned TEXT)")
        rows = [(i, i / 2, "no" if i % 3 else "yes") for i in range(9)]
        database.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
    database.close()
    return path


def query(path: Path, text: str = "SELECT id, price, returned FROM orders ORDER BY id", **options: str) -> DataConfig:
    source = {"url": f"sqlite:///{path}"} | options | {"query": text}
    return DataConfig(
        path=str(path.parent / "source"), label="returned", source="kubetfx.tables.sql:read", source_options=source
    )


def test_rows_of_a_query_are_a_table(shop):
    data = query(shop)
    profile = tables.inspect_table(tables.find_files(data), data)

    assert profile.num_rows == 9
    assert {column.name: column.type for column in profile.columns} == {
        "id": "int64",
        "price": "float",
        "returned": "string",
    }


def test_options_may_be_in_the_environment(shop, monkeypatch):
    data = query(shop, url="${SHOP}")
    with pytest.raises(ConfigError, match=r"data\.source_options\.url: the environment variable SHOP is not set"):
        tables.find_files(data)
    monkeypatch.setenv("SHOP", f"sqlite:///{shop}")
    assert tables.inspect_table(tables.find_files(data), data).num_rows == 9


def test_a_query_of_duckdb_reads_its_tables_and_files(tmp_path):
    with duckdb.connect(tmp_path / "shop.duckdb") as database:
        database.execute("CREATE TABLE orders AS SELECT range AS id, range / 2 AS price FROM range(9)")
    (tmp_path / "returned.csv").write_text(
        "id,returned\n" + "".join(f"{i},{'no' if i % 3 else 'yes'}\n" for i in range(9))
    )
    text = f"SELECT id, price, returned FROM orders JOIN '{tmp_path}/returned.csv' USING (id) ORDER BY id"
    data = query(tmp_path / "shop.duckdb", text, url=f"duckdb:///{tmp_path}/shop.duckdb")

    profile = tables.inspect_table(tables.find_files(data), data)

    assert profile.num_rows == 9
    assert [(column.name, column.type) for column in profile.columns] == [
        ("id", "int64"),
        ("price", "float"),
        ("returned", "string"),
    ]
    of_files = query(tmp_path / "none", f"SELECT * FROM '{tmp_path}/returned.csv'", url="duckdb://")
    assert tables.inspect_table(tables.find_files(of_files), of_files).num_rows == 9


def test_faults_of_a_query_are_told_without_the_password(shop):
    with pytest.raises(DataError, match=r"(?s)The query failed: .*no such table.* Received: 'SELECT \* FROM bills'"):
        tables.find_files(query(shop, "SELECT * FROM bills"))
    with pytest.raises(ConfigError, match=r"no driver for oracle\. Received: oracle://db\.example/x\. Known:") as told:
        tables.find_files(query(shop, url="oracle://me:secret@db.example/x"))
    assert "secret" not in str(told.value)
    with pytest.raises(ConfigError, match=r"pip install adbc-driver-postgresql"):
        tables.find_files(query(shop, url="postgresql://me:secret@db.example/x"))


def test_batches_of_a_table_with_metadata_are_of_one_schema(section):
    schema = pa.schema([("x", pa.int64()), ("y", pa.string())], metadata={"made": "by pandas"})
    batch = pa.RecordBatch.from_pydict({"x": [1], "y": ["a"]})
    data = section("table")
    module_name = data.source.partition(":")[0]
    data_source.fetched(data)
    sys.modules[module_name].table = lambda: iter([batch, pa.RecordBatch.from_pydict({"x": [2], "y": ["b"]}, schema)])

    data_source.fetched(data, anew=True)

    assert tables.inspect_table(tables.find_files(data), data).num_rows == 2
