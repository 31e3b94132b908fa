"""A process of a search: `python -m kubetfx.components.tuning.tuning_process JOB INDEX`.

It runs trials until there are enough.
"""

import os
import pickle
import sys
import tempfile
from pathlib import Path

from absl import logging

from kubetfx.child_process import FAILED, leave_with_parent, write_error
from kubetfx.cores import shares_of_cores
from kubetfx.errors import KubetfxError


def main() -> int:
    """Run trials.

    Returns:
        The exit code.
    """
    logging.set_verbosity(logging.INFO)
    job, index = Path(sys.argv[1]), int(sys.argv[2])
    leave_with_parent()
    plan, place = pickle.loads(job.read_bytes())
    os.sched_setaffinity(0, shares_of_cores(plan.tuning.parallel)[index])  # before TensorFlow counts them
    try:
        from kubetfx.components.tuning.trials import Trials  # it imports TensorFlow

        with tempfile.TemporaryDirectory(prefix=f"process-{index}-", dir=job.parent) as folder:
            Trials(plan, place, index=index, folder=Path(folder)).run()
    except KubetfxError as error:
        logging.exception("The search failed.")
        write_error(job.parent, error)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
