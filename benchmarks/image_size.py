"""Where the megabytes of the image are.

    python -m benchmarks.image_size [--image NAME]

Asks a container, and puts the table into docs/image.md. Exit code 1: the image is larger than LIMIT_BYTES.
"""

import argparse
import json
import subprocess
import sys

from benchmarks.measured_process import ROOT
from benchmarks.readme import machine, write_section

REPORT_PATH = ROOT / "docs" / "image.md"
LIMIT_BYTES = 2_000_000_000
_SHOWN_BYTES = 25_000_000
"""Packages that are larger have a row of their own."""

_PROGRAM = """
import collections, json, pathlib
site_packages = pathlib.Path("/opt/venv/lib/python3.11/site-packages")
found = collections.defaultdict(lambda: [0, 0])
for path in pathlib.Path("/opt/venv").rglob("*"):
    if path.is_file() and not path.is_symlink():
        package = path.relative_to(site_packages).parts[0] if path.is_relative_to(site_packages) else "others"
        name = package.removesuffix(".libs")
        found[name][path.suffix == ".pyc"] += path.stat().st_size
app = [path for path in pathlib.Path("/app").rglob("*") if path.is_file() and not path.is_symlink()]
kubetfx = sum(path.stat().st_size for path in app)
print(json.dumps({"packages": found, "kubetfx": kubetfx}))
"""


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--image", default="kubetfx/pipeline", help="That was built before.")
    image = parser.parse_args().image
    size = int(_printed("docker", "image", "inspect", image, "--format", "{{.Size}}"))
    command = ("docker", "run", "--rm", "--network=none", "--entrypoint=python", image, "-c", _PROGRAM)
    document = json.loads(_printed(*command))
    packages: dict[str, tuple[int, int]] = document["packages"]
    shown = [name for name, parts in packages.items() if sum(parts) >= _SHOWN_BYTES and name != "others"]
    rest = [parts for name, parts in packages.items() if name not in shown]
    lines = [f"{machine()}", "", "| | MB | of it bytecode |", "|---|---|---|"]
    for name in sorted(shown, key=lambda name: -sum(packages[name])):
        lines.append(_row(name, sum(packages[name]), packages[name][1]))
    lines.append(_row(f"{len(rest)} smaller ones", sum(map(sum, rest)), sum(parts[1] for parts in rest)))
    environment = sum(map(sum, packages.values()))
    lines.append(_row("kubetfx", document["kubetfx"]))
    lines.append(_row("the base image, and libgomp", size - environment - document["kubetfx"]))
    lines.append(_row("**`pipeline`**", size, sum(parts[1] for parts in packages.values())))
    text = "\n".join(lines)
    write_section("size", text, path=REPORT_PATH)
    sys.stderr.write(f"{REPORT_PATH}:\n{text}\n")
    return int(size > LIMIT_BYTES)


def _printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _row(name: str, size_bytes: int, bytecode_bytes: int | None = None) -> str:
    return f"| {name} | {size_bytes / 1e6:,.0f} | {'' if bytecode_bytes is None else f'{bytecode_bytes / 1e6:,.0f}'} |"


if __name__ == "__main__":
    sys.exit(main())
