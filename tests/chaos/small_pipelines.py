"""Small pipelines of a table and of images, and what their workspaces may not have after a fault."""

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from kubetfx.components.push import push_directory
from kubetfx.workspace import METADATA
from tests.command import Finished
from tests.components.pictures import encoded
from tests.e2e.project import PENGUINS, kubetfx
from tests.models.image_project import CLASSES, sample

TABLE = "{path: data, label: species}\nmodel: {kind: network, hidden_units: [4], members: 1}"
IMAGES = "{path: data, format: images}\nmodel: {image_size: 16}"
CONFIG = """
name: model
data: DATA
training: {epochs: 2, seed: SEED}
evaluation: {thresholds: {accuracy: {at_least: 0, better_than_baseline: false}}}
serving: {keep_versions: 3}
workspace: {path: WORKSPACE, keep: KEPT}
kubeflow: {fuse: light}
"""
NODES = (
    "TableExampleGen",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "AnomalyGate",
    "Transform",
    "Trainer",
    "ServedModelResolver",
    "Evaluator",
    "Pusher",
    "Report",
)
KEPT_RUNS = 4
FIRST_SECOND = 1_700_000_000
ROW = {
    "island": "Biscoe",
    "bill_length_mm": 40.5,
    "bill_depth_mm": 18.0,
    "flipper_length_mm": 190.0,
    "body_mass_g": 3800.0,
    "sex": "male",
    "year": 2008,
}


@dataclass
class Project:
    """A pipeline of a table or of images, all of whose nodes run anew for each number."""

    folder: Path
    kind: str = "table"
    on: str = "local"
    workspace: Path = Path()
    """Default: in the folder."""

    def __post_init__(self) -> None:
        if self.workspace == Path():
            self.workspace = self.folder / "workspace"

    @property
    def config(self) -> Path:
        return self.folder / "pipeline.yaml"

    def make(self) -> None:
        (self.folder / "data").mkdir(parents=True)
        if self.kind == "table":
            shutil.copy(PENGUINS / "data" / "penguins.csv", self.folder / "data")
            return
        for label in CLASSES:
            for seed in range(20):
                path = self.folder / "data" / label / f"{seed}.png"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(encoded(sample(label, seed)))

    def change(self, number: int, *, data: int | None = None) -> None:
        """Let neither the settings nor the data be those of another number.

        Args:
            number: of the settings.
            data: the number of the data. Default: the same.
        """
        section = TABLE if self.kind == "table" else IMAGES
        text = CONFIG.replace("DATA", section).replace("SEED", str(number))
        self.config.write_text(text.replace("WORKSPACE", str(self.workspace)).replace("KEPT", str(KEPT_RUNS)))
        for path in (self.folder / "data").rglob("*.*"):
            os.utime(path, (FIRST_SECOND + (number if data is None else data),) * 2)

    def run(self, *, kill_after: float = 3600) -> Finished | None:
        """A run; None: it was killed."""
        try:
            arguments = ("run", self.config, "--on", self.on, "--format", "json")
            return kubetfx(*arguments, cwd=self.folder, seconds=kill_after)
        except subprocess.TimeoutExpired:
            return None

    def instance(self) -> Any:
        """A row that the model takes."""
        if self.kind == "table":
            return ROW
        request = push_directory.request_path(self.workspace / "pushed" / "model")
        assert request is not None
        return json.loads(request.read_bytes())["instances"][0]

    def working_node(self) -> str:
        """What the newest run wrote last."""
        run = max((self.workspace / "logs").iterdir(), key=lambda folder: folder.stat().st_mtime)
        logs = sorted(run.glob("*.log"), key=lambda path: path.stat().st_mtime)
        return logs[-1].stem if logs else "start"

    def num_files(self) -> int:
        return sum(1 for _ in self.workspace.rglob("*"))


def half_written(workspace: Path) -> list[str]:
    """Outputs of executions that did not end, and tables that cannot be read."""
    found = [str(path) for path in workspace.rglob("*.parquet") if not _is_table(path)]
    outputs = [*workspace.glob("artifacts/*/[!.]*/*"), *workspace.glob("artifacts/*/.system/*/*")]
    if outputs:
        states = _states(workspace / METADATA)
        whole = {number for number, state in states.items() if state == metadata_store_pb2.Execution.COMPLETE}
        found += [str(path) for path in outputs if int(path.name) not in whole]
    return found


def _is_table(path: Path) -> bool:
    try:
        pq.read_table(path)
    except Exception:
        return False
    return True


def _states(path: Path) -> dict[int, int]:
    """Read a copy: SQLite resolves /proc/PID/root, by which a disk is seen that another process has mounted."""
    with tempfile.TemporaryDirectory() as folder:
        connection = metadata_store_pb2.ConnectionConfig()
        connection.sqlite.filename_uri = shutil.copy(path, folder)
        return {execution.id: execution.last_known_state for execution in MetadataStore(connection).get_executions()}
