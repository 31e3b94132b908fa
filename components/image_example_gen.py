"""ExampleGen for images: files are read, checked and written as examples, with their encoded bytes as they are.

The files are read twice. First each is looked into, in parallel; what is broken is left out. Then the splits are
chosen, which takes the hashes of all images, and the examples are written in the order of those hashes: neighbours in
a file of examples are of any class. Which files there are is components/data/image_files.py's to say, what is in one
components/data/image_inspection.py's, and whether Beam does the work components/data/beam_mode.py's.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
from absl import logging
from google.protobuf import json_format
from tfx import types
from tfx.components.example_gen import driver, utils
from tfx.dsl.components.base import base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs

from kubetfx.components.data import beam_mode, image_files, table_profile, tables
from kubetfx.components.data.example_shards import ShardWriter, check_splits, describe, open_splits, write_shards
from kubetfx.components.data.image_files import BrokenFile, ImageFile, ImageFiles
from kubetfx.components.data.image_inspection import ImageFacts, assign_splits, find_copies
from kubetfx.components.data.image_notes import REPORT, report_warnings
from kubetfx.components.data.image_reading import check_broken, look_into, read_file
from kubetfx.components.example_gen import TableExampleGen, unpack
from kubetfx.config.data_section import DataConfig
from kubetfx.errors import DataError

FILES_A_SHARD = 256
"""Files that a worker of Beam is handed at a time to look into."""
BYTES_A_SHARD = 128 * 2**20
"""Encoded images of a file of examples, over all splits, about."""
IMAGES_A_SHARD = 10_000
ROWS_A_BLOCK = 256
BYTES_A_BLOCK = 2**24
"""What is gathered before it is handed to the writer."""
COMPRESSION = "none"
"""Encoded images hardly get smaller."""


@dataclass(frozen=True)
class Image:
    """A file that can be used."""

    file: ImageFile
    facts: ImageFacts


def values_of(image: Image, content: bytes, *, label: str) -> dict[str, bytes | float | str]:
    """What the example of an image has, by column.

    Args:
        image: the file and what was found in it.
        content: its bytes.
        label: name of the label's column.
    """
    return {
        image_files.IMAGE: content,
        image_files.PATH: image.file.name,
        label: image.file.label,
        "image_size": image.facts.image_size,
        **vars(image.facts),
        **image.file.metadata,
    }


@beam.typehints.with_input_types(tuple[int, list[str]])
@beam.typehints.with_output_types(str)
class _Inspect(beam.DoFn):
    """Looks into a shard's files, and yields one line of JSON for all: the facts, or the reason, of each."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels

    def process(self, numbered_shard: tuple[int, list[str]]) -> Iterator[str]:
        number, paths = numbered_shard
        found = look_into(paths, max_pixels=self._max_pixels)
        yield json.dumps([number, [entry if isinstance(entry, str) else asdict(entry) for entry in found]])


@beam.typehints.with_input_types(tuple[int, Any])
@beam.typehints.with_output_types(tuple[str, int])
class _WriteExamples(beam.DoFn):
    """Writes a shard's images to one Parquet file a split; yields images by split.

    Encoded images never become Beam elements: they would be copied from step to step.
    """

    def __init__(self, split_folders: Mapping[str, str], schema: pa.Schema, *, num_shards: int, label: str) -> None:
        self._split_folders = split_folders
        self._schema = schema
        self._num_shards = num_shards
        self._label = label

    def process(self, numbered_shard: tuple[int, list[tuple[Image, str]]]) -> Iterator[tuple[str, int]]:
        number, images = numbered_shard
        writer = ShardWriter(
            self._split_folders, self._schema, number=number, num_shards=self._num_shards, compression=COMPRESSION
        )
        gathered = {split: _Gathered(self._schema) for split in self._split_folders}
        for image, split in images:
            content = read_file(image.file.path)
            if hashlib.sha256(content).hexdigest() != image.facts.content_hash:
                raise DataError(
                    f"{image.file.name} was changed while it was read. Run again when nothing writes there."
                )
            rows = gathered[split]
            rows.add(values_of(image, content, label=self._label), num_bytes=len(content))
            if rows.is_full:
                writer.write(split, rows.take())
        for split, rows in gathered.items():
            writer.write(split, rows.take())
        yield from writer.close().items()


