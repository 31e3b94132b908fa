"""The artifact of examples: its splits, whether their shares are as configured, and the facts for later nodes.

shard_writer.py writes the files.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.artifacts import VALIDATION
from kubetfx.components.data import table_profile
from kubetfx.config.data_section import Splits
from kubetfx.engine.shared_places import place_of
from kubetfx.errors import DataError

PAYLOAD_FORMAT = example_gen_pb2.FORMAT_PARQUET
FILE_FORMAT = example_gen_pb2.FILE_FORMAT_PARQUET

MAX_DEVIATIONS = 4
"""Standard deviations by which the share of a split may differ from the configured one; chance exceeds them once in
16,000 times.
"""


def open_splits(examples: standard_artifacts.Examples, names: Iterable[str]) -> dict[str, str]:
    """Name the splits of an artifact, and create a folder for each.

    Args:
        examples: The artifact.
        names: The names of the splits, in their order.

    Returns:
        Folders by split, as workers see them.
    """
    splits = list(names)
    examples.split_names = artifact_utils.encode_split_names(splits)
    folders = {name: artifact_utils.get_split_uri([examples], name) for name in splits}
    for folder in folders.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    return {name: place_of(folder) for name, folder in folders.items()}


def describe(
    examples: standard_artifacts.Examples,
    counts: Mapping[str, int],
    profile: table_profile.TableProfile,
    *,
    label: str,
) -> None:
    """Record facts about an artifact for later nodes and people.

    Args:
        examples: The artifact, whose files are written.
        counts: Number of rows by split.
        profile: The profile of the columns.
        label: The name of the label's column.
    """
    examples.set_string_custom_property("num_examples", json.dumps(dict(counts)))
    table_profile.write(Path(examples.uri), profile, label=label)
    examples_utils.set_payload_format(examples, PAYLOAD_FORMAT)
    examples_utils.set_file_format(examples, example_gen_pb2.FileFormat.Name(FILE_FORMAT))


def unusual_shares(counts: Mapping[str, int], buckets: Mapping[str, int], *, unit: str) -> tuple[str, ...]:
    """Compare the shares of the splits with the configured ones.

    Args:
        counts: Number of rows by split.
        buckets: The configured parts of a whole, by split.
        unit: The word for a row, in the singular.

    Returns:
        A sentence for each share that differs by more than four standard deviations of a binomial distribution.
    """
    total, whole = sum(counts.values()), sum(buckets.values())
    said = []
    for name, bucket in buckets.items():
        asked, found = bucket / whole, counts[name] / total
        if abs(found - asked) > MAX_DEVIATIONS * math.sqrt(asked * (1 - asked) / total):
            said.append(
                f"The split {name!r} has {counts[name]:,} of {total:,} {unit}s, {found:.1%}, where {asked:.1%} "
                f"is configured: {unit}s that belong together are in one split."
            )
    return tuple(said)


def check_splits(counts: Mapping[str, int], splits: Splits, *, unit: str) -> None:
    """Check that no split is empty.

    Args:
        counts: Number of rows by split.
        splits: The rule.
        unit: The word for a row, in the singular.

    Raises:
        DataError: a split is empty.
    """
    empty = [name for name, count in counts.items() if not count]
    if empty:
        remedy = f"Give more {unit}s, or a larger fraction of them: data.splits.{empty[0]}"
        if splits.by == "column":
            remedy = f"Let cells of {splits.column!r} name it"
        elif splits.columns:
            remedy = f"{remedy}; or split by a column with more values than {', '.join(splits.columns)}"
        if empty[0] == VALIDATION:
            remedy = f"{remedy}; or omit it: train: 0.75, validation: 0 and eval: 0.25 in data.splits"
        raise DataError(f"The split {empty[0]!r} has no {unit}. Received {unit}s by split: {dict(counts)}. {remedy}")
