"""benchmarks/README.md: what was measured on, and the sections that scripts write."""

import os
import platform
import re
import time
from importlib import metadata
from pathlib import Path

import psutil

README_PATH = Path(__file__).parent / "README.md"


def machine(*, busy: bool = False) -> str:
    """This machine, what is installed on it, and the day.

    Args:
        busy: other jobs ran on it.
    """
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model_name = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    processor = model_name[1] if model_name else platform.machine()
    cores = len(os.sched_getaffinity(0))
    memory = psutil.virtual_memory().total / 2**30
    words = " Other jobs ran on the same cores: compare within a row, and CPU seconds rather than wall." if busy else ""
    return (
        f"{cores} core{'s' * (cores > 1)} of {processor}, {memory:.0f} GiB of memory, Python "
        f"{platform.python_version()}, TFX {metadata.version('tfx')}, TensorFlow {metadata.version('tensorflow')}. "
        f"{time.strftime('%-d %B %Y', time.gmtime())}.{words}"
    )


def write_section(name: str, text: str, *, path: Path = README_PATH) -> None:
    """Put figures between their markers.

    Args:
        name: The name of the markers.
        text: to put there.
        path: The path of the document. Default: benchmarks/README.md.

    Raises:
        ValueError: the file has no such markers.
    """
    begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    before, found_begin, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{path} has no place for the figures. Add the lines {begin.strip()} and {end.strip()}")
    path.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")
