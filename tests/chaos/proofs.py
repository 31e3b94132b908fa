"""The figures of tests of faults: what was done, how often, and what came out."""

import json
import os
from pathlib import Path

from benchmarks.readme import machine


def number_of(variable: str, default: int) -> int:
    """How often a test does what it does.

    Args:
        variable: of the environment, which says it.
        default: where the environment does not.
    """
    return int(os.environ.get(variable, default))


class Proofs:
    """A JSON document that each test adds its figures to."""

    def __init__(self, path: Path) -> None:
        """Begin with what earlier tests wrote.

        Args:
            path: of the document.
        """
        self._path = path

    def add(self, subject: str, *, done: str, times: int, result: str) -> None:
        """Keep what a test found, in the place of what it found before.

        Args:
            subject: what failed, such as a disk.
            done: what was done.
            times: how often.
            result: what came out, with its figures.
        """
        self._path.parent.mkdir(exist_ok=True)
        found = json.loads(self._path.read_text()) if self._path.is_file() else {}
        found[f"{subject}: {done}"] = {
            "subject": subject,
            "done": done,
            "times": times,
            "result": result,
            "machine": machine(busy=os.getloadavg()[0] > len(os.sched_getaffinity(0)) + 1),
        }
        unfinished = self._path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(found, indent=1))
        unfinished.replace(self._path)
