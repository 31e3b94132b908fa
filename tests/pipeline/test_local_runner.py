"""What the local runner does with TFX's loops, conditions, importers and exit handlers, and with fan-outs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.control_flow.for_each import ForEach
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.orchestration.kubeflow.decorators import FinalStatusStr
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts
from tfx.types.channel_utils import union

from kubetfx.config.loading import as_config
from kubetfx.errors import NodeFailedError, UsageError
from kubetfx.pipeline.local_runner import LocalRunner
from kubetfx.pipeline.run_result import RunResult
from tests.kubeflow.looped_components import Count, Gather
from tests.kubeflow.taxi_pipeline import Fail, Number, Read, Tell, Write, small
from tests.kubeflow.test_loops import counted, folded, models

pytestmark = pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RunResult]:
    """Run a TFX pipeline in one workspace."""
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    config = as_config(
        {
            "name": "local",
            "data": {"path": str(tmp_path / "table.csv"), "label": "b"},
            "workspace": str(tmp_path / "workspace"),
            "serving": {"push_directory": str(tmp_path / "pushed")},
        }
    )

    def run_pipeline(pipeline: Any) -> RunResult:
        pipeline.enable_cache = True
        return LocalRunner(config, pipeline=pipeline).run()

    return run_pipeline


def states(result: RunResult) -> dict[str, str]:
    return {node.node_id: node.state for node in result.nodes}


def value_of(result: RunResult, node_id: str, key: str) -> str:
    (node,) = (node for node in result.nodes if node.node_id == node_id)
    (uri,) = node.outputs[key]
    return Path(uri).read_text()


def test_copies_run_in_turn_and_their_outputs_are_collected_in_order(run):
    result = run(folded([2, 0, 1]))

    assert list(states(result)) == ["Rows", "Fold.0", "Fold.1", "Fold.2", "Count.0", "Count.1", "Count.2", "Gather"]
    assert value_of(result, "Gather", "gathered") == "2: 2; 0: 3; 1: 2"

    with pytest.raises(NodeFailedError, match=r"Fold\.1 failed: .*unlucky"):
        run(folded([2, 13, 1]))
    again = run(folded([2, 1, 1]))
    assert [node for node, state in states(again).items() if state == "done"] == ["Fold.1", "Count.1", "Gather"]
    assert value_of(again, "Gather", "gathered") == "2: 2; 1: 2; 1: 2"


def test_for_each_runs_once_per_artifact_and_what_follows_takes_all(run):
    def pipeline(*numbers: int) -> Pipeline:
        components, channels = models(*numbers)
        count = counted(union(channels))
        return small("each", *components, count, Gather(texts=count.outputs["text"]))

    result = run(pipeline(2, 0))
    assert list(states(result))[-3:] == ["Count.0", "Count.1", "Gather"]
    assert value_of(result, "Gather", "gathered") == "2: 2; 0: 3"

    again = run(pipeline(2, 0))
    assert set(states(again).values()) == {"cached"}


def test_node_whose_condition_does_not_hold_is_skipped_and_what_follows_too(run):
    number = Number(value=1)
    with Cond(number.outputs["number"].future()[0].value == 2):
        write = Write(text="a", times=1)
    result = run(small("conditions", number, write, Read(model=write.outputs["model"])))

    assert states(result) == {"Number": "done", "Write": "skipped", "Read": "skipped"}


def test_exit_handler_runs_at_the_end_whatever_happened_and_is_told_what(run, tmp_path):
    def handler() -> Tell:
        return Tell(path=str(tmp_path / "told"), status=FinalStatusStr())

    result = run(small("good", handler(), Number(value=1)))
    assert list(states(result)) == ["Number", "Tell"]
    status = json.loads((tmp_path / "told").read_text())
    assert (status["state"], status["pipelineJobResourceName"]) == ("SUCCEEDED", result.run_id)

    with pytest.raises(NodeFailedError, match=r"Fail failed: .*on purpose"):
        run(small("bad", handler(), Fail(reason="on purpose")))
    assert json.loads((tmp_path / "told").read_text())["state"] == "FAILED"


def test_importer_finds_an_artifact_again_unless_told_not_to(run, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "rows").write_text("1 2 3")

    def pipeline(*, reimport: bool) -> Pipeline:
        importer = Importer(
            source_uri=str(tmp_path / "model"),
            artifact_type=standard_artifacts.Model,
            custom_properties={"fold": 5},
            reimport=reimport,
        ).with_id("Import")
        return small("imported", importer, Count(model=importer.outputs["result"]))

    assert value_of(run(pipeline(reimport=False)), "Count", "text") == "5: 3"
    assert states(run(pipeline(reimport=False))) == {"Import": "cached", "Count": "cached"}
    assert states(run(pipeline(reimport=True))) == {"Import": "done", "Count": "done"}


def test_pipeline_inside_of_a_pipeline_is_refused(run):
    write = Write(text="a", times=1)
    inner = Pipeline("inner", components=[write], outputs={"model": write.outputs["model"]})
    with ForEach(inner.outputs["model"]) as model:
        read = Read(model=model)

    with pytest.raises(UsageError, match=r"A pipeline inside of a pipeline is not run\. Received: inner in outer"):
        run(small("outer", inner, read))
