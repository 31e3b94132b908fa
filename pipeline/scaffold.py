"""`kubetfx init`: looks at a table or at images, and writes a pipeline.yaml that runs as it is."""

import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from kubetfx.components.data import image_files, picture_columns, table_profile, tables
from kubetfx.components.data.column_roles import choose_role
from kubetfx.config.data_section import IMAGE_LABEL, MODEL_OUTPUTS, DataConfig, FeaturesConfig
from kubetfx.config.metric_catalogue import Task
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.yaml_text import in_one_line, parse
from kubetfx.errors import UsageError
from kubetfx.models.columns.column_profile import ColumnProfile
from kubetfx.models.columns.date_cells import date_format_of_numbers
from kubetfx.models.features import IMAGE, TEXT
from kubetfx.pipeline import preflight
from kubetfx.serving.image_folders import pictures_below
from kubetfx.storage import is_url, is_web
from kubetfx.tables.csv_detection import detect
from kubetfx.tables.files import TableFiles, format_of

_MAX_INTEGER_CLASSES = 20
"""A label of whole numbers with at most this many distinct values is taken for classes."""

_MANY_ROWS = 50_000
"""Training stops sooner from here on: epochs are long, and tell more."""

_VALIDATION = (
    "# What an anomaly of the data does: stop, warn or ignore.",
    "validation:",
    "  on_anomaly: stop",
    "  leakage: warn  # if a column tells the label, or rows are copies: warn, stop or off",
    "",
)

_LEFT_OUT = "left out"
_IMAGE_SIZES = (16, 32, 64, 96, 128)
"""Edges in pixels. The small network is given the largest that half of the images have."""
_MEASURED_IMAGES = 200
_RARE = 0.9
"""Share of the largest class above which accuracy says little."""
_IMBALANCE = 3
"""Classes are weighted if the largest has at least this many times the images of the smallest."""


def write_config(
    data_path: str, *, label: str | None, path: Path, settings: Mapping[str, Any] | None = None
) -> list[str]:
    """Write a commented pipeline.yaml for a table, or a folder with a sub-directory of images for each class.

    Args:
        data_path: file, folder or glob, relative to the current folder.
        label: the column to predict; None for images.
        path: file to write, which must not exist.
        settings: other keys of the section `data`, for a table; they are written too.

    Returns:
        Notes on the label and of columns that are left out, a sentence each.

    Raises:
        UsageError: the file exists or cannot be written, a table comes without a label, or images come with one.
        DataError: the table cannot be read or has no such label, or the images are of fewer than two classes.
    """
    if path.exists():
        raise UsageError(f"{path} exists and is not overwritten. Give another path, `path`.")
    said: list[str] = []
    place = data_path if is_url(data_path) else os.path.abspath(data_path)
    shown_path = place if is_url(place) else os.path.relpath(place, path.resolve().parent)
    if _is_of_images(place):
        if label is not None:
            raise UsageError(
                f"Images are of the class whose folder they are in. Received: label {label}, and a folder of "
                f"images: {data_path}. Leave the label out; or list path and label of each file in a CSV."
            )
        text = _render_images(place, shown_path=shown_path)
    elif label is None:
        raise UsageError(
            f"The column to predict is not known. Received: the table {data_path}, and no label. Name that column by "
            "`label`. Images need no label, only a folder with a sub-directory for each class."
        )
    else:
        text, said = _render_table(place, label, shown_path=shown_path, settings=settings or {})
    PipelineConfig.model_validate(parse(text, PipelineConfig))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None
    return said


