"""Which executors may work on an engine whose workers see a bucket, and no disk of this machine."""

from pathlib import Path

import pytest
from tfx.components import CsvExampleGen
from tfx.dsl.compiler import compiler
from tfx.orchestration.pipeline import Pipeline

from kubetfx.artifact_store import ArtifactStore
from kubetfx.components.statistics_gen import StatisticsGen
from kubetfx.engine.session import Session
from kubetfx.errors import UsageError
from kubetfx.pipeline.node_launch import check_executors
from kubetfx.storage import ObjectPath

IN_BUCKET = ArtifactStore(Path("/tmp/workspace"), ObjectPath("s3", "team/houses"))
HERE = ArtifactStore(Path("/tmp/workspace"))
FLINK = ("--runner=FlinkRunner", "--job_endpoint=flink:8099")


@pytest.fixture(scope="module")
def pipeline():
    theirs = CsvExampleGen("/data")
    ours = StatisticsGen(examples=theirs.outputs["examples"])
    return compiler.Compiler().compile(Pipeline("houses", "/root", components=[theirs, ours]))


def test_executor_of_others_is_refused_before_the_first_node(pipeline, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"^CsvExampleGen is not a component of kubetfx: .* the workers of FlinkRunner at flink:8099 do not see "
        r"this machine's\. Received: tfx\.\S+\.Executor, and a workspace in a bucket, s3://team/houses\.",
    ):
        check_executors(pipeline, IN_BUCKET, Session(FLINK, folder=tmp_path))


@pytest.mark.parametrize(("artifacts", "arguments"), [(IN_BUCKET, ()), (HERE, FLINK)], ids=["no engine", "no bucket"])
def test_it_may_work_where_its_files_are_seen(pipeline, artifacts: ArtifactStore, arguments, tmp_path: Path) -> None:
    check_executors(pipeline, artifacts, Session(arguments, folder=tmp_path))
