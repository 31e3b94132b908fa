"""Checks of the rows themselves, in addition to their statistics.

Does something reveal the label, are rows in several splits, does each split have its share of the classes, and how much
of the label do the features leave unexplained?
"""

import functools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from kubetfx.arrays import Array
from kubetfx.artifacts import CONTENT_HASH, TRAIN
from kubetfx.components.data import class_shares, leakage, near_copies, row_copies, text_judgement, text_statistics
from kubetfx.components.data.example_parts import Part
from kubetfx.components.data.shared_groups import SharedGroups, find_shared_groups
from kubetfx.components.data.table_profile import TableProfile
from kubetfx.components.data.text_judgement import TextStatistics
from kubetfx.config.data_section import CheckKey
from kubetfx.config.yaml_text import in_one_line
from kubetfx.models.examples import together
from kubetfx.models.features import TEXT, Features
from kubetfx.tables.spelled_dates import understand

Run = Callable[[Any, Sequence[Part]], Any]
"""Executes work on row groups."""

MIN_COPIES, MIN_COPIED_SHARE = 5, 0.01
"""Number of rows of a split with the features of a training row below which nothing is reported."""
MAX_ROWS_OF_PICTURE = 20
"""Number of rows above which a picture counts as a placeholder, such as "no image available"."""
ROWS_PER_KIND = 10
"""Share of repeated rows from which on a table has few kinds of rows rather than copies."""
_BY_CHANCE = 0.25
"""Expected number of training rows with the same features by chance below which a row counts as a copy."""
_INFORMATION = 0.5
"""Share of the columns' information, computed as if they were independent, that counts."""
_NO_OTHER = 0.1
"""Number of rows assumed for a cell that no other row has."""
_JUDGED_COPIES = 500
_KEY_COLUMNS = 3
_GROUPS_OF_SAMPLE = 4
"""Minimum number of row groups in a sample."""


@dataclass(frozen=True)
class Finding:
    """A finding about the rows of a split."""

    split: str
    column: str | None
    """None: the whole table."""
    title: str
    description: str
    key: CheckKey | None = None
    """Key of `validation` that sets the action; None: the finding is only a note."""

    @property
    def is_leak(self) -> bool:
        """Whether columns reveal the label, or rows are copies of training rows."""
        return self.key == "leakage"


@dataclass(frozen=True)
class Checks:
    """The results of the checks."""

    findings: list[Finding]
    noise: row_copies.LabelNoise | None
    """None for images, whose copies are found elsewhere."""
    texts: list[TextStatistics] = field(default_factory=list)
    """Statistics of each column of text in each split."""
    words: dict[str, pa.Array] = field(default_factory=dict)
    """Those that the training rows have, by column of text."""


def check(
    parts: Sequence[Part],
    features: Features,
    profile: TableProfile,
    *,
    run: Run,
    look_for_leaks: bool = True,
    look_at_texts: bool = True,
) -> Checks:
    """Check the rows.

    Args:
        parts: row groups of all splits.
        features: The roles of the columns.
        profile: The profile of the table.
        run: Executes work on the row groups.
        look_for_leaks: Whether to look for leakage.
        look_at_texts: Whether to compare texts with those of the training rows.

    Returns:
        The results.
    """
    columns = sorted(set(features.inputs) & set(profile.described))
    pictures = sorted(set(features.inputs) & set(profile.names) - set(columns))
    has_pictures = len(columns) < len(features.inputs)
    read = row_copies.ReadKeys(() if has_pictures else columns, features.label, features.classes)
    rows, read = _read_keys(read, parts, profile, run=run)
    findings = [Finding(TRAIN, None, "Shares of the splits", note) for note in profile.split_notes]
    findings += _of_classes(rows, features)
    if look_for_leaks and columns:
        sample = read_sample([part for part in parts if part.split == TRAIN], [*columns, features.label])
        shared = list(find_shared_groups(parts, features, profile, sample, run=run)) if sample.num_rows else []
        findings += _leaks(_with_times(sample, profile), {one.column for one in shared}, features)
        findings += [_of_groups(one) for one in shared if one.are_many]
        findings += [] if has_pictures else _copies(rows, sample, read, profile)
    if look_for_leaks:
        names = [name for name in features.names(TEXT) if name != profile.copies_together]
        findings += [one for name in names for one in _of_texts(name, parts, profile, run=run)]
    if look_for_leaks and CONTENT_HASH not in profile.names:  # otherwise copies are in one split already
        for name in pictures:
            findings += _of_pictures(name, run(replace(read, columns=(name,), every=1), parts))
    texts = features.names(TEXT) if look_at_texts else ()
    described = {name: text_statistics.describe(name, parts, num_rows=profile.num_rows, run=run) for name in texts}
    findings += [one for column in described.values() for one in _of_other_texts(column.splits)]
    noise = None if has_pictures else row_copies.label_noise(rows, is_class=bool(features.classes))
    statistics = [one for column in described.values() for one in column.splits]
    return Checks(findings, noise, statistics, {name: column.words for name, column in described.items()})


