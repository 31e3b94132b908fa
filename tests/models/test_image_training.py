import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kubetfx.config.model_section import AugmentationConfig, ModelConfig
from kubetfx.config.training_section import FineTuneConfig, TrainingConfig
from kubetfx.errors import ConfigError, TrainingError
from kubetfx.models.columns.image import pixel_rows
from kubetfx.models.columns.image.augmentation import build_augmentation
from kubetfx.models.columns.image.pixel_network import (
    backbone_names,
    check_backbone,
    default_filters,
    encode_pixels,
    first_tuned,
)
from kubetfx.models.columns.image.pixel_rows import load_images
from kubetfx.models.columns.image.pixel_training import describe_input
from kubetfx.models.examples import files_in
from kubetfx.models.fitting import Work, fit_model, load
from kubetfx.models.network import join
from kubetfx.models.team import Team
from kubetfx.models.training import make_repeatable, run_fn
from kubetfx.models.training_checkpoint import STATE
from tests.models.image_project import MAX_PIXELS, ImageProject, make_project

ROOT = Path(__file__).parents[2]
EVERYTHING = {
    "flip": "vertical",
    "rotation_degrees": 5,
    "zoom": 0.1,
    "shift": 0.1,
    "contrast": 0.2,
    "brightness": 0.1,
    "saturation": 0.3,
    "hue": 0.1,
    "noise": 0.05,
    "cutout": 0.3,
    "mixup": 0.2,
}
MODEL = {"image_size": 12, "filters": (8, 16), "augmentation": EVERYTHING}
PLAIN = {"image_size": 12, "filters": (8, 16)}
PLAIN_TRAINING = {"epochs": 3, "batch_size": 16, "learning_rate": 0.01}
TRAINING = {"epochs": 4, "batch_size": 32, "label_smoothing": 0.1, "class_weights": "balanced"}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> ImageProject:
    return make_project(tmp_path_factory.mktemp("project"))


def weights_digest(output: Path) -> str:
    (folder,) = output.glob("Trainer/model/*/Format-Serving/variables")
    variables = tf.train.load_checkpoint(str(folder / "variables"))
    names = [name for name in variables.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name]
    contents = [np.asarray(variables.get_tensor(name)).tobytes() for name in names]  # Keras numbers them in any order
    return hashlib.sha256(b"".join(sorted(contents))).hexdigest()


def history_of(output: Path) -> Any:
    return json.loads(next(output.glob("Trainer/model_run/*/history.json")).read_text())


@pytest.fixture(scope="module")
def trained(project, tmp_path_factory) -> Path:
    """The folder of a training with all kinds of augmentation."""
    output = tmp_path_factory.mktemp("trained")
    run_fn(project.fn_args(output, model=MODEL, training=TRAINING))
    return output


@pytest.fixture(scope="module")
def loss_of(project, tmp_path_factory) -> Callable[..., float]:
    """The loss after three epochs, of rows that are decoded once for all."""
    rows: list[Any] = []

    def fit(model: dict[str, Any] | None = None, **training: Any) -> float:
        output = tmp_path_factory.mktemp("loss")
        args = project.fn_args(output, model={**PLAIN, **(model or {})}, training={**PLAIN_TRAINING, **training})
        work = Work.of(args, TrainingConfig.model_validate(args.custom_config["training"]), Team())
        make_repeatable(work.training.seed, work.team)
        rows.extend(() if rows else load(work))
        losses: list[float] = fit_model(work, *rows, None, load_seconds=0).history["history"]["loss"]
        return losses[-1]

    return fit


@pytest.fixture(scope="module")
def plain_loss(loss_of) -> float:
    """Without anything that makes training harder."""
    return loss_of()


