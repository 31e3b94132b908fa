"""Penguins with the workspace in a bucket: artifacts are there, and the rest is on this machine."""

import json
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from kubetfx.storage import ObjectPath
from kubetfx.workspace import METADATA
from tests.command import Finished, kubetfx_here
from tests.e2e.project import ANY_MODEL, PENGUINS, Project, interrupt, output_folders, penguins_in, states
from tests.s3_store import BUCKET, S3Store

SHORT = ("--set", "training.epochs=10", *ANY_MODEL)
SLICED = ("--set", "evaluation.slices=[island]")
"""The Evaluator runs again, and what comes after it."""


@dataclass(frozen=True)
class InBucket:
    """A project whose workspace is in a bucket, and its first run."""

    project: Project
    bucket: ObjectPath
    first: Finished

    def run(self, *arguments: str | Path) -> Finished:
        return self.project.run(*SHORT, *arguments)

    @property
    def artifacts(self) -> list[str]:
        """NODE/KEY/EXECUTION/FILE of all objects."""
        infos = [info for info in self.bucket.files() if "/artifacts/" in str(info.path)]
        return [str(info.path).partition("/artifacts/")[2] for info in infos]

    @property
    def known_uris(self) -> list[str]:
        connection = metadata_store_pb2.ConnectionConfig()
        connection.sqlite.filename_uri = str(self.project.workspace / METADATA)
        return [artifact.uri for artifact in MetadataStore(connection).get_artifacts()]


@pytest.fixture(scope="module")
def in_bucket(s3_store: S3Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InBucket]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_store.environment().items():
            patch.setenv(name, value)
        bucket = ObjectPath("s3", BUCKET) / uuid.uuid4().hex[:12]
        project = penguins_in(tmp_path_factory.mktemp("e2e") / "penguins")
        project.config.write_text(f"{project.config.read_text()}workspace: {bucket}\n")
        yield InBucket(project, bucket, project.run(*SHORT))


def test_artifacts_are_in_the_bucket_and_the_rest_is_here(in_bucket: InBucket) -> None:
    first = in_bucket.first
    assert first.exit_code == 0, first.stdout + first.stderr

    nodes = {name.partition("/")[0] for name in in_bucket.artifacts}
    assert {"TableExampleGen", "StatisticsGen", "SchemaGen", "Transform", "Trainer", "Evaluator", "Report"} <= nodes
    assert not [name for name in in_bucket.artifacts if ".system" in name or ".incomplete" in name]
    assert all(uri.startswith(f"{in_bucket.bucket}/") for uri in in_bucket.known_uris)
    record = json.loads(next(in_bucket.project.workspace.glob("runs/*/run.json")).read_text())
    uris = [uri for node in record["nodes"] for own in node["outputs"].values() for uri in own]
    assert uris
    assert all(uri.startswith(f"{in_bucket.bucket}/") for uri in uris)
    here = {path.name for path in in_bucket.project.workspace.iterdir()}
    assert {METADATA, "runs", "logs", "artifacts", ".lock"} <= here
    assert first.document["push_directory"] == f"{in_bucket.bucket}/pushed/penguins"


def test_rerun_takes_everything_from_the_cache_and_nothing_of_it_from_the_bucket(in_bucket: InBucket) -> None:
    shutil.rmtree(in_bucket.project.workspace / "artifacts")

    second = in_bucket.run()

    assert second.exit_code == 0, second.stdout
    assert set(states(second).values()) == {"cached"}
    assert second.document["metrics"] == in_bucket.first.document["metrics"]
    assert not list(in_bucket.project.workspace.glob("artifacts/*/examples/*/Split-*"))


def test_a_node_that_runs_again_fetches_what_it_needs(in_bucket: InBucket) -> None:
    shutil.rmtree(in_bucket.project.workspace / "artifacts", ignore_errors=True)

    third = in_bucket.run(*SLICED)

    assert third.exit_code == 0, third.stdout
    assert states(third)["Trainer"] == "cached"
    assert states(third)["Evaluator"] == "done"
    assert list(in_bucket.project.workspace.glob("artifacts/*/examples/*/Split-train/*.parquet"))


