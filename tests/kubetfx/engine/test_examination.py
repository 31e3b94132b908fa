"""The doctor against a job service, with workers that lack one thing or another."""

import json
import re
import socket
import time
from pathlib import Path

import pytest

from kubetfx.engine import examination, jobs, probe
from kubetfx.engine.session import Session
from kubetfx.engine.shipping import own_digest
from kubetfx.errors import ConfigError, EngineError


def session(endpoint: str, folder: Path, *more: str, patience: float = 60, **changes) -> Session:
    arguments = ["--runner=PortableRunner", f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK", *more]
    return Session(arguments, folder=folder, patience=patience, **changes)


def test_worker_says_what_it_has_and_leaves_nothing(job_service, tmp_path):
    examined = session(job_service, tmp_path / "engine", places=[tmp_path], modules=["json"])

    (worker,) = examination.examine_engine(examined)

    assert str(worker).startswith("Python 3.11")
    assert list((tmp_path / "engine").iterdir()) == []


def test_places_and_modules_that_a_worker_lacks_are_said_all_at_once(job_service, tmp_path):
    examined = session(job_service, tmp_path, places=[tmp_path / "nowhere"], modules=["no_such_module"])

    with pytest.raises(EngineError) as told:
        examination.examine_engine(examined)

    assert "Your modules are not there. Received: no_such_module on " in str(told.value)
    assert f"A place is not seen. Received: {tmp_path / 'nowhere'} on " in str(told.value)


def test_option_that_neither_beam_nor_the_engine_has_is_refused(job_service, tmp_path):
    with pytest.raises(ConfigError, match=r"Did you mean 'parallelism'\? Received: --paralelism"):
        examination.examine_engine(session(job_service, tmp_path, "--paralelism=2"))


def test_nobody_at_the_endpoint_is_said_after_the_patience(tmp_path):
    began = time.monotonic()
    with pytest.raises(
        EngineError, match=r"beam\.endpoint: the job service cannot be reached: .*Received: localhost:1\."
    ):
        examination.examine_engine(session("localhost:1", tmp_path, patience=1))
    assert time.monotonic() - began < 10


def test_what_listens_there_is_no_job_service(tmp_path):
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        with pytest.raises(EngineError, match=r"does not answer as a job service of Beam does .*Received: localhost:"):
            examination._described_options(address, seconds=1)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"python": "3.12.1"},
            r"Python is another one\. Received: 3\.12\.1 \(.*\), and 3\.11.* Start the workers with",
        ),
        ({"apache-beam": "2.70.0"}, r"apache-beam is another one, or none\. Received: 2\.70\.0 on .*requirements\.txt"),
        ({"tensorflow": None}, r"tensorflow is another one, or none\. Received: None on "),
        ({"code": None}, r"kubetfx is not there\. .*boot program \(docs/scale\.md\)"),
        ({"code": "other"}, r"kubetfx is another one\. Received: "),
        (
            {"workspace": "PermissionError: no"},
            r"The workspace is not seen\. Received: .*PermissionError: no\. Let the",
        ),
    ],
)
def test_each_thing_that_is_missing_is_said(tmp_path, change, fault):
    found = {**probe.facts([], []), "workspace": "seen"}
    assert found["code"] == own_digest()
    assert list(examination._faults(found, session("a:1", tmp_path))) == []

    (said,) = examination._faults({**found, **change}, session("a:1", tmp_path))

    assert re.search(fault, said), said


def test_worker_without_the_workspace_says_so_in_an_error(tmp_path):
    request = {"probe": str(tmp_path / "gone" / "probe"), "nonce": "x", "places": [], "modules": []}
    with pytest.raises(RuntimeError, match=f"^{probe.MARK}") as raised:
        probe.report(json.dumps(request))
    facts = examination._facts_in(
        RuntimeError(f"Traceback\n  line\nRuntimeError: {raised.value} [while running 'Ask']\n"), None
    )
    assert facts["workspace"].startswith("FileNotFoundError")


def test_a_look_is_taken_once_and_only_where_there_is_an_engine(job_service, tmp_path, monkeypatch):
    looked: list[Session] = []
    monkeypatch.setattr(examination, "examine_engine", looked.append)
    here = Session([], folder=tmp_path)
    here.examine()
    there = session(job_service, tmp_path)
    there.examine()
    there.examine()
    assert looked == [there]
    assert here.pipelines([]) is None
    assert jobs.listens(job_service)