def start(project: ImageProject, output: Path, **training: Any) -> subprocess.Popen[bytes]:
    args = project.fn_args(output, model=MODEL, training={**TRAINING, "checkpoint_seconds": 0, **training})
    (output / "args").write_bytes(pickle.dumps(args))
    program = (
        "import pickle, sys; from absl import logging; logging.set_verbosity(logging.INFO)\n"
        "from kubetfx.models.training import run_fn; run_fn(pickle.load(open(sys.argv[1], 'rb')))"
    )
    with (output / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", program, str(output / "args")],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.long
def test_training_that_is_killed_goes_on_to_the_same_weights(project, trained, tmp_path):
    process = start(project, tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(f"Trainer/checkpoints/*/{STATE}")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"

    assert start(project, tmp_path).wait() == 0, (tmp_path / "log").read_text()

    assert "Going on after epoch" in (tmp_path / "log").read_text()
    assert weights_digest(tmp_path) == weights_digest(trained)
    assert history_of(tmp_path)["history"] == history_of(trained)["history"]
    assert not list(tmp_path.glob("Trainer/checkpoints/*"))


def test_nothing_random_is_in_the_served_graph(trained):
    (path,) = trained.glob("Trainer/model/*/Format-Serving/saved_model.pb")
    (graph,) = saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs
    functions = graph.graph_def.library.function
    operations = {node.op for nodes in (graph.graph_def.node, *(f.node_def for f in functions)) for node in nodes}

    assert "Conv2D" in operations
    assert not [name for name in operations if "random" in name.lower()]


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "training"),
    [
        ({}, {"label_smoothing": 0.5}),
        ({}, {"class_weights": {"left": 10.0}}),
        ({"augmentation": {"mixup": 1.0}}, {}),
        ({"augmentation": {"noise": 1.0}}, {}),
        ({"augmentation": {"cutout": 1.0}}, {}),
    ],
    ids=["label smoothing", "class weights", "mixup", "noise", "cutout"],
)
def test_what_makes_training_harder_is_in_its_loss(loss_of, plain_loss, model, training):
    assert loss_of(model, **training) > 1.5 * plain_loss


def test_input_is_described(trained):
    described = history_of(trained)["input"]

    assert described["images"] == 120
    assert described["decoded"] == "once, kept in memory"
    assert described["decoded_bytes"] == 120 * 12 * 12 * 3
    assert 0 <= described["wait_share"] < 1
    assert described["images_per_second"] > 0


@pytest.mark.parametrize("precision", [pytest.param("float16", marks=pytest.mark.long), "bfloat16"])
def test_network_computes_with_16_bits_and_is_augmented_and_answers_with_32(project, tmp_path, precision):
    training = {**TRAINING, "epochs": 2, "mixed_precision": precision}

    run_fn(project.fn_args(tmp_path, model=MODEL, training=training))

    assert np.isfinite(history_of(tmp_path)["history"]["loss"]).all()
    (folder,) = tmp_path.glob("Trainer/model/*/Format-Serving")
    model = tf.saved_model.load(str(folder))
    pixels = tf.zeros([1, 12, 12, 3])
    assert model.signatures["network_maps"](pixels=pixels)["maps"].dtype.name == precision
    assert model.signatures["network"](pixels=pixels)["outputs"].dtype == tf.float32


def test_images_of_this_process_alone_count_for_the_speed(project):
    """A training that was killed goes on with the history of all epochs."""
    rows = load_images(
        files_in(project.pattern("train")),
        column="image",
        labels=np.arange(120),
        features={},
        model=ModelConfig(kind="image", image_size=12),
        max_pixels=MAX_PIXELS,
        cache_bytes=10**9,
    )
    going_on = SimpleNamespace(num_trained=240, trained_seconds=2.0, waited_seconds=0.5)
    nothing_left = SimpleNamespace(num_trained=0, trained_seconds=0.0, waited_seconds=0.0)

    described = describe_input(rows, going_on, load_seconds=1)

    assert (described["images_per_second"], described["wait_share"]) == (120, 0.25)
    assert describe_input(rows, nothing_left, load_seconds=1)["images_per_second"] == 0


@pytest.mark.long
def test_network_learns_from_images_that_are_decoded_in_each_epoch(project, tmp_path):
    training = {"epochs": 12, "batch_size": 16, "learning_rate": 0.01, "cache_bytes": 1_000}

    run_fn(project.fn_args(tmp_path, model={**MODEL, "augmentation": {}}, training=training))

    assert history_of(tmp_path)["input"]["decoded"] == "in each epoch"
    assert max(history_of(tmp_path)["history"]["val_accuracy"]) > 0.9


