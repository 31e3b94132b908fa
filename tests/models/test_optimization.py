"""The loss, and what else of the user's own takes part in a training."""

import sys

import keras
import numpy as np
import pytest

from kubetfx.config.training_section import TrainingConfig
from kubetfx.errors import ConfigError
from kubetfx.models import optimization
from kubetfx.models.layers import FittedLayer

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


# The learning rate


@pytest.mark.parametrize(("kind", "last"), [("constant", 0.01), ("cosine", 0.0)])
def test_the_rate_rises_in_the_warm_up(kind, last):
    training = TrainingConfig(learning_rate=0.01, schedule={"kind": kind, "warm_up": 0.1})
    schedule = optimization.make_optimizer(training, num_steps=100)._learning_rate
    rates = [float(schedule(step)) for step in (0, 5, 10, 100)]
    np.testing.assert_allclose(rates, [0, 0.005, 0.01, last], atol=1e-6)


def test_a_plateau_has_no_warm_up():
    with pytest.raises(ValueError, match=r"warm_up applies to the kinds constant and cosine\. Received: .*plateau"):
        TrainingConfig(schedule={"kind": "reduce_on_plateau", "warm_up": 0.1})


class _Slow(FittedLayer):
    def __init__(self, **keywords):
        super().__init__("x", **keywords)
        self.slow = self.add_weight(shape=(2,), initializer="ones", name="slow")
        self.usual = self.add_weight(shape=(2,), initializer="ones", name="usual")
        self.learning_rates = {self.slow.path: 1e-5}

    def call(self, inputs):
        return inputs * self.slow * self.usual


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_a_weight_may_learn_at_a_rate_of_its_own(optimizer):
    inputs = keras.Input((2,))
    layer = _Slow(name="slow_layer")
    model = keras.Model(inputs, keras.layers.Softmax()(layer(inputs)))
    training = TrainingConfig(learning_rate=0.01, optimizer=optimizer, schedule={"kind": "constant"})
    labels = np.array([0, 1])
    optimization.compile_model(
        model, training, labels=labels, num_steps=1, is_classifier=True, has_one_hot_labels=False
    )
    assert type(model.optimizer).__name__.lower() == optimizer
    model.train_on_batch(np.array([[1.0, 2.0], [3.0, 1.0]]), labels)
    slow, usual = (np.abs(1 - keras.ops.convert_to_numpy(weight)).max() for weight in (layer.slow, layer.usual))
    decay = {"adamw": 0.004 * 0.01}.get(optimizer, 0)  # of both
    np.testing.assert_allclose(slow - decay, (usual - decay) / 1_000, rtol=0.05, atol=1e-6)
    assert usual > 1e-3
