"""Images, each figure beside what somebody would write by hand, on the same files and in the same process.

    python -m benchmarks.images [example-gen] [input] [serving] [--files N]

example-gen  files a second of ImageExampleGen, and of a hand-written converter with TFX's ImportExampleGen
input        images a second of training, and of a tf.data loop with the same network
serving      milliseconds for a 224 x 224 JPEG over gRPC and REST, and for a bare call of the session

Prints Markdown tables. Exit code 1: a figure misses its bound (BOUNDS).
"""

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tfx.types import standard_artifacts

from pipeline.config import DataConfig, ModelConfig, TrainingConfig

CLASSES = 4
EDGE = 96
TRAINED_EDGE = 48
EPOCHS = 3
BATCH = 64
CALLS = 200
BOUNDS = {"example-gen": 5.0, "input": 0.9, "serving": 2.0}
"""Times faster at least; share of the images a second at least; milliseconds more at most."""


def write_files(folder: Path, number: int, *, edge: int = EDGE) -> list[Path]:
    """JPEG files of soft blobs, about as large as photographs of the size, in a folder a class."""
    paths = []
    for index in range(number):
        random = np.random.default_rng(index)
        small = random.integers(0, 256, (edge // 8, edge // 8, 3), dtype=np.uint8)
        path = folder / f"class-{index % CLASSES}" / f"{index:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((edge, edge), Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return paths


def measure_example_gen(folder: Path, number: int) -> bool:
    """ImageExampleGen, and the route of TFX's guides."""
    from components.image_example_gen import Driver, Executor, ImageExampleGen

    data = DataConfig(path=str(folder), format="images", label="label")
    for _ in range(2):  # the first run traces graphs
        ours = _seconds(lambda: _run(ImageExampleGen(data), Driver, Executor))
    theirs = _seconds(lambda: _import_route(sorted(folder.rglob("*.jpg"))))
    ratio = theirs / ours
    print(f"\n| ExampleGen, {number:,} files of {EDGE} x {EDGE} | files a second |\n|---|---|")
    print(f"| ImageExampleGen: read, decoded, checked, split | {number / ours:,.0f} |")
    print(f"| converter and TFX's ImportExampleGen | {number / theirs:,.0f} |\n\n{ratio:.1f} times as fast.")
    return ratio >= BOUNDS["example-gen"]


def _run(component: Any, driver: Any, executor: Any) -> None:
    with tempfile.TemporaryDirectory() as output:
        examples = standard_artifacts.Examples()
        examples.uri = output
        properties = driver(None).resolve_exec_properties(dict(component.exec_properties), None, None)
        executor().Do({}, {"examples": [examples]}, properties)


def _import_route(paths: list[Path]) -> None:
    from tfx.components.example_gen.driver import FileBasedDriver
    from tfx.components.example_gen.import_example_gen.component import ImportExampleGen
    from tfx.components.example_gen.import_example_gen.executor import Executor

    with tempfile.TemporaryDirectory() as converted:
        with tf.io.TFRecordWriter(f"{converted}/data.gz", tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for path in paths:
                content = path.read_bytes()
                with Image.open(io.BytesIO(content)) as image:
                    image.load()  # it is whole
                    height, width = image.size[::-1]
                example = tf.train.Example()
                features = example.features.feature
                features["image"].bytes_list.value.append(content)
                features["label"].bytes_list.value.append(path.parent.name.encode())
                features["height"].int64_list.value.append(height)
                features["width"].int64_list.value.append(width)
                writer.write(example.SerializeToString())
        _run(ImportExampleGen(input_base=converted), FileBasedDriver, Executor)


def measure_input(folder: Path, number: int) -> bool:
    """The training's images, and a tf.data loop over the same files."""
    from components.image_example_gen import Driver, Executor, ImageExampleGen

    data = DataConfig(path=str(folder), format="images", label="label")
    with tempfile.TemporaryDirectory() as output:
        examples = standard_artifacts.Examples()
        examples.uri = output
        properties = Driver(None).resolve_exec_properties(dict(ImageExampleGen(data).exec_properties), None, None)
        Executor().Do({}, {"examples": [examples]}, properties)
        counts = json.loads(examples.get_string_custom_property("num_examples"))
        paths = sorted(folder.rglob("*.jpg"))[: counts["train"]]
        model = ModelConfig(kind="image", image_size=TRAINED_EDGE, filters=(8, 16))
        ours, theirs = [], []
        for _ in range(3):
            ours.append(_seconds(lambda: _train(f"{output}/Split-train/*", model)))
            theirs.append(_seconds(lambda: _train_by_hand(paths, model)))
    images = counts["train"] * EPOCHS
    share = min(theirs) / min(ours)
    size = f"{TRAINED_EDGE} x {TRAINED_EDGE}"
    print(f"\n| training, {EPOCHS} epochs of {counts['train']:,} images at {size} | images a second |")
    print(f"|---|---|\n| kubetfx, from TFRecords | {images / min(ours):,.0f} |")
    print(f"| tf.data by hand, from the files | {images / min(theirs):,.0f} |\n\n{share:.2f} of it.")
    return share >= BOUNDS["input"]


def _network(model: ModelConfig) -> Any:
    from models.image import build_network
    from models.image_training import TrainedNetwork

    keras.utils.set_random_seed(0)
    return TrainedNetwork(build_network(model, num_classes=CLASSES), None, mixup=0, num_classes=CLASSES, seed=0)


def _compile(network: Any, training: TrainingConfig) -> None:
    network.compile(
        optimizer=keras.optimizers.Adam(training.learning_rate),
        loss=keras.losses.CategoricalCrossentropy(),
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=False,
    )


def _train(pattern: str, model: ModelConfig) -> None:
    from models.image_rows import load_images

    classes = [f"class-{index}" for index in range(CLASSES)]
    rows = load_images([pattern], label="label", classes=classes, model=model, max_pixels=10**8, cache_bytes=2**30)
    network = _network(model)
    _compile(network, TrainingConfig())
    batches = rows.shuffled_batches(BATCH, seed=0, epochs=range(EPOCHS))
    network.fit(batches, epochs=EPOCHS, steps_per_epoch=-(-len(rows.labels) // BATCH), verbose=0)


def _train_by_hand(paths: list[Path], model: ModelConfig) -> None:
    labels = [int(path.parent.name[-1]) for path in paths]

    def read(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.cast(tf.image.resize(image, model.image_shape, antialias=True), tf.uint8), label

    dataset = tf.data.Dataset.from_tensor_slices(([str(path) for path in paths], labels))
    dataset = dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE).cache().shuffle(len(paths), seed=0)
    network = _network(model)
    _compile(network, TrainingConfig())
    network.fit(dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE), epochs=EPOCHS, verbose=0)


def measure_serving(folder: Path) -> bool:
    """One picture over the server, and by a bare call of the same session."""
    from serving.client import ClientOptions, GrpcClient, RestClient, Target
    from serving.image_rows import to_json
    from serving.model_config import ModelConfig as ServedModel
    from serving.saved_model import SavedModel, SessionOptions
    from serving.server import RunningServer, ServerOptions

    content = write_files(folder / "one", 1, edge=224)[0].read_bytes()
    _export(folder / "served" / "1")
    model = SavedModel(folder / "served" / "1", SessionOptions())
    signature = model.signatures["serving_default"]
    feeds = (signature.inputs["image_bytes"].tensor_name,)
    fetches = tuple(spec.tensor_name for spec in signature.outputs.values())
    array = np.array([content], dtype=object)
    rows, target = [{"image_bytes": to_json(content)}], Target("images")
    served = ServerOptions(models=(ServedModel("images", folder / "served"),), rest_port=0, grpc_port=0)
    with (
        RunningServer(served) as server,
        GrpcClient(f"127.0.0.1:{server.grpc_port}", ClientOptions()) as grpc_client,
        RestClient(f"http://127.0.0.1:{server.rest_port}", ClientOptions()) as rest_client,
    ):
        bare, grpc, rest = _milliseconds_in_turn(
            lambda: model.run(feeds, [array], fetches),
            lambda: list(grpc_client.predict(target, rows)),
            lambda: list(rest_client.predict(target, rows)),
        )
    print(f"\n| one JPEG of 224 x 224, {len(content):,} bytes, median of {CALLS} | milliseconds | over the bare call |")
    print(f"|---|---|---|\n| session | {bare:.2f} | |")
    for name, value in (("gRPC", grpc), ("REST", rest)):
        print(f"| {name}, client and server in one process | {value:.2f} | {value - bare:.2f} |")
    return grpc - bare <= BOUNDS["serving"]


def _export(path: Path) -> None:
    from models.image import build_network
    from models.image_export import Graphs, ImageInput

    model = ModelConfig(kind="image", image_size=224, filters=(8, 16))
    graphs = Graphs(build_network(model, num_classes=CLASSES), ImageInput(model, 10**8), ["a", "b", "c", "d"])
    archive = keras.export.ExportArchive()
    archive.track(graphs.network.maps)
    archive.track(graphs.network.head)
    archive.add_endpoint("serving_default", graphs.from_bytes, [tf.TensorSpec([None], tf.string, "image_bytes")])
    archive.write_out(str(path), verbose=False)


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _milliseconds_in_turn(*calls: Callable[[], Any]) -> list[float]:
    """Median of each, called one after the other again and again, so that what else runs delays them alike."""
    for call in calls * 10:
        call()
    seconds = [[_seconds(call) for call in calls] for _ in range(CALLS)]
    return [statistics.median(column) * 1000 for column in zip(*seconds, strict=True)]


def main() -> int:
    """Measure what is named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=", ".join(BOUNDS))
    parser.add_argument("--files", type=int, default=4_000)
    options = parser.parse_args()
    wanted = options.what or list(BOUNDS)
    if unknown := sorted(set(wanted) - set(BOUNDS)):
        parser.error(f"there is no {unknown[0]}; known: {', '.join(BOUNDS)}")
    reached = []
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        if {"example-gen", "input"} & set(wanted):
            write_files(images, options.files)
        if "example-gen" in wanted:
            reached.append(measure_example_gen(images, options.files))
        if "input" in wanted:
            reached.append(measure_input(images, options.files))
        if "serving" in wanted:
            reached.append(measure_serving(Path(folder)))
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
