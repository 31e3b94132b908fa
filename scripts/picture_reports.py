"""Write the pictures of reports in docs/images: real runs of the examples, in Chromium.

    python scripts/picture_reports.py [report.png report-quality.png report-words.png]

It fetches the data of the examples where it is not there yet.
"""

import base64
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for the examples, and the tests' browser

from tests.components.report import chromium  # noqa: E402

TARGET = ROOT / "docs" / "images"
MARGIN = 24
"""Pixels around a part of a page."""
SECTION = "[document.querySelector('#{id}')]"
PART = """
(() => {{
  const found = [[...document.querySelectorAll("h3")].find(title => title.textContent.startsWith("{title}"))];
  while (found.at(-1).nextElementSibling && found.at(-1).nextElementSibling.tagName != "H3")
    found.push(found.at(-1).nextElementSibling);
  return found;
}})()
"""
"""The heading of a part, and what is below it."""
FRAME = """
(() => {{
  const boxes = {elements}.map(element => element.getBoundingClientRect());
  const left = Math.min(...boxes.map(box => box.left)), top = Math.min(...boxes.map(box => box.top)) + scrollY;
  const right = Math.max(...boxes.map(box => box.right)), bottom = Math.max(...boxes.map(box => box.bottom)) + scrollY;
  return [left, top, right, bottom];
}})()
"""


@dataclass(frozen=True)
class Picture:
    """A picture of a part of a report."""

    name: str
    example: str
    elements: str
    """JavaScript for the elements that are in it."""
    width: int
    """Width of the window."""
    height: int
    """Maximum height of the picture; what is below is cut off."""
    margin: int = MARGIN


PICTURES = (
    Picture("report.png", "flights", "[document.body]", width=1240, height=1330, margin=0),
    Picture("report-quality.png", "flights", SECTION.format(id="quality"), width=1000, height=1600, margin=8),
    Picture("report-words.png", "reviews", PART.format(title="Words of"), width=760, height=4000),
)


def run(example: str, folder: Path) -> Path:
    """Run an example in a folder of its own.

    Args:
        example: The name of its folder.
        folder: where it runs.

    Returns:
        The report.

    Raises:
        subprocess.CalledProcessError: the run failed.
    """
    importlib.import_module(f"examples.{example}.prepare").main()
    shutil.copytree(ROOT / "examples" / example, folder, ignore=shutil.ignore_patterns(".kubetfx"))
    kubetfx = [str(Path(sys.executable).parent / "kubetfx")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*kubetfx, "run", "pipeline.yaml"], cwd=folder, env=environment, check=True)
    shown = subprocess.run(
        [*kubetfx, "report", "pipeline.yaml"], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return folder / shown.stdout.strip()


def taken(page: chromium.Page, report: Path, picture: Picture) -> bytes:
    """Return a picture of a report as a PNG.

    Args:
        page: of the browser.
        report: The report of a run.
        picture: The picture to take.
    """
    page.call("Emulation.setScrollbarsHidden", hidden=True)  # they would not be in the picture, which is wider then
    page.open(report, width=picture.width, scheme="light")
    left, top, right, bottom = page.evaluate(FRAME.format(elements=picture.elements))
    left, top = max(left - picture.margin, 0), max(top - picture.margin, 0)
    clip = {
        "x": left,
        "y": top,
        "width": min(right + picture.margin, picture.width) - left,
        "height": min(bottom + picture.margin - top, picture.height),
        "scale": 1,
    }
    shot = page.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
    return base64.b64decode(shot["data"])


def main(names: Collection[str]) -> None:
    """Run the examples, and write the pictures.

    Args:
        names: The names of the pictures; empty: all.

    Raises:
        SystemExit: there is no picture of such a name.
    """
    known = [picture.name for picture in PICTURES]
    if unknown := sorted(set(names) - set(known)):
        raise SystemExit(f"There is no such picture. Received: {unknown[0]}. There are {', '.join(known)}.")
    wanted = [picture for picture in PICTURES if not names or picture.name in names]
    with tempfile.TemporaryDirectory() as folder:
        examples = dict.fromkeys(picture.example for picture in wanted)
        reports = {example: run(example, Path(folder) / example) for example in examples}
        for picture in wanted:
            with chromium.running() as page:
                (TARGET / picture.name).write_bytes(taken(page, reports[picture.example], picture))


if __name__ == "__main__":
    main(sys.argv[1:])
