"""Progress lines as they arrive in a log."""

import io
from pathlib import Path

from kubetfx.pipeline.run_result import NodeResult
from kubetfx.progress import Output


def test_line_of_a_task_with_a_long_name_is_one_line_in_a_log():
    log = io.StringIO()
    title = "StatisticsGen + SchemaGen + ExampleValidator + AnomalyGate + Transform"

    Output("human", stderr=log).node_ends("[3/6]", NodeResult(title, "done", 9.4, Path("log"), {}))

    assert log.getvalue() == f"[3/6]    {title} done in 9.4 s\n"