def _render_table(place: str, label: str, *, shown_path: str, settings: Mapping[str, Any]) -> tuple[str, list[str]]:
    if said_twice := sorted({"path", "label"} & settings.keys()):
        raise UsageError(f"Path and label are said beside the settings. Received: data.{said_twice[0]} once more.")
    document = {**settings, "path": place, "label": label, "drop_rows_without_label": True}
    data = PipelineConfig(Path.cwd(), name="init", data=document).data
    files = tables.find_files(data)
    profile = tables.inspect_table(files, data)
    dated = _numbers_of_dates(profile, data)
    if dated:
        data = data.model_copy(update={"types": {**data.types, **dated}})
        profile = tables.inspect_table(files, data)
    profile = picture_columns.with_pictures(profile, files, data, named=())
    label_column = tables.check_label(profile, data)
    task: Task = "classification" if _is_class(label_column) else "regression"
    clashes = [name for name in profile.names if name in MODEL_OUTPUTS and name != label]
    kept = replace(profile, columns=tuple(column for column in profile.columns if column.name not in clashes))
    preflight.check_profile(kept, PipelineConfig(Path.cwd(), name="init", data=data, model={"task": task}))
    values = _label_values(label_column, files, data)
    num_missing = profile.num_rows - label_column.num_values
    lines = [
        f"# {profile.num_rows:,} rows, {len(profile.columns)} columns. Run: kubetfx run pipeline.yaml",
        f"name: {in_one_line(_name(files.paths[0] if len(files.paths) == 1 else str(files.root)))}",
        "data:",
        f"  path: {_value(shown_path)}",
        f"  label: {_value(label)}",
    ]
    if dropped := [*data.drop, *clashes]:
        why = f"  # {', '.join(clashes)}: named like something that the model returns" if clashes else ""
        lines.append(f"  drop: [{', '.join(map(_value, dropped))}]{why}")
    own = {key: value for key, value in settings.items() if key not in ("drop", "drop_rows_without_label", "types")}
    lines += [f"  {key}: {in_one_line(value)}" for key, value in own.items()]
    is_csv = files.format == "csv" and "csv" not in own
    if is_csv and {detect(path, data.csv_options).decimal for path in files.paths} == {","}:
        lines.append('  csv: {decimal: ","}  # for files to predict as well: a few rows may not tell')
    if num_missing:
        lines.append(f"  drop_rows_without_label: true  # {num_missing:,} rows")
    lines += _types(profile, dated, stated=settings.get("types") or {})
    lines += [f"# {' '.join(note.split())}" for note in profile.notes]
    lines += [
        "",
        "# How each column is used. To change it, name the column under `features`,",
        "# or state its type, which is number, text, date or list: data.types: {COLUMN: text}.",
    ]
    roles = _roles(profile, label_column, clashes)
    lines += [f"#   {name}: {role}, {reason}" for name, role, reason in roles]
    lines += ["# features:", *(f"#   {key}: []" for key in ("numeric", "categorical", "date", "list", "text")), ""]
    used = {role for _, role, _ in roles} - {_LEFT_OUT}
    lines += _model(used, f"{task}{_other_task(label_column)}")
    lines += _training(profile.num_rows, is_text=used == {TEXT})
    lines += ["", "# A model that misses a threshold is not pushed.", "evaluation:", "  thresholds:"]
    lines += _thresholds(values, task)
    lines += ["  slices: []  # columns by whose values the metrics are also shown", "", *_VALIDATION[:-1]]
    if odd := [column for column in profile.columns if column.odd_cells and column.name != label]:
        lines += ["  features:  # to stop at odd cells too, take the column away here"]
        lines += [f"    {in_one_line(column.name)}: warn  # {column.odd_cells}" for column in odd]
    lines.append("")
    said = [f"Column {name!r} is left out: the model returns something of that name." for name in clashes]
    said += [f"The label {label!r}: {label_column.note}."] if label_column.note else []
    said += [f"The task is a {task}:{other.removeprefix('  #')}."] if (other := _other_task(label_column)) else []
    return "\n".join(lines), said


def _numbers_of_dates(profile: table_profile.TableProfile, data: DataConfig) -> dict[str, Any]:
    """Return types of columns whose whole numbers are dates, by their names and values."""
    others = [column for column in profile.columns if column.name not in (*data.types, data.label)]
    return {column.name: {"date": found} for column in others if (found := date_format_of_numbers(column))}


