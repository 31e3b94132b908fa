"""Runs whose nodes are processes of their own: in which order, how often, at the same time, and killed."""

import io
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfx.orchestration.kubeflow.decorators import FinalStatusStr

from kubetfx import run_record
from kubetfx.config.loading import as_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError, NodeFailedError, UsageError
from kubetfx.pipeline.local_runner import LocalRunner
from kubetfx.pipeline.node_runner import NodeRun, NodeRunner
from kubetfx.pipeline.shared_record import SharedRecorder
from kubetfx.provenance import Code
from tests.kubeflow.looped_components import Gather
from tests.kubeflow.taxi_pipeline import Read, Tell, Write, small
from tests.kubeflow.test_loops import counted, models
from tests.pipeline.node_components import FailsOnce, KilledOnce, Slow

pytestmark = pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    (tmp_path / "table.csv").write_text("a,b\n" + "".join(f"{i},{'xy'[i % 2]}\n" for i in range(8)))
    return as_config(
        {
            "name": "nodes",
            "data": {"path": str(tmp_path / "table.csv"), "label": "b"},
            "workspace": str(tmp_path / "workspace"),
            "serving": {"push_directory": str(tmp_path / "pushed")},
        }
    )


def write_and_read() -> Any:
    write = Write(text="ab", times=2)
    pipeline = small("nodes", write, Read(model=write.outputs["model"]))
    pipeline.enable_cache = True
    return pipeline


@pytest.fixture
def node(config: PipelineConfig) -> Callable[..., NodeRun]:
    def run(name: str, run_id: str = "1", pipeline: Callable[[], Any] = write_and_read, **options: Any) -> NodeRun:
        return NodeRunner(config, name, run_id=run_id, pipeline=pipeline(), **options).run_one()

    return run


def record_of(config: PipelineConfig, run_id: str = "1") -> run_record.RunRecord:
    found = run_record.read(config.workspace_path, run_id)
    assert found is not None
    return found


def forked(call: Callable[..., Any], *arguments: Any) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=call, args=arguments)
    process.start()
    return process


def test_nodes_of_a_run_are_one_run_and_the_last_says_how_it_ended(config, node):
    first, last = node("Write"), node("Read")

    assert (first.state, first.run, first.had_ended) == ("done", None, False)
    assert last.run is not None
    assert (last.run.run_id, [one.node_id for one in last.run.nodes]) == ("1", ["Write", "Read"])
    record = record_of(config)
    assert (record.state, [one.state for one in record.nodes]) == ("finished", ["done", "done"])
    assert record.nodes[1].upstream == ["Write"]
    (uri,) = last.nodes[0].outputs["text"]
    assert Path(uri).read_text() == "abab"
    assert last.run.report_path is not None
    assert last.run.report_path.is_file()


def test_unchanged_nodes_of_another_run_come_from_the_cache_also_of_a_run_in_one_process(config, node):
    node("Write")
    node("Read")
    assert (node("Write", "2").state, node("Read", "2").state) == ("cached", "cached")
    assert [one.state for one in LocalRunner(config, pipeline=write_and_read()).run().nodes] == ["cached", "cached"]
    assert node("Write", "3").state == "cached"
    assert next(run_record.read_all(config.workspace_path)).run_id == "3"


def test_node_that_ended_does_not_run_again(config, node):
    node("Write")
    outputs = node("Read").nodes[0].outputs
    said: list[object] = []
    again = node("Read", progress=said.append)

    assert again.had_ended
    assert again.nodes[0].outputs == outputs
    assert again.run is not None, "the last node says how the run ended, as often as it is asked"
    assert node("Write").run is None
    assert any("does not run again" in str(event) for event in said)


@pytest.mark.parametrize(
    ("name", "run_id", "message"),
    [
        ("Reed", "1", r"There is no such node\. Received: 'Reed'\. Did you mean 'Read'\? Known: Write, Read\."),
        (
            "Read",
            "1",
            r"Read needs what Write makes, which has not run in this run\. Received: run 1\. Run Write first",
        ),
        ("Read", "2", r"There is no run of this id yet.*Received: 2\. Begin the run with Write;"),
        ("Write", "a/b", r"The id of a run is made of letters.*Received: 'a/b'\. Try"),
        ("Write", "", r"The id of a run is made of letters"),
    ],
)
def test_node_that_cannot_run_is_refused_and_changes_nothing(config, node, name, run_id, message):
    node("Write")
    run_record.write(config.workspace_path, record_of(config).model_copy(update={"nodes": []}))
    before = record_of(config)

    with pytest.raises(UsageError, match=message):
        node(name, run_id)
    assert record_of(config) == before
    assert not (config.workspace_path / "logs" / "2").exists()


