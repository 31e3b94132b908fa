"""Images, each figure beside what somebody would write by hand, on the same files and in the same process.

    python -m benchmarks.images [example-gen] [input] [serving] [batch] [--files N] [--rounds N]

example-gen  files per second of ImageExampleGen, and of a hand-written converter with TFX's ImportExampleGen
input        images per second of training, and of a tf.data loop with the same network: kept in memory, and not
serving      milliseconds for a 224 x 224 JPEG over gRPC and REST, and for a bare call of the session
batch        pictures per second of `kubetfx batch-predict`, and of a loop around the session

Rounds alternate, so that what else runs on the machine meets both; a figure is the median of the rounds, and a share
the median of their shares. Puts the tables into benchmarks/README.md. Exit code 1: a figure misses its bound (BOUNDS).
"""

import argparse
import functools
import gc
import http.client
import io
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import grpc
import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.python.framework import config as tensorflow_config
from tfx.types import artifact_utils, standard_artifacts

from benchmarks.readme import machine, write_section
from kubetfx.config.data_section import DataConfig
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.models.examples import files_in, read_blocks

CLASSES = 4
EDGE = 96
"""Pixels of the pictures' edges; those of Fruits-360 have 100."""
TRAINED_EDGE = 48
SERVED_EDGE = 224
EPOCHS = 4
BATCH = 64
CALLS = 300
BATCH_FILES = 1_000
BOUNDS = {"example-gen": 5.0, "input": 0.9, "serving": 2.0, "batch": 0.8}
"""Times faster at least; share of the images per second at least; milliseconds more at most; share at least."""


@dataclass(frozen=True)
class Timing:
    """What a job took."""

    seconds: float
    cpu_seconds: float
    """For this process: other jobs on the machine change it less than the time that passes."""


@dataclass(frozen=True)
class Result:
    """A part of the benchmark."""

    tables: str
    figure: float
    """What is compared with the bound."""