@pytest.mark.long
@pytest.mark.parametrize(
    ("cache_bytes", "encoded_bytes"), [(0, 0), (0, 10**9), (10**9, 0)], ids=["streamed", "encoded", "decoded"]
)
def test_order_depends_on_the_seed_and_the_epoch_alone(project, monkeypatch, cache_bytes, encoded_bytes):
    monkeypatch.setattr(pixel_rows, "ENCODED_BYTES", encoded_bytes)
    rows = load_images(
        files_in(project.pattern("train")),
        column="image",
        labels=np.arange(120),
        features={},
        model=ModelConfig(kind="image", image_size=12),
        max_pixels=MAX_PIXELS,
        cache_bytes=cache_bytes,
    )

    def epochs(seed: int, numbers: range) -> list[np.ndarray]:
        batches = list(rows.shuffled_batches(50, seed=seed, epochs=numbers).as_numpy_iterator())
        assert [len(labels) for _, labels in batches] == [50, 50, 20] * len(numbers)
        pixels = [np.concatenate([f["pixels"] for f, _ in batches[i : i + 3]]) for i in range(0, len(batches), 3)]
        return [epoch.reshape(len(epoch), -1).sum(axis=1) for epoch in pixels]

    assert rows.shuffled_batches(50, seed=0, epochs=range(1)).options().autotune.enabled is False
    first, second, third = epochs(0, range(3))
    np.testing.assert_array_equal(epochs(0, range(2, 3))[0], third)
    assert not np.array_equal(first, second)
    assert not np.array_equal(epochs(1, range(1))[0], first)
    np.testing.assert_array_equal(np.sort(first), np.sort(third))


@pytest.mark.long
def test_backbone_is_fine_tuned_in_a_second_phase(project, tmp_path):
    keras.utils.set_random_seed(0)
    weights = tmp_path / "backbone.weights.h5"
    original = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    original.save_weights(weights)
    args = project.fn_args(
        tmp_path,
        model={"image_size": 32, "backbone": "VGG16", "weights": str(weights)},
        training={
            "epochs": 1,
            "batch_size": 60,
            "fine_tune": {"from_layer": "block5_conv3", "epochs": 2, "learning_rate": 1e-3},
        },
    )

    run_fn(args)

    history = history_of(tmp_path)
    assert history["epochs"] == 3
    (folder,) = tmp_path.glob("Trainer/model/*/Format-Serving")
    loaded = {v.name: v.numpy() for v in tf.saved_model.load(str(folder)).variables}
    exported = [array for array in loaded.values() if array.ndim == 4]
    first, last = original.get_layer("block1_conv1").kernel.numpy(), original.get_layer("block5_conv3").kernel.numpy()
    assert any(np.array_equal(first, array) for array in exported if array.shape == first.shape)
    assert not any(np.array_equal(last, array) for array in exported if array.shape == last.shape)


def weights_of_mobile_net(folder: Path, **options: Any) -> Path:
    path = folder / "mobile_net.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3), **options).save_weights(
        path
    )
    return path


def network_of(model: ModelConfig, *, num_classes: int = 3) -> keras.Model:
    """For images and nothing else."""
    return join([encode_pixels(model)], model=model, num_outputs=num_classes)


def test_layer_that_the_backbone_lacks_is_an_error():
    network = network_of(
        ModelConfig(kind="image", image_size=32, backbone="MobileNetV2", weights="none"), num_classes=3
    )

    with pytest.raises(ConfigError, match=r"no layer 'conv_1'\. Did you mean 'Conv_1'"):
        first_tuned(network, FineTuneConfig(from_layer="conv_1"))


def test_layer_to_tune_from_is_checked_before_anything_is_trained(project, tmp_path):
    fine_tune = {"from_layer": "Conv_2", "epochs": 1}
    args = project.fn_args(
        tmp_path,
        model={"image_size": 32, "backbone": "MobileNetV2", "weights": str(weights_of_mobile_net(tmp_path))},
        training={"epochs": 1, "fine_tune": fine_tune},
    )

    with pytest.raises(ConfigError, match=r"no layer 'Conv_2'\. Did you mean 'Conv_1'"):
        run_fn(args)
    assert not list(tmp_path.glob("Trainer/checkpoints/*"))


