"""Penguins and flights through Prism, by workers whose only code is what a run ships, and trainings in several
processes: compared with runs in one process here."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import statistics_pb2

from examples.flights import prepare
from kubetfx.artifact_store import download
from kubetfx.kubeflow.emulation.task_results import TaskResult
from kubetfx.kubeflow.emulator import Emulator
from kubetfx.kubeflow.executor_io import LAUNCHER_ROOT
from kubetfx.kubeflow.package_document import read_package
from kubetfx.storage import ObjectPath, locate
from tests.command import Finished
from tests.e2e.project import REPOSITORY, kubetfx, states
from tests.s3_store import S3Store
from tests.scale.engine import Process, Turns, pool, states_of_jobs

pytestmark = pytest.mark.scale

EXAMPLES = REPOSITORY / "examples"
SECONDS = 1_200
"""That a run may take: each job starts workers, which import TensorFlow."""


@dataclass(frozen=True)
class Case:
    """A run in this process, which others are compared with."""

    config: Path
    workspace: Path
    settings: tuple[str, ...]
    finished: Finished

    @classmethod
    def of(cls, config: Path, workspace: Path, *settings: str) -> "Case":
        return cls(config, workspace, settings, run(config, workspace, *settings))

    def again(self, workspace: Path | str, *more: str) -> Finished:
        """A run of the same config."""
        return run(self.config, workspace, *self.settings, *more)


@pytest.fixture(scope="module")
def penguins(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Penguins with a metric of one's own, whose module workers need."""
    folder = tmp_path_factory.mktemp("penguins")
    (folder / "extending").mkdir(parents=True)
    shutil.copytree(EXAMPLES / "penguins" / "data", folder / "penguins" / "data")
    shutil.copytree(EXAMPLES / "extending" / "metric", folder / "extending" / "metric", ignore=_no_workspaces)
    return Case.of(folder / "extending" / "metric" / "pipeline.yaml", folder / "here")


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """All flights, in three files, trained on once."""
    folder = tmp_path_factory.mktemp("flights")
    shutil.copy(EXAMPLES / "flights" / "pipeline.yaml", folder)
    table = prepare.make_table(prepare.read_flights())
    (folder / "data").mkdir()
    third = table.num_rows // 3 + 1
    for number in range(3):
        part = table.slice(number * third, third)
        pq.write_table(part, folder / "data" / f"{number}.parquet", row_group_size=prepare.ROW_GROUP_ROWS)
    thresholds = "evaluation.thresholds={auc: {at_least: 0.7}}"
    return Case.of(folder / "pipeline.yaml", folder / "here", "--set", "training.epochs=1", "--set", thresholds)


def on_engine(engine: Process, pools: Turns) -> list[str]:
    """Options of a command."""
    beam = {
        "runner": "PortableRunner",
        "endpoint": engine.address,
        "environment": {"type": "EXTERNAL", "config": pools.address},
        "timeout": 300,
    }
    return ["--set", f"beam={json.dumps(beam)}"]


def run(config: Path, workspace: Path | str, *more: str | Path) -> Finished:
    done = kubetfx(
        "run", config, "--format", "json", "--set", f"workspace={workspace}", *more, seconds=SECONDS
    )  # fmt: skip
    assert done.exit_code == 0, done.stdout + done.stderr
    return done


def verdict(done: Finished) -> tuple[Any, list[Any]]:
    return done.document["blessed"], [check["passed"] for check in done.document["checks"]]


@pytest.mark.parametrize("name", ["penguins", "flights"])
def test_engine_finds_what_this_machine_finds(
    name: str, request: pytest.FixtureRequest, engine: Process, pools: Turns, tmp_path: Path
) -> None:
    case: Case = request.getfixturevalue(name)
    here, there = case.workspace, tmp_path / "there"
    asked = list(pools.asked)

    remote = case.again(there, *on_engine(engine, pools))

    assert all(now > before for now, before in zip(pools.asked, asked, strict=True)), "a pool had nothing to do"
    assert examples_of(there) == examples_of(here)
    assert_close(statistics_of(there), statistics_of(here))
    assert vocabularies_of(there) == vocabularies_of(here)
    assert verdict(remote) == verdict(case.finished)
    assert remote.document["metrics"] == pytest.approx(case.finished.document["metrics"], rel=0.02)
    assert set(states_of_jobs(engine)) == {"DONE"}
    # Where the data is gone through is no part of the cache's key: nothing runs again, and no engine is needed.
    elsewhere = json.dumps({"runner": "FlinkRunner", "endpoint": "localhost:1", "timeout": 5})
    again = case.again(there, "--set", f"beam={elsewhere}")
    assert set(states(again).values()) == {"cached"}


@pytest.fixture
def blind_pool(environment: Path, s3_store: S3Store, tmp_path: Path) -> Iterator[Process]:
    """A pool that knows the store, and does not see the folder `mine`."""
    (tmp_path / "mine").mkdir()
    with pool(tmp_path / "pool", environment, hidden=tmp_path / "mine", more=s3_store.environment()) as running:
        yield running


