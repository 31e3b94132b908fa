"""DAGs with a real Airflow 3 of an environment of its own: KUBETFX_AIRFLOW=/path/to/airflow.

With apache-airflow-providers-cncf-kubernetes in it, the pods too are built, and compared with those of the package for
Kubeflow Pipelines.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubetfx.kubeflow.airflow_dag import airflow_dag
from kubetfx.kubeflow.compilation import compile
from kubetfx.run_record import RunRecord, read_all
from tests.e2e.project import REPOSITORY, Project, environment, penguins_in
from tests.kubeflow.test_airflow_dag import KUBEFLOW

AIRFLOW = os.environ.get("KUBETFX_AIRFLOW", "")
_HOW = "`uv venv; uv pip install 'apache-airflow>=3,<4' apache-airflow-providers-cncf-kubernetes`"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not AIRFLOW, reason=f"KUBETFX_AIRFLOW does not name an airflow, such as that of {_HOW}"),
]

KILLED_PUSHER = """\
#!/bin/sh
# kubetfx; but the first process of the Pusher is killed as soon as it has pushed.
if [ "$3" = Pusher ] && [ ! -e {once} ]; then
  touch {once}
  {python} -m kubetfx "$@" &
  while ! ls {pushed}/[0-9]* >/dev/null 2>&1; do sleep 0.01; done
  kill -9 $!
  wait $!
  exit 137
