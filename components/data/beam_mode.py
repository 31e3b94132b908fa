"""Where a data-parallel node does its work: in this process, over whole columns; or as TFX does it, by Beam.

Beam describes a pipeline in Protocol Buffers, checks it, and hands it to workers row by row: seconds a node before the
first row, and on one machine no gain after it. So on this machine the nodes go through the blocks of their data
themselves. Whoever names another runner, or gives Beam arguments of his own, has TFX's pipelines.

Beam's own modes on one machine differ in where its workers are: in this thread, in threads, or in processes. Unless the
arguments name one, the number of rows decides.
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

DIRECT_RUNNER = "--runner=DirectRunner"
BREAK_EVEN_ROWS: int | None = 1_600_000
"""From so many rows on, processes make up for what each of them imports; None: they never do. benchmarks/beam_mode.py
measures it, and writes it here."""

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of processor time a period, of cgroup v2."""

_MODE = "--direct_running_mode"
_WORKERS = "--direct_num_workers"
_MODE_NAMES = {"in_memory": "in memory", "multi_threading": "in threads", "multi_processing": "in processes"}


def is_in_process(beam_arguments: Sequence[str] | None) -> bool:
    """Whether a node is to do its work without Beam.

    Args:
        beam_arguments: Beam's command line, as the pipeline has it.
    """
    return all(argument == DIRECT_RUNNER for argument in beam_arguments or ())


def with_running_mode(beam_arguments: Sequence[str] | None, *, num_rows: int) -> list[str]:
    """Beam's command line with a mode for this machine, if it names none.

    Args:
        beam_arguments: as the pipeline has it.
        num_rows: of the data.
    """
    arguments = list(beam_arguments or ())
    if not _is_direct(arguments) or _value(arguments, _MODE):
        return arguments
    num_workers = _num_workers(arguments)
    if num_workers == 1 or _are_few(num_rows):
        return [*arguments, f"{_MODE}=in_memory"]
    workers = [] if _value(arguments, _WORKERS) else [f"{_WORKERS}={num_workers}"]
    return [*arguments, f"{_MODE}=multi_processing", *workers]


def choose_running_mode(executor: Any, *, num_rows: int | None) -> None:
    """Let one of TFX's executors for Beam run in a mode for this machine, and say in its log which.

    Args:
        executor: of a node that Beam does the work of.
        num_rows: of the data; None: not known, and Beam's default stays.
    """
    if num_rows is None:
        return
    executor._beam_pipeline_args = with_running_mode(executor._beam_pipeline_args, num_rows=num_rows)
    if _value(executor._beam_pipeline_args, _MODE) == "multi_processing":  # the user's module is in none of our folders
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    logging.info("Beam, for %d rows: %s", num_rows, " ".join(executor._beam_pipeline_args))


def describe(beam_arguments: Sequence[str], *, num_rows: int) -> str:
    """How the nodes go through the data, in a few words."""
    if is_in_process(beam_arguments):
        return "read in blocks, without Beam"
    arguments = with_running_mode(beam_arguments, num_rows=num_rows)
    if not _is_direct(arguments):
        return f"read by Beam: {' '.join(arguments)}"
    reason = ""
    if not _value(beam_arguments, _MODE):
        reason = f", {_why(num_rows)}" if _num_workers(beam_arguments) > 1 else ", one worker"
    mode = _value(arguments, _MODE) or ""
    return f"read by Beam {_MODE_NAMES.get(mode, mode)}{reason}: {' '.join(arguments)}"


def _are_few(num_rows: int) -> bool:
    return BREAK_EVEN_ROWS is None or num_rows < BREAK_EVEN_ROWS


def _why(num_rows: int) -> str:
    if BREAK_EVEN_ROWS is None:
        return "faster than in processes"
    return f"{'fewer' if _are_few(num_rows) else 'no fewer'} than {BREAK_EVEN_ROWS:,} rows"


def _num_workers(arguments: Sequence[str]) -> int:
    """Workers on this machine: what the arguments say, or a worker a core that this process may use."""
    return int(_value(arguments, _WORKERS) or 0) or _num_cores()


def _num_cores() -> int:
    """Cores that this process may use; a container's quota is no affinity."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # no cgroup v2, or no quota: `max`
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        cores = min(cores, max(int(quota) // int(period), 1))
    return cores


def _is_direct(arguments: Sequence[str]) -> bool:
    return (_value(arguments, "--runner") or "DirectRunner") == "DirectRunner"


def _value(arguments: Sequence[str], option: str) -> str | None:
    """The last value of an option, be it given with an equals sign or as the argument after it."""
    values = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{option}=")]
    values += [value for argument, value in itertools.pairwise(arguments) if argument == option]
    return values[-1] if values else None