def _types(
    profile: table_profile.TableProfile, dated: Mapping[str, Any], *, stated: Mapping[str, Any]
) -> Iterator[str]:
    """Yield lines of `data.types`: what the user states, and what the cells alone do not say."""
    unsure = [column for column in profile.columns if column.dates and column.other_formats]
    unsure = [column for column in unsure if column.name not in stated]
    if not (stated or dated or unsure):
        return
    yield "  types:"
    yield from (f"    {in_one_line(name)}: {in_one_line(one)}" for name, one in stated.items())
    for name, one in dated.items():
        amount = in_one_line({name: "number"})
        yield f"    {in_one_line(name)}: {in_one_line(one)}  # by its name; {amount} if it is an amount"
    for column in unsure:
        others = " or ".join(column.other_formats)
        one = {"date": column.date_format}
        yield f"    {in_one_line(column.name)}: {in_one_line(one)}  # or {others}: the cells do not tell day from month"


def _is_class(label: ColumnProfile) -> bool:
    few = label.num_distinct is not None and label.num_distinct <= _MAX_INTEGER_CLASSES
    return label.type == "string" or (label.type == "int64" and few)


def _other_task(label: ColumnProfile) -> str:
    """Return a comment that says why the task was chosen, where the label could be of the other."""
    if label.type != "int64":
        return ""
    if _is_class(label):
        return (
            f"  # {label.num_distinct} whole numbers are taken for classes; if they are amounts or counts: regression"
        )
    return (
        f"  # more than {_MAX_INTEGER_CLASSES} whole numbers are taken for amounts; if they are classes: classification"
    )


def _name(path: str) -> str:
    stem = Path(path).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem)[:64].strip("-_.") or "pipeline"


def _value(text: str) -> str:
    """Return a text as the value of a key.

    `${` in it is not a reference, but for a URL, where the user has written one.
    """
    return in_one_line(text if is_web(text) else text.replace("${", "$${"))


def _roles(profile: table_profile.TableProfile, label: ColumnProfile, clashes: list[str]) -> list[tuple[str, str, str]]:
    roles: list[tuple[str, str, str]] = []
    for column in profile.columns:
        if column.name != label.name and column.name not in clashes:
            role, reason = choose_role(column, num_rows=profile.num_rows, config=FeaturesConfig())
            roles.append((" ".join(column.name.split()), _LEFT_OUT if role == "excluded" else role, reason))
    return roles


def _batch_size(num_rows: int) -> int:
    return int(min(max(2 ** int(math.log2(max(num_rows / 100, 1))), 32), 1024))


def _model(used: Collection[str], task: str) -> list[str]:
    """Return the model of a table whose columns are of some types."""
    lines = ["model:", f"  task: {task}"]
    if used == {TEXT}:
        lines.append("  hidden_units: []  # of text alone, a linear model is hard to beat")
    else:
        if IMAGE not in used:  # trees take no pictures
            lines.append(
                "  kind: auto  # a network and boosted trees: the better one, or their average; or network, or trees"
            )
        lines.append("  hidden_units: [128, 64]")
    return [*lines, "  dropout: 0.1", ""]


def _training(num_rows: int, *, is_text: bool) -> list[str]:
    """Return the section `training`.

    With text alone few weights change per row, so large batches do no harm; and where its averaged weights are past the
    best, they do not come back.
    """
    is_long = num_rows >= _MANY_ROWS
    lines = [
        "training:",
        "  epochs: 200  # at most: training stops when the validation loss no longer falls",
        f"  batch_size: {1024 if is_text and is_long else _batch_size(num_rows)}",
        f"  learning_rate: {0.02 if is_text and is_long else 0.002}",
        "  schedule: {kind: constant}  # the weights that are kept are averages: no rate has to fall for them",
    ]
    if is_long:
        lines.append(f"  early_stopping: {{patience: {2 if is_text else 5}}}  # an epoch has many steps")
    return lines


def _label_values(label: ColumnProfile, files: TableFiles, data: DataConfig) -> pa.ChunkedArray:
    blocks = [
        block.column(0)
        for path in files.paths
        for block in tables.read_blocks(path, [label], file_format=files.format, data=data)
    ]
    return pa.chunked_array(blocks).drop_null()


