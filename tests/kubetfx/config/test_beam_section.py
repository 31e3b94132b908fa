"""The section `beam`: what a file may say, and Beam's command line."""

import pytest
from apache_beam.options.pipeline_options import StandardOptions

from kubetfx.config.beam_section import RUNNERS
from kubetfx.config.loading import load_config
from kubetfx.errors import ConfigError


def line(**beam):
    config = load_config({"name": "houses", "data": {"path": "houses.csv", "label": "price"}, "beam": beam})
    return config.beam.command_line


def test_runners_are_those_that_beam_names():
    assert set(RUNNERS) == {*StandardOptions.KNOWN_RUNNER_NAMES, "DaskRunner"}


@pytest.mark.parametrize(
    ("beam", "expected"),
    [
        ({}, []),
        ({"runner": "DirectRunner"}, []),
        ({"arguments": ["--direct_num_workers=2"]}, ["--runner=DirectRunner", "--direct_num_workers=2"]),
        (
            {
                "runner": "FlinkRunner",
                "endpoint": "flink-job-service:8099",
                "environment": {"type": "EXTERNAL", "config": "localhost:50000"},
                "options": {"parallelism": 4, "flink_version": "1.19", "streaming": False, "experiments": ["a", "b"]},
            },
            [
                "--runner=FlinkRunner", "--job_endpoint=flink-job-service:8099", "--environment_type=EXTERNAL",
                "--environment_config=localhost:50000", "--parallelism=4", "--flink_version=1.19", "--experiments=a",
                "--experiments=b",
            ],
        ),
        (
            {"runner": "SparkRunner", "image": "registry/worker:1", "options": {"save_main_session": True}},
            [
                "--runner=SparkRunner", "--environment_type=DOCKER", "--environment_config=registry/worker:1",
                "--save_main_session",
            ],
        ),
        (
            {"runner": "DataflowRunner", "image": "registry/worker:1", "options": {"project": "p"}},
            ["--runner=DataflowRunner", "--sdk_container_image=registry/worker:1", "--project=p"],
        ),
        (
            {"runner": "PortableRunner", "environment": {"type": "PROCESS", "config": {"command": "/boot"}}},
            ["--runner=PortableRunner", "--environment_type=PROCESS", '--environment_config={"command": "/boot"}'],
        ),
        ({"runner": "DaskRunner"}, ["--runner=apache_beam.runners.dask.dask_runner.DaskRunner"]),
        ({"runner": "my.runner.Mine"}, ["--runner=my.runner.Mine"]),
        (
            {"runner": "PortableRunner", "endpoint": "${NOWHERE_SET}", "options": {"aws_secret": "${ALSO_NOT}"}},
            ["--runner=PortableRunner", "--job_endpoint=${NOWHERE_SET}", "--aws_secret=${ALSO_NOT}"],
        ),
    ],
)  # fmt: skip
def test_command_line(beam, expected):
    assert line(**beam) == expected


@pytest.mark.parametrize(
    ("beam", "message"),
    [
        ({"runner": "FlinkRuner"}, r"beam\.runner: .* Did you mean 'FlinkRunner'\? Known: .*Received: 'FlinkRuner'"),
        ({"endpoint": "http://x:1"}, r"beam\.endpoint must be HOST:PORT\. Received: 'http://x:1'\. Try localhost:8099"),
        (
            {"environment": {"type": "EXTERNAL"}},
            r"config is missing\. Received: nothing, with type: EXTERNAL\. Give the pool",
        ),
        ({"environment": {"type": "EXTERNAL", "config": "pool"}}, r"config must be HOST:PORT\. Received: 'pool'"),
        ({"environment": {"type": "KUBE"}}, r"beam\.environment\.type: .*'DOCKER'.*Received: 'KUBE'"),
        ({"options": {"--parallelism": 2}}, r"have no leading dashes\. Received: --parallelism\. Try parallelism"),
        ({"options": {"labels": [["a"]]}}, r"beam\.options\.labels must be a value, a list of values, .*\[\['a'\]\]"),
        (
            {"endpoint": "a:1", "options": {"job_endpoint": "b:1"}},
            r"beam\.endpoint and the option job_endpoint say the",
        ),
        ({"options": {"runner": "FlinkRunner"}}, r"the runner has a key of its own\. .*Set beam\.runner"),
        (
            {"image": "x", "environment": {"type": "EXTERNAL", "config": "a:1"}},
            r"beam\.image applies to containers only\. Received: beam\.environment\.type: EXTERNAL",
        ),
        ({"timeout": 0}, r"beam\.timeout: .*greater than 0"),
    ],
)
def test_what_contradicts_itself_is_refused(beam, message):
    with pytest.raises(ConfigError, match=message):
        line(**beam)
