"""The result of a run, as a library user reads it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubetfx.errors import UsageError
from kubetfx.pipeline.run_result import RunResult


@pytest.fixture
def result(tmp_path):
    (tmp_path / "Split-eval").mkdir()
    for shard in range(2):
        pq.write_table(pa.table({"x": [shard, shard]}), tmp_path / "Split-eval" / f"data-{shard}.parquet")
    return RunResult("1", [], None, 7, True, {}, [], examples_path=tmp_path)


def test_rows_of_a_split_are_a_table(result):
    assert result.examples("eval").column("x").to_pylist() == [0, 0, 1, 1]


def test_split_that_is_not_there_is_told_with_those_that_are(result):
    with pytest.raises(UsageError, match=r"no such split\. Received: 'train'\. The run has: eval\."):
        result.examples("train")


def test_run_without_an_evaluator_is_blessed_if_it_pushed(result):
    assert result.blessed
    assert result.metrics == {}
    assert "<pre>" in result._repr_html_()
