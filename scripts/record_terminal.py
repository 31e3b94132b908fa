"""Write docs/images/run.svg: a real run of the penguins and a prediction, line by line as they were printed.

    python scripts/record_terminal.py

Each line appears when it was printed. A viewer that shows no animation, or a reader who wants none, sees all lines.
"""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "images" / "run.svg"
EXAMPLE = ROOT / "examples" / "penguins"
COMMANDS = ("kubetfx run pipeline.yaml", "kubetfx predict pipeline.yaml --rows rows.csv")
COLUMNS = 124
_PAUSE = 1.0
"""Seconds between two commands, in which a reader sees the prompt."""
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Fonts that rich would fetch."""


@dataclass(frozen=True)
class Line:
    """A line of the terminal."""

    text: str
    """With the escape sequences of its colours."""
    seconds: float
    """When it was printed, from the beginning of the recording."""


def record(commands: tuple[str, ...], *, folder: Path) -> list[Line]:
    """Run commands, and return what they print.

    Args:
        commands: one after the other; one that fails ends the recording.
        folder: where they run.

    Raises:
        SystemExit: a command failed.
    """
    lines = []
    start, pauses = time.monotonic(), 0.0
    for command in commands:
        lines.append(Line(f"\x1b[1;32m$\x1b[0m {command}", time.monotonic() - start + pauses))
        pauses += _PAUSE
        for text in _output(command, folder=folder):
            lines.append(Line(text, time.monotonic() - start + pauses))
    return lines


def _output(command: str, *, folder: Path) -> Iterator[str]:
    """The lines of both streams, as they come."""
    program, *words = shlex.split(command)
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "TTY_INTERACTIVE": "0"}
    own = [str(Path(sys.executable).parent / program), *words]
    with subprocess.Popen(
        own, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if Text.from_ansi(line).plain.strip():  # and not a spinner that was wiped away
                yield line.rstrip("\n")
    if process.returncode:
        raise SystemExit(f"The command failed. Received: {command}, exit code {process.returncode}.")


def drawn(lines: list[Line]) -> str:
    """Return the picture.

    Args:
        lines: in the order in which they were printed.
    """
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for line in lines:
        console.print(Text.from_ansi(line.text), no_wrap=True, overflow="crop", crop=True)
    svg = _FONT_FACE.sub("", console.export_svg(title="kubetfx", theme=MONOKAI, unique_id="run"))
    shown = "\n".join(
        f'    text[clip-path="url(#run-line-{number})"] {{ animation: run-shown 0.01s {line.seconds:.1f}s both }}'
        for number, line in enumerate(lines)
    )
    style = f"""
    @keyframes run-shown {{ from {{ visibility: hidden }} to {{ visibility: visible }} }}
    @media (prefers-reduced-motion: no-preference) {{
{shown}
    }}
    </style>"""
    return svg.replace("</style>", style.lstrip("\n"), 1)


def main() -> None:
    """Run the penguins in a folder of their own, and write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "penguins"
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".kubetfx"))
        TARGET.write_text(drawn(record(COMMANDS, folder=folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
