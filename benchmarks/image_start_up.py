"""What the image costs before it works: imports, and the penguins pipeline, in a container with the rights of a pod.

    python -m benchmarks.image_start_up [--image NAME] [--runs N]

Each import is that of a fresh container as user 12345 on a read-only root. Puts the table into docs/image.md.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.entrypoint import CONFIG
from benchmarks.image_size import REPORT_PATH
from benchmarks.readme import machine, write_section

_IMPORTS = {
    "kfp, kfp-kubernetes": "import kfp, kfp.kubernetes",
    "tensorflow": "import tensorflow",
    "tfx.v1": "import tfx.v1",
    "components.evaluator": "import kubetfx.components.evaluator",
    "components.transform": "import kubetfx.components.transform",
}
_TIMED = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"
_USER = "12345"
"""Whom the image does not know."""
_POD = (
    *("docker", "run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", f"--user={_USER}"),
    *("--cap-drop=ALL", "--security-opt=no-new-privileges"),
)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--image", default="kubetfx/pipeline", help="That was built before.")
    parser.add_argument("--runs", type=int, default=3, help="Runs, of which the medians are written.")
    options = parser.parse_args()
    image, num_runs = options.image, options.runs
    rows = {
        "`kubetfx --help`, the container's start included": statistics.median(
            _wall([image, "--help"]) for _ in range(num_runs)
        )
    }
    for name, statement in _IMPORTS.items():
        rows[f"import {name}"] = statistics.median(_import_seconds(image, statement) for _ in range(num_runs))
    fresh, again = zip(*(_pipeline(image) for _ in range(num_runs)), strict=True)
    rows["the whole penguins pipeline, fresh"] = statistics.median(fresh)
    rows["… and with nothing changed"] = statistics.median(again)
    lines = [f"{machine()} Medians of {num_runs}.", "", "| | s |", "|---|---|"]
    lines += [f"| {name} | {seconds:.1f} |" for name, seconds in rows.items()]
    text = "\n".join(lines)
    write_section("start-up", text, path=REPORT_PATH)
    sys.stderr.write(f"{REPORT_PATH}:\n{text}\n")
    return 0


def _import_seconds(image: str, statement: str) -> float:
    return float(_printed(["--entrypoint=python", image, "-c", _TIMED.format(statement)]).split()[-1])


def _pipeline(image: str) -> tuple[float, float]:
    """Seconds of a run in an empty workspace, and of one after it, the containers' start included."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "penguins"
        shutil.copytree(CONFIG.parent, project, ignore=shutil.ignore_patterns(".kubetfx"))
        for path in (project, *project.rglob("*")):
            path.chmod(0o777)
        run = [f"--volume={folder}:/work", image, "run", "/work/penguins/pipeline.yaml"]
        return _wall(run), _wall(run)


def _wall(arguments: Sequence[str]) -> float:
    started = time.monotonic()
    _printed(arguments)
    return time.monotonic() - started


def _printed(arguments: Sequence[str]) -> str:
    done = subprocess.run([*_POD, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}\nended with {done.returncode}:\n{done.stderr[-5_000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
