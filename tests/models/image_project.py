"""A small set of images on its way to the Trainer: examples, schema and transform graph."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_transform as tft
from PIL import Image
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.trainer.fn_args_utils import FnArgs

from kubetfx.components.data.image_files import ImageFile
from kubetfx.components.data.image_folder import Image as ImageEntry
from kubetfx.components.data.image_folder import profile_of, rows_of
from kubetfx.components.data.image_inspection import inspect
from kubetfx.components.schema_gen import complete_schema
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.models.examples import files_in, read_blocks, to_examples
from tests.components.pictures import encoded
from tests.models.conftest import analyzed

CLASSES = ("left", "right", "übrig")
MAX_PIXELS = 10_000


def sample(label: str, seed: int) -> Image.Image:
    """A noisy picture that is bright where its class says."""
    generator = np.random.default_rng(seed)
    width, height = generator.integers(14, 24, 2)
    pixels = generator.integers(0, 90, (height, width, 3))
    part = {"left": np.s_[:, : width // 2], "right": np.s_[:, width // 2 :], "übrig": np.s_[: height // 2]}[label]
    pixels[part] += 120
    return Image.fromarray(pixels.astype(np.uint8))


@dataclass(frozen=True)
class ImageProject:
    """What the Trainer is handed."""

    folder: Path
    transform_output: tft.TFTransformOutput

    def pattern(self, split: str) -> str:
        return str(self.folder / f"Split-{split}" / "*")

    def examples(self, split: str) -> list[bytes]:
        return [example for block in read_blocks(files_in(self.pattern(split))) for example in to_examples(block)]

    def fn_args(self, output: Path, *, model: dict[str, Any], training: dict[str, Any]) -> FnArgs:
        """As TFX makes them, in a folder with the layout of a workspace."""
        custom_config = {
            "model": ModelConfig(kind="image", **model).model_dump(mode="json"),
            "features": FeaturesConfig().model_dump(mode="json"),
            "training": TrainingConfig(**training).model_dump(mode="json"),
            "max_pixels": MAX_PIXELS,
            "warmup_rows": 3,
        }
        return FnArgs(
            train_files=[self.pattern("train")],
            eval_files=[self.pattern("validation")],
            schema_path=str(self.folder / "schema.pbtxt"),
            transform_graph_path=str(self.folder / "transform_graph"),
            serving_model_dir=str(output / "Trainer" / "model" / "1" / "Format-Serving"),
            model_run_dir=str(output / "Trainer" / "model_run" / "1"),
            custom_config=json.loads(json.dumps(custom_config)),
        )


def make_project(folder: Path) -> ImageProject:
    for split, seeds in (("train", range(40)), ("validation", range(40, 52))):
        (folder / f"Split-{split}").mkdir()
        entries, contents = [], []
        for seed in seeds:
            for number, label in enumerate(CLASSES):
                content = encoded(sample(label, 100 * seed + number), ("PNG", "JPEG", "WEBP")[seed % 3])
                entry = ImageEntry(ImageFile("", f"{label}/{seed}", label), inspect(content, max_pixels=MAX_PIXELS))
                contents.append(content)
                entries.append(entry)
        rows = rows_of(entries, {}, label="label").append_column("image", pa.array(contents, pa.binary()))
        pq.write_table(pa.Table.from_batches([rows]), folder / f"Split-{split}" / "data.parquet")
    schema = schema_pb2.Schema()
    profile = profile_of(rows.drop_columns(["image"]), {}, label="label")
    types = {"float": schema_pb2.FLOAT, "int64": schema_pb2.INT, "string": schema_pb2.BYTES}
    for column in profile.columns:
        schema.feature.add(name=column.name, type=types[column.type])
    complete_schema(schema, profile, label="label", task="classification", config=FeaturesConfig())
    return ImageProject(folder, analyzed(schema, FeaturesConfig(), folder))