def _thresholds(values: pa.ChunkedArray, task: Task) -> list[str]:
    """Return thresholds that no model meets that predicts the same for every row."""
    if task == "classification":
        counts = values.value_counts()
        share = counts.field("counts").to_numpy() / len(values)
        largest = counts.field("values")[int(share.argmax())].as_py()
        lines = [f"    # Always saying {in_one_line(str(largest))} is right for {share.max():.3f} of the rows."]
        if share.max() >= _RARE:
            lines.append("    # The rest is rare: for auc or f1, instead of accuracy, that counts as much.")
        return [*lines, "    accuracy: {better_than_baseline: true, worse_by_at_most: 0.01}"]
    numbers = values.to_numpy().astype(float)
    error = float(np.abs(numbers - np.median(numbers)).mean())
    worse = _rounded(error / 100)
    return [
        f"    # Always saying the median is off by {_rounded(error)} on average; {worse} is 1 % of that.",
        f"    mean_absolute_error: {{at_most: {_below(error)}, better_than_baseline: true, worse_by_at_most: {worse}}}",
    ]


# Images


def _is_of_images(place: str) -> bool:
    """Return whether it is a folder with pictures in it, and no table beside them."""
    if is_url(place) or not os.path.isdir(place):
        return False
    has_table = any(format_of(entry.name) is not None for entry in os.scandir(place))
    return not has_table and next(pictures_below(place), None) is not None


def _render_images(place: str, *, shown_path: str) -> str:
    found = image_files.find_images(DataConfig(path=place, label=IMAGE_LABEL, format="images"))
    counts = found.classes.values()
    batch_size = _batch_size(len(found.files))
    lines = [
        f"# {len(found.files):,} images, {len(counts):,} classes. Run: kubetfx run pipeline.yaml",
        *(f"# {warning}" for warning in found.warnings),
        f"name: {in_one_line(_name(place))}",
        "data:",
        f"  path: {_value(shown_path)}",
        "  format: images",
        "",
        "model:",
        f"  image_size: {_image_size(found.files)}  # pixels that each is resized to",
        "  # backbone: EfficientNetB0  # instead of a small network: one that has seen a million photographs",
        "  # Changes at random, in training alone. Where left and right mean the same, add flip: horizontal.",
        "  augmentation: {rotation_degrees: 10, zoom: 0.1, shift: 0.1}",
        "",
        "training:",
        "  epochs: 30  # at most: training stops when the validation loss no longer falls",
        f"  batch_size: {min(batch_size, 64)}",
    ]
    if max(counts) >= _IMBALANCE * min(counts):
        lines.append(f"  class_weights: balanced  # a class has {min(counts):,} to {max(counts):,} images")
    lines += ["", "# A model that misses a threshold is not pushed.", "evaluation:", "  thresholds:"]
    lines += _thresholds(pa.chunked_array([[file.label for file in found.files]]), "classification")
    lines += ["  slices: []  # label, image_size, format or channels: the metrics are also shown by these", ""]
    return "\n".join([*lines, *_VALIDATION])


def _image_size(files: Sequence[image_files.ImageFile]) -> int:
    edges = sorted(edge for file in files[:: len(files) // _MEASURED_IMAGES + 1] if (edge := _shorter_edge(file.path)))
    median = edges[len(edges) // 2] if edges else 0
    return max((size for size in _IMAGE_SIZES if size <= median), default=_IMAGE_SIZES[0])


def _shorter_edge(path: str) -> int | None:
    try:
        with Image.open(path) as image:
            return min(image.size)
    except Exception:  # whatever a damaged file makes of Pillow's parsers; a run says what is wrong with it
        return None


def _rounded(number: float) -> float:
    """Return a number with three significant digits; from a thousand on, a whole number."""
    return round(number) if number >= 1000 else float(f"{number:.3g}")


def _below(number: float) -> float:
    """Return the largest number of three significant digits that is less."""
    unit = 10.0 ** (math.floor(math.log10(number)) - 2) if number > 0 else 1.0
    return float(f"{(math.ceil(number / unit) - 1) * unit:.3g}")
