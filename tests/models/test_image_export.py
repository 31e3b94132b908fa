import base64
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kubetfx.artifacts import PIXELS
from kubetfx.components.data.block_work import run_here
from kubetfx.components.evaluation import golden, image_evaluation, image_gallery
from kubetfx.components.evaluation.evaluation import Evaluation, Request
from kubetfx.components.evaluation.image_evaluation import score
from kubetfx.components.evaluation.slices import OVERALL
from kubetfx.config.evaluation_section import RobustnessConfig
from kubetfx.errors import DataError, RequestError
from kubetfx.models.asked_model import AskedModel, columns_to_read
from kubetfx.models.columns.image.pixel_signatures import DECODE
from kubetfx.models.columns.image.pixels import Pixels
from kubetfx.models.examples import files_in, first_rows, row_groups
from kubetfx.models.export import TRANSFORM_COLUMNS
from kubetfx.models.training import run_fn
from kubetfx.serving import remote_prediction
from kubetfx.serving.batching import BatchingParameters
from kubetfx.serving.data_plane import DataPlaneOptions
from kubetfx.serving.grpc_client import GrpcClient
from kubetfx.serving.model import Model
from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.model_facts import read_facts
from kubetfx.serving.predict_client import ClientOptions, Target
from kubetfx.serving.rest_client import RestClient
from kubetfx.serving.server import RunningServer
from tests.components.pictures import encoded
from tests.models.conftest import without_signatures
from tests.models.image_project import CLASSES, ImageProject, make_project, sample
from tests.serving.conftest import options

SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> ImageProject:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def saved_model(project, tmp_path_factory) -> Path:
    """A trained network, as a version in a base path."""
    output = tmp_path_factory.mktemp("out")
    model = {"image_size": (12, 14), "filters": (8, 16), "top_k": 2}
    args = project.fn_args(output, model=model, training={"epochs": 6, "batch_size": 16, "learning_rate": 0.01})
    run_fn(args)
    version = tmp_path_factory.mktemp("base") / "1"
    Path(args.serving_model_dir).rename(version)
    return version


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Pictures of several formats and sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, kind in enumerate(FORMATS):
        label = CLASSES[number % 3]
        content = encoded(sample(label, 9_000 + number).resize((20 + 9 * number, 31)), kind)
        (folder / f"{number}.{kind.lower()}").write_bytes(content)
    picture = sample("right", 8_000)
    frames = {"save_all": True, "append_images": [sample("left", 8_001).resize(picture.size)]}
    (folder / "animated.gif").write_bytes(encoded(picture, "GIF", **frames))
    (folder / "cmyk.jpg").write_bytes(encoded(picture.convert("CMYK"), "JPEG"))
    (folder / "palette.png").write_bytes(encoded(picture.convert("P"), "PNG"))
    (folder / "sideways.png").write_bytes(encoded(picture, "PNG", exif=SIDEWAYS))
    deep = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    (folder / "16 bits.png").write_bytes(encoded(Image.fromarray(deep), "PNG"))
    return folder


@pytest.fixture(scope="module")
def server(saved_model) -> Iterator[RunningServer]:
    with RunningServer(options(ModelConfig("images", saved_model.parent))) as running:
        yield running


@pytest.fixture(scope="module")
def predict(saved_model) -> Iterator[Callable[[Path], list[dict[str, Any]]]]:
    """Answers of the model, which is loaded once."""
    with Model.load(saved_model) as model:
        yield lambda rows: model.predict(rows).to_pylist()


@pytest.fixture(scope="module")
def asked_model(saved_model) -> AskedModel:
    return AskedModel(saved_model)


@pytest.fixture(scope="module")
def signatures(saved_model) -> Any:
    """Of the model as TensorFlow loads it."""
    model = tf.saved_model.load(str(saved_model))
    return model.signatures


def clients(server: RunningServer) -> list[RestClient | GrpcClient]:
    client_options = ClientOptions(batch_size=2)
    return [
        RestClient(f"http://127.0.0.1:{server.rest_port}", client_options),
        GrpcClient(f"127.0.0.1:{server.grpc_port}", client_options),
    ]