@pytest.mark.parametrize("from_layer", ["out_relu", 1_000])
def test_layer_with_nothing_to_tune_behind_it_is_an_error(from_layer):
    network = network_of(
        ModelConfig(kind="image", image_size=32, backbone="MobileNetV2", weights="none"), num_classes=3
    )

    with pytest.raises(ConfigError, match=rf"no layer from there on has weights to tune\. Received: {from_layer}; "):
        first_tuned(network, FineTuneConfig(from_layer=from_layer))


def test_backbone_that_is_none_is_an_error():
    with pytest.raises(ConfigError, match=r"no 'ResNet51'\. Did you mean 'ResNet"):
        check_backbone("ResNet51")
    assert {"EfficientNetB0", "MobileNetV2", "ResNet50"} <= set(backbone_names())


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square")  # Keras, of the size that is asked for
def test_weights_that_cannot_be_downloaded_say_where_to_put_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(keras.src.utils.file_utils.config, "keras_home", lambda: str(tmp_path))
    model = ModelConfig(kind="image", image_size=32, backbone="MobileNetV2")

    with pytest.raises(
        TrainingError, match=r"cannot be downloaded\. Received: https://storage.*put it into .*models"
    ) as e:
        network_of(model, num_classes=3)
    assert "model.weights: PATH" in str(e.value)


def test_image_that_is_too_small_for_a_backbone_and_missing_weights_are_errors():
    with pytest.raises(ConfigError, match=r"InceptionV3 cannot be made with model\.image_size\. Received: \[32, 32\]"):
        network_of(ModelConfig(kind="image", image_size=32, backbone="InceptionV3", weights="none"), num_classes=3)
    with pytest.raises(ConfigError, match=r"model\.weights: there is no such file\. Received: /nowhere"):
        network_of(ModelConfig(kind="image", image_size=32, backbone="MobileNetV2", weights="/nowhere"), num_classes=3)


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize("kind", ["text", "cut", "of another network"])
def test_file_without_the_backbones_weights_is_an_error(tmp_path, kind):
    weights = weights_of_mobile_net(tmp_path, alpha=0.35 if kind == "of another network" else 1.0)
    if kind != "of another network":
        weights.write_bytes(b"text" if kind == "text" else weights.read_bytes()[:1_000])

    with pytest.raises(ConfigError, match=r"weights are not those of MobileNetV2\. Received: .*mobile_net") as error:
        network_of(
            ModelConfig(kind="image", image_size=32, backbone="MobileNetV2", weights=str(weights)), num_classes=3
        )
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("shape", "filters"),
    [((8, 8), (32, 64)), ((16, 40), (32, 64, 128)), ((224, 224), (32, 64, 128, 256, 256, 256))],
)
def test_small_network_is_made_for_the_size(shape, filters):
    assert default_filters(shape) == filters
    network = network_of(ModelConfig(kind="image", image_size=shape), num_classes=4)
    assert network.output_shape == (None, 4)
    assert network.get_layer("maps").output.shape[1:3] == tuple(edge // 2 ** (len(filters) - 1) for edge in shape)


@pytest.mark.parametrize("kind", [name for name in EVERYTHING if name != "mixup"])
def test_augmentation_changes_images_within_their_range_and_differs_from_step_to_step(kind):
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.float32)
    setting = "horizontal" if kind == "flip" else EVERYTHING[kind]
    layers = build_augmentation(AugmentationConfig(**{kind: setting}), seed=3)
    again = build_augmentation(AugmentationConfig(**{kind: setting}), seed=3)
    assert layers is not None
    assert again is not None

    first, second = (np.asarray(layers(images, training=True)) for _ in range(2))

    assert first.shape == images.shape
    assert first.min() >= -1e-3
    assert first.max() <= 255.001
    assert not np.array_equal(first, images) or not np.array_equal(second, images)
    if kind != "flip":  # of four images, two draws may be alike
        assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, np.asarray(again(images, training=True)))
    np.testing.assert_array_equal(np.asarray(layers(images, training=False)), images)


DOT = np.zeros((101, 101, 3), np.float32)
DOT[49:52, 79:82] = 255
HALVES = np.full((32, 32, 3), (150, 90, 90), np.float32)
HALVES[:, 16:] += 40


def place(images: np.ndarray, axis: int) -> np.ndarray:
    """Of the dot, in pixels from the middle."""
    weights = images[..., 0].sum(axis=2 - axis)
    return (weights * (np.arange(101) - 50)).sum(axis=1) / weights.sum(axis=1)


