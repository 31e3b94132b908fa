"""Where a data-parallel node runs: in threads of this process, or on Beam.

Beam describes a pipeline in Protocol Buffers, checks it, and passes it to workers row by row: this takes seconds per
node before the first row, with no gain on one machine. So on this machine the nodes process the blocks of their
data themselves. Beam is used if the config names another runner, or gives Beam arguments other than a number of
workers.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from kubetfx.cores import num_cores

MAX_THREADS = 8
"""Maximum number of threads: each holds a block in memory, and parts of the work wait for the interpreter."""

_PARSER = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
_PARSER.add_argument("--runner", default="DirectRunner")
_PARSER.add_argument("--direct_running_mode")
_PARSER.add_argument("--direct_num_workers", default=0)
for _name in ("--extra_package", "--labels"):
    _PARSER.add_argument(_name, action="append")  # TFX's executors add them, for workers on other machines


def num_threads(beam_arguments: Sequence[str] | None) -> int | None:
    """Return the number of threads in which a node runs in this process.

    Args:
        beam_arguments: The pipeline's Beam command line.

    Returns:
        The number in the arguments, or one per core; None if Beam does the work.
    """
    known, others = _PARSER.parse_known_args(beam_arguments or ())
    if others or known.direct_running_mode or known.runner != "DirectRunner":
        return None
    return int(known.direct_num_workers) or min(num_cores(), MAX_THREADS)


def prepare_workers(beam_arguments: Sequence[str] | None) -> None:
    """Let the processes of Beam's direct runner import what this one can.

    The user's module is not in kubetfx's folders.

    Args:
        beam_arguments: Beam's command line, as the pipeline has it.
    """
    if _PARSER.parse_known_args(beam_arguments or ())[0].direct_running_mode == "multi_processing":
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)


def describe(beam_arguments: Sequence[str]) -> str:
    """Describe briefly how the nodes process the data.

    Args:
        beam_arguments: Beam's command line, as the pipeline has it.

    Returns:
        Part of a sentence about the data.
    """
    if num_threads(beam_arguments) is not None:
        return "read in blocks, without Beam"
    return f"read by Beam: {' '.join(beam_arguments)}"
