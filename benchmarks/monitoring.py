"""What a log of requests costs the server, and how long it takes to read one.

    python -m benchmarks.monitoring [--seconds 4] [--pairs 7] [--rows 1000000] [--busy]

A server with `--log-requests DIR --sample 0.1` beside one without, on the penguins: both stay up, and are loaded in
turn by benchmarks/load.py, first the one and then the other; the CPU time of a request is that of the server's process,
which other jobs on the machine disturb less than its rate. What the log itself takes is measured apart, without a
server: on a shared machine the rates of two equal servers differ by more. Then `kubetfx monitor` as a whole process on
a log of a row per request. Puts the figures into benchmarks/README.md. Exit code 1: a goal is missed.
"""

import argparse
import contextlib
import csv
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from benchmarks.measured_process import FinishedProcess, run_process
from benchmarks.readme import machine, write_section
from benchmarks.serving import PENGUIN, _free_port, _wait_for
from kubetfx.serving.log_records import Logged, predict_record
from kubetfx.serving.prometheus import Metrics
from kubetfx.serving.request_log import RequestLog, RequestLogOptions
from kubetfx.serving.saved_model import SavedModel

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "penguins"
MOST_COST = 0.03
MOST_SECONDS = 20.0
CONNECTIONS = 32
DIFFERENT_RECORDS = 20_000
SPREAD_SECONDS = 6 * 86_400


@dataclass(frozen=True)
class Server:
    """One that runs."""

    rest_port: int
    grpc_port: int
    process: psutil.Process | None = None


@dataclass(frozen=True)
class Load:
    """What a load was answered with."""

    rate: float
    """Requests per second."""
    cpu_micros: float
    """CPU time of the server per request, in microseconds."""


Arrays = dict[str, np.ndarray[Any, Any]]
Pairs = list[tuple[Load, Load]]
"""Loads of the servers without and with a log."""


