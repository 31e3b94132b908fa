"""The one reader of SavedModels, against TensorFlow's own."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kubetfx.serving.saved_model import SavedModel
from kubetfx.serving.status import Code, ServingError


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """A convolution with variables and a table, as a network that was exported has them, in functions that call others.

    `unused` has an asset and a table of its own, which a part of the graph can do without.
    """
    folder = tmp_path_factory.mktemp("network")
    names = folder / "names.txt"
    names.write_text("a\nb\n", encoding="utf-8")
    module = tf.Module()
    module.kernel = tf.Variable(np.random.default_rng(1).normal(size=(3, 3, 3, 4)), dtype=tf.float32)
    module.dense = tf.Variable(np.random.default_rng(2).normal(size=(4, 2)), dtype=tf.float32)
    initializer = tf.lookup.TextFileInitializer(str(names), tf.string, -2, tf.int64, -1)
    module.table = tf.lookup.StaticHashTable(initializer, -1)

    @tf.function
    def maps_of(pixels: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(tf.nn.conv2d(pixels, module.kernel, 1, "SAME"))

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, "pixels")])
    def call(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        mean, variance = tf.nn.moments(pixels, [1, 2, 3], keepdims=True)
        pooled = tf.reduce_mean(maps_of((pixels - mean) / tf.sqrt(variance)), axis=[1, 2])
        logits = tf.matmul(pooled, module.dense)
        return {"logits": logits, "outputs": tf.nn.softmax(logits)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "name")])
    def unused(name: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"index": module.table.lookup(name)}

    tf.saved_model.save(module, str(folder / "1"), signatures={"network": call, "unused": unused})
    return folder / "1"


PIXELS = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize("only", [None, ("network",)], ids=["whole", "part"])
@pytest.mark.parametrize("optimize_graph", [True, False])
def test_signature_answers_as_tensorflow_does(
    network: Path, only: tuple[str, ...] | None, optimize_graph: bool
) -> None:
    expected = tf.saved_model.load(str(network)).signatures["network"](pixels=tf.constant(PIXELS))

    with SavedModel(network, optimize_graph=optimize_graph, only=only) as model:
        found = model.signature("network")({"pixels": PIXELS})
        one = model.signature("network")({"pixels": PIXELS.tolist()}, ["outputs"])

    assert list(found) == ["logits", "outputs"]
    assert list(one) == ["outputs"]
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(one["outputs"], found["outputs"])


def test_part_of_a_graph_has_its_tables_and_assets_and_nothing_else(network: Path) -> None:
    with SavedModel(network, only=("unused",)) as model:
        found = model.signature("unused")({"name": [b"b", b"?", b"a"]})

        assert found["index"].tolist() == [1, -1, 0]
        assert list(model.signatures) == ["unused"]
        assert not any(operation.type == "Conv2D" for operation in model._session.graph.get_operations())
        assert not any("maps_of" in name for name in model._session.graph._functions)


@pytest.mark.parametrize("only", [None, ("network",)], ids=["whole", "part"])
@pytest.mark.parametrize("output", ["logits", "outputs"])
def test_gradient_is_that_of_a_tape(network: Path, only: tuple[str, ...] | None, output: str) -> None:
    weights = np.random.default_rng(3).normal(size=(5, 2)).astype(np.float32)
    loaded = tf.saved_model.load(str(network))
    pixels = tf.constant(PIXELS)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        total = tf.reduce_sum(weights * loaded.signatures["network"](pixels=pixels)[output])
    expected = tape.gradient(total, pixels)

    with SavedModel(network, only=only) as model:
        for _ in range(2):  # the second time, what was added to the graph is there
            found = model.gradient("network", {"pixels": PIXELS}, output=output, by="pixels", weights=weights)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_inputs_that_do_not_fit_are_refused(network: Path) -> None:
    with SavedModel(network) as model:
        signature = model.signature("network")
        with pytest.raises(ServingError, match=r"takes other inputs: pixels\. Received: images\.") as refused:
            signature({"images": PIXELS})
        assert refused.value.code is Code.INVALID_ARGUMENT
        with pytest.raises(ServingError, match="could not convert string"):
            signature({"pixels": "none"})
        with pytest.raises(ServingError):
            signature({"pixels": PIXELS[..., :2]})


def test_signature_that_is_not_there_is_an_error(network: Path) -> None:
    with SavedModel(network) as model, pytest.raises(ServingError, match='key "embed" not found'):
        model.signature("embed")
    with pytest.raises(ServingError, match='key "embed" not found'):
        SavedModel(network, only=("embed",))


def test_facts_are_those_that_kubetfx_left_in_the_model(network: Path, tmp_path: Path) -> None:
    with SavedModel(network) as model:
        assert model.facts is None
    (network / "assets.extra").mkdir(exist_ok=True)
    facts = '{"label": "y", "classes": ["no", "yes"], "inputs": ["x"], "columns": {"x": "float32", "y": "string"}}'
    (network / "assets.extra" / "kubetfx.json").write_text(facts, encoding="utf-8")

    with SavedModel(network) as model:
        assert model.facts is not None
        assert (model.facts.label, model.facts.classes) == ("y", ("no", "yes"))


def test_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="Could not find SavedModel") as missing:
        SavedModel(tmp_path)
    assert missing.value.code is Code.NOT_FOUND
