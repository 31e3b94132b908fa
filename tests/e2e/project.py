"""The command as a user starts it, in a process of its own, on a copy of the penguins example."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.command import Finished, kubetfx_here
from tests.warm_process import run_forked

REPOSITORY = Path(__file__).parents[2]
PENGUINS = REPOSITORY / "examples" / "penguins"
WATCH_SECONDS = 120
ANY_MODEL = ("--set", "evaluation.thresholds={accuracy: {at_least: 0, better_than_baseline: false}}")
"""For runs of few epochs, which are about something else than how good the model is."""


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "kubetfx", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def kubetfx(*arguments: str | Path, cwd: Path | None = None, seconds: float = 300) -> Finished:
    """The command in a process that is forked from one that has paid for the imports; or, where Python is to list the
    imports, in one that has imported nothing."""
    env = environment()
    if "PYTHONPROFILEIMPORTTIME" not in env:
        return run_forked(list(map(str, arguments)), cwd=cwd, env=env, seconds=seconds)
    options = {"capture_output": True, "text": True, "cwd": cwd, "env": env, "timeout": seconds}
    done = subprocess.run(command(*arguments), check=False, **options)  # type: ignore[call-overload]
    return Finished(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Project:
    """A folder with a pipeline.yaml and its data, apart from the repository."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "pipeline.yaml"

    @property
    def workspace(self) -> Path:
        return self.folder / ".kubetfx" / "penguins"

    @property
    def pushed(self) -> Path:
        return self.workspace / "pushed" / "penguins"

    @property
    def versions(self) -> list[int]:
        return sorted(int(path.name) for path in self.pushed.glob("[0-9]*")) if self.pushed.is_dir() else []

    def run(self, *arguments: str | Path, seconds: float = 300) -> Finished:
        return kubetfx("run", self.config, "--format", "json", *arguments, seconds=seconds)

    def predict(self, rows: Path) -> Finished:
        return kubetfx_here("predict", self.config, "--rows", rows, "--format", "json")


def report_of(run: Finished) -> Path:
    """The report that a run ends with, whichever way it ended."""
    document = run.document
    return Path(document["report"] if "report" in document else document["error"]["report"])


def metrics_of(run: Finished) -> Any:
    """What stands in metrics.json beside the report."""
    return json.loads((report_of(run).parent / "metrics.json").read_text())


def penguins_in(folder: Path) -> Project:
    (folder / "data").mkdir(parents=True)
    shutil.copy(PENGUINS / "pipeline.yaml", folder)
    shutil.copy(PENGUINS / "data" / "penguins.csv", folder / "data")
    return Project(folder)


def states(run: Finished) -> dict[str, str]:
    return {node["id"]: node["state"] for node in run.document["nodes"]}


def output_folders(project: Project, node: str) -> list[str]:
    return sorted(path.name for path in project.workspace.glob(f"artifacts/{node}/[!.]*/*"))


def interrupt(project: Project, *arguments: str | Path, during: str, with_signal: signal.Signals) -> Finished:
    """Start a run and send a signal while a node is at work."""
    earlier = set(project.workspace.glob("logs/*"))
    process = subprocess.Popen(
        command("run", project.config, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    deadline = time.monotonic() + 120
    while not any((run / f"{during}.log").is_file() for run in set(project.workspace.glob("logs/*")) - earlier):
        assert time.monotonic() < deadline, f"{during} did not start"
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(with_signal)
    stdout, stderr = process.communicate(timeout=60)
    return Finished(process.returncode, stdout, stderr)


class Watching:
    """`kubetfx run --watch`, and what it has said so far."""

    def __init__(self, project: Project) -> None:
        self._log = project.folder / "watch.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                command("run", project.config, "--watch"), stdout=log, stderr=log, env=environment()
            )

    def said(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str, *, times: int = 1) -> None:
        deadline = time.monotonic() + WATCH_SECONDS
        while self.said().count(text) < times:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=WATCH_SECONDS)


@contextlib.contextmanager
def watching(project: Project) -> Iterator[Watching]:
    started = Watching(project)
    try:
        yield started
    finally:
        started.process.terminate()
        started.process.wait(timeout=WATCH_SECONDS)
