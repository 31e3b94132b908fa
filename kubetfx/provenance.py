"""The origin of a model. Each part is recorded where it is made, and all parts are in the pushed version.

ExampleGen notes its files beside the examples (ORIGIN), the record of a run has the code and the libraries, and Pusher
puts both into the version (PROVENANCE), which outlives the run and its workspace.
"""

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from kubetfx.artifacts import ORIGIN


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class DataFile(_Part):
    """A file that rows were read from."""

    path: str
    num_bytes: int
    modified_at: float
    """Seconds since 1970."""
    sha256: str | None = None
    """None for a file in a bucket, which would have to be read twice."""
    span: str | None = None
    """Name of its span."""


class SpanOrigin(_Part):
    """A span of the window."""

    name: str
    number: int
    version: int | None = None


class DataOrigin(_Part):
    """Which rows there were."""

    path: str
    """`data.path`."""
    rows: dict[str, int]
    """By split."""
    fingerprint: str | None = None
    """Fingerprint of names, sizes and times of all files, as TFX makes it."""
    spans: list[SpanOrigin] = []
    files: list[DataFile] = []
    """None are listed for a folder of images, which the fingerprint covers."""

    @property
    def num_rows(self) -> int:
        """Number of rows of all splits."""
        return sum(self.rows.values())


class GitState(_Part):
    """The checkout that a run was started in."""

    commit: str
    root: str = ""
    """Folder of the repository; empty where that is not known."""
    is_changed: bool | None = None
    """Whether files differed from the commit; None where that is not known, as in an image."""
    changed: list[str] = []
    """Names of these files below the root, at most 20."""

    def __str__(self) -> str:
        """Return the commit, and what differs from it."""
        if not self.is_changed:
            return self.commit
        names = f": {', '.join(self.changed)}" if self.changed else ""
        return f"{self.commit}, with changes that are not committed{names}"


class DvcState(_Part):
    """Data that DVC tracks."""

    path: str
    """Below the folder of DVC's project."""
    tracked_by: str
    """File of DVC that names it, below the same folder: data.csv.dvc or dvc.lock. Empty: none yet."""
    md5: str
    """As DVC has it: of a folder it ends in `.dir`."""
    is_recorded: bool | None = None
    """Whether DVC's file has this hash; None: the data is too large to tell, and the hash is that of the file."""

    def __str__(self) -> str:
        """Return the hash, and where it is from."""
        if self.is_recorded is False:
            return f"{self.md5}, which is not in DVC's files" + (f" ({self.tracked_by})" if self.tracked_by else "")
        return f"{self.md5} ({self.tracked_by})"


class DataState(_Part):
    """The repositories that the data of a run were in."""

    git: GitState | None = None
    """What is changed is among the data, and DVC's files beside it."""
    dvc: DvcState | None = None


class Code(_Part):
    """The code that computed the model."""

    kubetfx: str
    """Version of kubetfx."""
    digest: str
    """SHA-256 of kubetfx's code, and of the versions of the libraries that nodes compute with."""
    git: GitState | None = None
    """Git of the folder of pipeline.yaml; None: it is in no git repository."""


class Provenance(_Part):
    """The known origin of a version when it is pushed."""

    run_id: str | None = None
    """None: it was pushed by no run of a runner of kubetfx."""
    started_at: str | None = None
    command: list[str] = []
    folder: str | None = None
    """Working directory of the command."""
    workspace: str | None = None
    """Workspace of the run, on the machine where it ran."""
    pod: str | None = None
    """The pod of the push, where a run on Kubeflow made it."""
    config: dict[str, Any] | None = None
    """The config: with its defaults, but on Kubeflow without; references to secrets are references."""
    code: Code | None = None
    libraries: dict[str, str] = {}
    data_state: DataState | None = None
    """None: the data is in no repository, or there is no record of the run."""
    data: DataOrigin | None = None
    """None: another ExampleGen than kubetfx's read the data."""

    @property
    def config_digest(self) -> str | None:
        """SHA-256 of the config as JSON with sorted keys."""
        return None if self.config is None else digest_of(self.config)


def digest_of(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a document as JSON with sorted keys.

    Args:
        document: A document of the types that JSON has.
    """
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def packed(config: Mapping[str, Any]) -> str:
    """Return a config as one word, for the arguments of a task: there it is a record, and nothing reads it.

    Args:
        config: the whole of it.
    """
    return base64.b64encode(json.dumps(config, sort_keys=True).encode()).decode()


def unpacked(word: str | None) -> dict[str, Any] | None:
    """Return a config that was packed.

    Args:
        word: Its word; None: there is none.
    """
    return dict(json.loads(base64.b64decode(word))) if word else None


def write_origin(folder: Path, origin: DataOrigin) -> None:
    """Leave beside examples which rows they are.

    Args:
        folder: The folder of the artifact.
        origin: of the rows.
    """
    (folder / ORIGIN).write_text(origin.model_dump_json(), encoding="utf-8")


def read_origin(folder: Path) -> DataOrigin | None:
    """Return which rows an artifact is of; None where that is not known.

    Args:
        folder: The folder of examples, or of an evaluation.
    """
    with contextlib.suppress(OSError, ValidationError):
        return DataOrigin.model_validate_json((folder / ORIGIN).read_text(encoding="utf-8"))
    return None


def provenance_of(
    run_record: Mapping[str, Any] | None,
    *,
    code: Code,
    libraries: Mapping[str, str],
    data: DataOrigin | None,
    workspace: Path | None = None,
    config: Mapping[str, Any] | None = None,
) -> Provenance:
    """Put together what is known at the time of a push.

    Args:
        run_record: run.json of the run; None: there is none, as on Kubeflow.
        code: The code of this process, where there is no record of the run.
        libraries: of this process, likewise.
        data: which rows the model is of.
        workspace: The workspace of the run.
        config: The config of the pipeline, where there is no record of the run.

    Returns:
        All of it.
    """
    record = dict(run_record or {})
    recorded = record.get("code")
    return Provenance(
        run_id=record.get("run_id"),
        started_at=record.get("started_at"),
        command=record.get("command", []),
        folder=record.get("folder"),
        workspace=str(workspace) if workspace else None,
        pod=os.environ.get("KFP_POD_NAME"),
        config=record.get("config") or (dict(config) if config else None),
        code=Code.model_validate(recorded) if recorded else code,
        libraries=record.get("libraries") or dict(libraries),
        data_state=DataState.model_validate(record["data_state"]) if record.get("data_state") else None,
        data=data,
    )


def said_of_files(files: Iterable[DataFile]) -> list[str]:
    """Return files in words, a line each.

    Args:
        files: The files of the data.
    """
    return [
        f"{one.path}, {one.num_bytes:,} bytes"
        + (f", sha256 {one.sha256}" if one.sha256 else "")
        + (f", span {one.span}" if one.span else "")
        for one in files
    ]
