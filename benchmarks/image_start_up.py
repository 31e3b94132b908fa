"""What the image costs before it works: imports, and the penguins pipeline, in a container with the rights of a pod.

    python -m benchmarks.image_start_up [--image NAME] [--runs N] [--busy]

Each figure is of a process in a fresh container, as user 12345 on a read-only root; the container's own start is not in
it. Puts the table into docs/image.md.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.entrypoint import CONFIG
from benchmarks.image_size import REPORT_PATH
from benchmarks.readme import machine, write_section

_STARTS = {
    "`kubetfx --help`": ["kubetfx", "--help"],
    "import kfp, kfp-kubernetes": ["python", "-c", "import kfp, kfp.kubernetes"],
    "import tensorflow": ["python", "-c", "import tensorflow"],
    "import tfx.v1": ["python", "-c", "import tfx.v1"],
    "import components.evaluator": ["python", "-c", "import kubetfx.components.evaluator"],
    "import components.transform": ["python", "-c", "import kubetfx.components.transform"],
}
_PIPELINE = ["kubetfx", "run", "/work/penguins/pipeline.yaml"]
_USER = 12345
"""Whom the image does not know."""
_POD = (
    *("docker", "run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", f"--user={_USER}"),
    *("--cap-drop=ALL", "--security-opt=no-new-privileges", "--entrypoint=python"),
)
_TIMED = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - began, used.ru_utime + used.ru_stime)
"""

Cost = tuple[float, float]
"""Seconds of wall, and of CPU."""


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--image", default="kubetfx/pipeline", help="That was built before.")
    parser.add_argument("--runs", type=int, default=3, help="Runs, of which the medians are written.")
    parser.add_argument("--busy", action="store_true", help="Write that other jobs ran on the machine.")
    options = parser.parse_args()
    costs: dict[str, list[Cost]] = {}
    for _ in range(options.runs):
        for name, command in _STARTS.items():
            costs.setdefault(name, []).append(_cost(options.image, command))
        for name, cost in _pipeline_costs(options.image).items():
            costs.setdefault(name, []).append(cost)
    lines = [f"{machine(busy=options.busy)} Medians of {options.runs}.", "", "| | seconds | of CPU |", "|---|---|---|"]
    for name, found in costs.items():
        wall, cpu = (statistics.median(values) for values in zip(*found, strict=True))
        lines.append(f"| {name} | {wall:.1f} | {cpu:.1f} |")
    text = "\n".join(lines)
    write_section("start-up", text, path=REPORT_PATH)
    sys.stderr.write(f"{REPORT_PATH}:\n{text}\n")
    return 0


def _pipeline_costs(image: str) -> dict[str, Cost]:
    """Return a run in an empty workspace, and one after it."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "penguins"
        shutil.copytree(CONFIG.parent, project, ignore=shutil.ignore_patterns(".kubetfx"))
        for path in (Path(folder), project, *project.rglob("*")):
            path.chmod(0o777)
        mounts = [f"--volume={folder}:/work"]
        return {
            "the whole penguins pipeline, fresh": _cost(image, _PIPELINE, mounts),
            "… and with nothing changed": _cost(image, _PIPELINE, mounts),
        }


def _cost(image: str, command: Sequence[str], options: Sequence[str] = ()) -> Cost:
    line = [*_POD, *options, image, "-c", _TIMED, *command]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-5_000:]}")
    wall, cpu = done.stdout.split()[-2:]
    return float(wall), float(cpu)


if __name__ == "__main__":
    sys.exit(main())
