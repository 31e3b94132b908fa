"""Which git commit and which DVC hash the data of a run are of.

DVC need not be installed: its files are read as text.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from kubetfx.code_state import git_state
from kubetfx.provenance import DataState, DvcState
from kubetfx.storage import is_url

_MAX_HASHED_BYTES = 512 * 1024 * 1024
"""Size of data up to which its hash is computed; of larger data it is the one that DVC's files have."""


def state_of_data(path: str) -> DataState | None:
    """Look which commit and which hash of DVC data are of.

    Args:
        path: The path of the data: a file, a folder, a pattern or a URL.

    Returns:
        What is known; None if that is nothing.
    """
    if is_url(path) or "://" in path:
        return None
    place = before_patterns(Path(path))
    around = place if place.is_dir() else place.parent
    found = DataState(git=git_state(around, only=[place, *_dvc_files(place)], of_image=False), dvc=_dvc(place))
    return found if found.git or found.dvc else None


def before_patterns(path: Path) -> Path:
    """Return the deepest folder, or the file, that a pattern names for certain.

    Args:
        path: with or without a pattern.
    """
    parts = []
    for part in path.absolute().parts:
        if re.search(r"[*?\[{]", part):
            break
        parts.append(part)
    return Path(*parts)


def _dvc_files(place: Path) -> list[Path]:
    """Return files `NAME.dvc` of the data, or of a folder around it."""
    found = (folder.with_name(f"{folder.name}.dvc") for folder in (place, *place.parents) if folder.name)
    return [path for path in found if path.is_file()]


def _dvc(place: Path) -> DvcState | None:
    project = next((folder for folder in (place, *place.parents) if (folder / ".dvc").is_dir()), None)
    if project is None or not place.exists():
        return None
    inside = list(place.glob("*.dvc")) if place.is_dir() else []
    if len(inside) == 1 and inside[0].with_suffix("").is_file():
        place = inside[0].with_suffix("")  # the one file of data in the folder
    tracked, path, recorded = next(_recorded(place, project), (None, place, ""))
    md5 = _md5(path) if _num_bytes(path) <= _MAX_HASHED_BYTES else None
    if md5 is None and not recorded:
        return None
    return DvcState(
        path=str(path.relative_to(project)),
        tracked_by=str(tracked.relative_to(project)) if tracked else "",
        md5=md5 or recorded,
        is_recorded=None if md5 is None else md5 == recorded,
    )


def _recorded(place: Path, project: Path) -> Iterator[tuple[Path, Path, str]]:
    """Yield files of DVC that name the data or a folder around it, with what they name and its hash."""
    around = [folder for folder in (place, *place.parents) if folder.is_relative_to(project) and folder != project]
    for folder in around:
        file = folder.with_name(f"{folder.name}.dvc")
        for out in _entries(_yaml(file).get("outs")):
            if out.get("path") == folder.name and out.get("md5"):
                yield file, folder, str(out["md5"])
    for file in (folder / "dvc.lock" for folder in place.parents if folder.is_relative_to(project)):
        stages = _yaml(file).get("stages")
        for kind in ("outs", "deps"):
            for stage in stages.values() if isinstance(stages, dict) else ():
                for entry in _entries(stage.get(kind) if isinstance(stage, dict) else None):
                    path = Path(os.path.normpath(file.parent / str(entry.get("path"))))
                    if path in around and entry.get("md5"):
                        yield file, path, str(entry["md5"])


def _yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _entries(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _num_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path))


def _md5(path: Path) -> str | None:
    """Return the hash that DVC has: of the content, or of the list of a folder's files with theirs."""
    try:
        if not path.is_dir():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "md5").hexdigest()
        listed = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in _files(path)]
        listed.sort(key=lambda entry: str(entry["relpath"]))
        return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"
    except OSError:
        return None
