"""What a light task costs in the image before it does anything: from the start of its process to its work.

    python -m benchmarks.light_tasks [--image NAME] [--runs N] [--busy]

Runs the penguins' package in the emulator: tasks with TensorFlow as processes of this environment, light ones N times
in the image, as a pod would. Puts the figures into docs/image.md. Exit code 1: one takes longer than LIMIT_SECONDS;
with --busy, more of the CPU.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.entrypoint import BEGINS, CONFIG, LIGHT
from benchmarks.measured_process import ROOT
from benchmarks.readme import machine, write_section
from kubetfx.config.loading import load_config
from kubetfx.kubeflow.emulation.task_results import TaskResult
from kubetfx.kubeflow.emulator import Emulator
from kubetfx.kubeflow.executor_io import LAUNCHER_ROOT
from kubetfx.kubeflow.local import docker_command
from kubetfx.kubeflow.package import compile_to_file
from kubetfx.kubeflow.package_document import read_package

REPORT_PATH = ROOT / "docs" / "image.md"
LIMIT_SECONDS = 0.4

Starts = dict[str, list[tuple[float, float]]]
"""Seconds of wall and of CPU, by task."""
WALL, CPU = 0, 1


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--image", default="kubetfx/pipeline", help="That was built before.")
    parser.add_argument("--runs", type=int, default=9, help="Runs, of which the medians are written.")
    parser.add_argument("--busy", action="store_true", help="Write that other jobs ran on the machine.")
    options = parser.parse_args()
    starts: Starts = {}
    with tempfile.TemporaryDirectory() as folder:
        _run_package(Path(folder), options.image, options.runs, starts)
    text = _table(starts, busy=options.busy)
    write_section("light tasks", text, path=REPORT_PATH)
    sys.stderr.write(text)
    return int(max(_median(starts[node], CPU if options.busy else WALL) for node in LIGHT) > LIMIT_SECONDS)


def _run_package(folder: Path, image: str, num_runs: int, starts: Starts) -> None:
    root, pushed = folder / "launcher", folder / "pushed"
    pushed.mkdir()
    overrides = [f"workspace={folder}/workspace", f"serving.push_directory={pushed}"]
    config = load_config(CONFIG, overrides=overrides)
    compile_to_file(config, folder / "package.yaml")

    def run_command(command: Sequence[str], environment: Mapping[str, str], _image: str, task: TaskResult) -> int:
        if task.title not in LIGHT:
            line = [sys.executable, *command[1:]]
            return _run(line, environment={"PYTHONPATH": str(ROOT), LAUNCHER_ROOT: str(root), **environment})[0]
        for _ in range(num_runs):
            shutil.rmtree(pushed)  # or the Pusher finds what it pushed before
            pushed.mkdir()
            name = f"kubetfx-{uuid.uuid4().hex[:12]}"
            folders = [CONFIG.parent / "data", pushed]
            line = docker_command(command, environment, image, name=name, root=root, folders=folders)
            exit_code, log = _run(line)
            if exit_code:
                break
            found = BEGINS.findall(log)
            starts.setdefault(task.title, []).extend((float(wall), float(cpu)) for _, wall, cpu in found)
        return exit_code

    Emulator(read_package(folder / "package.yaml"), root=root, run_id="1", run_command=run_command).run({})


def _run(line: Sequence[str], *, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    variables = None if environment is None else {**os.environ, **environment}
    done = subprocess.run(line, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr[-5_000:])
    return done.returncode, done.stderr


def _median(starts: Sequence[tuple[float, float]], which: int) -> float:
    return statistics.median(start[which] for start in starts)


def _table(starts: Starts, *, busy: bool) -> str:
    num_runs = min(len(found) for found in starts.values())
    lines = [f"{machine(busy=busy)} Medians of {num_runs}.", "", "| task | seconds | of CPU |", "|---|---|---|"]
    lines += [f"| {node} | {_median(starts[node], WALL):.2f} | {_median(starts[node], CPU):.2f} |" for node in LIGHT]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