class _Gathered:
    """Rows of a split on their way to its file."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._rows: list[dict[str, bytes | float | str]] = []
        self._num_bytes = 0

    @property
    def is_full(self) -> bool:
        return len(self._rows) >= ROWS_A_BLOCK or self._num_bytes >= BYTES_A_BLOCK

    def add(self, row: dict[str, bytes | float | str], *, num_bytes: int) -> None:
        self._rows.append(row)
        self._num_bytes += num_bytes

    def take(self) -> pa.RecordBatch:
        block = pa.RecordBatch.from_pylist(self._rows, self._schema)
        self._rows, self._num_bytes = [], 0
        return block


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes the images as examples, a folder a split, and a report of what was left out."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the component; the exec properties are those of TFX's FileBasedExampleGen.

        Raises:
            DataError: too few images are whole for two classes and every split, or one changed meanwhile.
            AnomaliesError: more of the files are broken than `data.max_broken_fraction` allows.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(output_dict[standard_component_specs.EXAMPLES_KEY])
        data = unpack(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        data = data.model_copy(update={"path": exec_properties[standard_component_specs.INPUT_BASE_KEY]})
        fractions = _fractions(exec_properties[standard_component_specs.OUTPUT_CONFIG_KEY])

        found = image_files.find_images(data)
        images, broken = self._inspect(found, data, scratch=Path(examples.uri))
        check_broken(broken, num_files=len(images) + len(broken), data=data)
        by_class: dict[str, list[str]] = {}
        for image in images:
            by_class.setdefault(image.file.label, []).append(image.facts.content_hash)
        if len(by_class) < 2:
            raise DataError(
                "Without the broken files there are fewer than two classes. Received: "
                f"{', '.join(by_class) or 'none'}. Mend the files: {broken[0].name}, {broken[0].reason}."
            )
        splits = assign_splits(by_class, fractions)
        report = _report(images, broken, splits, found)
        _log(report)

        profile = profile_of(images, found.metadata_types, label=data.label)
        folders = open_splits(examples, fractions)
        counts = self._write(images, splits, folders, profile, label=data.label, root=Path(examples.uri))
        check_splits(counts, unit="image")
        (Path(examples.uri) / REPORT).write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
        describe(examples, counts, profile, label=data.label)

    def _inspect(self, found: ImageFiles, data: DataConfig, *, scratch: Path) -> tuple[list[Image], list[BrokenFile]]:
        paths = [file.path for file in found.files]
        if beam_mode.is_in_process(self._beam_pipeline_args):
            entries = look_into(paths, max_pixels=data.max_pixels)
        else:
            beam_mode.prepare_workers(self._beam_pipeline_args)
            entries = self._look_into_on_beam(paths, data, facts_path=scratch / "facts.jsonl")
        images, broken = [], list(found.broken)
        for file, entry in zip(found.files, entries, strict=True):
            if isinstance(entry, str):
                broken.append(BrokenFile(file.name, entry))
            else:
                images.append(Image(file, entry))
        return images, broken

    def _look_into_on_beam(self, paths: list[str], data: DataConfig, *, facts_path: Path) -> list[ImageFacts | str]:
        shards = [paths[start : start + FILES_A_SHARD] for start in range(0, len(paths), FILES_A_SHARD)]
        with self._make_beam_pipeline() as pipeline:
            (
                pipeline
                | "Files" >> beam.Create(list(enumerate(shards)), reshuffle=len(shards) > 1)
                | "Inspect" >> beam.ParDo(_Inspect(data.max_pixels))
                | "WriteFacts" >> beam.io.WriteToText(str(facts_path), shard_name_template="")
            )
        lines = sorted(json.loads(line) for line in facts_path.read_text(encoding="utf-8").splitlines())
        facts_path.unlink()
        return [entry if isinstance(entry, str) else ImageFacts(**entry) for _, shard in lines for entry in shard]

    def _write(
        self,
        images: Iterable[Image],
        splits: Mapping[str, str],
        folders: Mapping[str, str],
        profile: table_profile.TableProfile,
        *,
        label: str,
        root: Path,
    ) -> dict[str, int]:
        """Images by split."""
        ordered = sorted(images, key=lambda image: (image.facts.content_hash, image.file.name))
        shards = _shards([(image, splits[image.facts.content_hash]) for image in ordered])
        return write_shards(
            _WriteExamples(dict(folders), _schema_of(profile), num_shards=len(shards), label=label),
            list(enumerate(shards)),
            splits=folders,
            beam_arguments=self._beam_pipeline_args,
            make_pipeline=self._make_beam_pipeline,
            scratch=root,
        )


def profile_of(images: Sequence[Image], metadata_types: Mapping[str, str], *, label: str) -> table_profile.TableProfile:
    """The columns of the examples, as a scan of a table would describe them; the bytes are none of them."""
    ranges = {
        name: [getattr(image.facts, name) for image in images]
        for name in ("brightness", "channels", "height", "num_bytes", "width")
    }
    columns = [
        table_profile.Column(
            name,
            "float" if name == "brightness" else "int64",
            num_values=len(images),
            minimum=min(values),
            maximum=max(values),
        )
        for name, values in ranges.items()
    ]
    texts = {
        image_files.PATH: [image.file.name for image in images],
        image_files.CONTENT_HASH: [image.facts.content_hash for image in images],
        "format": [image.facts.format for image in images],
        "image_size": [image.facts.image_size for image in images],
        label: [image.file.label for image in images],
    }
    for name, values in texts.items():
        distinct = tuple(sorted(set(values))) if name == label else ()
        number = len(set(values))
        columns.append(table_profile.Column(name, "string", len(images), number, number < len(values), values=distinct))
    for name, kind in metadata_types.items():
        present = [image.file.metadata[name] for image in images if name in image.file.metadata]
        columns.append(table_profile.Column(name, kind, len(present), len(set(present))))  # type: ignore[arg-type]
    return table_profile.TableProfile(tuple(sorted(columns, key=lambda column: column.name)), len(images))


def _schema_of(profile: table_profile.TableProfile) -> pa.Schema:
    """Of the examples: the columns, and the bytes of the pictures."""
    columns = [(column.name, tables.ARROW_TYPES[column.type]) for column in profile.columns]
    return pa.schema([*columns, (image_files.IMAGE, pa.binary())])


def _shards(images: Sequence[tuple[Image, str]]) -> list[list[tuple[Image, str]]]:
    shards: list[list[tuple[Image, str]]] = [[]]
    num_bytes = 0
    for entry in images:
        if num_bytes > BYTES_A_SHARD or len(shards[-1]) == IMAGES_A_SHARD:
            shards.append([])
            num_bytes = 0
        shards[-1].append(entry)
        num_bytes += entry[0].facts.num_bytes
    return shards


def _report(
    images: Sequence[Image], broken: Sequence[BrokenFile], splits: Mapping[str, str], found: ImageFiles
) -> dict[str, Any]:
    classes: dict[str, dict[str, int]] = {}
    for image in images:
        by_split = classes.setdefault(image.file.label, {})
        split = splits[image.facts.content_hash]
        by_split[split] = by_split.get(split, 0) + 1
    labels = {image.file.name: image.file.label for image in images}
    copies = find_copies({image.file.name: image.facts.content_hash for image in images})
    return {
        "num_images": len(images),
        "classes": dict(sorted(classes.items())),
        "broken": [asdict(file) for file in broken],
        "copies": copies,
        "conflicts": [names for names in copies if len({labels[name] for name in names}) > 1],
        "warnings": list(found.warnings),
    }


def _log(report: Mapping[str, Any]) -> None:
    logging.info("%d images of %d classes.", report["num_images"], len(report["classes"]))
    for line in report_warnings(report):
        logging.warning("%s", line)
    for file in report["broken"]:
        logging.warning("Left out: %s: %s", file["name"], file["reason"])


def _fractions(output_config_json: str) -> dict[str, float]:
    config = json_format.Parse(output_config_json, example_gen_pb2.Output())
    buckets = {split.name: split.hash_buckets for split in config.split_config.splits}
    return {name: number / sum(buckets.values()) for name, number in buckets.items()}


class Driver(driver.FileBasedDriver):
    """TFX's driver, with a fingerprint of the image files: it is in the cache's key."""

    def resolve_exec_properties(
        self, exec_properties: dict[str, Any], pipeline_info: Any, component_info: Any
    ) -> dict[str, Any]:
        """Set the fingerprint.

        Raises:
            DataError: there are no images.
        """
        data = unpack(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        path = exec_properties[standard_component_specs.INPUT_BASE_KEY]
        return {
            **exec_properties,
            utils.SPAN_PROPERTY_NAME: 0,
            utils.VERSION_PROPERTY_NAME: None,
            utils.FINGERPRINT_PROPERTY_NAME: image_files.fingerprint(data.model_copy(update={"path": path})),
        }


class ImageExampleGen(TableExampleGen):
    """TFX's FileBasedExampleGen over image files; `input_base` is their folder, or their list."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver
