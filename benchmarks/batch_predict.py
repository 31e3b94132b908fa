"""Bulk prediction against a bare session loop over the same rows, side by side.

    python -m benchmarks.batch_predict SAVED_MODEL TABLE.parquet [--runs N] [--copies N]

The loop loads the model, reads the table into arrays, and calls the session for one batch after the other, through the
same fast callable and with the same batch size; it keeps what it gets in memory and writes nothing. `kubetfx
batch-predict` does its whole job: blocks, files that are brought to the disk, the published Parquet file. Both start
with their libraries imported. Rounds alternate, so that what else runs on the machine meets all of them.

Puts the figures into benchmarks/README.md. Exit code 1: fewer than SHARE of the loop's rows per second.
"""

import argparse
import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.readme import machine, write_section
from kubetfx.artifacts import DEFAULT_SIGNATURE
from kubetfx.serving import bulk
from kubetfx.serving.block_prediction import TABLE_BATCH
from kubetfx.serving.saved_model import SavedModel

SHARE = 0.8
PROCESSES = "the same, two processes"
RUNS_OF_PROCESSES = 2
"""They are slow, and not in question."""
MODES: Mapping[str, tuple[str, ...]] = {
    "kubetfx batch-predict": (),
    "the same, one thread": ("--direct_running_mode=in_memory", "--direct_num_workers=1"),
    PROCESSES: ("--direct_running_mode=multi_processing", "--direct_num_workers=2"),
}
LOOP = "bare session loop"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("saved_model", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--runs", type=int, default=5, help="Rounds, of which the medians are written.")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 4], help="Copies of the table in one file.")
    parser.add_argument("--busy", action="store_true", help="Say in the report that other jobs ran meanwhile.")
    options = parser.parse_args()
    sections, shares = [], []
    with tempfile.TemporaryDirectory() as folder:
        for copies in options.copies:
            table = Path(folder) / f"table_{copies}.parquet"
            pq.write_table(pa.concat_tables([pq.read_table(options.table)] * copies), table, row_group_size=65_536)
            rates = measure(options.saved_model, table, runs=options.runs)
            sections.append(_section(rates, num_rows=pq.read_metadata(table).num_rows))
            shares.append(_share(rates, next(iter(MODES))))
    text = f"{machine(busy=options.busy)}\n\n" + "\n".join(sections)
    write_section("batch_predict", text)
    sys.stderr.write(text)
    return int(min(shares) < SHARE)


@dataclass(frozen=True)
class Timing:
    """One job."""

    rows_per_second: float
    cpu_seconds: float
    """For the process and its children: other jobs on the machine change it less than the time that passes."""


def measure(saved_model: Path, table: Path, *, runs: int) -> dict[str, list[Timing]]:
    """Timings of each, by round."""
    num_rows = pq.read_metadata(table).num_rows
    jobs: dict[str, Callable[[], object]] = {LOOP: lambda: bare_loop(saved_model, table)}
    for name, arguments in MODES.items():
        jobs[name] = functools.partial(_bulk, saved_model, table, arguments)
    results: dict[str, list[Timing]] = {name: [] for name in jobs}
    for number in range(runs):
        for name, job in jobs.items():
            if name == PROCESSES and number >= RUNS_OF_PROCESSES:
                continue
            started, cpu_started = time.perf_counter(), sum(os.times()[:4])
            job()
            seconds = time.perf_counter() - started
            results[name].append(Timing(num_rows / seconds, sum(os.times()[:4]) - cpu_started))
            sys.stderr.write(f"{name}: {results[name][-1]}\n")
    return results


def bare_loop(saved_model: Path, table: Path) -> list[list[np.ndarray]]:
    """Predict as anyone would who has the memory for the whole table."""
    model = SavedModel(saved_model)
    signature = model.signatures[DEFAULT_SIGNATURE]
    columns = pq.read_table(table, columns=list(signature.inputs))
    arrays = []
    for name, spec in signature.inputs.items():
        column = columns.column(name).combine_chunks()
        if spec.array_dtype == np.dtype(object):
            column = column.cast(pa.string()).fill_null("").cast(pa.binary())
        else:
            column = column.cast(pa.from_numpy_dtype(spec.array_dtype)).fill_null(np.nan)
        arrays.append(column.to_numpy(zero_copy_only=False))
    feeds = [spec.tensor_name for spec in signature.inputs.values()]
    fetches = [spec.tensor_name for name, spec in signature.outputs.items() if name != "classes"]
    answers = [
        model.run(feeds, [array[start : start + TABLE_BATCH] for array in arrays], fetches)
        for start in range(0, columns.num_rows, TABLE_BATCH)
    ]
    model.close()
    return answers


def _bulk(saved_model: Path, table: Path, arguments: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "predictions.parquet"
        job = bulk.BulkJob(saved_model, "model", 1, "", str(table), output, beam_options=arguments)
        result = bulk.predict(job)
        assert result.num_errors == 0


def _share(timings: Mapping[str, Sequence[Timing]], name: str) -> float:
    """As a share of the loop's rows per second: the median over the rounds, each against the loop of the same round."""
    rounds = zip(timings[name], timings[LOOP], strict=False)
    return statistics.median(ours.rows_per_second / loop.rows_per_second for ours, loop in rounds)


def _section(timings: Mapping[str, Sequence[Timing]], *, num_rows: int) -> str:
    lines = [
        f"| {num_rows:,} rows, medians of {len(timings[LOOP])} | rows/s (lowest to highest) | share of the loop | "
        "processor seconds |",
        "|---|---|---|---|",
    ]
    for name, values in timings.items():
        rates = [timing.rows_per_second for timing in values]
        low, middle, high = (f"{round(f(rates), -3):,.0f}" for f in (min, statistics.median, max))
        cpu = statistics.median(timing.cpu_seconds for timing in values)
        lines.append(f"| {name} | {middle} ({low} to {high}) | {_share(timings, name):.2f} | {cpu:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