def main() -> int:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitoring", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4, help="of each load")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3, help="of the monitor")
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kubetfx-benchmark-") as temporary:
        folder = Path(temporary)
        (folder / "data").mkdir()
        shutil.copy(EXAMPLE / "pipeline.yaml", folder)
        shutil.copy(EXAMPLE / "data" / "penguins.csv", folder / "data")
        config = folder / "pipeline.yaml"
        run_process([sys.executable, "-m", "kubetfx", "run", str(config)])
        pushed = folder / ".kubetfx" / "penguins" / "pushed" / "penguins"
        costs = log_costs(folder, pushed, pairs=arguments.pairs, seconds=arguments.seconds)
        own_micros = own_cost(folder / "own", pushed)
        log = folder / "log"
        size = write_log(log / "requests.tfrecord", pushed, arguments.rows)
        runs = [monitor(config, log) for _ in range(arguments.repeat)]
        (fewer,) = (monitor(config, write_fewer(folder / "fewer", pushed, arguments.rows // 10)),)
    seconds = statistics.median(run.wall_seconds for run in runs)
    text = report(costs, own_micros, runs, fewer, rows=arguments.rows, size=size, pairs=arguments.pairs)
    write_section("monitoring", f"{machine(busy=arguments.busy)}\n\n{text}")
    print(text)
    return int(seconds > MOST_SECONDS or max(cost_of(pairs) for pairs in costs.values()) > MOST_COST)


# The log


def log_costs(folder: Path, pushed: Path, *, pairs: int, seconds: float) -> dict[str, Pairs]:
    """Load servers with and without a log in turn.

    Args:
        folder: for files.
        pushed: push directory of the penguins.
        pairs: of loads.
        seconds: of a load.

    Returns:
        Loads, by what is asked how.
    """
    bodies = write_bodies(folder)
    found: dict[str, Pairs] = {}
    for name, protocol, options in (
        ("REST", "rest", ()),
        ("REST, batching", "rest", ("--enable-batching",)),
        ("gRPC", "grpc", ()),
    ):
        logged = (*options, f"--log-requests={folder / 'requests'}", "--sample=0.1")
        with serving(pushed, *options) as plain, serving(pushed, *logged) as logging:
            for server in (plain, logging):
                load(protocol, server, bodies[protocol], 2.0)
            found[name] = []
            for number in range(pairs):
                order = (plain, logging) if number % 2 == 0 else (logging, plain)
                rates = {id(server): load(protocol, server, bodies[protocol], seconds) for server in order}
                found[name].append((rates[id(plain)], rates[id(logging)]))
                print(name, number, [(round(one.rate), round(one.cpu_micros)) for one in found[name][-1]], flush=True)
    return found


def cost_of(pairs: Pairs) -> float:
    """Return the share of requests per second that a log costs: the median over the pairs.

    Args:
        pairs: of loads.
    """
    return statistics.median(_costs(pairs))


def error_of(pairs: Pairs) -> float:
    """Return the standard error of `cost_of`: that of a mean, by sqrt(pi / 2), as for normal values.

    Args:
        pairs: of loads.
    """
    return statistics.stdev(_costs(pairs)) * math.sqrt(math.pi / 2 / len(pairs))


def _costs(pairs: Pairs) -> list[float]:
    return [1 - logged.rate / plain.rate for plain, logged in pairs]


def cpu_cost_of(pairs: Pairs) -> float:
    """Return the share of CPU time per request that a log adds: the median over the pairs.

    Args:
        pairs: of loads.
    """
    return statistics.median(logged.cpu_micros / plain.cpu_micros - 1 for plain, logged in pairs)


def own_cost(folder: Path, pushed: Path, requests: int = 50_000) -> float:
    """Return the microseconds of CPU time that a log takes per request, its thread's included: the median of 5 logs.

    Args:
        folder: for the logs.
        pushed: push directory of the penguins.
        requests: per log.
    """
    columns, answers, served = _asked(pushed)
    inputs, outputs = ({name: cells[:1] for name, cells in arrays.items()} for arrays in (columns, answers))
    found = []
    for number in range(5):
        log = RequestLog(RequestLogOptions(folder / str(number), 0.1), Metrics())
        log.configure([])
        start = time.process_time()
        for _ in range(requests):
            if sampled := log.sample(served, "serving_default"):
                sampled.predict(inputs, (), outputs)
        log.close()
        found.append((time.process_time() - start) / requests * 1e6)
    return statistics.median(found)


@contextlib.contextmanager
def serving(pushed: Path, *options: str) -> Iterator[Server]:
    """Run a server.

    Args:
        pushed: push directory.
        options: The options of `kubetfx serve`.

    Yields:
        Its ports.
    """
    server = Server(_free_port(), _free_port())
    command = [sys.executable, "-m", "kubetfx", "serve", "--model-name=penguins", f"--model-base-path={pushed}"]
    command += [f"--rest-port={server.rest_port}", f"--grpc-port={server.grpc_port}", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(lambda: _answers(server))
        yield Server(server.rest_port, server.grpc_port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(60)


def _answers(server: Server) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}/v1/models/penguins/metadata"):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False


def load(protocol: str, server: Server, body: Path, seconds: float) -> Load:
    """Load a server.

    Args:
        protocol: `rest` or `grpc`.
        server: to load.
        body: file with the request.
        seconds: for how long.

    Returns:
        What it was answered with.
    """
    assert server.process is not None
    before = sum(server.process.cpu_times()[:2])
    port = server.rest_port if protocol == "rest" else server.grpc_port
    command = [sys.executable, "-m", "benchmarks.load", protocol, str(port), f"--body={body}"]
    command += ["--path=/v1/models/penguins:predict", f"--connections={CONNECTIONS}", f"--seconds={seconds}"]
    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    if found["failures"]:
        raise RuntimeError(f"{found['failures']} requests failed")
    cpu = sum(server.process.cpu_times()[:2]) - before
    return Load(float(found["requests_per_second"]), cpu / found["requests"] * 1e6)


def write_bodies(folder: Path) -> dict[str, Path]:
    """Write a request of one penguin for each protocol.

    Args:
        folder: for the files.

    Returns:
        Files by protocol.
    """
    rest, grpc = folder / "rest.json", folder / "grpc.bin"
    rest.write_text(json.dumps({"instances": [PENGUIN]}))
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "penguins"
    for name, value in PENGUIN.items():
        cells = [value.encode()] if isinstance(value, str) else [value]
        dtype = tf.string if isinstance(value, str) else tf.float64 if isinstance(value, int) else tf.float32
        request.inputs[name].CopyFrom(tf.make_tensor_proto(cells, dtype=dtype))
    grpc.write_bytes(request.SerializeToString())
    return {"rest": rest, "grpc": grpc}


# The monitor


def monitor(config: Path, log: Path) -> FinishedProcess:
    """Run `kubetfx monitor`.

    Args:
        config: pipeline.yaml.
        log: folder.

    Returns:
        What it took.
    """
    return run_process([sys.executable, "-m", "kubetfx", "monitor", str(config), "--requests", str(log)])


def write_fewer(log: Path, pushed: Path, rows: int) -> Path:
    """Write a smaller log.

    Args:
        log: its folder.
        pushed: push directory.
        rows: The rows of the log.

    Returns:
        The folder.
    """
    write_log(log / "requests.tfrecord", pushed, rows)
    return log


def write_log(path: Path, pushed: Path, rows: int) -> int:
    """Write a log of penguins, a row per request.

    Args:
        path: The path of the file.
        pushed: push directory.
        rows: The rows of the log.

    Returns:
        Its size in bytes.
    """
    columns, answers, served = _asked(pushed)
    size = len(next(iter(columns.values())))
    draw = np.random.default_rng(0).integers(0, size, DIFFERENT_RECORDS)
    records = []
    for number, row in enumerate(draw.tolist()):
        seconds = 1_796_000_000 + number * SPREAD_SECONDS // DIFFERENT_RECORDS
        inputs = {name: cells[row : row + 1] for name, cells in columns.items()}
        outputs = {name: cells[row : row + 1] for name, cells in answers.items()}
        records.append(predict_record(Logged(served, "serving_default", 0.1, seconds), inputs, (), outputs))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(rows):
            writer.write(records[number % DIFFERENT_RECORDS])
    return path.stat().st_size


def _asked(pushed: Path) -> tuple[Arrays, Arrays, Any]:
    """Return the penguins as inputs of the newest version, its answers, and what stands for it in a log."""
    version = max(int(folder.name) for folder in pushed.iterdir() if folder.name.isdigit())
    with (EXAMPLE / "data" / "penguins.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    with SavedModel(pushed / str(version)) as model:
        columns = {
            name: _cells([row[name] for row in table], spec.array_dtype)
            for name, spec in model.signatures["serving_default"].inputs.items()
        }
        answers = model.signature()(columns)
    return columns, answers, SimpleNamespace(model_name="penguins", version=version)


def _cells(texts: list[str], dtype: Any) -> np.ndarray[Any, Any]:
    if np.dtype(dtype) == object:
        return np.array([b"" if text == "NA" else text.encode() for text in texts], object)
    return np.array([np.nan if text == "NA" else float(text) for text in texts], dtype)


def report(
    costs: dict[str, Pairs],
    own_micros: float,
    runs: list[FinishedProcess],
    fewer: FinishedProcess,
    *,
    rows: int,
    size: int,
    pairs: int,
) -> str:
    """Return the tables.

    Args:
        costs: of the log, by server.
        own_micros: What the log itself takes per request, in microseconds of CPU time.
        runs: The runs of the monitor.
        fewer: the monitor on a tenth of the rows.
        rows: The rows of the log.
        size: The size of the log in bytes.
        pairs: of loads.
    """
    lines = [
        "| server | requests/s | with a log of every tenth | costs | ± | CPU µs per request | with a log | costs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in costs.items():
        rates = (statistics.median(pair[side].rate for pair in found) for side in (0, 1))
        cpus = (statistics.median(pair[side].cpu_micros for pair in found) for side in (0, 1))
        rate_cells = " | ".join(f"{rate:,.0f}" for rate in rates)
        cpu_cells = " | ".join(f"{cpu:,.0f}" for cpu in cpus)
        shares = f"{cost_of(found):.1%} | {error_of(found):.1%}"
        lines.append(f"| {name} | {rate_cells} | {shares} | {cpu_cells} | {cpu_cost_of(found):.1%} |")
    most = max(cost_of(found) for found in costs.values())
    verdict = "reached" if most <= MOST_COST else "missed"
    lines += [
        "",
        f"One row per request, {CONNECTIONS} connections, both servers up, loaded in turn: medians of {pairs} pairs. "
        f"The log costs {most:.1%} of requests per second at most (goal: at most {MOST_COST:.0%}: {verdict}). "
        f"Without a server the log takes {own_micros:.1f} µs of CPU time per request, of which every tenth is logged.",
        "",
        "| monitor | wall s | CPU s | peak memory |",
        "|---|---|---|---|",
    ]
    wall, cpu = (statistics.median(getattr(run, name) for run in runs) for name in ("wall_seconds", "cpu_seconds"))
    peak = statistics.median(run.peak_bytes for run in runs)
    small = fewer.wall_seconds, fewer.cpu_seconds, fewer.peak_bytes
    for number, (a, b, c) in ((rows, (wall, cpu, peak)), (rows // 10, small)):
        lines.append(f"| {number:,} rows | {a:.1f} | {b:.1f} | {c / 2**20:,.0f} MiB |")
    verdict = "reached" if wall <= MOST_SECONDS else "missed"
    lines += [
        "",
        f"Whole processes, with their imports and the page; a log of {size / 2**20:,.0f} MiB, a row per request, seven "
        f"columns; medians of {len(runs)}. {wall:.1f} s (goal: at most {MOST_SECONDS:.0f}: {verdict}).",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
