"""Which files a path means, and of which format each is: their names say it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kubetfx.errors import DataError
from kubetfx.storage import Location, list_files

Format = Literal["csv", "parquet"]

SUFFIXES: Mapping[Format, tuple[str, ...]] = {
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    "parquet": (".parquet",),
}


@dataclass(frozen=True)
class TableFiles:
    """The files of a table, in the order in which their rows are numbered."""

    root: Location
    """Folder that paths within the table are relative to."""
    paths: tuple[str, ...]
    """Paths or URLs."""
    format: Format


def suffix_of(name: str) -> str | None:
    """Return the suffix of a file's name that says its format; None for other files.

    Args:
        name: of the file. The suffix is returned in the name's case.
    """
    known = [suffix for suffixes in SUFFIXES.values() for suffix in suffixes if name.lower().endswith(suffix)]
    return name[-len(known[0]) :] if known else None


def format_of(name: str) -> Format | None:
    """Return the format that a file's name says; None for other files.

    Args:
        name: of the file.
    """
    return next((f for f, suffixes in SUFFIXES.items() if name.lower().endswith(suffixes)), None)


def visible_names(folder: Location) -> list[str]:
    """Return the names of the files in a folder, in order, without hidden ones.

    Args:
        folder: on this machine or in a bucket.
    """
    return [path.name for path in list_files(folder) if not path.name.startswith(".")]


def find_table(path: Location) -> TableFiles:
    """Find the files of a table.

    Args:
        path: of a file, or of a folder with files of one format.

    Returns:
        The file, or all tables in the folder.

    Raises:
        DataError: there is no such file or folder, its name says no format, or it holds both formats or none.
    """
    if path.is_dir():
        return _in_folder(path)
    if not path.is_file():
        raise DataError(f"There is no such file of rows. Received: {path}. Give a CSV or Parquet file, or a folder.")
    found = format_of(path.name)
    if found is None:
        known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
        raise DataError(f"The name of the input says neither CSV nor Parquet. Received: {path}. Known: {known}.")
    return TableFiles(path.parent, (str(path),), found)


def _in_folder(folder: Location) -> TableFiles:
    names = visible_names(folder)
    formats = {name: found for name in names if (found := format_of(name))}
    if not formats:
        raise DataError(f"There is no CSV or Parquet file in {folder}. Received: {shown_names(names)}.")
    if len(set(formats.values())) > 1:
        raise DataError(
            f"{folder} holds both CSV and Parquet, which may be the same rows twice. Received: "
            f"{shown_names(list(formats))}. Give one file, or a folder of one kind."
        )
    return TableFiles(folder, tuple(f"{folder}/{name}" for name in formats), next(iter(formats.values())))


def shown_names(names: Sequence[str]) -> str:
    """Return the first five names, for an error.

    Args:
        names: of files; `nothing` if there is none.
    """
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "nothing"


def check_names(names: Sequence[str], path: str) -> None:
    """Refuse a table in which two columns have one name.

    Args:
        names: of its columns.
        path: of the table, for the error.

    Raises:
        DataError: it is such a table.
    """
    if len(set(names)) == len(names):
        return
    twice = sorted({name for name in names if names.count(name) > 1})
    raise DataError(f"{path} has several columns of one name. Received twice: {', '.join(twice)}. Rename one.")
