"""What a task costs before it does anything: the start of its process, by node of the penguins' package.

    python -m benchmarks.entrypoint [--runs N]

Compiles the package, runs it task by task in fresh workspaces, and puts the figures into benchmarks/kubeflow.md. Exit
code 1: a light node takes longer than LIGHT_SECONDS to start, or compiling takes longer than COMPILE_SECONDS.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measured_process import ROOT
from benchmarks.readme import machine

CONFIG = ROOT / "examples" / "penguins" / "pipeline.yaml"
REPORT_PATH = ROOT / "benchmarks" / "kubeflow.md"
LIGHT = ("SchemaGen", "AnomalyGate", "ServedModelResolver", "Pusher")
LIGHT_SECONDS = 5.0
COMPILE_SECONDS = 8.0

BEGINS = re.compile(r"(\w+) begins, ([0-9.]+) s after the start of the process, which has used the CPU for ([0-9.]+) s")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="Runs, of which the medians are written.")
    num_runs = parser.parse_args().runs
    starts: dict[str, list[float]] = {}
    walls: dict[str, list[float]] = {}
    compiles: list[float] = []
    for _ in range(num_runs):
        with tempfile.TemporaryDirectory() as folder:
            compiles.append(_compile_seconds(Path(folder) / "package.yaml"))
            _measure_tasks(Path(folder), starts=starts, walls=walls)
    text = _report(starts, walls, compiles)
    before, _, rest = REPORT_PATH.read_text(encoding="utf-8").partition("<!-- tasks -->\n")
    after = rest.partition("<!-- /tasks -->")[2]
    REPORT_PATH.write_text(f"{before}<!-- tasks -->\n{text}<!-- /tasks -->{after}", encoding="utf-8")
    sys.stderr.write(text)
    slow = [node for node in LIGHT if statistics.median(starts[node]) > LIGHT_SECONDS]
    return int(bool(slow) or statistics.median(compiles) > COMPILE_SECONDS)


def _kubetfx(*arguments: str) -> str:
    command = [sys.executable, "-m", "kubetfx", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def _compile_seconds(path: Path) -> float:
    started = time.monotonic()
    _kubetfx("compile", str(CONFIG), "--output", str(path))
    return time.monotonic() - started


def _measure_tasks(folder: Path, *, starts: dict[str, list[float]], walls: dict[str, list[float]]) -> None:
    overrides = ("--set", f"workspace={folder}/workspace", "--set", f"serving.push_directory={folder}/pushed")
    document = json.loads(_kubetfx("run", str(CONFIG), "--on", "kfp-local", "--format", "json", *overrides))
    for node in document["nodes"]:
        walls.setdefault(node["id"], []).append(node["seconds"])
        for name, seconds, _ in BEGINS.findall(Path(node["log"]).read_text(encoding="utf-8")):
            starts.setdefault(name, []).append(float(seconds))


def _report(
    starts: Mapping[str, Sequence[float]], walls: Mapping[str, Sequence[float]], compiles: Sequence[float]
) -> str:
    lines = [
        f"{machine()} Medians of {len(compiles)}.",
        "",
        f"`kubetfx compile`: {statistics.median(compiles):.1f} s.",
        "",
        "| task | start-up, seconds | whole process, seconds |",
        "|---|---|---|",
    ]
    for node, seconds in walls.items():
        start = f"{statistics.median(starts[node]):.1f}" if node in starts else ""
        lines.append(f"| {node} | {start} | {statistics.median(seconds):.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