def _of_other_texts(found: Sequence[TextStatistics]) -> Iterator[Finding]:
    """Yield splits whose texts differ from those of the training rows, or are in no language."""
    for split, title, said in text_judgement.judge(found):
        name = found[0].column
        passing = f"Look at them; or let it pass, validation.features: {in_one_line({name: 'ignore'})}."
        yield Finding(split, name, title, f"{said} {passing}", key="text")


def _read_keys(
    read: row_copies.ReadKeys, parts: Sequence[Part], profile: TableProfile, *, run: Run
) -> tuple[row_copies.RowsBySplit, row_copies.ReadKeys]:
    """Return the rows by their keys, and how they were finally read."""
    read = replace(read, every=max(math.ceil(profile.num_rows / row_copies.MAX_KEYS), 1))
    at_first = max(row_copies.MAX_CELLS // max(profile.num_rows, 1), 1)
    if len(read.columns) > at_first:
        some = replace(read, columns=row_copies.most_distinct(profile, read.columns)[:at_first])
        rows = run(some, parts)
        if row_copies.share_of_repeats(rows) <= row_copies.FEW:
            return rows, some
    return run(read, parts), read


def read_sample(parts: Sequence[Part], columns: Sequence[str]) -> pa.RecordBatch:
    """Read a deterministic sample of rows from several places of the table.

    Args:
        parts: row groups.
        columns: The columns to read.

    Returns:
        At most leakage.MAX_ROWS rows, and fewer with many columns.
    """
    wanted = max(min(leakage.MAX_ROWS, leakage.MAX_CELLS // len(columns)), leakage.MIN_ROWS)
    blocks: list[pa.RecordBatch] = []
    num_rows = 0
    for index in np.random.default_rng(0).permutation(len(parts)):
        block = parts[index].group.read(columns)
        most = min(wanted - num_rows, max(wanted // _GROUPS_OF_SAMPLE, 1) if len(parts) > 1 else wanted)
        if block.num_rows > most:
            block = block.take(pa.array(np.linspace(0, block.num_rows - 1, most).astype(np.int64)))
        blocks.append(block)
        num_rows += block.num_rows
        if num_rows >= wanted:
            break
    found = together(blocks)
    return found if found is not None else pa.RecordBatch.from_pylist([], pa.schema([(c, pa.null()) for c in columns]))


def _of_classes(rows: row_copies.RowsBySplit, features: Features) -> list[Finding]:
    if not features.classes:
        return []
    found = class_shares.unusual_classes({name: one.class_counts for name, one in rows.items()}, features.classes)
    return [
        Finding(split, features.label, "Classes of a split", " ".join(sentences)) for split, sentences in found.items()
    ]


def _leaks(sample: pa.RecordBatch, groups: Collection[str], features: Features) -> list[Finding]:
    """Return columns that reveal the label.

    Copies of rows count once, since among them every column with many values does.
    """
    _, distinct = np.unique(row_copies.row_keys(sample), return_index=True)
    sample = sample.select([name for name in sample.schema.names if name not in groups])
    if len(distinct) >= max(leakage.MIN_ROWS, sample.num_rows / ROWS_PER_KIND):
        sample = sample.take(pa.array(np.sort(distinct)))
    leaks = leakage.find_leaks(sample, features.label, is_class=bool(features.classes)) if sample.num_rows else []
    return [
        Finding(
            TRAIN,
            leak.columns[0],
            "Leakage",
            f"{leak.evidence} ({sample.num_rows:,} rows). Leave out what is not yet known at prediction "
            f"time, data.drop: {in_one_line(list(leak.columns))}; or let it pass, "
            f"validation.features: {in_one_line({leak.columns[0]: 'ignore'})}.",
            key="leakage",
        )
        for leak in leaks
    ]


def _of_groups(shared: SharedGroups) -> Finding:
    name = shared.column
    said = (
        f"{shared.share:.0%} of the rows have a {name!r} of a training row, and rows of one {name!r} have similar "
        "labels: for new ones the model is worse than its metrics. Keep its rows in one "
        f"split, data.splits: {in_one_line({'by': 'group', 'column': name})}; or let it pass, "
        f"validation.features: {in_one_line({name: 'ignore'})}."
    )
    return Finding(shared.split, name, "Leakage", said, key="leakage")


def _of_pictures(name: str, rows: row_copies.RowsBySplit) -> Iterator[Finding]:
    """Yield splits that contain pictures of training rows."""
    if not rows:
        return
    keys, counts = np.unique(np.concatenate([one.keys for one in rows.values()]), return_counts=True)
    few = keys[counts <= MAX_ROWS_OF_PICTURE]
    trained = rows[TRAIN].keys if TRAIN in rows else keys[:0]
    for split, own in rows.items():
        number = int((np.isin(own.keys, trained) & np.isin(own.keys, few)).sum()) if split != TRAIN else 0
        if number >= max(MIN_COPIES, MIN_COPIED_SHARE * len(own.keys)):
            said = (
                f"{number:,} rows ({number / len(own.keys):.1%}) have the picture of a training row, so the metrics "
                "of a model that memorizes it are too good. Keep all rows of a picture in one split, data.splits: "
                f"{in_one_line({'by': 'group', 'column': name})}; or let it pass, validation.features: "
                f"{in_one_line({name: 'ignore'})}."
            )
            yield Finding(split, name, "Leakage", said, key="leakage")


def _of_texts(name: str, parts: Sequence[Part], profile: TableProfile, *, run: Run) -> Iterator[Finding]:
    """Yield a finding for each split with near copies of the texts of training rows."""
    texts = run(near_copies.FindTexts(functools.partial(_texts_of, column=name)), parts)
    groups = near_copies.find_groups(texts, num_rows=profile.num_rows)
    trained = texts.get(TRAIN, near_copies.Texts())
    for split, own in texts.items():
        number = near_copies.num_copied(own, trained, groups) if split != TRAIN else 0
        if number >= max(MIN_COPIES, MIN_COPIED_SHARE * own.num_cells):
            said = (
                f"{number:,} rows ({number / own.num_cells:.1%}) have the {name!r} of a training row, or nearly so, "
                "so the metrics of a model that memorizes it are too good. Leave copies out of the data; or have rows "
                "split by row, "
                "data.splits: {by: row}, which keeps copies in one split; or let it pass, validation.features: "
                f"{in_one_line({name: 'ignore'})}."
            )
            yield Finding(split, name, "Leakage", said, key="leakage")


def _texts_of(part: Part, *, column: str) -> Iterator[tuple[str, pa.Array]]:
    yield part.split, part.group.read([column]).column(0)


def _with_times(sample: pa.RecordBatch, profile: TableProfile) -> pa.RecordBatch:
    """Return the rows with dates as numbers, since a table may be sorted by label in time."""
    for index, name in enumerate(sample.schema.names):
        column = profile.column(name)
        if column.dates and pa.types.is_string(sample.column(name).type):
            times = understand(sample.column(name), column.date_format).times
            sample = sample.set_column(index, name, times.cast(pa.float64(), safe=False))
    return sample


def _copies(
    rows: row_copies.RowsBySplit, sample: pa.RecordBatch, read: row_copies.ReadKeys, profile: TableProfile
) -> list[Finding]:
    """Return rows of the other splits that are copies of training rows and not just alike by chance."""
    if TRAIN not in rows:
        return []
    trained = np.unique(rows[TRAIN].keys)
    num_trained = len(rows[TRAIN].keys) * read.every
    findings = []
    for split, own in rows.items():
        if split == TRAIN:
            continue
        enough = max(MIN_COPIES, MIN_COPIED_SHARE * len(own.keys))
        copied = own.keys[np.isin(own.keys, trained)]
        if len(copied) < enough:
            continue
        number = round(len(copied) * _share_not_by_chance(sample, read.columns, copied, num_trained))
        if number < enough:
            continue
        about = f"About {number * read.every:,}" if read.every > 1 else f"{number:,}"
        said = (
            f"{about} rows ({number / len(own.keys):.1%}) have all the features of a training row, and not by chance, "
            "so the metrics of a model that memorizes them are too good. Leave copies out of the data"
            f"{_key(profile, read.columns)}."
        )
        findings.append(Finding(split, None, "Leakage", said, key="leakage"))
    return findings


def _share_not_by_chance(sample: pa.RecordBatch, columns: Sequence[str], keys: Array, num_rows: int) -> float:
    """Return the share of rows with some keys for which no equal row is expected by chance, estimated from a sample.

    The number of other rows with the same cell, copies excluded, says how improbable the cell is. For independent
    columns the probability of a row would be the product; since they are not independent, half of the information
    counts.
    """
    features = sample.select(list(columns))
    distinct, first = np.unique(row_copies.row_keys(features), return_index=True)
    found = np.flatnonzero(np.isin(distinct, keys))[:_JUDGED_COPIES]
    if not len(found):
        return 0.0
    information = np.zeros(len(found))
    for column in features.take(pa.array(first)).columns:
        if column.null_count < len(column):
            codes = column.dictionary_encode("encode").indices.to_numpy()
            others = np.bincount(codes)[codes[found]] - 1
            is_known = column.is_valid().to_numpy(zero_copy_only=False)[found]  # missing cells occur together
            information -= np.where(is_known, np.log(np.maximum(others, _NO_OTHER) / len(codes)), 0)
    return float((num_rows * np.exp(-information * _INFORMATION) < _BY_CHANCE).mean())


def _key(profile: TableProfile, columns: Sequence[str]) -> str:
    """Return the setting that keeps copies in one split, if columns without missing cells identify rows."""
    whole = [name for name in columns if profile.column(name).num_values == profile.num_rows]
    names = row_copies.most_distinct(profile, whole)[:_KEY_COLUMNS]
    return f", or keep them in one split: data.splits: {in_one_line({'key': names})}" if names else ""