def test_workers_who_see_nothing_of_this_machine_work_on_a_bucket(
    penguins: Case, engine: Process, blind_pool: Process, bucket: ObjectPath, tmp_path: Path
) -> None:
    here, there = penguins.workspace, tmp_path / "mine" / "there"
    (bucket / "data" / "penguins.csv").upload(EXAMPLES / "penguins" / "data" / "penguins.csv")
    workspace = json.dumps({"path": str(bucket / "team"), "local": str(there)})
    in_bucket = ("--set", f"data.path={bucket}/data")
    with Turns([blind_pool]) as pools:
        remote = penguins.again(workspace, *in_bucket, *on_engine(engine, pools))

    assert examples_of(there) == examples_of(here)  # the Trainer has fetched them
    assert_close(statistics_of(there), statistics_of(here))
    assert vocabularies_of(there) == vocabularies_of(here)
    assert verdict(remote) == verdict(penguins.finished)
    assert remote.document["metrics"] == pytest.approx(penguins.finished.document["metrics"], rel=0.02)
    assert not [info for info in bucket.files() if "/.system/" in str(info.path) or "/engine/" in str(info.path)]
    shutil.rmtree(there / "artifacts")
    again = penguins.again(workspace, *in_bucket)
    assert set(states(again).values()) == {"cached"}


def test_workers_of_a_package_work_on_the_bucket_of_its_launcher(
    penguins: Case, engine: Process, blind_pool: Process, bucket: ObjectPath, s3_store: S3Store, tmp_path: Path
) -> None:
    here, pod = penguins.workspace, tmp_path / "mine" / "pod"
    (bucket / "data" / "penguins.csv").upload(EXAMPLES / "penguins" / "data" / "penguins.csv")
    with Turns([blind_pool]) as pools:
        beam = on_engine(engine, pools)[1]
        settings = ("--set", beam, "--set", f"data.path={bucket}/data", "--set", "serving.push_directory=/tmp/served")
        package = tmp_path / "package.yaml"
        compiled = kubetfx("compile", penguins.config, "--output", package, *settings)
        assert compiled.exit_code == 0, compiled.stdout + compiled.stderr

        def run_command(command: Sequence[str], environment: Mapping[str, str], _: str, task: TaskResult) -> int:
            variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), LAUNCHER_ROOT: str(pod)}
            line = [sys.executable, *command[1:]]
            with (tmp_path / f"{task.title}.log").open("w") as log:
                return subprocess.run(line, env=variables, stdout=log, stderr=log, check=False).returncode

        emulator = Emulator(
            read_package(package),
            root=pod,
            run_id="1",
            run_command=run_command,
            bucket=str(bucket / "root"),
            has_store=True,
        )
        emulator.run({"push_directory": str(bucket / "served")})

    there = tmp_path / "there"
    for task in emulator.tasks:
        for key, artifact in task.artifacts.items():
            place = locate(artifact["uri"])
            assert isinstance(place, ObjectPath)
            download(place, there / "artifacts" / task.title / key / "1")
    assert examples_of(there) == examples_of(here)
    assert_close(statistics_of(there), statistics_of(here))
    assert vocabularies_of(there) == vocabularies_of(here)
    assert [info for info in (bucket / "served").files() if info.path.name == "saved_model.pb"]
    assert not [info for info in bucket.files() if "/.engine-" in str(info.path)]


def test_workers_without_credentials_are_told_before_any_work(
    penguins: Case, engine: Process, pools: Turns, bucket: ObjectPath, tmp_path: Path
) -> None:
    workspace = json.dumps({"path": str(bucket / "team"), "local": str(tmp_path / "there")})

    done = kubetfx("doctor", penguins.config, "--set", f"workspace={workspace}", *on_engine(engine, pools))

    assert done.exit_code != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert f"The workspace is not seen. Received: {bucket}/team/engine" in said
    assert "credentials for it, in their environment" in said


def test_engine_predicts_what_this_machine_predicts(
    penguins: Case, engine: Process, pools: Turns, tmp_path: Path
) -> None:
    batch_predictions_agree(penguins.config, penguins.workspace, on_engine(engine, pools), tmp_path)


@pytest.mark.parametrize(
    "distribution",
    [{"strategy": "multi_worker", "workers": 2}, {"strategy": "parameter_server", "workers": 2}],
    ids=["two workers", "parameter server"],
)
def test_several_processes_learn_what_one_learns(penguins: Case, distribution: dict[str, Any], tmp_path: Path) -> None:
    short = ("--set", "training.epochs=100", "--set", "evaluation.thresholds={accuracy: {at_least: 0.8}}")
    alone = run(penguins.config, tmp_path / "alone", *short)
    together = run(
        penguins.config, tmp_path / "together", *short, "--set", f"training.distribution={json.dumps(distribution)}"
    )
    assert verdict(together) == verdict(alone)
    assert together.document["metrics"] == pytest.approx(alone.document["metrics"], abs=0.1)


def batch_predictions_agree(config: Path, here: Path, engine: list[str], folder: Path) -> None:
    """The same model, here and by workers."""
    source = next(config.parents[2].rglob("penguins.csv"))
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