@pytest.mark.long
def test_commands_after_a_run_read_what_they_need_from_the_bucket(in_bucket: InBucket, tmp_path: Path) -> None:
    shutil.rmtree(in_bucket.project.workspace / "artifacts", ignore_errors=True)
    rows = tmp_path / "rows.csv"
    rows.write_text("\n".join((PENGUINS / "data" / "penguins.csv").read_text().splitlines()[:4]) + "\n")
    output = tmp_path / "predictions.parquet"

    predicted = in_bucket.project.predict(rows)
    many = kubetfx_here("batch-predict", in_bucket.project.config, "--input", rows, "--output", output)
    report = kubetfx_here("report", in_bucket.project.config, "--format", "json")
    version = predicted.document["version"]
    origin = kubetfx_here("lineage", in_bucket.project.config, str(version), "--format", "json")

    assert len(predicted.document["predictions"]) == 3
    assert many.exit_code == 0, many.stdout
    assert pq.read_table(output).num_rows == 3
    assert report.exit_code == 0, report.stdout
    assert origin.document["provenance"]["run_id"]


def executions_of(node: str, names: list[str]) -> set[str]:
    return {name.split("/")[2] for name in names if name.startswith(f"{node}/")}


def test_prune_removes_old_runs_here_and_in_the_bucket(in_bucket: InBucket) -> None:
    fourth = in_bucket.run("--set", "evaluation.slices=[sex]")
    assert states(fourth)["Evaluator"] == "done"
    before = executions_of("Evaluator", in_bucket.artifacts)

    pruned = kubetfx_here("prune", in_bucket.project.config, "--keep", "1", "--format", "json")

    assert pruned.exit_code == 0, pruned.stdout
    left = executions_of("Evaluator", in_bucket.artifacts)
    assert len(before) == 3
    assert len(left) == 2  # the newest run's, and that of the one that pushed what is served
    here = {path.name for path in in_bucket.project.workspace.glob("artifacts/Evaluator/evaluation/[0-9]*")}
    assert here <= left
    again = in_bucket.run("--set", "evaluation.slices=[sex]")
    assert set(states(again).values()) == {"cached"}


def test_wrong_credentials_end_the_run_before_any_work(in_bucket: InBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    logs = os.listdir(in_bucket.project.workspace / "logs")

    refused = in_bucket.run("--set", "serving.push_directory=pushed")

    assert refused.exit_code == 2
    assert "workspace cannot be written" in refused.document["error"]["message"]
    assert "refuses the credentials" in refused.document["error"]["message"]
    assert os.listdir(in_bucket.project.workspace / "logs") == logs


@pytest.mark.long
def test_killed_and_interrupted_runs_leave_nothing_that_is_used(bucket: ObjectPath, new_penguins: Project) -> None:
    project = new_penguins
    project.config.write_text(f"{project.config.read_text()}workspace: {bucket}\n")
    started = InBucket(project, bucket, Finished(0, "", ""))

    killed = interrupt(project, *SHORT, during="Transform", with_signal=signal.SIGKILL)
    assert killed.exit_code == -signal.SIGKILL
    interrupted = interrupt(project, *SHORT, during="Trainer", with_signal=signal.SIGINT)
    assert interrupted.exit_code == 130, interrupted.stderr
    assert executions_of("Trainer", started.artifacts) == set()
    assert output_folders(project, "Trainer") == []

    finished = started.run()

    assert finished.exit_code == 0, finished.stdout
    assert states(finished)["TableExampleGen"] == "cached"
    assert len(executions_of("Transform", started.artifacts)) == 1
    shutil.rmtree(project.workspace / "artifacts")
    again = started.run(*SLICED)
    assert states(again)["Evaluator"] == "done"