def test_rest_grpc_and_a_loaded_model_agree_for_every_format(server, predict, pictures):
    expected = predict(pictures)
    assert len(expected) == len(FORMATS) + 5

    for client in clients(server):
        with client:
            target = Target("images")
            answers = remote_prediction.predict(client, target, pictures)
        assert [answer["path"] for answer in answers] == [prediction["path"] for prediction in expected]
        assert [answer["label"] for answer in answers] == [prediction["label"] for prediction in expected]
        for answer, prediction in zip(answers, expected, strict=True):
            assert answer["probabilities"] == pytest.approx(prediction["probabilities"], abs=1e-4)
            assert list(answer["probabilities"]) == list(CLASSES)


def test_served_model_sees_the_first_frame_and_turns_pictures_upright(predict, pictures, tmp_path):
    picture = sample("right", 8_000)
    (tmp_path / "turned.png").write_bytes(encoded(picture.transpose(Image.Transpose.ROTATE_270), "PNG"))

    def ask(path: Path) -> dict[str, float]:
        return dict(predict(path)[0]["probabilities"])

    assert ask(pictures / "sideways.png") == pytest.approx(ask(tmp_path / "turned.png"), abs=1e-6)
    for name in ("animated.gif", "cmyk.jpg", "palette.png", "16 bits.png"):
        assert max(ask(pictures / name).items(), key=lambda entry: entry[1])[0] == "right", name


def test_answer_names_the_most_likely_classes(server, pictures):
    content = (pictures / "1.png").read_bytes()
    body = {"instances": [{"image_bytes": {"b64": base64.b64encode(content).decode()}}]}

    response = httpx.post(f"http://127.0.0.1:{server.rest_port}/v1/models/images:predict", json=body)

    (answer,) = response.json()["predictions"]
    assert answer["top_labels"][0] == answer["label"]
    assert len(answer["top_labels"]) == 2
    assert answer["top_scores"] == pytest.approx(sorted(answer["probabilities"])[::-1][:2])
    assert answer["score"] == pytest.approx(max(answer["probabilities"]))


@pytest.mark.parametrize(
    ("content", "words"), [(b"no picture", "not a picture"), (encoded(sample("left", 1), "JPEG")[:-60], "JPEG")]
)
def test_picture_that_cannot_be_decoded_is_an_error_of_that_request_in_words(server, pictures, content, words):
    rest, grpc = clients(server)
    good = [{"image_bytes": {"b64": base64.b64encode((pictures / "1.png").read_bytes()).decode()}}]
    bad = [{"image_bytes": {"b64": base64.b64encode(content).decode()}}]

    for client in (rest, grpc):
        with client:
            with pytest.raises(RequestError, match=words) as caught:
                list(client.predict(Target("images"), bad))
            assert caught.value.code.name == "INVALID_ARGUMENT"
            assert "Condition x" not in caught.value.reason
            assert len(list(client.predict(Target("images"), good))) == 1


def test_picture_that_cannot_be_decoded_spoils_no_other_request_of_its_batch(saved_model, predict, pictures):
    contents = [(pictures / "1.png").read_bytes()] * 3 + [b"no picture"] + [(pictures / "0.jpeg").read_bytes()] * 3
    (good,) = predict(pictures / "1.png")
    batching = BatchingParameters(max_batch_size=64, batch_timeout_micros=200_000)  # long enough for all to meet
    served = options(ModelConfig("images", saved_model.parent), data_plane=DataPlaneOptions(batching=batching))

    def post(content: bytes) -> httpx.Response:
        body = {"instances": [{"image_bytes": {"b64": base64.b64encode(content).decode()}}]}
        return httpx.post(f"http://127.0.0.1:{running.rest_port}/v1/models/images:predict", json=body, timeout=30)

    with RunningServer(served) as running, ThreadPoolExecutor(len(contents)) as pool:
        responses = list(pool.map(post, contents))

    assert [response.status_code for response in responses] == [200] * 3 + [400] + [200] * 3
    assert "not a picture" in responses[3].json()["error"]
    for response in responses[:3]:
        (answer,) = response.json()["predictions"]
        assert answer["score"] == pytest.approx(good["score"], abs=1e-4)


