"""Penguins through Prism, by workers whose only code is what a run ships, compared with runs here."""

import json
import math
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import statistics_pb2

from tests.command import Finished
from tests.e2e.project import REPOSITORY, kubetfx, states
from tests.scale.engine import Process, Turns, states_of_jobs

pytestmark = pytest.mark.scale

EXAMPLES = REPOSITORY / "examples"


def penguins(folder: Path) -> Path:
    """Penguins with a metric of one's own, whose module workers need."""
    (folder / "extending").mkdir(parents=True)
    shutil.copytree(EXAMPLES / "penguins" / "data", folder / "penguins" / "data")
    shutil.copytree(EXAMPLES / "extending" / "metric", folder / "extending" / "metric", ignore=_no_workspaces)
    return folder / "extending" / "metric" / "pipeline.yaml"


def on_engine(engine: Process, pools: Turns) -> list[str]:
    """Options of a command."""
    beam = {
        "runner": "PortableRunner",
        "endpoint": engine.address,
        "environment": {"type": "EXTERNAL", "config": pools.address},
        "timeout": 300,
    }
    return ["--set", f"beam={json.dumps(beam)}"]


def run(config: Path, workspace: Path, *more: str | Path) -> Finished:
    return kubetfx("run", config, "--format", "json", "--set", f"workspace={workspace}", *more)


def test_engine_finds_what_this_machine_finds(engine: Process, pools: Turns, tmp_path: Path) -> None:
    config = penguins(tmp_path / "project")
    here, there = tmp_path / "here", tmp_path / "there"
    local = run(config, here)
    assert local.exit_code == 0, local.stdout
    asked = list(pools.asked)

    remote = run(config, there, *on_engine(engine, pools))

    assert remote.exit_code == 0, remote.stdout
    assert all(now > before for now, before in zip(pools.asked, asked, strict=True)), "a pool had nothing to do"
    assert examples_of(there) == examples_of(here)
    assert_close(statistics_of(there), statistics_of(here))
    assert vocabularies_of(there) == vocabularies_of(here)
    assert [check["passed"] for check in remote.document["checks"]] == [
        check["passed"] for check in local.document["checks"]
    ]
    assert remote.document["blessed"] == local.document["blessed"]
    assert remote.document["metrics"] == pytest.approx(local.document["metrics"], rel=0.02)
    # Where the data is gone through is no part of the cache's key: nothing runs again, and no engine is needed.
    elsewhere = json.dumps({"runner": "FlinkRunner", "endpoint": "localhost:1", "timeout": 5})
    again = run(config, there, "--set", f"beam={elsewhere}")
    assert again.exit_code == 0, again.stdout
    assert set(states(again).values()) == {"cached"}
    batch_predictions_agree(config, here, on_engine(engine, pools), tmp_path)
    assert set(states_of_jobs(engine)) == {"DONE"}


def batch_predictions_agree(config: Path, here: Path, engine: list[str], folder: Path) -> None:
    """The same model, here and by workers."""
    source = next(folder.rglob("penguins.csv"))
    tables = []
    for name, options in (("here", []), ("there", engine)):
        output = folder / f"{name}.parquet"
        done = kubetfx(
            "batch-predict", config, "--input", source, "--output", output, "--format", "json",
            "--set", f"workspace={here}", *options,
        )  # fmt: skip
        assert done.exit_code == 0, done.stdout
        tables.append(pq.read_table(output))
    assert tables[0].equals(tables[1])


def _no_workspaces(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name in (".kubetfx", "__pycache__")]


def examples_of(workspace: Path) -> dict[str, bytes]:
    """Bytes of the files by split and name."""
    files = workspace.glob("artifacts/TableExampleGen/examples/*/Split-*/data-*")
    found = {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}
    assert found
    return found


def statistics_of(workspace: Path) -> dict[str, Message]:
    found = {}
    for file in workspace.glob("artifacts/StatisticsGen/statistics/*/Split-*/FeatureStats.pb"):
        found[file.parent.name] = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read_bytes())
    assert found
    return found


def vocabularies_of(workspace: Path) -> dict[str, bytes]:
    files = workspace.glob("artifacts/Transform/transform_graph/*/transform_fn/assets/*")
    found = {file.name: file.read_bytes() for file in files}
    assert found
    return found


def assert_close(found: dict[str, Message], expected: dict[str, Message]) -> None:
    """Numbers to 1e-9, everything else equal."""
    assert found.keys() == expected.keys()
    for split, message in expected.items():
        differences = list(_differences(found[split], message))
        assert differences == [], split


def _differences(found: Message, expected: Message) -> list[str]:
    if [field.name for field, _ in found.ListFields()] != [field.name for field, _ in expected.ListFields()]:
        return [f"{type(expected).__name__}: other fields"]
    said = []
    for (field, ours), (_, theirs) in zip(found.ListFields(), expected.ListFields(), strict=True):
        pairs = list(zip(ours, theirs, strict=True)) if field.is_repeated else [(ours, theirs)]
        for one, other in pairs:
            if isinstance(one, Message):
                said += _differences(one, other)
            elif isinstance(one, float):
                if not (
                    math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(one) and math.isnan(other))
                ):
                    said.append(f"{field.full_name}: {one} and {other}")
            elif one != other:
                said.append(f"{field.full_name}: {one!r} and {other!r}")
    return said
