"""What a run or the doctor says when something of an engine is missing, or goes on the way."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command import Finished
from tests.e2e.project import ANY_MODEL, Project, command, kubetfx, penguins_in, states
from tests.e2e.project import environment as command_environment
from tests.scale.engine import Process, pool, prism, states_of_jobs, worker_environment

pytestmark = pytest.mark.scale

PATIENCE = 40
"""Seconds. Workers of this machine start in less, where they start at all."""
DATA_NODES = ("TableExampleGen", "StatisticsGen", "ExampleValidator", "Transform", "Evaluator")
CONNECTED = "Data channel established"
"""What the engine's log has once a worker works."""
EXAMPLES = "artifacts/TableExampleGen/examples/*/Split-*/data-*"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return penguins_in(tmp_path / "penguins")


@pytest.fixture
def own_engine(tmp_path: Path, environment: Path) -> Iterator[Process]:
    """One that is killed, or whose jobs are counted."""
    folder = tmp_path / "prism"
    folder.mkdir()
    with prism(folder) as running:
        yield running


def beam(engine: Process, workers: Process, **changes: object) -> list[str]:
    section = {
        "runner": "PortableRunner",
        "endpoint": engine.address,
        "environment": {"type": "EXTERNAL", "config": workers.address},
        "timeout": PATIENCE,
        **changes,
    }
    return ["--set", f"beam={json.dumps(section)}"]


def doctor(project: Project, *options: str) -> str:
    """What is wrong with the engine, as the doctor says it."""
    found = kubetfx("doctor", project.config, "--format", "json", *options)
    assert found.exit_code == 1, found.stdout + found.stderr
    (failed,) = [check for check in found.document["checks"] if not check["passed"]]
    assert failed["name"] == "Engine"
    return str(failed["detail"])


def test_doctor_says_what_the_workers_have(
    project: Project, engine: Process, tmp_path: Path, environment: Path
) -> None:
    with pool(tmp_path / "pool", environment) as workers:
        found = kubetfx("doctor", project.config, "--format", "json", *beam(engine, workers, timeout=300))
    assert found.exit_code == 0, found.stdout
    (said,) = [check["detail"] for check in found.document["checks"] if check["name"] == "Engine"]
    assert re.search(
        r"Python 3\.11\.\d+, apache-beam 2\.\d+\.0, TensorFlow 2\.\d+\.\d+, kubetfx 0\.\d+\.\d+\+w\d+ on ", said
    )


def test_pool_without_beam_is_no_hang(project: Project, engine: Process, idle_pool: Process) -> None:
    said = doctor(project, *beam(engine, idle_pool))
    assert f"A pool listens at {idle_pool.address}, and the workers that it starts end without a word" in said
    assert "`python` on its PATH that is Python 3.11 with apache-beam 2." in said


def test_pool_that_unpacks_nothing_has_no_code(
    project: Project, engine: Process, tmp_path: Path, environment: Path
) -> None:
    with pool(tmp_path / "pool", environment, boots=False) as workers:
        said = doctor(project, *beam(engine, workers))
    assert "kubetfx is not there. Received: no package of this name on " in said


def test_other_beam_in_the_pool_is_said(project: Project, engine: Process, tmp_path: Path) -> None:
    other = worker_environment(tmp_path / "other")
    (site_packages,) = other.glob("lib/python3*/site-packages")
    facts = site_packages / "apache_beam-2.76.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: apache-beam\nVersion: 2.76.0\n")
    with pool(tmp_path / "pool", other, boots=False) as workers:
        said = doctor(project, *beam(engine, workers))
    assert "apache-beam is another one, or none. Received: 2.76.0 on " in said


def test_pool_that_does_not_see_the_workspace_is_said(
    project: Project, engine: Process, tmp_path: Path, environment: Path
) -> None:
    needs_user_namespaces()
    with pool(tmp_path / "pool", environment, hidden=project.folder) as workers:
        said = doctor(project, *beam(engine, workers, timeout=300))
    assert f"The workspace is not seen. Received: {project.workspace}/engine, of which " in said
    assert "FileNotFoundError" in said
    assert f"A place is not seen. Received: {project.folder}/data on " in said


def needs_user_namespaces() -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces, to mount something for a pool alone")


def test_full_disk_of_a_worker_is_said_with_the_node(
    project: Project, engine: Process, tmp_path: Path, environment: Path
) -> None:
    needs_user_namespaces()
    artifacts = project.workspace / "artifacts"
    artifacts.mkdir(parents=True)
    with pool(tmp_path / "pool", environment, full=artifacts) as workers:
        failed = project.run(*beam(engine, workers, timeout=300))
        assert failed.exit_code == 1, failed.stdout
        assert failed.document["error"]["node"] == "TableExampleGen"
        assert "No space left on device" in failed.document["error"]["message"]
    with pool(tmp_path / "other", environment) as workers:
        again = kubetfx("run", project.config, "--format", "json", *beam(engine, workers, timeout=300), seconds=900)
    assert again.exit_code == 0, again.stdout


