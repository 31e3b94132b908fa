"""The SavedModel archive traces what it is given once, and writes what TensorFlow loads."""

import keras
import numpy as np
import tensorflow as tf

from kubetfx.models.saved_model_archive import SavedModelArchive


def test_signature_is_traced_once_and_written(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    traced = []

    def double(numbers: tf.Tensor) -> dict[str, tf.Tensor]:
        traced.append("double")
        return {"outputs": 2 * model(numbers)}

    def negative(numbers: tf.Tensor) -> dict[str, tf.Tensor]:
        traced.append("negative")
        return {"outputs": -doubled(numbers)["outputs"]}

    archive = SavedModelArchive(model)
    signature = tf.TensorSpec([None, 3], tf.float32, "numbers")
    doubled = archive.add_endpoint("double", double, signature)
    archive.add_endpoint("negative", negative, signature)
    archive.write(tmp_path / "model")

    assert traced == ["double", "negative"]
    numbers = np.float32([[1, 2, 3]])
    signatures = tf.saved_model.load(tmp_path / "model").signatures
    expected = 2 * model(numbers).numpy()
    np.testing.assert_array_equal(signatures["double"](numbers=numbers)["outputs"], expected)
    np.testing.assert_array_equal(signatures["negative"](numbers=numbers)["outputs"], -expected)
