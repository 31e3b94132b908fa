"""kubetfx beside TFX as its guides teach it and a hand-written script: whole processes from a cold start, in turn.

    python -m benchmarks.pipeline                      # the full set, about half an hour on two idle cores
    python -m benchmarks.pipeline --quick              # 1,000 and 61,878 rows and penguins once, about eight minutes
    python -m benchmarks.pipeline --sizes 1000 penguins --peers kubetfx handwritten --repeat 2
    python -m benchmarks.pipeline --only-commands      # --help, schema, config errors, compile, the first line

Results are kept in benchmarks/pipeline_results.json, by size and peer, so that a part can be measured again alone.
The tables of benchmarks/README.md and the plot benchmarks/pipeline.svg are written from there.
"""

import argparse
import ensurepip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks import pipeline_data, pipeline_report
from benchmarks.measured_process import ROOT, run_process
from benchmarks.peers.work import EVAL, TRAIN, VALIDATION, Work
from benchmarks.readme import machine

RESULTS_PATH = ROOT / "benchmarks" / "pipeline_results.json"
PEERS = ("kubetfx", "tfx", "handwritten")
SIZES = ("penguins", "1000", "10000", "61878", "counts", "flights", "61878x20", "600000x20", "3000000", "wide")
QUICK_SIZES = ("penguins", "1000", "61878")
WITHOUT_TFX = ("counts", "61878x20", "600000x20", "3000000", "wide")
"""Sizes that TFX is left out of unless it is named: it takes more than the rest of the set together."""
REPEATS = {"penguins": 3, "61878": 3, "counts": 3, "flights": 3, "3000000": 3, "wide": 3}
"""Sizes with a goal that is a ratio. The others are measured once unless `--repeat` is given."""
COMMAND_REPEATS = 5


@dataclass(frozen=True)
class Run:
    """One process from start to end."""

    wall_seconds: float
    cpu_seconds: float
    """User and system, of the process and all children that it waited for."""
    peak_bytes: int
    """Largest sum of the resident memory of the process and its children."""
    metrics: dict[str, float] = field(default_factory=dict)
    nodes: dict[str, float] = field(default_factory=dict)
    """Seconds of each node or step."""
    first_line_seconds: float | None = None
    """Seconds until the first line on the screen, for kubetfx."""
    executed: int | None = None
    """Number of nodes that were not taken from the cache, for kubetfx."""


def main() -> int:
    """Measure what was asked for, and write the report."""
    arguments = _parse()
    results = json.loads(RESULTS_PATH.read_text()) if RESULTS_PATH.exists() else {}
    if arguments.only_report:
        pipeline_report.write(results)
        return 0
    if not arguments.only_commands:
        for size in arguments.sizes:
            _measure_size(size, arguments, results)
            _keep(results)
    results["commands"] = measure_commands()
    results["machine"] = machine(busy=arguments.busy)
    _keep(results)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", "--rows", nargs="+", default=list(SIZES), help=f"of: {' '.join(SIZES)}")
    parser.add_argument("--peers", nargs="+", choices=PEERS, help="default: all; TFX not for the largest sizes")
    parser.add_argument("--repeat", type=int, help="runs of each but TFX (default: 3 where a goal is a ratio, else 1)")
    parser.add_argument("--repeat-tfx", type=int, default=1, help="runs of TFX (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a subset, each once")
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    parser.add_argument("--only-commands", action="store_true", help="measure the commands and no run")
    parser.add_argument("--only-report", action="store_true", help="measure nothing; write the report again")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sizes, arguments.repeat, arguments.repeat_tfx = list(QUICK_SIZES), 1, 1
    return arguments


def _keep(results: dict[str, Any]) -> None:
    RESULTS_PATH.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    pipeline_report.write(results)


def _measure_size(size: str, arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    peers = arguments.peers or [peer for peer in PEERS if peer != "tfx" or size not in WITHOUT_TFX]
    repeat = arguments.repeat or REPEATS.get(size, 1)
    repeats = {peer: arguments.repeat_tfx if peer == "tfx" else repeat for peer in peers}
    runs: dict[str, list[Run]] = {peer: [] for peer in peers}
    again: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="kubetfx-benchmark-") as folder:
        work = pipeline_data.make(size, Path(folder) / "data")
        for number in range(max(repeats.values())):
            for peer in peers:
                if number >= repeats[peer]:
                    continue
                output = Path(folder) / f"{peer}-{number}"
                output.mkdir()
                run = _RUNNERS[peer](work, output)
                runs[peer].append(run)
                _say(f"{size} {peer} {number + 1}/{repeats[peer]}: {run.wall_seconds:.1f} s, {run.peak_bytes:,} bytes")
                if peer == "kubetfx":
                    again.append(run_kubetfx(work, output))
                    _say(f"{size} kubetfx again: {again[-1].wall_seconds:.1f} s, {again[-1].executed} nodes executed")
    entry = results.setdefault("sizes", {}).setdefault(size, {})
    entry |= {peer: [asdict(run) for run in done] for peer, done in runs.items()}
    if again:
        entry["kubetfx again"] = [asdict(run) for run in again]


def run_kubetfx(work: Work, output: Path) -> Run:
    """`kubetfx run`, in a workspace that is new at the first call for an output folder."""
    config_path = output / "pipeline.yaml"
    config_path.write_text(yaml.safe_dump(kubetfx_config(work), sort_keys=False))
    return run_config(config_path)


