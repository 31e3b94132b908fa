"""The loss, and what else of the user's own takes part in a training."""

import sys

import keras
import numpy as np
import pytest

from kubetfx.config.training_section import TrainingConfig
from kubetfx.errors import ConfigError
from kubetfx.models import optimization

SOURCE = """
import keras

def doubled(y_true, y_pred):
    return 2 * keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

class Huber(keras.losses.Huber):
    pass

class Counter(keras.callbacks.Callback):
    epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        Counter.epochs += 1

def counter():
    return Counter()

NUMBER = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def network() -> keras.Model:
    inputs = keras.Input((2,))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax", kernel_initializer="zeros")(inputs))


def evaluated(training: TrainingConfig) -> float:
    model = network()
    labels = np.array([0, 1, 2, 0])
    optimization.compile_model(
        model, training, labels=labels, num_steps=1_000, is_classifier=True, has_one_hot_labels=False
    )
    return float(model.evaluate(np.ones((4, 2)), labels, verbose=0)[0])


def test_own_loss_is_what_the_network_learns_by(module):
    assert evaluated(TrainingConfig()) == pytest.approx(np.log(3), rel=1e-5)
    assert evaluated(TrainingConfig(loss=f"{module}:doubled")) == pytest.approx(2 * np.log(3), rel=1e-5)


def test_loss_may_be_a_class_of_keras(module):
    loss = optimization.own_loss(TrainingConfig(loss=f"{module}:Huber"))
    assert isinstance(loss, keras.losses.Huber)


def test_callbacks_are_classes_or_functions_and_are_called(module):
    first, second = optimization.own_callbacks(TrainingConfig(callbacks=(f"{module}:Counter", f"{module}:counter")))
    model = network()
    model.compile(loss="sparse_categorical_crossentropy")
    model.fit(np.ones((4, 2)), np.array([0, 1, 2, 0]), epochs=3, verbose=0, callbacks=[first, second])

    assert type(first).epochs == 6


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"loss": "{}:NUMBER"}, r"training\.loss is a function .* which is a int"),
        ({"loss": "{}:nothing"}, r"training\.loss: the module \S+ has no nothing\..*It has: .*doubled"),
        ({"callbacks": ["{}:NUMBER"]}, r"training\.callbacks are classes .* which gives a int"),
        ({"callbacks": ["no_such:Thing"]}, r"training\.callbacks: the module no_such cannot be imported"),
    ],
)
def test_what_is_no_loss_and_no_callback_is_told(module, section, message):
    named = {
        key: value.format(module) if isinstance(value, str) else [name.format(module) for name in value]
        for key, value in section.items()
    }
    training = TrainingConfig.model_validate(named)
    find = optimization.own_loss if "loss" in section else optimization.own_callbacks
    with pytest.raises(ConfigError, match=message):
        find(training)