def test_loaded_model_says_which_picture_cannot_be_decoded(predict, pictures, tmp_path):
    (tmp_path / "a.png").write_bytes((pictures / "1.png").read_bytes())
    (tmp_path / "b.png").write_bytes(b"no picture")

    with pytest.raises(
        DataError, match=r"The model refuses row 2, b\.png: image_bytes is not a picture.*batch prediction leaves"
    ):
        predict(tmp_path)


def test_larger_picture_than_allowed_is_refused_by_the_served_model(predict, tmp_path):
    Image.new("L", (101, 100)).save(tmp_path / "large.png")

    with pytest.raises(DataError, match="more than 10,000 pixels"):
        predict(tmp_path)


def test_paths_in_a_csv_and_bytes_in_json_are_rows_too(predict, pictures, tmp_path):
    (tmp_path / "rows.csv").write_text(f"path\n{pictures / '0.jpeg'}\n{pictures / '1.png'}\n")
    content = base64.b64encode((pictures / "0.jpeg").read_bytes()).decode()
    (tmp_path / "rows.json").write_text(json.dumps({"instances": [{"image_bytes": {"b64": content}}]}))

    by_path = predict(tmp_path / "rows.csv")
    by_bytes = predict(tmp_path / "rows.json")

    assert {key: value for key, value in by_path[0].items() if key != "path"} == by_bytes[0]
    assert len(by_path) == 2
    (tmp_path / "wrong.csv").write_text("file\na.png\n")
    with pytest.raises(DataError, match=r"lacks columns of the model: path\. Received: file\. Give paths of images"):
        predict(tmp_path / "wrong.csv")
    (tmp_path / "gone.csv").write_text("path\ngone.png\n")
    with pytest.raises(DataError, match=r"row 1, gone\.png: The file cannot be read"):
        predict(tmp_path / "gone.csv")


def test_decoded_arrays_are_answered_like_the_picture(server, predict, pictures):
    content = (pictures / "1.png").read_bytes()
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    (expected,) = predict(pictures / "1.png")

    body = {"signature_name": "serving_arrays", "instances": [{"images": pixels.tolist()}]}
    response = httpx.post(f"http://127.0.0.1:{server.rest_port}/v1/models/images:predict", json=body)

    (answer,) = response.json()["predictions"]
    assert dict(zip(answer["classes"], answer["probabilities"], strict=True)) == pytest.approx(
        expected["probabilities"], abs=1e-5
    )


def test_examples_are_classified(signatures, project):
    examples = tf.constant(project.examples("validation")[:4])

    classified = signatures["classification"](inputs=examples)
    answered = signatures["serving_examples"](examples=examples)
    many = signatures["serving_examples"](examples=tf.repeat(examples, 17))
    np.testing.assert_allclose(many["probabilities"], np.repeat(answered["probabilities"], 17, axis=0), atol=1e-6)
    labels = signatures["transform_features"](examples=examples)["label"]

    np.testing.assert_array_equal(classified["scores"], answered["probabilities"])
    assert labels.shape == (4, 1)
    assert set(labels.numpy().reshape(-1)) <= {0, 1, 2}


def test_facts_say_how_pictures_are_read(saved_model):
    facts = read_facts(saved_model)

    assert facts is not None
    assert facts.classes == CLASSES
    image = Pixels.of_facts(facts)
    assert (image.model.image_shape, image.model.resize, image.max_pixels) == ((12, 14), "stretch", 10_000)


def test_golden_rows_are_those_of_trainings_path(saved_model, project, server):
    rows = golden.predict_golden_rows(
        str(project.folder / "Split-validation"),
        number=5,
        transform_graph=str(project.folder / "transform_graph"),
        saved_model=saved_model,
    )

    for client in clients(server):
        with client:
            answers = list(client.predict(Target("images"), list(rows.rows)))
        assert rows.difference(answers, tolerance=1e-4) is None


