"""Which files a path means, and of which format each is: their names say it."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from kubetfx.errors import DataError
from kubetfx.storage import Location, list_files
from kubetfx.tables.partitions import MAX_DEPTH

if TYPE_CHECKING:
    from kubetfx.tables.spans import Span

Format = Literal["csv", "jsonl", "parquet", "arrow", "orc"]
FORMATS: tuple[Format, ...] = get_args(Format)

COMPRESSIONS: Mapping[str, str] = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""Arrow's names of what text may be compressed by, by the end of the file's name."""
_NAMES: Mapping[Format, tuple[str, ...]] = {
    "csv": (".csv", ".tsv"),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet",),
    "arrow": (".feather", ".arrow"),
    "orc": (".orc",),
}
SUFFIXES: Mapping[Format, tuple[str, ...]] = {
    known: tuple(
        name + packed for name in names for packed in ("", *(COMPRESSIONS if known in ("csv", "jsonl") else ()))
    )
    for known, names in _NAMES.items()
}
READABLE = "CSV (.csv, .tsv), JSON lines (.jsonl, .ndjson), Parquet, Arrow (.feather, .arrow) and ORC; the first two "
READABLE += "also compressed (.gz, .bz2, .zst)"
"""What is read, in words."""

_WITH_PANDAS = "Write it as Parquet, with pandas: "
_OTHER_FORMATS: Mapping[tuple[str, ...], str] = {
    (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods"): "is a workbook. Save the sheet as CSV.",
    (".json",): "is a JSON document, which is read as a whole. Write an object per line: jq -c '.[]' X.json > X.jsonl",
    (".avro",): "is an Avro file. Write it as Parquet, with fastavro and pandas for example.",
    (".sas7bdat", ".xpt"): f"is a SAS file. {_WITH_PANDAS}read_sas(...).to_parquet(...)",
    (".dta",): f"is a Stata file. {_WITH_PANDAS}read_stata(...).to_parquet(...)",
    (".sav", ".zsav"): f"is an SPSS file. {_WITH_PANDAS}read_spss(...).to_parquet(...)",
    (
        ".pkl",
        ".pickle",
        ".joblib",
    ): f"is a pickle, which could run any code. {_WITH_PANDAS}read_pickle(...).to_parquet(...)",
    (".rds", ".rda", ".rdata"): "is a file of R. Write it as CSV or Parquet, in R: arrow::write_parquet(table, ...)",
    (".h5", ".hdf5"): f"is an HDF5 file. {_WITH_PANDAS}read_hdf(...).to_parquet(...)",
    (".npy", ".npz"): "holds arrays without names of columns. Write it as Parquet, with pandas.",
    (".xml", ".html"): "is a document of markup. Write its table as CSV.",
    (".arff",): "is an ARFF file. Write it as CSV, without its header of attributes.",
    (".db", ".sqlite", ".sqlite3", ".duckdb"): "is a database. Ask it: data.source: kubetfx.tables.sql:read",
    (".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz"): "is an archive. Unpack it, and give the folder.",
    (
        ".xz",
        ".lz4",
        ".br",
        ".snappy",
        ".z",
    ): "is compressed by something else than gzip, bzip2 or Zstandard. Unpack it.",
}
"""Files that people have and that are not read: what they are, and what to do."""


@dataclass(frozen=True)
class TableFiles:
    """The files of a table, in the order in which their rows are numbered."""

    root: Location
    """Folder that paths within the table are relative to."""
    paths: tuple[str, ...]
    """Paths or URLs."""
    format: Format
    pattern: str
    """The glob below the root that finds them; with placeholders where there are spans."""
    spans: tuple["Span", ...] = ()
    """In order, each with its files, where the table has some."""
    notes: tuple[str, ...] = ()
    """Notes on which files there are, a sentence each."""


def suffix_of(name: str) -> str | None:
    """Return the suffix of a file's name that says its format; None for other files.

    Args:
        name: The name of the file. The suffix is returned in the name's case.
    """
    known = [suffix for suffixes in SUFFIXES.values() for suffix in suffixes if name.lower().endswith(suffix)]
    return name[-len(known[0]) :] if known else None


def format_of(name: str) -> Format | None:
    """Return the format that a file's name says; None for other files.

    Args:
        name: The name of the file.
    """
    return next((f for f, suffixes in SUFFIXES.items() if name.lower().endswith(suffixes)), None)


def is_hidden(name: str) -> bool:
    """Return whether a file that a folder or a glob has is left alone.

    Left alone are hidden files, locks, and what Spark and Hadoop write beside the data (`_SUCCESS`, `_metadata`) or
    before it is whole.

    Args:
        name: The name of the file, without folders.
    """
    return name.startswith((".", "_", "~"))


def matching_files(folder: Location, pattern: str | None) -> list[str]:
    """Find files by a glob.

    Args:
        folder: on this machine or in a bucket.
        pattern: relative to it; None: all that are directly in it.

    Returns:
        Paths of those that are not hidden, in order.
    """
    return [str(path) for path in list_files(folder, pattern) if not is_hidden(path.name)]


def find_table(path: Location, file_format: Format | None = None) -> TableFiles:
    """Find the files of a table.

    Args:
        path: The path of a file, or of a folder with files of one kind, or with such folders named `column=value`.
        file_format: what they are; None: their names say it.

    Returns:
        The file, or all tables in the folder.

    Raises:
        DataError: there is no such file or folder, its name says no format, or it holds several kinds, or none.
    """
    if path.is_dir():
        return _in_folder(path, file_format)
    if not path.is_file():
        raise DataError(f"There is no such file of rows. Received: {path}. Give a file, or a folder of them.")
    return TableFiles(path.parent, (str(path),), file_format or one_format([str(path)]), path.name)


def one_format(paths: Sequence[str]) -> Format:
    """Return the format that the names of files say.

    Args:
        paths: The paths of the files of a table.

    Raises:
        DataError: they say several, or one says none.
    """
    formats = {path: format_of(path) for path in paths}
    unknown = [path for path, found in formats.items() if found is None]
    if unknown:
        raise DataError(_not_read(unknown[0]))
    found = {name for name in formats.values() if name}
    if len(found) > 1:
        raise DataError(
            f"The files are of several formats. Received: {shown_names(paths)}. Narrow the path to those of one."
        )
    return found.pop()


def _not_read(path: str) -> str:
    said = next((said for ends, said in _OTHER_FORMATS.items() if path.lower().endswith(ends)), None)
    if said:
        return f"{path} {said}"
    return f"The name of the file does not say what it is. Received: {path}. Read are {READABLE}."


def _in_folder(folder: Location, file_format: Format | None) -> TableFiles:
    if re.search(r"[*?\[]", str(folder)):
        raise DataError(f"The name of a folder of data may have no *, ? or [. Received: {folder}. Rename it.")
    formats = [file_format] if file_format else FORMATS
    names = _relative(matching_files(folder, None), folder)
    depths_to_look_at = 1 if any(map(suffix_of, names)) else MAX_DEPTH  # with files above them they are refused
    nested = [matching_files(folder, "*=*/" * depth + "*") for depth in range(1, depths_to_look_at + 1)]
    names += _relative(itertools.chain(*nested), folder)
    found = {name: suffix for name in names if (suffix := suffix_of(name)) and format_of(name) in formats}
    if not found:
        raise DataError(_nothing_in(folder, names, formats) + _deeper(folder, formats))
    if len(set(found.values())) > 1:
        suffix = next(iter(found.values()))
        raise DataError(
            f"{folder} holds files of several kinds, which may be the same rows twice. Received: "
            f"{', '.join(sorted(set(found.values())))}. Keep one kind there, or name the files to read: "
            f"{folder}/*{suffix}"
        )
    depths = {name.count("/") for name in found}
    if len(depths) > 1:
        raise DataError(
            f"The files in {folder} are not all equally deep in folders named column=value. Received: "
            f"{shown_names([next(n for n in found if n.count('/') == depth) for depth in sorted(depths)])}. Move them, "
            f"or narrow the path to those of one depth: {folder}/{'*/' * max(depths)}*{next(iter(found.values()))}"
        )
    pattern = "*=*/" * depths.pop() + f"*{next(iter(found.values()))}"
    first = next(iter(found))
    return TableFiles(folder, tuple(f"{folder}/{name}" for name in found), format_of(first) or formats[0], pattern)


def _relative(paths: Iterable[str], folder: Location) -> list[str]:
    return [path[len(str(folder)) + 1 :] for path in paths]


def _nothing_in(folder: Location, names: Sequence[str], formats: Sequence[Format]) -> str:
    wanted = ", ".join(suffix for known in formats for suffix in _NAMES[known])
    problem = f"There is no file to read ({wanted}) in {folder}. Received: {shown_names(names)}."
    others = [name for name in names if any(name.lower().endswith(ends) for ends in _OTHER_FORMATS)]
    return f"{problem} {_not_read(others[0])}" if others else problem


def _deeper(folder: Location, formats: Sequence[Format]) -> str:
    """Return a hint for a folder whose tables are in folders of it."""
    for depth in range(1, MAX_DEPTH + 2):
        below = _relative(matching_files(folder, "*/" * depth + "*"), folder)
        readable = [name for name in below if format_of(name) in formats]
        if readable:
            glob = f"{folder}/{'*/' * depth}*{suffix_of(readable[0])}"
            return f" Its folders hold {shown_names(readable)}: give the path of one, or read them together by {glob}"
    return ""


def shown_names(names: Sequence[str]) -> str:
    """Return the first five names, for an error.

    Args:
        names: The names of files; `nothing` if there is none.
    """
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "nothing"


def check_names(names: Sequence[str], path: str) -> None:
    """Refuse a table in which two columns have one name.

    Args:
        names: The names of its columns.
        path: The path of the table, for the error.

    Raises:
        DataError: it is such a table.
    """
    if len(set(names)) == len(names):
        return
    twice = sorted({name for name in names if names.count(name) > 1})
    raise DataError(f"{path} has several columns of one name. Received twice: {', '.join(twice)}. Rename one.")