def test_two_runs_share_a_job_service_and_a_pool(tmp_path: Path, engine: Process, environment: Path) -> None:
    projects = [penguins_in(tmp_path / name) for name in ("first", "second")]
    with pool(tmp_path / "pool", environment) as workers:
        runs = [
            subprocess.Popen(
                command("run", project.config, "--format", "json", *beam(engine, workers, timeout=300)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=command_environment(),
            )
            for project in projects
        ]
        done = [ended(process, seconds=900) for process in runs]
    assert [one.exit_code for one in done] == [0, 0], done
    first, second = (
        {path.relative_to(project.workspace): path.read_bytes() for path in project.workspace.glob(EXAMPLES)}
        for project in projects
    )
    assert list(first.values()) == list(second.values())


LOST_WORKER = (
    r"bundle \S+ \S+ failed: ?SDK worker disconnected: worker"
    r"|the engine could not send stage-\d+ to its worker, which is gone"
)
"""Which of the two depends on whether Prism had a bundle with the worker, or was about to send one."""


def test_killed_worker_ends_each_data_node_with_words_and_the_next_run_goes_on(
    project: Project, own_engine: Process, tmp_path: Path, environment: Path
) -> None:
    with pool(tmp_path / "pool", environment) as workers:
        for node in DATA_NODES:
            done = run_and_kill(project, own_engine, workers, node=node)
            assert done.exit_code == 1, done.stdout + done.stderr
            error = done.document["error"]
            assert error["node"] == node
            assert re.search(LOST_WORKER, error["message"]), error
        options = [*ANY_MODEL, *beam(own_engine, workers, timeout=300)]
        at_last = kubetfx("run", project.config, "--format", "json", *options, seconds=900)
    assert at_last.exit_code == 0, at_last.stdout
    assert {states(at_last)[node] for node in DATA_NODES[:-1]} == {"cached"}


def run_and_kill(project: Project, engine: Process, workers: Process, *, node: str) -> Finished:
    """A run, of which a node loses its worker in the middle of the work."""

    def logs() -> set[Path]:
        return set(project.workspace.glob(f"logs/*/{node}.log"))

    def connections() -> int:
        return engine.log.read_text().count(CONNECTED)

    def wait_for(seen: Callable[[], bool]) -> None:
        while process.poll() is None and not seen():
            assert time.monotonic() < deadline, states_of_jobs(engine)
            time.sleep(0.05)

    before, jobs, deadline = logs(), len(states_of_jobs(engine)), time.monotonic() + 600
    options = [*ANY_MODEL, *beam(engine, workers, timeout=300)]
    process = subprocess.Popen(
        command("run", project.config, "--format", "json", *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=command_environment(),
    )
    wait_for(lambda: logs() > before)
    wait_for(lambda: len(states_of_jobs(engine)) > jobs + 1)  # the first job of a run looks at the engine
    connected = connections()
    wait_for(lambda: connections() > connected)
    for worker in workers.workers():
        os.kill(worker, signal.SIGKILL)
    return ended(process, seconds=600)


@pytest.fixture
def idle_pool(tmp_path: Path, environment: Path) -> Iterator[Process]:
    """A pool whose workers never come: a job waits for them, and something can happen meanwhile."""
    bare = tmp_path / "bare"
    subprocess.run([Path(sys.base_prefix) / "bin" / "python3.11", "-m", "venv", "--without-pip", bare], check=True)
    with pool(tmp_path / "pool", environment, python=bare / "bin" / "python", boots=False) as workers:
        yield workers


def running(project: Project, engine: Process, *options: str) -> subprocess.Popen[str]:
    """A run whose first job is under way."""
    process = subprocess.Popen(
        command("run", project.config, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=command_environment(),
    )
    deadline = time.monotonic() + 300
    while not set(states_of_jobs(engine)) & {"STARTING", "RUNNING"}:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, states_of_jobs(engine)
        time.sleep(0.2)
    time.sleep(1)  # until the run waits for it
    return process


def ended(process: subprocess.Popen[str], *, seconds: float = 200) -> Finished:
    stdout, stderr = process.communicate(timeout=seconds)
    return Finished(process.returncode, stdout, stderr)


def test_interrupt_cancels_the_job_on_the_engine(project: Project, own_engine: Process, idle_pool: Process) -> None:
    process = running(project, own_engine, *beam(own_engine, idle_pool, timeout=300))
    process.send_signal(signal.SIGINT)
    interrupted = ended(process)
    assert interrupted.exit_code == 130, interrupted.stderr
    assert "the same command goes on from there" in interrupted.stderr
    assert states_of_jobs(own_engine) == ["CANCELLED"]


def test_pool_that_goes_ends_the_run_with_words(project: Project, own_engine: Process, idle_pool: Process) -> None:
    process = running(project, own_engine, *beam(own_engine, idle_pool, timeout=20))
    idle_pool.kill()
    failed = ended(process)
    assert failed.exit_code == 1, failed.stderr
    assert re.search(
        rf"(The pool of workers is gone: .*Received: |No pool of workers listens at ){idle_pool.address}", failed.stderr
    ), failed.stderr


def test_job_service_that_goes_ends_the_run_with_words(
    project: Project, own_engine: Process, idle_pool: Process
) -> None:
    process = running(project, own_engine, *beam(own_engine, idle_pool, timeout=300))
    own_engine.kill()
    failed = ended(process)
    assert failed.exit_code == 1, failed.stderr
    assert f"The job service is gone: nobody listens any more. Received: {own_engine.address}." in failed.stderr