fi
exec {python} -m kubetfx "$@"
"""

PODS = """\
import importlib.util, json, sys
from kubernetes.client import ApiClient
spec = importlib.util.spec_from_file_location("dag_file", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
pods = {}
for task in module.trainer.dag.tasks:
    task.render_template_fields({"task": task, "run_id": "manual__2026-12-01", "params": {"set": ["a.b=c d"]}})
    pods[task.task_id] = ApiClient().sanitize_for_serialization(task.build_pod_request_obj())
print("PODS" + json.dumps(pods))
"""

KUBE_CONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "nobody", "user": {}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "nobody"}}],
    "current-context": "none",
}


class Airflow:
    """An Airflow with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.dags = home / "dags"
        self.dags.mkdir(parents=True)
        (home / "kube.yaml").write_text(yaml.safe_dump(KUBE_CONFIG))
        self._env = {
            **environment(),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "KUBECONFIG": str(home / "kube.yaml"),
        }

    def run(self, *arguments: str | Path, program: str = AIRFLOW, **variables: str) -> str:
        done = subprocess.run(
            [program, *map(str, arguments)],
            env={**self._env, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=1200,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    def python(self, *arguments: str | Path) -> str:
        return self.run(*arguments, program=str(Path(AIRFLOW).with_name("python")))


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    made = Airflow(tmp_path_factory.mktemp("airflow"))
    made.run("db", "migrate")
    return made


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = penguins_in(tmp_path_factory.mktemp("on-airflow") / "penguins")
    retries = "kubeflow: {every_component: {retries: {count: 2, backoff_seconds: 1, backoff_factor: 1}}}\n"
    made.config.write_text(made.config.read_text() + "training: {epochs: 60}\n" + retries)
    return made


@pytest.fixture(scope="module")
def first(airflow: Airflow, project: Project) -> RunRecord:
    """A run on Airflow in which the Pusher was killed, and tried again."""
    names = {"once": project.folder / "once", "pushed": project.pushed, "python": sys.executable}
    command = project.folder / "kubetfx"
    command.write_text(KILLED_PUSHER.format(**names))
    command.chmod(0o755)
    airflow_dag(project.config, airflow.dags / "penguins.py", command=str(command), overrides=["card.owner=birds"])
    airflow.run("dags", "test", "penguins")
    return next(read_all(project.workspace))


def test_dag_runs_and_a_killed_task_is_tried_again_without_a_second_push(first: RunRecord, project: Project) -> None:
    assert (first.state, first.error) == ("pushed", None)
    assert first.run_id.startswith("manual__")
    assert {node.state for node in first.nodes} == {"done"}
    assert (project.folder / "once").exists()
    assert [first.pushed_version] == project.versions
    assert first.config["card"]["owner"] == "birds"
    assert first.folder == str(project.folder)
    assert (project.workspace / "runs" / first.run_id / "report.html").is_file()


def test_second_run_is_taken_from_the_cache_with_the_parameters_of_the_run(
    first: RunRecord, airflow: Airflow, project: Project
) -> None:
    airflow.run(
        "dags", "test", "penguins", "--conf", json.dumps({"set": ["card.owner=birds", "card.limits=[Adults only.]"]})
    )
    second = next(read_all(project.workspace))

    assert second.run_id != first.run_id
    assert second.state == "unchanged"
    assert second.config["card"]["limits"] == ["Adults only."]
    assert {node.id: node.state for node in second.nodes if node.id != "Report"} == {
        node.id: "cached" for node in first.nodes if node.id != "Report"
    }
    assert project.versions == [first.pushed_version]


@pytest.fixture(scope="module")
def pods(airflow: Airflow, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Pods that the provider builds, by task."""
    try:
        airflow.python("-c", "import airflow.providers.cncf.kubernetes")
    except AssertionError:
        pytest.skip(f"Airflow's environment has no provider for Kubernetes: {_HOW}")
    golden = REPOSITORY / "tests" / "kubeflow" / "goldens" / "airflow_kubernetes_dag.py"
    said = airflow.python("-c", PODS, golden)
    (line,) = (line for line in said.splitlines() if line.startswith("PODS"))
    found = json.loads(line.removeprefix("PODS"))
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The package of the same config: its containers and its platform document, by task."""
    folder = tmp_path_factory.mktemp("package")
    config = penguins_in(folder / "penguins").config
    document = yaml.safe_load(config.read_text()) | {"kubeflow": KUBEFLOW}
    config.write_text(yaml.safe_dump(document))
    compile(config, folder / "package.yaml")
    pipeline, platform = yaml.safe_load_all((folder / "package.yaml").read_text())
    return (
        pipeline["deploymentSpec"]["executors"],
        platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"],
    )


@pytest.mark.parametrize("task", ["Trainer", "Evaluator"])
def test_pods_are_those_of_the_package_for_kubeflow(
    pods: dict[str, Any], package: tuple[dict[str, Any], dict[str, Any]], task: str
) -> None:
    executor = f"exec-{task.lower()}"
    container, platform = package[0][executor]["container"], package[1][executor]
    metadata, spec = pods[task]["metadata"], pods[task]["spec"]
    (base,) = spec["containers"]

    assert base["image"] == container["image"]
    assert base["command"] == ["sh", "-c"]
    node = f"exec kubetfx node /config/pipeline.yaml {task} --run manual__2026-12-01 --logs"
    assert base["args"][0].startswith(node)
    assert base["args"][0].endswith(" --set 'a.b=c d'")

    resources = container["resources"]
    assert base["resources"]["limits"]["cpu"] == resources["resourceCpuLimit"]
    assert base["resources"]["limits"]["memory"] == resources["resourceMemoryLimit"]
    assert base["resources"]["requests"] == {
        "cpu": resources["resourceCpuRequest"],
        "memory": resources["resourceMemoryRequest"],
    }
    gpu = resources.get("accelerator", {})
    assert base["resources"]["limits"].get(gpu.get("resourceType")) == gpu.get("resourceCount")

    plain = {entry["name"]: entry["value"] for entry in base["env"] if "value" in entry}
    assert plain == {entry["name"]: entry["value"] for entry in container["env"]}
    secret = {
        (entry["valueFrom"]["secretKeyRef"]["name"], entry["valueFrom"]["secretKeyRef"]["key"], entry["name"])
        for entry in base["env"]
        if "valueFrom" in entry
    }
    assert secret == {
        (source["secretName"], key["secretKey"], key["envVar"])
        for source in platform["secretAsEnv"]
        for key in source["keyToEnv"]
    }

    mounts = {(mount["name"], mount["mountPath"], mount.get("subPath", "")) for mount in base["volumeMounts"]}
    assert mounts == {
        *((claim["constant"], claim["mountPath"], claim.get("subPath", "")) for claim in platform["pvcMount"]),
        *((source["secretName"], source["mountPath"], "") for source in platform.get("secretAsVolume", [])),
        *((source["configMapName"], source["mountPath"], "") for source in platform["configMapAsVolume"]),
        *((empty["volumeName"], empty["mountPath"], "") for empty in platform.get("emptyDirMounts", [])),
    }
    kinds = {volume["name"]: next(kind for kind in volume if kind != "name") for volume in spec["volumes"]}
    assert kinds["shared"] == "persistentVolumeClaim"
    assert kinds["penguins"] == "configMap"
    if task == "Trainer":
        assert (kinds["hub"], kinds["shared-memory"]) == ("secret", "emptyDir")
        (empty,) = (volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == "shared-memory")
        (expected,) = platform["emptyDirMounts"]
        assert (empty["medium"], empty["sizeLimit"]) == (expected["medium"], expected["sizeLimit"])

    assert spec.get("nodeSelector", {}) == platform.get("nodeSelector", {}).get("labels", {})
    assert spec.get("tolerations", []) == platform.get("tolerations", [])
    assert spec["serviceAccountName"] == KUBEFLOW["service_account"]
    assert [one["name"] for one in spec["imagePullSecrets"]] == [
        one["secretName"] for one in platform["imagePullSecret"]
    ]
    assert base["imagePullPolicy"] == platform["imagePullPolicy"]
    assert spec["securityContext"]["runAsNonRoot"] == platform["securityContext"]["runAsNonRoot"]
    assert spec.get("activeDeadlineSeconds") == (int(platform["activeDeadlineSeconds"]) if task == "Trainer" else None)
    assert platform["podMetadata"]["labels"].items() <= metadata["labels"].items()
    assert platform["podMetadata"].get("annotations", {}).items() <= metadata.get("annotations", {}).items()
