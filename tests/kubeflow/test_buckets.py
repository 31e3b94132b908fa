"""Data and pushed models in a bucket, on Kubeflow: the package, and a task's process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from kubetfx.components.push.push_directory import read_record, versions
from kubetfx.config.loading import load_config
from kubetfx.kubeflow.executor_io import LAUNCHER_ROOT
from kubetfx.kubeflow.lint import lint
from kubetfx.kubeflow.local import docker_command
from kubetfx.kubeflow.package import compile_to_file
from kubetfx.kubeflow.system_nodes import ImporterExecutor, LatestPushedModelExecutor
from tests.kubeflow.test_task_run import artifact, pusher_spec

REPOSITORY = Path(__file__).parents[2]
SECRETS = (
    "{name: kubetfx-bucket, env: {AWS_ACCESS_KEY_ID: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: AWS_SECRET_ACCESS_KEY}}"
)
OVERRIDES = [
    "data.path=s3://team/penguins/*.csv",
    "serving.push_directory=gs://team/models/penguins/",
    f"kubeflow.every_component={{env: {{AWS_ENDPOINT_URL: 'http://seaweedfs:8333'}}, secrets: [{SECRETS}]}}",
]


def test_package_takes_buckets_for_data_and_push_and_credentials_from_secrets(tmp_path):
    config = load_config(REPOSITORY / "examples" / "penguins" / "pipeline.yaml", overrides=OVERRIDES)

    parameters = compile_to_file(config, tmp_path / "package.yaml")

    assert parameters["data_path"] == "s3://team/penguins/*.csv"
    assert parameters["push_directory"] == "gs://team/models/penguins"
    spec, platform = yaml.safe_load_all((tmp_path / "package.yaml").read_text())
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name, executor in spec["deploymentSpec"]["executors"].items():
        assert {"name": "AWS_ENDPOINT_URL", "value": "http://seaweedfs:8333"} in executor["container"]["env"]
        (secret,) = pods[name]["secretAsEnv"]
        assert secret["secretName"] == "kubetfx-bucket"
        assert {entry["envVar"] for entry in secret["keyToEnv"]} == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
        assert "pvcMount" not in pods[name]
    assert lint(tmp_path / "package.yaml") == []


def test_pusher_in_its_container_pushes_to_a_bucket(bucket, tmp_path):
    folder = tmp_path / "minio" / "b"
    (folder / "model" / "Format-Serving").mkdir(parents=True)
    (folder / "model" / "Format-Serving" / "saved_model.pb").write_text("model")
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "evaluation.json").write_text('{"metrics": {"accuracy": 0.75}}')
    blessing = json.dumps({"custom_properties": {"blessed": {"int_value": "1"}}})
    inputs = {
        "model": artifact("minio://b/model"),
        "model_blessing": artifact("minio://b/blessing", tfx_artifact=blessing),
        "evaluation": artifact("minio://b/evaluation"),
    }
    outputs = {"pushed_model": {"artifacts": [{"name": "pushed_model", "uri": "minio://b/out/pushed_model"}]}}
    document = {
        "inputs": {"artifacts": inputs},
        "outputs": {"artifacts": outputs, "outputFile": str(tmp_path / "output.json")},
    }
    command = [sys.executable, "-m", "kubetfx.kubeflow.entrypoint", "--task", pusher_spec(bucket).to_argument()]

    subprocess.run(
        [*command, "--executor-input", json.dumps(document)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), LAUNCHER_ROOT: str(tmp_path)},
        check=True,
    )

    (version,) = versions(bucket)
    assert read_record(bucket, version).metrics == {"accuracy": 0.75}
    output = json.loads((tmp_path / "output.json").read_text())
    (pushed,) = output["artifacts"]["pushed_model"]["artifacts"]
    assert pushed["metadata"]["pushed_destination"] == f"{bucket}/{version}"


def test_task_in_docker_takes_what_the_store_is_reached_by_from_here(bucket, tmp_path):
    line = docker_command(
        ["python"], {"AWS_ENDPOINT_URL": "http://of-the-config"}, "it", name="n", root=tmp_path, folders=[]
    )

    options = [line[place + 1] for place, word in enumerate(line) if word == "--env"]
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set(options)
    assert [option for option in options if option.startswith("AWS_ENDPOINT_URL")] == [
        "AWS_ENDPOINT_URL=http://of-the-config"
    ]
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in " ".join(line)


def test_task_in_docker_has_the_rights_of_a_pod(tmp_path):
    line = " ".join(docker_command(["python"], {}, "it", name="n", root=tmp_path, folders=[]))

    assert f"--user {os.getuid()}:{os.getgid()} --cap-drop ALL --security-opt no-new-privileges --read-only" in line
    assert "seccomp" not in line  # so that it is Docker's default
    assert "--privileged" not in line


def test_importer_takes_a_folder_from_a_bucket(bucket, tmp_path):
    for name in ("schema.pbtxt", "deep/notes.txt"):
        (bucket / "schema" / name).write_text(name)
    schema = standard_artifacts.Schema()
    schema.uri = str(tmp_path / "schema")

    ImporterExecutor().Do({}, {"result": [schema]}, {"artifact_uri": f"{bucket}/schema"})

    assert (tmp_path / "schema" / "schema.pbtxt").read_text() == "schema.pbtxt"
    assert (tmp_path / "schema" / "deep" / "notes.txt").read_text() == "deep/notes.txt"


def test_latest_blessed_model_in_a_bucket_is_the_newest_whole_version(bucket, tmp_path):
    for name in ("9/saved_model.pb", "10/saved_model.pb", "10/variables/index", "11/variables/index"):
        (bucket / name).write_text(name)
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "model")

    LatestPushedModelExecutor().Do({}, {"model": [model]}, {"push_directory": str(bucket)})

    assert model.get_int_custom_property("version") == 10
    copy = Path(path_utils.serving_model_dir(model.uri))
    assert (copy / "saved_model.pb").read_text() == "10/saved_model.pb"
    assert (copy / "variables" / "index").read_text() == "10/variables/index"
