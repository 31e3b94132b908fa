"""GPUs and mixed precision. There is no GPU where the tests run, which is a case to be told about too."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.config.model_section import ModelConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.errors import TrainingError
from kubetfx.models import devices
from kubetfx.models.network import build_model, with_head
from kubetfx.models.optimization import compile_model
from kubetfx.models.training_rows import TrainingRows

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU")
def test_missing_gpu_fails_with_that_reason_where_one_is_required():
    with pytest.raises(TrainingError, match=r"No GPU was found.*Received: /physical_device:CPU:0.*require_gpu: false"):
        devices.prepare_devices(TrainingConfig(require_gpu=True))


@pytest.mark.parametrize("required", [False, None])
def test_missing_gpu_is_nothing_to_speak_of_otherwise(required):
    devices.prepare_devices(TrainingConfig(require_gpu=required))


def trained(multiclass, rows, precision: str) -> keras.Model:
    config = TrainingConfig(mixed_precision=precision, learning_rate=0.01)
    features = multiclass.transform(rows)
    labels = features.pop("label").reshape(-1)
    train = TrainingRows(len(rows), labels, {**features, "label": labels}, tf.data.Dataset.range(1), {})
    keras.utils.set_random_seed(1)
    with devices.precision(config):
        network = build_model(
            multiclass.output,
            model=ModelConfig(),
            features=multiclass.config,
            num_outputs=len(multiclass.features.classes),
        )
        model = with_head(network, labels=labels, is_classifier=True)
    compile_model(model, config, labels=labels, num_steps=1_000, is_classifier=True, has_one_hot_labels=False)
    model.fit(train.batches(32), epochs=3, verbose=0)
    return model


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_computes_in_half_and_keeps_weights_and_answers_in_float32(multiclass, rows, precision):
    model = trained(multiclass, rows, precision)

    assert model.get_layer("hidden_1").compute_dtype == precision
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    features = multiclass.transform(rows)
    answers = model({tensor.name: features[tensor.name] for tensor in model.inputs}).numpy()
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert keras.config.dtype_policy().name == "float32"


def test_without_mixed_precision_everything_is_float32(multiclass, rows):
    model = trained(multiclass, rows, "none")

    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
