"""Notes on a run over images, as lines: what was left out, and how long training waited for data."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubetfx.artifacts import HISTORY, IMAGE_NOTES
from kubetfx.byte_counts import readable


def write(examples: Path, report: Mapping[str, Any]) -> None:
    """Write the report beside the examples.

    Args:
        examples: The folder of the artifact.
        report: What was read, and what was left out.
    """
    (examples / IMAGE_NOTES).write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")


def read_notes(examples: Path, model_run: Path) -> list[str]:
    """Return notes on a run that has ended.

    Args:
        examples: The folder of the artifact.
        model_run: The folder of the Trainer's artifact.
    """
    notes = notes_on(examples, place=str(examples / IMAGE_NOTES))
    history = model_run / HISTORY
    described = json.loads(history.read_text(encoding="utf-8")).get("input") if history.is_file() else None
    if described and described["images_per_second"]:  # zero, if only the work after the last step was left
        notes.append(
            f"Training saw {described['images_per_second']:,.0f} images per second and waited "
            f"{described['wait_share']:.1%} of the time for data; images were decoded {described['decoded']} "
            f"({readable(described['decoded_bytes'])})."
        )
    return notes


def notes_on(examples: Path, *, place: str = IMAGE_NOTES) -> list[str]:
    """Return notes on the images of an examples artifact; none for tables.

    Args:
        examples: The folder of the artifact.
        place: The place where all broken files are listed.
    """
    report = examples / IMAGE_NOTES
    return report_warnings(json.loads(report.read_text(encoding="utf-8")), place=place) if report.is_file() else []


def report_warnings(report: Mapping[str, Any], *, place: str = IMAGE_NOTES) -> list[str]:
    """Return the warnings about images, a line each.

    Args:
        report: The report of the examples artifact.
        place: The place where all broken files are listed.
    """
    lines = list(report["warnings"])
    if broken := report["broken"]:
        first = f"{broken[0]['name']}, {broken[0]['reason']}"
        lines.append(f"{len(broken):,} files are broken and left out, the first {first}. All are listed in {place}.")
    if copies := report["copies"]:
        number = sum(len(names) - 1 for names in copies)
        lines.append(
            f"{number:,} images are exact copies of others, such as {copies[0][0]} and {copies[0][1]}; copies are "
            "in one split, so that none is in both training and evaluation."
        )
    if conflicts := report["conflicts"]:
        lines.append(f"{len(conflicts):,} images have several labels, the first {' and '.join(conflicts[0])}.")
    return lines
