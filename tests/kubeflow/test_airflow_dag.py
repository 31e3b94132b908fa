"""DAGs for Airflow as they were reviewed, and what is refused. tests/e2e/test_airflow.py runs them."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubetfx.errors import ConfigError, UsageError
from kubetfx.kubeflow.airflow_dag import airflow_dag
from tests.e2e.project import PENGUINS, REPOSITORY

GOLDENS = Path(__file__).parent / "goldens"

KUBEFLOW: dict[str, Any] = {
    "image": "registry.example/kubetfx/pipeline:1.0",
    "image_pull_policy": "IfNotPresent",
    "image_pull_secrets": ["registry"],
    "pod_security": "restricted",
    "service_account": "trainer",
    "every_component": {
        "cpu": "1",
        "memory": "4Gi",
        "requests": {"cpu": "500m"},
        "volumes": [{"claim": "shared", "mount_path": "/shared", "sub_path": "teams/birds"}],
        "secrets": [{"name": "store", "env": {"accesskey": "AWS_ACCESS_KEY_ID"}}],
        "config_maps": [{"name": "penguins", "mount_path": "/config"}],
        "env": {"LOG_LEVEL": "info"},
        "labels": {"team": "birds"},
    },
    "resources": {
        "Trainer": {
            "memory": "16Gi",
            "gpu": {"count": 2},
            "shared_memory": "8Gi",
            "node_selector": {"pool": "gpu"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "secrets": [{"name": "hub", "mount_path": "/hub", "optional": True}],
            "annotations": {"example.com/owner": "birds"},
            "retries": {"count": 5, "backoff_seconds": 60},
            "timeout_seconds": 7200,
        }
    },
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config whose workspace the pods share."""
    document = yaml.safe_load((PENGUINS / "pipeline.yaml").read_text())
    document |= {"workspace": "/shared/penguins", "data": {**document["data"], "path": "/shared/penguins.csv"}}
    document["kubeflow"] = KUBEFLOW
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def written(config: Path, tmp_path: Path, **options: Any) -> str:
    path = tmp_path / "dag.py"
    airflow_dag(config, path, **options)
    return path.read_text()


def check(text: str, golden: Path) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text(), f"{golden} differs; UPDATE_GOLDEN=1 rewrites it"


