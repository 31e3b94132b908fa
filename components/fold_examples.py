"""FoldExamples: the examples of one cross-validation fold, in the usual splits.

So the nodes that analyze, train and evaluate work on a fold as on the whole table, and see nothing of the held-out
rows.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.arrays import Array
from kubetfx.artifacts import FOLD, SCHEMA
from kubetfx.components.data import block_work, folds, table_profile
from kubetfx.components.data.example_parts import Part, parts_of
from kubetfx.components.data.example_shards import describe, open_splits
from kubetfx.components.data.near_copies import leaders_of, longest_text
from kubetfx.components.data.shard_writer import WriteShards
from kubetfx.components.declaration import Artifacts, Component
from kubetfx.errors import DataError
from kubetfx.models.features import TEXT, read_features, read_schema


class Executor(base_executor.BaseExecutor):
    """Writes the rows again, in their splits of the fold."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component.

        Raises:
            DataError: the rows cannot be cut into this many folds, or a deciding column is missing.
        """
        rule = folds.FoldRule.model_validate_json(exec_properties["rule"])
        number = exec_properties["fold"]
        source = artifact_utils.get_single_instance(input_dict["examples"])
        examples = artifact_utils.get_single_instance(output_dict["fold_examples"])
        features = read_features(read_schema(Path(artifact_utils.get_single_uri(input_dict["schema"])) / SCHEMA))
        profile = table_profile.read(Path(source.uri))
        names = artifact_utils.decode_split_names(source.split_names)
        parts = parts_of(source, [name for name in names if name not in rule.without])
        text = None if rule.folds.columns else longest_text(profile, features.names(TEXT))
        keys, starts = _keys(parts, rule, features.label, profile, text=text)
        splits = folds.fold_splits(rule, number, keys)
        without = folds.missing_classes(keys, splits) if features.classes else []

        folders = open_splits(examples, rule.splits)
        schema = pq.read_schema(parts[0].group.file)
        codec = pq.read_metadata(parts[0].group.file).row_group(0).column(0).compression.lower()
        compression = "none" if codec == "uncompressed" else codec

        def read(item: tuple[Part, int, int]) -> Iterator[tuple[pa.RecordBatch, Array]]:
            part, start, end = item
            yield part.group.read(), splits[start:end]

        items = [(part, *between) for part, between in zip(parts, pairwise(starts), strict=True)]
        write = WriteShards(read, folders, schema, len(items), compression)
        counts = block_work.run_here(write, list(enumerate(items)), threads=1)
        logging.info("Rows by split: %s", counts)
        if not all(counts[name] for name in rule.splits):
            raise DataError(
                f"A fold of cross-validation has a split without rows. Received rows by split: {counts}. Lower "
                "evaluation.cross_validation.folds, give more data, or do without validation: data.splits.validation: 0"
            )
        profile = replace(profile, num_rows=sum(counts.values()), copies_together=text)
        describe(examples, counts, profile, label=features.label)
        examples.span = source.span
        repeat, fold = divmod(number, rule.folds.folds)
        document = {"fold": fold, "repeat": repeat, "rows": counts, "classes_without_training_rows": without}
        (Path(examples.uri) / FOLD).write_text(json.dumps(document))


def _keys(
    parts: list[Part], rule: folds.FoldRule, label: str, profile: table_profile.TableProfile, *, text: str | None
) -> tuple[folds.Keys, list[int]]:
    """Return the deciding columns of all rows in the order of the parts, and the boundaries of the parts."""
    for key, name in rule.folds.columns.items():
        if name not in profile.names:
            raise DataError(
                f"evaluation.cross_validation.{key}: the rows have no such column. Received: {name!r}. "
                f"Known: {', '.join(profile.names)}. If it is in data.drop, remove it from there: "
                "the column does not become a feature."
            )
    others = [text] if text else rule.folds.columns.values()
    blocks = [part.group.read([label, *others]) for part in parts]
    by = folds.concatenated([block.column(1) for block in blocks]) if rule.folds.columns else None
    leaders = leaders_of(folds.concatenated([block.column(1) for block in blocks])) if text else None
    date_format = profile.column(rule.folds.time).date_format if rule.folds.time else None
    keys = folds.Keys(folds.concatenated([block.column(0) for block in blocks]), by, date_format, leaders)
    return keys, [0, *accumulate(block.num_rows for block in blocks)]


class FoldExamples(Component):
    """The rows of all splits, except those that are in no fold, in their splits of one cross-validation fold."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    INPUTS = {"examples": standard_artifacts.Examples, "schema": standard_artifacts.Schema}
    OUTPUTS = {"fold_examples": standard_artifacts.Examples}
    PARAMETERS = {"rule": folds.FoldRule, "fold": int}
