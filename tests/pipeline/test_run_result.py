"""The result of a run, as a library user reads it."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubetfx.artifact_store import ArtifactStore
from kubetfx.components.evaluation.evaluation_result import Check, EvaluationResult
from kubetfx.errors import UsageError
from kubetfx.pipeline.run_result import RunResult


@pytest.fixture
def result(tmp_path):
    (tmp_path / "Split-eval").mkdir()
    for shard in range(2):
        pq.write_table(pa.table({"x": [shard, shard]}), tmp_path / "Split-eval" / f"data-{shard}.parquet")
    return RunResult("1", [], None, 7, True, {}, [], examples_uri=str(tmp_path), artifacts=ArtifactStore(tmp_path))


def test_rows_of_a_split_are_a_table(result):
    assert result.examples("eval").column("x").to_pylist() == [0, 0, 1, 1]


def test_split_that_is_not_there_is_told_with_those_that_are(result):
    with pytest.raises(UsageError, match=r"no such split\. Received: 'train'\. The run has: eval\."):
        result.examples("train")


def test_run_without_an_evaluator_is_blessed_if_it_pushed(result):
    assert result.blessed
    assert result.metrics == {}
    assert "<pre>" in result._repr_html_()


@pytest.fixture
def evaluated(result):
    check = Check("accuracy", "at_least", 0.9, 0.75, None, passed=False)
    evaluation = EvaluationResult({"example_count": 60, "accuracy": 0.75}, {}, {}, [check], is_blessed=False)
    return replace(result, evaluation=evaluation, pushed_version=None, report_path=Path("report.html"))


def test_metric_that_a_run_does_not_have_is_told_with_those_it_has(evaluated):
    assert evaluated.metrics["accuracy"] == 0.75
    assert evaluated.metrics.get("auc") is None
    with pytest.raises(KeyError) as error:
        evaluated.metrics["acuracy"]
    assert isinstance(error.value, UsageError)
    assert str(error.value) == (
        "The run has no metric 'acuracy'. Did you mean 'accuracy'? It has: example_count, accuracy."
    )


def test_printed_run_says_what_came_out(evaluated, result):
    assert str(evaluated).splitlines() == [
        "Run 1: nothing was pushed.",
        "accuracy 0.75",
        "Accuracy is 0.75 and must be at least 0.9: it misses by 0.15.",
        "Report: report.html",
    ]
    assert str(result) == "Run 1: version 7 is pushed."
    assert str(replace(result, is_new_version=False)) == "Run 1: version 7 is still served."
