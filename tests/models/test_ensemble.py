from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics

from kubetfx.models.ensemble import fit_ensemble
from kubetfx.models.training_record import Fitted

ROWS = 50


class Rows:
    """Validation rows in memory, in batches without end."""

    def __init__(self, labels: np.ndarray, weights: np.ndarray | None = None) -> None:
        random = np.random.default_rng(0)
        self.features = {"a": random.normal(size=(ROWS, 3)).astype(np.float32)}
        self.labels = labels
        self.weights = weights

    def validation_batches(self, batch_size: int) -> tuple[tf.data.Dataset, int]:
        parts = (self.features, self.labels, *([] if self.weights is None else [self.weights]))
        dataset = tf.data.Dataset.from_tensor_slices(parts).batch(batch_size).repeat()
        return dataset, -(-ROWS // batch_size)


class Work:
    """What of the Trainer's work an ensemble looks at."""

    def __init__(self, number: int, *, classes: int, seed: int = 7) -> None:
        self.model = SimpleNamespace(num_networks=number)
        self.features = SimpleNamespace(classes=[str(index) for index in range(classes)])
        self.training = SimpleNamespace(seed=seed)

    def of_member(self, number: int) -> "Work":
        return Work(self.model.num_networks, classes=len(self.features.classes), seed=self.training.seed + number)


def network(seed: int, outputs: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((3,), name="a")
    activation = "softmax" if outputs > 1 else None
    return keras.Model({"a": inputs}, keras.layers.Dense(outputs, activation=activation, name="head")(inputs))


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("classes", [0, 4])
def test_model_is_the_mean_of_its_networks_and_says_what_it_gained(classes, is_weighted):
    random = np.random.default_rng(1)
    labels = random.integers(0, classes, ROWS) if classes else random.normal(size=ROWS)
    weights = random.uniform(size=ROWS) if is_weighted else None
    rows = Rows(labels.astype(np.int64 if classes else np.float32), weights)
    networks = [network(seed, max(classes, 1)) for seed in range(3)]

    fitted = fit_ensemble(
        Work(3, classes=classes),
        lambda work, folder: Fitted(networks[work.training.seed - 7], {"seed": work.training.seed, "folder": folder}),
        Path("checkpoints"),
        rows.validation_batches(16),
    )

    alone = [one.predict(rows.features, verbose=0) for one in networks]
    together = fitted.model.predict(rows.features, verbose=0)
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-5)
    found = fitted.history["ensemble"]
    for value, outputs in zip([*found["members"], found["value"]], [*alone, together], strict=True):
        expected = (
            metrics.log_loss(labels, outputs.astype(np.float64), labels=range(classes), sample_weight=weights)
            if classes
            else metrics.root_mean_squared_error(labels, outputs, sample_weight=weights)
        )
        assert value == pytest.approx(expected, rel=1e-4)
    assert (found["rows"], fitted.history["seed"], fitted.history["folder"]) == (ROWS, 7, Path("checkpoints/0"))


def test_ensemble_is_exported_like_any_model(tmp_path):
    rows = Rows(np.zeros(ROWS, np.int64))
    fitted = fit_ensemble(
        Work(2, classes=2),
        lambda work, _: Fitted(network(work.training.seed, 2), {}),
        None,
        rows.validation_batches(64),
    )

    fitted.model.export(str(tmp_path / "model"), verbose=False)

    loaded = tf.saved_model.load(str(tmp_path / "model"))  # its variables go when it does
    served = loaded.serve({"a": tf.constant(rows.features["a"])})
    np.testing.assert_allclose(served, fitted.model.predict(rows.features, verbose=0), rtol=1e-5)
