"""The space of a search: what is drawn, and what TFX's HyperParameters say of it."""

import keras_tuner
import optuna

from kubetfx.components.tuning.default_space import default_space
from kubetfx.components.tuning.search_space import SearchSpace
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.config.tuning_section import Interval
from kubetfx.models.features import Features
from kubetfx.models.tuned_settings import settings_of

SPACE = SearchSpace(
    {
        "training.learning_rate": Interval(log=(1e-4, 1e-2)),
        "training.batch_size": Interval(log=(16, 256)),
        "training.epochs": Interval(range=(5, 20), step=5),
        "model.dropout": Interval(range=(0, 0.55), step=0.1),
        "model.hidden_units": ([64], [128, 64], []),
        "model.members": (None, 4),
        "model.image_size": (32, [32, 64]),
        "model.trees.lambda_l1": (0, 0.5),
        "training.optimizer": ("adam", "sgd"),
        "model.batch_normalization": (True, False),
    }
)


def drawn(number):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(number))
    return SPACE.suggest(study.ask())


def test_drawn_values_are_of_the_keys_types_and_within_their_bounds():
    found = [drawn(number) for number in range(30)]

    for settings in found:
        assert 1e-4 <= settings["training.learning_rate"] <= 1e-2
        assert type(settings["training.batch_size"]) is int
        assert settings["training.epochs"] in (5, 10, 15, 20)
        assert settings["model.dropout"] in (0, 0.1, 0.2, 0.3, 0.4, 0.5)
        assert settings["model.batch_normalization"] in (True, False)
    assert {str(one["model.hidden_units"]) for one in found} == {"[64]", "[128, 64]", "[]"}
    assert {one["model.members"] for one in found} == {None, 4}
    assert {str(one["model.image_size"]) for one in found} == {"32", "[32, 64]"}


def test_study_gives_back_what_was_drawn():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(3))
    trial = study.ask()
    settings = SPACE.suggest(trial)

    assert SPACE.settings(trial.params) == settings


def test_keras_tuner_and_the_trainer_read_the_hyperparameters():
    settings = drawn(1)
    config = SPACE.hyperparameters(settings)

    read = keras_tuner.HyperParameters.from_config(config)
    assert read.get("training.learning_rate") == settings["training.learning_rate"]
    assert {one.name for one in read.space} == set(SPACE.search)
    assert settings_of(config) == settings


def features(**columns):
    return Features(label="y", classes=("a", "b"), by_type=columns, excluded={})


def test_default_space_suits_kind_and_data():
    def keys(kind, num_rows=1_000, **columns):
        model, training = ModelConfig(kind=kind), TrainingConfig()
        return set(default_space(model, training, features(**columns), num_rows=num_rows))

    network = keys("network", numeric=("x",))
    assert {"training.learning_rate", "model.hidden_units", "model.number_bins"} <= network
    assert "model.embedding_size" not in network
    assert "model.embedding_size" in keys("network", vocabulary=("x",))
    assert all(key.startswith("model.trees.") for key in keys("trees", numeric=("x",)))
    assert keys("auto", numeric=("x",)) == network | keys("trees", numeric=("x",))
    assert "model.augmentation.zoom" in keys("image", image=("path",))


def test_default_space_is_valid_for_any_size():
    from kubetfx.config.loading import load_config

    for kind in ("network", "trees", "auto"):
        for num_rows in (50, 5_000, 1_000_000):
            space = default_space(ModelConfig(kind=kind), TrainingConfig(), features(numeric=("x",)), num_rows=num_rows)
            document = {"name": "p", "data": {"path": "d", "label": "y"}, "model": {"kind": kind}}
            load_config({**document, "tuning": {"search": space}})
