"""Beam's parsers check what a config says."""

import pytest

from kubetfx.config.beam_section import BeamConfig
from kubetfx.engine.arguments import check, check_with_engine, engine_of
from kubetfx.errors import ConfigError

REMOTE = {"runner": "PortableRunner", "endpoint": "localhost:8099"}


@pytest.mark.parametrize(
    ("beam", "message"),
    [
        (
            {"arguments": ["--direct_num_wokers=2"]},
            r"Did you mean 'direct_num_workers'\? Received: --direct_num_wokers\.",
        ),
        ({"options": {"jobserver_timeout": 3}}, r"Did you mean 'job_server_timeout'\? Received: --jobserver_timeout\."),
        ({"options": {"direct_num_workers": "two"}}, r"--direct_num_workers: invalid int value: 'two'\. Received: "),
        ({"options": {"streaming": "yes"}}, r"--streaming: ignored explicit argument 'yes'"),
        ({"arguments": ["twice"]}, r"Beam takes options alone\. Received: twice\. Write --NAME=VALUE\."),
        ({"arguments": ["--labels=a=${NOT_SET_HERE}"]}, r"NOT_SET_HERE is not set"),
        ({"runner": "no.such.Runner"}, r"beam\.runner: .*cannot be imported .*Received: no\.such\.Runner\. Name the"),
        (
            {"runner": "DaskRunner"},
            r"cannot be imported .*Received: DaskRunner\. Install what it needs, `apache-beam\[d",
        ),
    ],
)
def test_options_that_beam_does_not_have_are_refused(beam, message):
    with pytest.raises(ConfigError, match=message):
        check(BeamConfig(**beam))


def test_options_that_beam_has_are_taken_and_references_looked_up(monkeypatch):
    monkeypatch.setenv("POOL", "pool:50000")
    config = BeamConfig(
        **REMOTE,
        environment={"type": "EXTERNAL", "config": "${POOL}"},
        options={"experiments": ["a"], "streaming": True},
    )

    arguments = check(config)

    assert arguments[2:] == [
        "--environment_type=EXTERNAL", "--environment_config=pool:50000", "--experiments=a", "--streaming",
    ]  # fmt: skip
    assert engine_of(arguments).pool == "pool:50000"
    assert check(BeamConfig()) == []


def test_secret_is_not_in_what_is_refused(monkeypatch):
    monkeypatch.setenv("SHOP_PASSWORD", "open-sesame-4711")
    with pytest.raises(ConfigError, match=r"\$\{SHOP_PASSWORD\}") as refused:
        check(BeamConfig(options={"labels": "${SHOP_PASSWORD}", "direct_num_workers": "x"}))
    assert "open-sesame" not in str(refused.value)


def test_what_refers_to_a_variable_of_a_pod_is_not_checked_here():
    config = BeamConfig(options={"direct_num_workers": "${OF_A_POD}", "direct_running_mode": "in_memory"})

    assert check(config, looks_up=False) == ["--runner=DirectRunner", "--direct_running_mode=in_memory"]


def test_options_that_a_job_service_has_are_its_to_check():
    arguments = check(BeamConfig(**REMOTE, options={"objectReuse": True, "fasterCopy": "no"}))

    check_with_engine(arguments, ["objectReuse", "fasterCopy"])
    with pytest.raises(ConfigError, match=r"Did you mean 'objectReused'\? Received: --objectReuse\."):
        check_with_engine(arguments, ["objectReused"])


@pytest.mark.parametrize(
    ("arguments", "is_remote", "is_elsewhere"),
    [
        ([], False, False),
        (["--runner=DirectRunner", "--direct_num_workers=2"], False, False),
        (["--runner=PrismRunner"], False, True),
        (["--runner=PrismRunner", "--environment_type=EXTERNAL", "--environment_config=a:1"], True, True),
        (["--runner=PortableRunner", "--job_endpoint=a:1", "--environment_type=LOOPBACK"], False, True),
        (["--runner=FlinkRunner", "--job_endpoint=a:1"], True, True),
        (["--runner=DataflowRunner"], True, True),
    ],
)
def test_where_the_work_is_done(arguments, is_remote, is_elsewhere):
    engine = engine_of(arguments)
    assert (engine.is_remote, engine.is_elsewhere) == (is_remote, is_elsewhere)
