"""Where a data-parallel node does its work: in this process, over whole columns; or as TFX does it, by Beam.

Beam describes a pipeline in Protocol Buffers, checks it, and hands it to workers row by row: seconds a node before the
first row, and on one machine no gain after it. So on this machine the nodes go through the blocks of their data
themselves. Whoever names another runner, or gives Beam arguments of his own, has TFX's pipelines.
"""

from collections.abc import Sequence

DIRECT_RUNNER = "--runner=DirectRunner"


def is_in_process(beam_arguments: Sequence[str] | None) -> bool:
    """Whether a node is to do its work without Beam.

    Args:
        beam_arguments: Beam's command line, as the pipeline has it.
    """
    return all(argument == DIRECT_RUNNER for argument in beam_arguments or ())
