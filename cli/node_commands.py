"""`kubetfx node`: one node of a run, for an orchestrator that starts a process for each."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubetfx.cli.invocation import ConfigPath, FormatOption, Overrides, command_line, load, open_output
from kubetfx.cli.run_output import as_document, check_blessed, print_result
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.pipeline.interruption import interrupt_once

if TYPE_CHECKING:
    from kubetfx.pipeline.node_runner import NodeRun

app = typer.Typer()


@app.command()
def node(
    config: ConfigPath,
    name: Annotated[str, typer.Argument(metavar="NODE", help="For example Trainer.", show_default=False)],
    run_id: Annotated[
        str,
        typer.Option("--run", metavar="ID", help="Id of the node's run.", show_default=False),
    ],
    logs: Annotated[bool, typer.Option("--logs", help="Print the log of the node too, as it grows.")] = False,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Run one node of a pipeline, for an orchestrator such as Airflow. What is unchanged is taken from the cache.

    The last node of a run ends as `kubetfx run` does: exit code 4 if the model missed a threshold.
    """
    output = open_output(format)
    pipeline_config = load(config, overrides)

    from kubetfx.pipeline import running

    interrupt_once()
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace") as log_to:
        ended = running.run_node(
            pipeline_config,
            name,
            run_id=run_id,
            progress=output,
            command=command_line(),
            log_to=log_to if logs else None,
        )
    if ended.run is not None:
        check_blessed(ended.run, pipeline_config, output)
    if format == "json":
        output.document(_as_document(ended, pipeline_config))
    elif ended.run is not None:
        print_result(ended.run, pipeline_config, output, config_path=config)
        output.text(str(ended.run.report_path))  # the last line, which Airflow keeps


def _as_document(ended: "NodeRun", config: PipelineConfig) -> dict[str, Any]:
    return {
        "run_id": ended.run_id,
        "node": ended.node_id,
        "state": ended.state,
        "seconds": round(ended.seconds, 3),
        "had_ended": ended.had_ended,
        "logs": [str(node.log_path) for node in ended.nodes],
        "outputs": [node.outputs for node in ended.nodes],
        "run": as_document(ended.run, config) if ended.run else None,
    }