def run_config(config_path: Path) -> Run:
    """`kubetfx run` of a config."""
    command = [sys.executable, "-m", "kubetfx", "run", str(config_path), "--format", "json"]
    run, stdout = _run(command)
    document = json.loads(stdout)
    nodes = {node["id"]: node["seconds"] for node in document["nodes"]}
    nodes["outside the nodes"] = run.wall_seconds - sum(nodes.values())
    executed = sum(node["state"] == "done" for node in document["nodes"])
    return Run(run.wall_seconds, run.cpu_seconds, run.peak_bytes, document["metrics"], nodes, executed=executed)


def kubetfx_config(work: Work) -> dict[str, Any]:
    """Return the pipeline.yaml of a piece of work."""
    return {
        "name": work.name,
        "data": {
            "path": work.folder,
            "label": work.label,
            "splits": {"train": TRAIN / 10, "validation": VALIDATION / 10, "eval": EVAL / 10},
        },
        "features": {
            "numeric": [] if work.name == "counts" else work.numeric,  # counts are to be found
            "categorical": work.categorical,
            "vocabulary_size": 10_000,  # the peers have a vocabulary for every category, however many values it has
            "category_rows": 1,
        },
        "model": {
            "hidden_units": work.hidden_units,
            "embedding_size": work.embedding_size,
            "dropout": work.dropout,
            "number_bins": 0,  # the network of the peers
            "members": 1,
        },
        "training": {
            "epochs": work.epochs,
            "batch_size": work.batch_size,
            "learning_rate": work.learning_rate,
            "average_epochs": 0,
            "schedule": {"kind": "constant"},
            "early_stopping": {"enabled": False},
        },
        "evaluation": {
            "metrics": work.metrics,
            "thresholds": {work.metrics[0]: {"at_least": 0.0, "better_than_baseline": False}},
            "slices": work.slices,
        },
    }


def run_tfx(work: Work, output: Path) -> Run:
    """TFX as its guides teach it. Scores and seconds of nodes are read after the process has ended."""
    work.write(output / "work.json")
    command = [sys.executable, "-m", "benchmarks.peers.tfx_taught", str(output / "work.json"), str(output)]
    run, _ = _run(command, with_pip=True)
    _run([*command, "--result"])
    return _with_result(run, output)


def run_handwritten(work: Work, output: Path) -> Run:
    """Return the hand-written script."""
    work.write(output / "work.json")
    run, _ = _run([sys.executable, "-m", "benchmarks.peers.handwritten", str(output / "work.json"), str(output)])
    return _with_result(run, output)


_RUNNERS = {"kubetfx": run_kubetfx, "tfx": run_tfx, "handwritten": run_handwritten}


def _with_result(run: Run, output: Path) -> Run:
    document = json.loads((output / "result.json").read_text())
    nodes = document["seconds"] | {"outside the nodes": run.wall_seconds - sum(document["seconds"].values())}
    return Run(run.wall_seconds, run.cpu_seconds, run.peak_bytes, document["metrics"], nodes)


def _run(command: Sequence[str], *, with_pip: bool = False) -> tuple[Run, str]:
    """Run a process to its end.

    Raises:
        SystemExit: it failed.
    """
    finished = run_process(command, environment=_environment(with_pip=with_pip))
    return Run(finished.wall_seconds, finished.cpu_seconds, finished.peak_bytes), finished.stdout


def _environment(*, with_pip: bool = False) -> dict[str, str]:
    """Return the environment with Python's own pip, which TFX needs to install a module file in each node."""
    paths = [str(ROOT)]
    if with_pip:
        paths += [str(path) for path in (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "2"}


def measure_commands() -> dict[str, list[float]]:
    """Return seconds of the commands that run nothing, and of `run` until its first line."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="kubetfx-benchmark-") as folder:
        wrong = Path(folder) / "wrong.yaml"
        wrong.write_text("name: wrong\ndata: {path: data, lable: x}\n")
        config = ROOT / "examples" / "penguins" / "pipeline.yaml"
        workspace = ("--set", f"workspace={folder}/workspace")
        for name, command in {
            "kubetfx --help": ["--help"],
            "kubetfx schema": ["schema"],
            "an error of the config": ["run", str(wrong)],
            "kubetfx compile": ["compile", str(config), "--output", f"{folder}/package.yaml", *workspace],
        }.items():
            seconds[name] = [_seconds_of(command, last_line=True) for _ in range(COMMAND_REPEATS)]
        seconds["first line of kubetfx run"] = [
            _seconds_of(["run", str(config), *workspace], last_line=False) for _ in range(COMMAND_REPEATS)
        ]
    for name, values in seconds.items():
        _say(f"{name}: {statistics.median(values):.2f} s")
    return seconds


def _seconds_of(arguments: Sequence[str], *, last_line: bool) -> float:
    """Until a command has ended, or until its first line, after which it is ended."""
    started = time.monotonic()
    command = [sys.executable, "-m", "kubetfx", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_environment())
    assert process.stdout is not None
    if last_line:
        process.communicate()
    else:
        process.stdout.readline()
    seconds = time.monotonic() - started
    if not last_line:
        process.kill()
        process.communicate()
    return seconds


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
