"""What a person should know of a run over images, in lines: what was left out, how long training waited for data."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubetfx.artifacts import HISTORY, IMAGE_NOTES


def write(examples: Path, report: Mapping[str, Any]) -> None:
    """Leave the report with the examples.

    Args:
        examples: folder of the artifact.
        report: what was read, and what was left out.
    """
    (examples / IMAGE_NOTES).write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")


def read_notes(examples: Path, model_run: Path) -> list[str]:
    """Return notes on a run that has ended.

    Args:
        examples: folder of the artifact.
        model_run: folder of the Trainer's.
    """
    notes = notes_on(examples, place=str(examples / IMAGE_NOTES))
    history = model_run / HISTORY
    described = json.loads(history.read_text(encoding="utf-8")).get("input") if history.is_file() else None
    if described and described["images_per_second"]:  # none, where only what comes after the last step was left
        notes.append(
            f"Training saw {described['images_per_second']:,.0f} images a second and waited "
            f"{described['wait_share']:.1%} of the time for data; images were decoded {described['decoded']} "
            f"({described['decoded_bytes'] / 2**20:,.1f} MiB)."
        )
    return notes


def notes_on(examples: Path, *, place: str = IMAGE_NOTES) -> list[str]:
    """Return what a person should know of the images of an examples artifact; nothing of tables.

    Args:
        examples: its folder.
        place: where the notes say that all broken files are listed.
    """
    report = examples / IMAGE_NOTES
    return report_warnings(json.loads(report.read_text(encoding="utf-8")), place=place) if report.is_file() else []


def report_warnings(report: Mapping[str, Any], *, place: str = IMAGE_NOTES) -> list[str]:
    """Return what a person should know of images, a line each.

    Args:
        report: of the examples artifact.
        place: where all broken files are listed.
    """
    lines = list(report["warnings"])
    if broken := report["broken"]:
        first = f"{broken[0]['name']}, {broken[0]['reason']}"
        lines.append(f"{len(broken):,} files are broken and left out, the first {first}. All stand in {place}.")
    if copies := report["copies"]:
        number = sum(len(names) - 1 for names in copies)
        lines.append(
            f"{number:,} images are exact copies of others, such as {copies[0][0]} and {copies[0][1]}; copies are "
            "in one split, so none is trained on and evaluated."
        )
    if conflicts := report["conflicts"]:
        lines.append(
            f"{len(conflicts):,} images stand under several labels, the first as {' and '.join(conflicts[0])}."
        )
    return lines