def test_evaluation_measures_classes(saved_model, project):
    request = Request(
        {"candidate": saved_model}, "classification", ["accuracy", "top_k_accuracy", "kappa"], (), top_k=2
    )

    groups = [group for group, _ in row_groups(files_in(str(project.folder / "Split-validation")))]
    outcome = run_here(Evaluation(request), groups, threads=2)

    metrics = outcome.values[OVERALL]["candidate"]
    assert metrics["top_k_accuracy"] >= 0.8
    assert metrics["kappa"] > 0.5
    assert outcome.confusion.sum() == metrics["example_count"] == 36
    assert metrics["accuracy"] == pytest.approx(np.trace(outcome.confusion) / 36)


def test_model_of_an_earlier_version_is_asked_for_the_same(saved_model, asked_model, project, tmp_path):
    earlier = without_signatures(saved_model, tmp_path / "earlier", DECODE, TRANSFORM_COLUMNS)
    block = first_rows(files_in(project.pattern("validation")), 5)

    ours, theirs = asked_model, AskedModel(earlier)

    assert columns_to_read([ours], []) is not None
    assert columns_to_read([theirs], []) is None
    for one, other in zip(ours.ask(block)[:2], theirs.ask(block)[:2], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_evaluation_measures_robustness(saved_model, project):
    config = RobustnessConfig(noise=(0.3,), blur=(3,), rotation=(90,), jpeg=(5,), fgsm=(0.3,), max_images=20)

    drops = image_evaluation.robustness(str(project.folder / "Split-validation"), saved_model, config)

    assert drops["drop_rotation_90"] > 0.2
    assert drops["drop_fgsm_0.3"] > 0.2
    assert set(drops) == set(config.metrics)


@pytest.fixture(scope="module")
def gallery(saved_model, project, tmp_path_factory) -> image_gallery.Gallery:
    split = str(project.folder / "Split-validation")
    return image_gallery.write_gallery(split, saved_model, tmp_path_factory.mktemp("gallery"), mistakes=8, heat_maps=4)


def test_gallery_shows_mistakes_heat_maps_and_embeddings(gallery, asked_model, signatures, project):
    scored = score(str(project.folder / "Split-validation"), asked_model)
    assert gallery.images == 36
    assert gallery.mistakes == int((scored.probabilities.argmax(axis=1) != scored.labels).sum())
    vectors = np.loadtxt(gallery.projector_path / "vectors.tsv", delimiter="\t")
    lines = (gallery.projector_path / "metadata.tsv").read_text().splitlines()
    assert vectors.shape == (36, 16)
    assert lines[0].split("\t") == ["class", "predicted", "score", "path"]
    assert len(lines) == 37
    first = first_rows(files_in(project.pattern("validation")), 1, ["image"]).column("image").to_pylist()
    embedded = signatures["embed"](image_bytes=tf.constant(first))["embedding"]
    np.testing.assert_allclose(vectors[0], embedded[0], rtol=1e-4, atol=1e-5)
    assert Image.open(gallery.projector_path / "sprite.png").size == (6 * 14, 6 * 14)
    assert Image.open(gallery.heat_maps_path).width == 4 * image_gallery.TILE


def test_projector_reads_what_is_written(gallery):
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    text = (gallery.projector_path / "projector_config.pbtxt").read_text()
    (embedding,) = text_format.Parse(text, ProjectorConfig()).embeddings
    assert list(embedding.sprite.single_image_dim) == [14, 14]
    for name in (embedding.tensor_path, embedding.metadata_path, embedding.sprite.image_path):
        assert (gallery.projector_path / name).is_file()


def test_heat_is_where_the_class_is(saved_model):
    pictures = {label: np.stack([small(sample(label, 500 + n)) for n in range(20)]) for label in CLASSES}
    left, right, above = (image_gallery.grad_cam(saved_model, {PIXELS: pixels}) for pixels in pictures.values())

    assert left.shape == (20, 12, 14)
    assert left.min() >= 0
    assert left.max() == pytest.approx(1, abs=1e-3)
    assert left[:, :, :7].mean() > left[:, :, 7:].mean()
    assert right[:, :, 7:].mean() > right[:, :, :7].mean()
    assert above[:, :6].mean() > above[:, 6:].mean()


def small(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.resize((14, 12)))