def write_files(folder: Path, number: int, *, edge: int = EDGE) -> list[Path]:
    """JPEG files of soft blobs, about as large as photographs of the size, in a folder per class."""
    paths = []
    for index in range(number):
        random = np.random.default_rng(index)
        small = random.integers(0, 256, (edge // 8, edge // 8, 3), dtype=np.uint8)
        path = folder / f"class-{index % CLASSES}" / f"{index:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((edge, edge), Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return paths


def measure_example_gen(folder: Path, *, rounds: int) -> Result:
    """ImageExampleGen, and the route of TFX's guides."""
    from kubetfx.components.example_driver import Driver
    from kubetfx.components.example_gen import ExampleGen, Executor

    paths = sorted(folder.rglob("*.jpg"))
    data = DataConfig(path=str(folder), format="images", label="label")
    names = ("ImageExampleGen: read, decoded, checked, split", "converter by hand, and TFX's ImportExampleGen")
    timings = _in_turn(
        {
            names[0]: lambda: _run(ExampleGen(data), Driver, Executor),
            names[1]: lambda: _import_route(paths),
        },
        rounds=rounds,
    )
    ratio = 1 / _share(timings[names[1]], timings[names[0]])
    size = sum(path.stat().st_size for path in paths) / len(paths)
    title = f"ExampleGen, {len(paths):,} JPEG files of {EDGE} x {EDGE}, {size:,.0f} bytes each"
    table = _table(title, timings, number=len(paths), unit="files")
    return Result(f"{table}\n{ratio:.1f} times as fast; asked for: {BOUNDS['example-gen']:g} times.\n", ratio)


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


def measure_input(folder: Path, *, rounds: int) -> Result:
    """Time the training's images, and a tf.data loop over the same files."""
    from kubetfx.components.example_driver import Driver
    from kubetfx.components.example_gen import ExampleGen, Executor

    data = DataConfig(path=str(folder), format="images", label="label")
    model = ModelConfig(kind="image", image_size=TRAINED_EDGE, filters=(8, 16))
    tables, shares = [], []
    with tempfile.TemporaryDirectory() as output:
        examples = standard_artifacts.Examples()
        examples.uri = output
        properties = Driver(None).resolve_exec_properties(dict(ExampleGen(data).exec_properties), None, None)
        Executor().Do({}, {"examples": [examples]}, properties)
        pattern = f"{artifact_utils.get_split_uri([examples], 'train')}/*"
        paths = _paths_in(pattern, folder)
        for words, cache_bytes in (("kept in memory", 2**30), ("decoded in each epoch", 0)):
            names = ("kubetfx, from its examples", "tf.data by hand, from the files")
            timings = _in_turn(
                {
                    names[0]: functools.partial(_train, pattern, model, cache_bytes=cache_bytes),
                    names[1]: functools.partial(_train_by_hand, paths, model, is_cached=cache_bytes > 0),
                },
                rounds=rounds,
            )
            title = f"training, {EPOCHS} epochs of {len(paths):,} images at {TRAINED_EDGE} x {TRAINED_EDGE}, {words}"
            shares.append(_share(timings[names[0]], timings[names[1]]))
            table = _table(title, timings, number=len(paths) * EPOCHS, unit="images")
            tables.append(f"{table}\n{shares[-1]:.2f} of it; asked for: {BOUNDS['input']:g}.\n")
    return Result("\n".join(tables), min(shares))


def _paths_in(pattern: str, folder: Path) -> list[Path]:
    """Return the files that a split was made from."""
    blocks = read_blocks(files_in(pattern), ["path"])
    return sorted(folder / name for block in blocks for name in block.column("path").to_pylist())


def _labels(pattern: str) -> np.ndarray:
    """Return the index of the class of each image of a split."""
    names = [name for block in read_blocks(files_in(pattern), ["label"]) for name in block.column("label").to_pylist()]
    return np.array([int(name.removeprefix("class-")) for name in names])


def _network(model: ModelConfig) -> Any:
    from kubetfx.models.columns.image.pixel_training import TrainedNetwork

    return TrainedNetwork.of(_classifier(model), None, mixup=0, num_classes=CLASSES, seed=0)


def _classifier(model: ModelConfig) -> Any:
    from kubetfx.models.columns.image.pixel_network import encode_pixels
    from kubetfx.models.network import join, with_head

    keras.utils.set_random_seed(0)
    network = join([encode_pixels(model)], model=model, num_outputs=CLASSES)
    return with_head(network, labels=np.empty(0), is_classifier=True)


def _compile(network: Any, training: TrainingConfig) -> None:
    network.compile(
        optimizer=keras.optimizers.Adam(training.learning_rate),
        loss=keras.losses.CategoricalCrossentropy(),
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=False,
    )


def _train(pattern: str, model: ModelConfig, *, cache_bytes: int) -> None:
    from kubetfx.models.columns.image.pixel_rows import load_images

    with _determinism():
        options: dict[str, Any] = {"column": "image", "features": {}}
        options |= {"labels": _labels(pattern), "model": model, "max_pixels": 10**8}
        rows = load_images(files_in(pattern), cache_bytes=cache_bytes, **options)
        network = _network(model)
        _compile(network, TrainingConfig())
        batches = rows.shuffled_batches(BATCH, seed=0, epochs=range(EPOCHS))
        network.fit(batches, epochs=EPOCHS, steps_per_epoch=-(-len(rows.labels) // BATCH), verbose=0)


@contextmanager
def _determinism() -> Iterator[None]:
    """Training of kubetfx is reproducible; the loop by hand is not asked for it."""
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        tensorflow_config.disable_op_determinism()  # TensorFlow's public interface has no way back


def _train_by_hand(paths: list[Path], model: ModelConfig, *, is_cached: bool) -> None:
    labels = [int(path.parent.name[-1]) for path in paths]

    def read(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.cast(tf.image.resize(image, model.image_shape, antialias=True), tf.uint8), label

    dataset = tf.data.Dataset.from_tensor_slices(([str(path) for path in paths], labels))
    if is_cached:
        dataset = dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE).cache().shuffle(len(paths), seed=0)
    else:  # names are shuffled, which costs less than pictures
        dataset = dataset.shuffle(len(paths), seed=0).map(read, num_parallel_calls=tf.data.AUTOTUNE)
    network = _network(model)
    _compile(network, TrainingConfig())
    network.fit(dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE), epochs=EPOCHS, verbose=0)


def measure_serving(folder: Path) -> Result:
    """Time one picture over a server in a process of its own, and by a bare call of the same session.

    The requests are made beforehand, and sent over a connection that stays: what a client costs is its own affair.
    """
    from tensorflow_serving.apis import predict_pb2

    from kubetfx.serving.model_config import ModelConfig as ServedModel
    from kubetfx.serving.saved_model import SavedModel
    from kubetfx.serving.server import ServerOptions
    from kubetfx.tables.json_bytes import to_json

    content = write_files(folder / "one", 1, edge=SERVED_EDGE)[0].read_bytes()
    _export(folder / "served" / "1", image_size=SERVED_EDGE)
    model = SavedModel(folder / "served" / "1")
    feeds, fetches = _tensors(model)
    array = np.array([content], dtype=object)
    body = json.dumps({"instances": [{"image_bytes": to_json(content)}]}).encode()
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "images"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([content]))
    message = request.SerializeToString()
    served = ServerOptions(models=(ServedModel("images", folder / "served"),), rest_port=0, grpc_port=0)
    with _served(served) as (rest_port, grpc_port), grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        rest = http.client.HTTPConnection("127.0.0.1", rest_port)
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")

        def post() -> bytes:
            rest.request("POST", "/v1/models/images:predict", body)
            response = rest.getresponse()
            answer = response.read()
            assert response.status == 200, answer
            return answer

        bare, over_grpc, over_rest = _milliseconds_in_turn(
            lambda: model.run(feeds, [array], fetches), lambda: predict(message), post
        )
        rest.close()
    lines = [
        f"| one JPEG of {SERVED_EDGE} x {SERVED_EDGE}, {len(content):,} bytes, median of {CALLS} | milliseconds "
        "| over the bare call |",
        "|---|---|---|",
        f"| bare call of the session | {bare:.2f} | |",
        f"| gRPC | {over_grpc:.2f} | {over_grpc - bare:.2f} |",
        f"| REST | {over_rest:.2f} | {over_rest - bare:.2f} |",
    ]
    text = "\n".join(lines) + f"\n\nAsked for: at most {BOUNDS['serving']:g} ms over the bare call.\n"
    return Result(text, max(over_grpc, over_rest) - bare)


@contextmanager
def _served(options: Any) -> Iterator[tuple[int, int]]:
    """Ports of REST and gRPC of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(options, theirs))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


def _serve(options: Any, connection: Connection) -> None:
    from kubetfx.serving.server import RunningServer

    with RunningServer(options) as server:
        connection.send((server.rest_port, server.grpc_port))
        connection.recv()


def measure_batch(folder: Path, *, rounds: int) -> Result:
    """Time a folder of pictures through `kubetfx batch-predict`, and through a loop around the session."""
    from kubetfx.serving import bulk

    pictures = folder / "pictures"
    paths = write_files(pictures, BATCH_FILES, edge=SERVED_EDGE)
    _export(folder / "predicting" / "1", image_size=TRAINED_EDGE)
    saved_model = folder / "predicting" / "1"

    def predict() -> None:
        with tempfile.TemporaryDirectory() as output:
            job = bulk.BulkJob(saved_model, "images", 1, "", str(pictures), Path(output) / "predictions.parquet")
            assert bulk.predict(job).num_rows == len(paths)

    names = ("kubetfx batch-predict", "loop around the session, one batch after the other")
    jobs = {names[0]: predict, names[1]: lambda: _predict_by_hand(saved_model, paths)}
    timings = _in_turn(jobs, rounds=rounds)
    share = _share(timings[names[0]], timings[names[1]])
    title = f"batch prediction, {len(paths):,} JPEG files of {SERVED_EDGE} x {SERVED_EDGE}, network at {TRAINED_EDGE}"
    table = _table(title, timings, number=len(paths), unit="images")
    return Result(f"{table}\n{share:.2f} of it; asked for: {BOUNDS['batch']:g}.\n", share)


def _predict_by_hand(saved_model: Path, paths: Sequence[Path]) -> list[list[Any]]:
    """Predict as anyone would by hand: load the model, read files, keep the answers in memory."""
    from kubetfx.serving.block_prediction import IMAGE_BATCH
    from kubetfx.serving.saved_model import SavedModel

    model = SavedModel(saved_model)
    feeds, fetches = _tensors(model)
    answers = []
    for start in range(0, len(paths), IMAGE_BATCH):
        array = np.array([path.read_bytes() for path in paths[start : start + IMAGE_BATCH]], dtype=object)
        answers.append(model.run(feeds, [array], fetches))
    model.close()
    return answers


def _tensors(model: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the tensors that serving_default takes and gives."""
    signature = model.signatures["serving_default"]
    feeds = (signature.inputs["image_bytes"].tensor_name,)
    return feeds, tuple(spec.tensor_name for name, spec in signature.outputs.items() if name != "classes")


def _export(path: Path, *, image_size: int) -> None:
    from kubetfx.models.columns.image.pixels import Pixels

    config = ModelConfig(kind="image", image_size=image_size, filters=(8, 16))
    model, image = _classifier(config), Pixels("image", config, 10**8)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        lambda image_bytes: {"probabilities": model(image.features(image_bytes))},
        [tf.TensorSpec([None], tf.string, "image_bytes")],
    )
    archive.write_out(str(path), verbose=False)


# Timing


def _in_turn(jobs: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[Timing]]:
    """Timings of each by round, after one that does not count: imports, and graphs that are traced once."""
    timings: dict[str, list[Timing]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        gc.freeze()  # a full collection with TensorFlow imported takes 0.2 s, and meets whom it meets
        for name, job in jobs.items():
            started, cpu_started = time.perf_counter(), time.process_time()
            job()
            timing = Timing(time.perf_counter() - started, time.process_time() - cpu_started)
            if number:
                timings[name].append(timing)
                print(f"{name}: {timing.seconds:.2f} s, {timing.cpu_seconds:.2f} of CPU", file=sys.stderr, flush=True)
    return timings


def _share(ours: Sequence[Timing], theirs: Sequence[Timing]) -> float:
    """For their speed: the median over the rounds."""
    return statistics.median(their.seconds / our.seconds for our, their in zip(ours, theirs, strict=True))


def _table(title: str, timings: Mapping[str, Sequence[Timing]], *, number: int, unit: str) -> str:
    rounds = len(next(iter(timings.values())))
    lines = [f"| {title}, median of {rounds} | {unit} per second (lowest to highest) | CPU seconds |", "|---|---|---|"]
    for name, values in timings.items():
        rates = [number / timing.seconds for timing in values]
        low, middle, high = (f"{f(rates):,.0f}" for f in (min, statistics.median, max))
        cpu = statistics.median(timing.cpu_seconds for timing in values)
        lines.append(f"| {name} | {middle} ({low} to {high}) | {cpu:.2f} |")
    return "\n".join(lines) + "\n"


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _milliseconds_in_turn(*calls: Callable[[], Any]) -> list[float]:
    """Return the median of each, called one after the other repeatedly.

    What else runs delays them alike then.
    """
    for call in calls * 10:
        call()
    seconds = [[_seconds(call) for call in calls] for _ in range(CALLS)]
    return [statistics.median(column) * 1000 for column in zip(*seconds, strict=True)]


def main() -> int:
    """Measure what is named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=", ".join(BOUNDS))
    parser.add_argument("--files", type=int, default=4_000, help="of example-gen and input (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="that count (default: %(default)s)")
    options = parser.parse_args()
    wanted = options.what or list(BOUNDS)
    if unknown := sorted(set(wanted) - set(BOUNDS)):
        parser.error(f"there is no {unknown[0]}; known: {', '.join(BOUNDS)}")
    misses = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = folder / "images"
        if {"example-gen", "input"} & set(wanted):
            write_files(images, options.files)
        measures: dict[str, Callable[[], Result]] = {
            "example-gen": lambda: measure_example_gen(images, rounds=options.rounds),
            "input": lambda: measure_input(images, rounds=options.rounds),
            "serving": lambda: measure_serving(folder),
            "batch": lambda: measure_batch(folder, rounds=options.rounds),
        }
        for name in wanted:
            result = measures[name]()
            print(f"\n{result.tables}", flush=True)
            write_section(f"images {name}", f"{machine()}\n\n{result.tables}")
            bound = BOUNDS[name]
            if result.figure > bound if name == "serving" else result.figure < bound:
                misses.append(f"{name}: {result.figure:.2f}, and {bound:g} is asked for")
    for miss in misses:
        print(f"Missed: {miss}", file=sys.stderr)
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
