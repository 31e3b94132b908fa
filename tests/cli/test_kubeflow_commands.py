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
    refused = kubetfx("compile", config, "--output", config.parent / "." / "pipeline.yaml")

    assert refused.exit_code == 2
    assert "would overwrite the config itself" in refused.stderr
    assert config.read_text() == CONFIG


def test_compile_overwrites_packages_and_manifests_alone(kubetfx, config):
    other = config.with_name("values.yaml")
    other.write_text("a: 1\n")

    refused = kubetfx("compile", config, "--output", other)
    assert refused.exit_code == 2
    assert "would overwrite a file that is not a package" in refused.stderr
    assert other.read_text() == "a: 1\n"

    target = config.with_name("package.yaml")
    assert kubetfx("compile", config, "--output", target).exit_code == 0
    assert kubetfx("compile", config, "--output", target, "--kubernetes-manifest").exit_code == 0
    assert kubetfx("compile", config, "--output", target).exit_code == 0


def test_compile_writes_the_package_alone(kubetfx, config):
    target = config.with_name("package.yaml")

    assert kubetfx("compile", config, "--output", target).exit_code == 0
    assert sorted(path.name for path in config.parent.iterdir()) == ["package.yaml", "pipeline.yaml"]


def test_compile_says_which_places_no_pod_sees(kubetfx, config):
    target = config.with_name("package.yaml")

    talk = kubetfx("compile", config, "--output", target).stderr
    assert "data.path is not in a bucket, and not on a volume of TableExampleGen: " in talk
    assert "Received: /data." in talk
    assert "serving.push_directory is not in a bucket, and not on a volume of ServedModelResolver and Pusher: " in talk
    assert "give each run the parameter push_directory" in talk

    mounted = kubetfx(
        *("compile", config, "--output", target, "--set", "serving.push_directory=s3://b/models"),
        *("--set", "kubeflow.resources={TableExampleGen: {volumes: [{claim: c, mount_path: /data}]}}"),
    )
    assert mounted.exit_code == 0
    assert "no volume" not in mounted.stderr


def test_resources_for_git_ops_are_not_submitted(kubetfx, config):
    target = config.with_name("manifest.yaml")
    assert kubetfx("compile", config, "--output", target, "--kubernetes-manifest").exit_code == 0

    refused = kubetfx("submit", target, "--host", "http://127.0.0.1:1")

    assert refused.exit_code == 2
    assert f"Received: {target}, a PipelineVersion. Compile it as a package and not as a" in refused.stderr


def test_check_writes_nothing_whatever_is_beside_the_config(kubetfx, config, monkeypatch):
    monkeypatch.chdir(config.parent)
    Path("package.yaml").write_text("a: 1\n")

    done = kubetfx("compile", config, "--check")

    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in config.parent.iterdir()) == ["package.yaml", "pipeline.yaml"]
    assert Path("package.yaml").read_text() == "a: 1\n"


@pytest.mark.parametrize(
    ("more", "arguments", "message"),
    [
        ("model: {module: absent}", [], "cannot be imported. Received: absent"),
        ("model: {module: absent.of_a_package}", [], "cannot be imported. Received: absent.of_a_package"),
        ("model: {module: former}", [], "Received: {folder}/former.py, line 1, which imports components.data"),
        ("training: {distribution: {strategy: multi_worker, launcher: ray, workers: 2}}", [], "launcher: ray, without"),
        ("", ["--retrain-gate"], "Received: no section retrain"),
    ],
)
def test_check_refuses_what_compile_refuses(kubetfx, config, more, arguments, message):
    config.with_name("former.py").write_text("from components.data import tables\n")
    config.write_text(f"{CONFIG}{more}\n")

    refused = [kubetfx("compile", config, *options, *arguments) for options in ((), ("--check",))]

    assert [done.exit_code for done in refused] == [2, 2]
    assert all(message.format(folder=config.parent) in done.stderr for done in refused), refused
