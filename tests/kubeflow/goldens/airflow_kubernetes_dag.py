"""
# penguins

The pipeline of `/config/pipeline.yaml` in the pods, a task per component. Each is a pod that
runs `kubetfx node` in one workspace, `/shared/penguins`.
What is unchanged comes from the cache.

The log of a task is that of its component. The link *Report* of a task leads to the report of the run. A model that
misses a threshold is not pushed, and fails the last task.

Written by kubetfx for Airflow (`kubetfx compile --target airflow-kubernetes`). Each run reads pipeline.yaml anew,
so this file is written again only when components or their pods change.
"""

import os
import shlex
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk import DAG, BaseOperatorLink, Param, chain
from kubernetes.client import models as k8s

KUBETFX = os.environ.get("KUBETFX_COMMAND", "kubetfx")
"""The command of kubetfx in the image."""
REPORTS = os.environ.get("KUBETFX_REPORTS", "file:///shared/penguins/runs")
"""Where browsers find the folder `runs` of the workspace: set it to a URL if a web server shows the folder."""

NODE = (
    f"exec {shlex.quote(KUBETFX)} node "
    "/config/pipeline.yaml {{ task.task_id }} --run {{ run_id }} --logs"
    " --set training.require_gpu=true"
    "{% for value in params.set %} --set {{ value | quoted }}{% endfor %}"
)
IMAGE = "registry.example/kubetfx/pipeline:1.0"


class ReportLink(BaseOperatorLink):
    """The report of the run."""

    name = "Report"

    def get_link(self, operator, *, ti_key):
        return f"{REPORTS}/{quote(ti_key.run_id)}/report.html"


class Node(KubernetesPodOperator):
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
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # a workspace has one run at a time
    default_args={
        "image": IMAGE,
        "cmds": ["sh", "-c"],
        "arguments": [NODE],
        "skip_on_exit_code": [3, 4],
        "image_pull_policy": "IfNotPresent",
        "image_pull_secrets": [k8s.V1LocalObjectReference(name="registry")],
        "service_account_name": "trainer",
        "security_context": k8s.V1PodSecurityContext(
            run_as_non_root=True,
            seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
        ),
        "container_security_context": k8s.V1SecurityContext(
            allow_privilege_escalation=False,
            capabilities=k8s.V1Capabilities(drop=["ALL"]),
        ),
        "retries": 2,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": True,
        "container_resources": k8s.V1ResourceRequirements(
            requests={"cpu": "500m", "memory": "4Gi"},
            limits={"cpu": "1", "memory": "4Gi"},
        ),
        "env_vars": [
            k8s.V1EnvVar(name="LOG_LEVEL", value="info"),
            k8s.V1EnvVar(
                name="AWS_ACCESS_KEY_ID",
                value_from=k8s.V1EnvVarSource(secret_key_ref=k8s.V1SecretKeySelector(name="store", key="accesskey")),
            ),
        ],
        "volumes": [
            k8s.V1Volume(
                name="shared",
                persistent_volume_claim=k8s.V1PersistentVolumeClaimVolumeSource(claim_name="shared"),
            ),
            k8s.V1Volume(name="penguins", config_map=k8s.V1ConfigMapVolumeSource(name="penguins")),
        ],
        "volume_mounts": [
            k8s.V1VolumeMount(name="shared", mount_path="/shared", sub_path="teams/birds"),
            k8s.V1VolumeMount(name="penguins", mount_path="/config"),
        ],
        "labels": {"team": "birds"},
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
    trainer = Node(
        task_id="Trainer",
        retries=5,
        retry_delay=timedelta(seconds=60),
        container_resources=k8s.V1ResourceRequirements(
            requests={"cpu": "500m", "memory": "16Gi"},
            limits={"cpu": "1", "memory": "16Gi", "nvidia.com/gpu": "2"},
        ),
        volumes=[
            k8s.V1Volume(name="shared-memory", empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit="8Gi")),
            k8s.V1Volume(
                name="shared",
                persistent_volume_claim=k8s.V1PersistentVolumeClaimVolumeSource(claim_name="shared"),
            ),
            k8s.V1Volume(name="hub", secret=k8s.V1SecretVolumeSource(secret_name="hub", optional=True)),
            k8s.V1Volume(name="penguins", config_map=k8s.V1ConfigMapVolumeSource(name="penguins")),
        ],
        volume_mounts=[
            k8s.V1VolumeMount(name="shared-memory", mount_path="/dev/shm"),
            k8s.V1VolumeMount(name="shared", mount_path="/shared", sub_path="teams/birds"),
            k8s.V1VolumeMount(name="hub", mount_path="/hub"),
            k8s.V1VolumeMount(name="penguins", mount_path="/config"),
        ],
        node_selector={"pool": "gpu"},
        tolerations=[k8s.V1Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")],
        annotations={"example.com/owner": "birds"},
        active_deadline_seconds=7200,
    )
    served_model_resolver = Node(task_id="ServedModelResolver")
    evaluator = Node(task_id="Evaluator")
    pusher = Node(task_id="Pusher")
    report = Node(task_id="Report")

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