def calls(text: str, function: str) -> Iterator[dict[str, ast.expr]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
            yield {str(keyword.arg): keyword.value for keyword in node.keywords}


def test_dag_of_processes_is_as_it_was_reviewed(tmp_path):
    text = written(
        PENGUINS / "pipeline.yaml",
        tmp_path,
        command="/opt/kubetfx/bin/kubetfx",
        schedule="30 6 * * *",
        overrides=["training.epochs=20", 'card.purpose="{{ no template }}"'],
    )

    check(text.replace(str(REPOSITORY), "/work"), GOLDENS / "airflow_dag.py")


def test_dag_of_pods_is_as_it_was_reviewed(config, tmp_path):
    text = written(config, tmp_path, pods=True, config_in_pods="/config/pipeline.yaml")

    check(text, GOLDENS / "airflow_kubernetes_dag.py")


@pytest.mark.parametrize("golden", ["airflow_dag.py", "airflow_kubernetes_dag.py"])
def test_dag_is_formatted_as_people_do(golden):
    command = [sys.executable, "-m", "ruff"]
    for arguments in (["format", "--check"], ["check", "--isolated", "--select", "E,F,I,W,UP", "--line-length", "120"]):
        done = subprocess.run([*command, *arguments, GOLDENS / golden], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_folds_run_at_the_same_time(tmp_path):
    config = tmp_path / "pipeline.yaml"
    document = yaml.safe_load((PENGUINS / "pipeline.yaml").read_text())
    document["evaluation"]["cross_validation"] = {"folds": 3}
    document["data"]["path"] = str(PENGUINS / "data")
    config.write_text(yaml.safe_dump(document))
    text = written(config, tmp_path)

    lines = [line.strip() for line in text.splitlines() if ">>" in line]
    assert "fold_examples_1 >> fold_transform_1" in lines
    assert "fold_transform_1 >> fold_trainer_1" in lines
    assert "[fold_evaluator_0, fold_evaluator_1, fold_evaluator_2] >> cross_validation" in lines
    assert 'fold_trainer_1 = Node(task_id="FoldTrainer.1")' in text


def test_own_definition_with_an_exit_handler(tmp_path):
    (tmp_path / "birds.py").write_text(
        "from tfx.orchestration.kubeflow.decorators import FinalStatusStr\n"
        "from tests.kubeflow.taxi_pipeline import Number, Read, Tell, Write, small\n"
        "def pipeline(config):\n"
        "    write = Write(text='a', times=1)\n"
        "    read, number = Read(model=write.outputs['model']), Number(value=1)\n"
        "    return small('birds', Tell(path='told', status=FinalStatusStr()), write, read, number)\n"
    )
    config = tmp_path / "pipeline.yaml"
    config.write_text("name: birds\ndata: {path: data, label: species}\ndefinition: birds:pipeline\n")
    text = written(config, tmp_path)

    assert 'tell = Node(task_id="Tell", do_xcom_push=True).as_teardown()' in text
    lines = [line.strip() for line in text.splitlines() if ">>" in line]
    assert lines[0] == "write >> read"
    assert lines[1:] in (["[number, read] >> tell"], ["[read, number] >> tell"])


def test_file_is_written_again_and_no_other_file_is(tmp_path):
    path = tmp_path / "dag.py"
    airflow_dag(PENGUINS / "pipeline.yaml", path)
    airflow_dag(PENGUINS / "pipeline.yaml", path, schedule="@daily")
    assert 'schedule="@daily"' in path.read_text()

    path.write_text("print('mine')\n")
    with pytest.raises(UsageError, match=r"A file that is not such a DAG would be overwritten\. Received: .*dag\.py\."):
        airflow_dag(PENGUINS / "pipeline.yaml", path)
    assert path.read_text() == "print('mine')\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "0 0 6 * * *"}, r"A schedule of Airflow has five fields.*Received: '0 0 6 \* \* \*'\."),
        ({"schedule": "daily"}, r"A schedule of Airflow has five fields.*Received: 'daily'\."),
        ({"schedule": "61 * * * *"}, r"The minute of the schedule goes from 0 to 59\. Received: '61'"),
        ({"pods": True, "config_in_pods": "pipeline.yaml"}, r"in the pods is absolute\. Received: pipeline\.yaml\."),
    ],
)
def test_options_that_cannot_be_are_refused(config, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        airflow_dag(config, tmp_path / "dag.py", **options)


@pytest.mark.parametrize("name", ["dag.yaml", "folder.py", "file/dag.py"])
def test_output_that_cannot_be_written_is_refused(tmp_path, name):
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"(A DAG is a Python file|The DAG cannot be written)\. Received: "):
        airflow_dag(PENGUINS / "pipeline.yaml", tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"workspace": "/elsewhere"},
            r"Each pod needs the workspace, .* Received: workspace /elsewhere\. Mount a Read",
        ),
        ({"config_in_pods": "/etc/pipeline.yaml"}, r"Each pod needs pipeline\.yaml, .* Received: the config /etc/pipe"),
        (
            {"training": {"distribution": {"strategy": "multi_worker", "launcher": "tfjob", "directory": "/shared/t"}}},
            r"Workers that are pods are made of .* Received: training\.distribution\.launcher: tfjob\. Take",
        ),
    ],
)
def test_pods_that_could_not_work_are_refused(config, tmp_path, changes, message):
    in_pods = changes.pop("config_in_pods", "/config/pipeline.yaml")
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | changes))
    with pytest.raises(ConfigError, match=message):
        airflow_dag(config, tmp_path / "dag.py", pods=True, config_in_pods=in_pods)
    assert not (tmp_path / "dag.py").exists()


def test_places_that_pods_may_not_see_are_said(config, tmp_path):
    document = yaml.safe_load(config.read_text())
    document["data"]["path"] = "/home/me/penguins.csv"
    config.write_text(yaml.safe_dump(document))
    (line,) = airflow_dag(config, tmp_path / "dag.py", pods=True, config_in_pods="/config/pipeline.yaml")

    assert line.startswith("data.path is not in a bucket, and not on a volume of TableExampleGen")