def test_node_with_another_config_or_other_code_is_refused(config, node):
    node("Write")
    other = config.model_copy(update={"training": config.training.model_copy(update={"epochs": 3})})
    with pytest.raises(ConfigError, match=r"Received: training\.epochs 3, was .*Start a run with another id"):
        NodeRunner(other, "Read", run_id="1", pipeline=write_and_read()).run_one()

    run_record.write(
        config.workspace_path,
        record_of(config).model_copy(update={"code": Code(kubetfx="0.0.1", digest="1234")}),
    )
    with pytest.raises(ConfigError, match=r"have changed since run 1 began\. Received: \w{12}, was 1234\."):
        node("Read")


def test_data_is_checked_before_a_run_begins(config, node, tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,x\n2,x\n")
    with pytest.raises(UsageError, match="there is nothing to learn"):
        node("Write")
    assert run_record.read(config.workspace_path, "1") is None


def test_node_that_failed_runs_again(config, node, tmp_path):
    def pipeline() -> Any:
        fails = FailsOnce(folder=str(tmp_path))
        return small("nodes", fails, Read(model=fails.outputs["model"]))

    with pytest.raises(NodeFailedError, match=r"FailsOnce failed: .*not yet") as failed:
        node("FailsOnce", pipeline=pipeline)
    assert record_of(config).state == "failed"
    assert failed.value.report_path is not None
    with pytest.raises(UsageError, match="Read needs what FailsOnce makes, which failed in this run"):
        node("Read", pipeline=pipeline)

    assert node("FailsOnce", pipeline=pipeline).state == "done"
    record = record_of(config)
    assert (record.state, record.error, record.ended_at) == ("running", None, None)
    last = node("Read", pipeline=pipeline)
    assert last.run is not None
    assert record_of(config).state == "finished"
    assert Path(last.nodes[0].outputs["text"][0]).read_text() == "at last"


def test_node_whose_process_is_killed_runs_again_without_what_it_left(config, node, tmp_path):
    def pipeline() -> Any:
        write = Write(text="whole", times=1)
        killed = KilledOnce(folder=str(tmp_path), source=write.outputs["model"])
        return small("nodes", write, killed, Read(model=killed.outputs["model"]))

    node("Write", pipeline=pipeline)
    process = forked(node, "KilledOnce", "1", pipeline)
    process.join()
    assert process.exitcode == -9
    assert list(config.workspace_path.glob("artifacts/KilledOnce/model/*/half.txt"))
    with pytest.raises(UsageError, match="Read needs what KilledOnce makes, which has not run"):
        node("Read", pipeline=pipeline)

    assert node("KilledOnce", pipeline=pipeline).state == "done"
    last = node("Read", pipeline=pipeline)
    assert Path(last.nodes[0].outputs["text"][0]).read_text() == "whole []"
    assert not list(config.workspace_path.glob("artifacts/KilledOnce/model/*/half.txt"))


@pytest.mark.parametrize("moment", ["add", "over"])
def test_kill_between_two_writes_loses_nothing(config, node, monkeypatch, moment):
    """`add`: ML Metadata knows of the end, and the record does not. `over`: all have ended, and nobody said so."""
    node("Write")

    def read_and_die() -> None:
        monkeypatch.setattr(SharedRecorder, moment, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        node("Read")

    process = forked(read_and_die)
    process.join()
    assert process.exitcode == -9
    assert record_of(config).state == "running"

    last = node("Read")
    assert last.run is not None
    assert record_of(config).state == "finished"
    assert len(list(config.workspace_path.glob("artifacts/Read/text/*"))) == 1


def times_of(tmp_path: Path, name: str) -> list[list[float]]:
    return [list(map(float, line.split())) for line in (tmp_path / name).read_text().splitlines()]


def test_nodes_that_do_not_need_each_other_run_at_the_same_time(config, node, tmp_path):
    names = ("Left", "Right", "Middle")

    def pipeline() -> Any:
        return small("nodes", *(Slow(name=name, folder=str(tmp_path)).with_id(name) for name in names))

    processes = [forked(node, name, "1", pipeline) for name in names]
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0, 0]
    record = record_of(config)
    assert record.state == "finished"
    assert {one.id: one.state for one in record.nodes} == dict.fromkeys(names, "done")
    spans = [times_of(tmp_path, name)[0] for name in names]
    assert max(began for began, _ in spans) < min(ended for _, ended in spans)


def test_second_process_of_a_node_waits_for_the_first_and_does_not_run_it_again(config, node, tmp_path):
    def pipeline() -> Any:
        return small("nodes", Slow(name="Once", folder=str(tmp_path)).with_id("Once"))

    processes = [forked(node, "Once", "1", pipeline) for _ in range(2)]
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0]
    assert len(times_of(tmp_path, "Once")) == 1
    assert record_of(config).state == "finished"