def hsv(images: np.ndarray) -> np.ndarray:
    return np.asarray(tf.image.rgb_to_hsv(images[:, 0, 0]))


@pytest.mark.parametrize(
    ("kind", "amount", "picture", "measure", "lowest"),
    [
        ("rotation_degrees", 30, DOT, lambda x: np.degrees(np.arctan2(place(x, 0), place(x, 1))), -30),
        ("zoom", 0.1, DOT, lambda x: place(x, 1) / 30 - 1, -0.1),
        ("shift", 0.1, DOT, lambda x: (place(x, 1) - 30) / 101, -0.1),
        ("contrast", 0.2, HALVES, lambda x: (x[:, 0, 20, 0] - x[:, 0, 0, 0]) / 40 - 1, -0.2),
        ("brightness", 0.1, HALVES, lambda x: (x - HALVES).mean(axis=(1, 2, 3)) / 255, -0.1),
        ("saturation", 0.3, HALVES, lambda x: hsv(x)[:, 1] / 0.4 - 1, -0.3),
        ("hue", 0.1, HALVES, lambda x: (hsv(x)[:, 0] + 0.5) % 1 - 0.5, -0.1),
        ("noise", 0.1, HALVES, lambda x: (x - HALVES).std(axis=(1, 2, 3)) / 255, 0),
        ("cutout", 0.5, DOT, lambda x: np.sqrt((np.abs(x[..., 0] - 127.5) < 1).mean(axis=(1, 2))), 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_augmentation_goes_as_far_as_its_range_and_no_farther(kind, amount, picture, measure, lowest):
    layers = build_augmentation(AugmentationConfig(**{kind: amount}), seed=1)
    assert layers is not None

    changes = measure(np.asarray(layers(np.repeat(picture[np.newaxis], 200, axis=0), training=True)))

    slack = 0.12 * amount  # Keras zooms from 1 / (1 + zoom) to 1 / (1 - zoom)
    assert changes.min() == pytest.approx(lowest, abs=slack)
    assert changes.max() == pytest.approx(amount, abs=slack)


def test_no_augmentation_is_no_layer():
    assert build_augmentation(AugmentationConfig(), seed=0) is None


def calibrated(args: Any) -> Any:
    args.custom_config["calibrate"] = True
    return args


@pytest.mark.long
def test_calibrated_network_says_what_its_logits_over_the_temperature_do(project, tmp_path):
    run_fn(calibrated(project.fn_args(tmp_path, model=PLAIN, training={**PLAIN_TRAINING, "epochs": 1})))

    temperature = history_of(tmp_path)["calibration"]["temperature"]
    model = tf.saved_model.load(str(next(tmp_path.glob("Trainer/model/*/Format-Serving"))))
    maps = model.signatures["network_maps"]
    pixels = np.random.default_rng(0).uniform(0, 255, size=(4, *maps.structured_input_signature[1]["pixels"].shape[1:]))
    seen = maps(pixels=tf.constant(pixels, tf.float32))["maps"]
    said = model.signatures["network_head"](maps=seen)
    np.testing.assert_allclose(said["outputs"], tf.nn.softmax(said["logits"] / temperature), atol=1e-6)


@pytest.mark.long
def test_ensemble_of_networks_of_images_is_one_model_which_is_calibrated(project, tmp_path):
    model, training = {**PLAIN, "ensemble": 2}, {**PLAIN_TRAINING, "epochs": 1}
    run_fn(calibrated(project.fn_args(tmp_path, model=model, training=training)))

    assert history_of(tmp_path)["calibration"]["after"] <= history_of(tmp_path)["calibration"]["before"]
    found = history_of(tmp_path)["ensemble"]
    assert len(found["members"]) == 2
    assert found["value"] <= np.mean(found["members"])
    model = tf.saved_model.load(str(next(tmp_path.glob("Trainer/model/*/Format-Serving"))))
    contents = [tf.train.Example.FromString(one) for one in project.examples("validation")[:3]]
    images = tf.constant([one.features.feature["image"].bytes_list.value[0] for one in contents])
    signature = model.signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    answer = signature(**{name: images})
    np.testing.assert_allclose(tf.reduce_sum(answer["probabilities"], axis=1), 1, rtol=1e-5)
