"""
# penguins

The pipeline of `/work/examples/penguins/pipeline.yaml`, a task per component. Each is a process that
runs `kubetfx node` in one workspace, `/work/examples/penguins/.kubetfx/penguins`.
What is unchanged comes from the cache.

The log of a task is that of its component. The link *Report* of a task leads to the report of the run. A model that
misses a threshold is not pushed, and fails the last task.

Written by kubetfx for Airflow (`kubetfx compile --target airflow`). Each run reads pipeline.yaml anew,
so this file is written again only when components change.
"""

import os
import shlex
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, BaseOperatorLink, Param, chain

KUBETFX = os.environ.get("KUBETFX_COMMAND", "/opt/kubetfx/bin/kubetfx")
"""The command of kubetfx, which may be in another environment than Airflow."""
REPORTS = os.environ.get("KUBETFX_REPORTS", "file:///work/examples/penguins/.kubetfx/penguins/runs")
"""Where browsers find the folder `runs` of the workspace: set it to a URL if a web server shows the folder."""

NODE = (
    f"exec {shlex.quote(KUBETFX)} node "
    "/work/examples/penguins/pipeline.yaml {{ task.task_id }} --run {{ run_id }} --logs"
    " --set training.epochs=20"
    " --set {% raw %}'card.purpose=\"{{ no template }}\"'{% endraw %}"
    "{% for value in params.set %} --set {{ value | quoted }}{% endfor %}"
)


class ReportLink(BaseOperatorLink):
    """The report of the run."""

    name = "Report"

    def get_link(self, operator, *, ti_key):
        return f"{REPORTS}/{quote(ti_key.run_id)}/report.html"


class Node(BashOperator):
    """A node of the pipeline."""

    operator_extra_links = (ReportLink(),)

    def execute(self, context):
        try:
            return super().execute(context)
        except AirflowSkipException as end:  # anomalies of the data, or a missed threshold: no try ends otherwise
            raise AirflowFailException(str(end)) from None


with DAG(
    dag_id="penguins",
    doc_md=__doc__,
    schedule="30 6 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # a workspace has one run at a time
    default_args={
        "bash_command": NODE,
        "cwd": "/work/examples/penguins",
        "skip_on_exit_code": [3, 4],
        "do_xcom_push": False,
        "retries": 2,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": True,
    },
    params={
        "set": Param([], type="array", items={"type": "string"}, description="Over pipeline.yaml: training.epochs=3"),
    },
    user_defined_filters={"quoted": shlex.quote},
    tags=["kubetfx"],
):
    table_example_gen = Node(task_id="TableExampleGen")
    statistics_gen = Node(task_id="StatisticsGen")
    schema_gen = Node(task_id="SchemaGen")
    example_validator = Node(task_id="ExampleValidator")
    anomaly_gate = Node(task_id="AnomalyGate")
    transform = Node(task_id="Transform")
    trainer = Node(task_id="Trainer")
    served_model_resolver = Node(task_id="ServedModelResolver")
    evaluator = Node(task_id="Evaluator")
    pusher = Node(task_id="Pusher")
    report = Node(task_id="Report", do_xcom_push=True)

    chain(
        table_example_gen,
        statistics_gen,
        schema_gen,
        example_validator,
        anomaly_gate,
        transform,
        trainer,
        served_model_resolver,
        evaluator,
        pusher,
        report,
    )
