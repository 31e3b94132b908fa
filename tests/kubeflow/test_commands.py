"""The commands around Kubeflow Pipelines, up to where a server is needed."""

from pathlib import Path

import pytest

CONFIG = "name: p\ndata: {path: /data, label: y}\nserving: {push_directory: /data/models}\n"


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(CONFIG)
    return path


def test_compile_does_not_overwrite_the_config(kubetfx, config):
    exit_code, _, talk = kubetfx("compile", config, "--output", config.parent / "." / "pipeline.yaml")

    assert exit_code == 2
    assert "would overwrite the config itself" in talk
    assert config.read_text() == CONFIG


def test_compile_overwrites_packages_and_manifests_alone(kubetfx, config):
    other = config.with_name("values.yaml")
    other.write_text("a: 1\n")

    exit_code, _, talk = kubetfx("compile", config, "--output", other)
    assert exit_code == 2
    assert "would overwrite a file that is no package" in talk
    assert other.read_text() == "a: 1\n"

    target = config.with_name("package.yaml")
    assert kubetfx("compile", config, "--output", target)[0] == 0
    assert kubetfx("compile", config, "--output", target, "--kubernetes-manifest")[0] == 0
    assert kubetfx("compile", config, "--output", target)[0] == 0


def test_compile_says_which_places_no_pod_sees(kubetfx, config):
    target = config.with_name("package.yaml")

    _, _, talk = kubetfx("compile", config, "--output", target)
    assert "data.path is no bucket, and on no volume of TableExampleGen: " in talk
    assert "Received: /data." in talk
    assert "serving.push_directory is no bucket, and on no volume of ServedModelResolver and Pusher: " in talk
    assert "give each run --param push_directory=PLACE" in talk

    _, _, talk = kubetfx(
        *("compile", config, "--output", target, "--set", "serving.push_directory=s3://b/models"),
        *("--set", "kubeflow.resources={TableExampleGen: {volumes: [{claim: c, mount_path: /data}]}}"),
    )
    assert "no volume" not in talk
