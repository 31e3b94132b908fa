"""The examples for TFX's own executors on Beam: as tf.Examples, which are made where they are needed.

TFX reads artifacts of the format FORMAT_PARQUET itself, by tfx_bsl's ParquetTFXIO. That reader returns plain columns,
which TFDV refuses, and no serialized tf.Examples, which TFMA sends to a model (decision 16).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
from tfx.components.util import tfxio_utils
from tfx.proto import example_gen_pb2
from tfx_bsl.tfxio import tensor_representation_util, tf_example_record

from kubetfx.models.examples import RowGroup, files_in, row_groups, to_examples

_READ_ROWS = 1_000
"""Rows of tf.Examples that are made together."""


_theirs = tfxio_utils.make_tfxio


def make_tfxio(file_pattern: Any, *arguments: Any, **named: Any) -> Any:
    """Make the reader of some examples.

    Args:
        file_pattern: of the examples.
        arguments: The arguments of TFX's function of this name.
        named: of the same.

    Returns:
        A TFXIO: ParquetExamples for Parquet, else TFX's.
    """
    if named.get("payload_format") not in (example_gen_pb2.FORMAT_PARQUET, "FORMAT_PARQUET"):
        return _theirs(file_pattern, *arguments, **named)
    return ParquetExamples(file_pattern, **_known(named))


def _known(named: Mapping[str, Any]) -> dict[str, Any]:
    names = ("schema", "raw_record_column_name", "telemetry_descriptors")
    return {name: named[name] for name in names if name in named}


class ParquetExamples(tf_example_record.TFExampleRecord):
    """tfx_bsl's TFXIO of tf.Examples, over Parquet files of plain columns. Its arguments are those of tfx_bsl's."""

    def _RawRecordBeamSourceInternal(self) -> beam.PTransform:
        groups = [group for group, _ in row_groups(files_in(*self._file_pattern))]

        def read(pipeline: Any) -> Any:
            return (
                pipeline
                | "RowGroups" >> beam.Create(groups, reshuffle=len(groups) > 1)
                | "ToExamples" >> beam.FlatMap(_examples_of).with_output_types(bytes)
            )

        return beam.ptransform_fn(read)()

    def _ProjectImpl(self, tensor_names: list[str]) -> "ParquetExamples":
        projected = tensor_representation_util.ProjectTensorRepresentationsInSchema(self._schema, tensor_names)
        return ParquetExamples(
            self._file_pattern,
            schema=projected,
            raw_record_column_name=self.raw_record_column_name,
            telemetry_descriptors=self.telemetry_descriptors,
        )


def _examples_of(group: RowGroup) -> Iterator[bytes]:
    block = group.read()
    for start in range(0, block.num_rows, _READ_ROWS):
        yield from to_examples(block.slice(start, _READ_ROWS))
