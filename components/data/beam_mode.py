"""Where a data-parallel node does its work: in threads of this process, or on Beam.

Beam describes a pipeline in Protocol Buffers, checks it, and hands it to workers row by row: seconds a node before the
first row, and on one machine no gain after it. So on this machine the nodes go through the blocks of their data
themselves. Whoever names another runner, or gives Beam arguments other than a number of workers, has Beam.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from kubetfx.cores import num_cores

MAX_THREADS = 8
"""Each holds a block in memory, and parts of the work wait for the interpreter."""

_PARSER = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
_PARSER.add_argument("--runner", default="DirectRunner")
_PARSER.add_argument("--direct_running_mode")
_PARSER.add_argument("--direct_num_workers", default=0)
for _name in ("--extra_package", "--labels"):
    _PARSER.add_argument(_name, action="append")  # TFX's executors add them, for workers on other machines


def num_threads(beam_arguments: Sequence[str] | None) -> int | None:
    """Threads of this process in which a node does its work.

    Args:
        beam_arguments: Beam's command line, as the pipeline has it.

    Returns:
        What the arguments say, or one per core; None if Beam is to do the work.
    """
    known, others = _PARSER.parse_known_args(beam_arguments or ())
    if others or known.direct_running_mode or known.runner != "DirectRunner":
        return None
    return int(known.direct_num_workers) or min(num_cores(), MAX_THREADS)


def prepare_workers(beam_arguments: Sequence[str] | None) -> None:
    """Let the processes that Beam's direct runner starts import what this one can: the user's module is in none of our
    folders.

    Args:
        beam_arguments: Beam's command line, as the pipeline has it.
    """
    if _PARSER.parse_known_args(beam_arguments or ())[0].direct_running_mode == "multi_processing":
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)


def describe(beam_arguments: Sequence[str]) -> str:
    """Say in a few words how the nodes go through the data.

    Args:
        beam_arguments: Beam's command line, as the pipeline has it.

    Returns:
        Part of a sentence about the data.
    """
    if num_threads(beam_arguments) is not None:
        return "read in blocks, without Beam"
    return f"read by Beam: {' '.join(beam_arguments)}"