def test_other_runs_are_refused_while_a_node_runs_and_let_in_afterwards(config, node, tmp_path):
    def pipeline() -> Any:
        return small("nodes", Slow(name="Long", folder=str(tmp_path)).with_id("Long"))

    process = forked(node, "Long", "1", pipeline)
    while not list(config.workspace_path.glob("artifacts/Long/model/*")):
        process.join(0.02)
        assert process.exitcode is None
    with pytest.raises(UsageError, match=r"Another run is using the workspace\. Received: .*, which run 1 uses\. Wait"):
        node("Long", "2", pipeline)
    with pytest.raises(UsageError, match="Another run is using the workspace"):
        LocalRunner(config, pipeline=pipeline()).run()
    process.join()

    assert process.exitcode == 0
    assert node("Long", "2", pipeline).state == "done"  # small() has no cache


def test_node_that_runs_once_per_artifact_is_several_in_the_record(config, node):
    def pipeline() -> Any:
        from tfx.types.channel_utils import union

        components, channels = models(2, 0)
        count = counted(union(channels))
        return small("each", *components, count, Gather(texts=count.outputs["text"]))

    names = [component.id for component in pipeline().components]
    for name in names[:-2]:
        node(name, pipeline=pipeline)
    with pytest.raises(UsageError, match="Gather needs what Count makes"):
        node("Gather", pipeline=pipeline)
    assert [one.node_id for one in node("Count", pipeline=pipeline).nodes] == ["Count.0", "Count.1"]
    assert node("Count", pipeline=pipeline).had_ended
    last = node("Gather", pipeline=pipeline)
    assert Path(last.nodes[0].outputs["gathered"][0]).read_text() == "2: 2; 0: 3"
    assert last.run is not None


@pytest.mark.parametrize("fails", [False, True])
def test_exit_handler_runs_when_all_others_have_ended_or_one_failed(config, node, tmp_path, fails):
    def pipeline() -> Any:
        tell = Tell(path=str(tmp_path / "told"), status=FinalStatusStr())
        write = Write(text="a", times=1)
        last = FailsOnce(folder=str(tmp_path)) if fails else Read(model=write.outputs["model"])
        return small("nodes", tell, write, last)

    node("Write", pipeline=pipeline)
    with pytest.raises(UsageError, match=r"Tell runs when all others have ended, and \w+ has not run in this run"):
        node("Tell", pipeline=pipeline)
    if fails:
        with pytest.raises(NodeFailedError):
            node("FailsOnce", pipeline=pipeline)
    else:
        node("Read", pipeline=pipeline)
    told = node("Tell", pipeline=pipeline)

    status = json.loads((tmp_path / "told").read_text())
    assert (status["state"], status["pipelineJobResourceName"]) == ("FAILED" if fails else "SUCCEEDED", "1")
    assert (told.run is None) == fails
    assert record_of(config).state == ("failed" if fails else "finished")


def test_log_of_the_node_is_shown_as_well(config, node, tmp_path):
    shown = io.StringIO()
    pipeline = small("nodes", Slow(name="Loud", folder=str(tmp_path)).with_id("Loud"))
    done = node("Loud", pipeline=lambda: pipeline, log_to=shown)

    assert "Loud begins\nLoud ends\n" in shown.getvalue()
    assert shown.getvalue() == done.nodes[0].log_path.read_text()
