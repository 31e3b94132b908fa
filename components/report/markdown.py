"""Pieces of a report as Markdown: what a task of Kubeflow Pipelines shows, and what the model card is written with."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kubetfx.artifacts import IMAGE_NOTES
from kubetfx.components.data import image_notes

MAX_BROKEN_FILES = 50
"""Broken images that are named."""

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#&~$])")
_STARTS_BLOCK = re.compile(r"(?:[-+=]|\d{1,9}[.)](?=\s|$))")


def escaped(text: str) -> str:
    """Return text escaped for Markdown, in one line: a column may be named like a tag, a link or a list.

    Args:
        text: any.
    """
    found = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    start = _STARTS_BLOCK.match(found)
    return found if start is None else f"{found[: start.end() - 1]}\\{found[start.end() - 1 :]}"


def code(text: str) -> str:
    """Return verbatim text between enough backticks.

    Args:
        text: any.
    """
    flat = " ".join(text.split())
    longest = max(map(len, re.findall(r"`+", flat)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {flat} {fence}" if longest else f"`{flat}`"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; its cells are escaped.

    Args:
        headers: The headers of the columns.
        rows: the cells of each.
    """
    lines = [headers, ["---"] * len(headers), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def examples(title: str, rows_by_split: Mapping[str, int | None], *, span: int | None) -> str:
    """Return the output of an ExampleGen.

    Args:
        title: heading.
        rows_by_split: None where the number is not known.
        span: of the data.
    """
    total = sum(filter(None, rows_by_split.values()))
    rows = [
        [name, "" if count is None else f"{count:,}", "" if count is None or not total else f"{count / total:.1%}"]
        for name, count in rows_by_split.items()
    ]
    parts = [f"### {escaped(title)}\n", table(["split", "rows", "share"], rows)]
    return "\n".join([*parts, *([f"Span: {span}\n"] if span is not None else [])])


def images(report: Mapping[str, Any], splits: Sequence[str]) -> str:
    """Return facts about images: notes, images by class and split, and the broken files with their reasons.

    Args:
        report: of the examples artifact (components/data/image_notes.py).
        splits: their names.
    """
    notes = "".join(f"- {escaped(note)}\n" for note in image_notes.report_warnings(report))
    classes = [[name, *(f"{counts.get(split, 0):,}" for split in splits)] for name, counts in report["classes"].items()]
    parts = [*([notes] if notes else []), table(["class", *splits], classes)]
    if broken := report["broken"]:
        shown = broken[:MAX_BROKEN_FILES]
        parts.append(table(["broken file", "why it is left out"], [[file["name"], file["reason"]] for file in shown]))
        if len(broken) > len(shown):
            parts.append(f"And {len(broken) - len(shown):,} more: {IMAGE_NOTES} of the artifact has them all.\n")
    return "\n".join(parts)


def decision(why: str, *, is_run: bool) -> str:
    """Return whether a recurring run goes on.

    Args:
        why: sentences.
        is_run: whether it does.
    """
    title = "The pipeline is run" if is_run else "The pipeline is not run"
    return f"### {title}\n\n{escaped(why)}\n"


def push(*, version: str | None, destination: str = "", takes_images: bool = False) -> str:
    """Return the outcome of the push, and how to call the model.

    Args:
        version: that was pushed; None: none was.
        destination: where it stands: MODEL_BASE_PATH/VERSION.
        takes_images: whether a row is an encoded image.
    """
    if version is None:
        return "### Not pushed\n\nThe model is not blessed. What is served is unchanged.\n"
    directory, _, last = destination.rstrip("/").rpartition("/")
    base = directory if last == version else destination
    name = base.rstrip("/").rpartition("/")[2]
    row, columns = "each with the columns of the table by name", "..."
    if takes_images:
        row, columns = "each an encoded image", '"image_bytes": {"b64": "..."}'
    return (
        f"### Version {escaped(version)} is pushed\n\n"
        f"- To: {code(destination)}\n"
        f"- TensorFlow Serving serves it with {code(f'--model_name={name} --model_base_path={base}')}\n\n"
        f"Call it with one row or several, {row}:\n\n"
        f"    curl -d '{{\"instances\": [{{{columns}}}]}}' http://HOST:8501/v1/models/{name}:predict\n"
    )


def artifacts(title: str, rows: Sequence[tuple[str, str, str]]) -> str:
    """Return the outputs of an unknown node as a table.

    Args:
        title: heading.
        rows: output, type and properties of each artifact.
    """
    return f"### {escaped(title)}\n\n" + table(["output", "type", "properties"], rows)
