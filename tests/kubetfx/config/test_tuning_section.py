"""The section `tuning`: what a search may be of, and what is said of one that cannot be made."""

import pytest

from kubetfx.config.loading import load_config
from kubetfx.config.tunable_keys import metric_of
from kubetfx.errors import ConfigError

TABLE = {"name": "houses", "data": {"path": "houses.csv", "label": "price"}}


def searching(search=None, **tuning):
    return load_config({**TABLE, "tuning": {**tuning, **({"search": search} if search else {})}})


def test_values_are_lists_ranges_and_logarithms():
    config = searching(
        {
            "training.learning_rate": {"log": ["1e-4", "1e-2"]},  # as YAML 1.1 reads 1e-4
            "model.hidden_units": [[64], [128, 64]],
            "model.dropout": {"range": [0, 0.5], "step": 0.1},
            "training.optimizer": ["adam", "sgd"],
            "model.members": [None, 4],
            "features.hash_buckets": {"range": [100, 2000], "step": 100},
        }
    )

    search = config.tuning.search
    assert search["training.learning_rate"].log == (1e-4, 1e-2)
    assert search["model.hidden_units"] == ([64], [128, 64])
    assert search["model.dropout"].step == 0.1


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"model.dropuot": [0.1, 0.2]}, r"unknown key 'model\.dropuot'\. Did you mean 'model\.dropout'\?"),
        ({"learning_rate": [0.1, 0.2]}, r"Did you mean 'training\.learning_rate'\?"),
        ({"model.ensemble": [1, 5]}, r"model\.ensemble cannot be searched: each trial trains one network, and"),
        ({"training.seed": [1, 2]}, r"training\.seed cannot be searched: a better seed is chance"),
        ({"training.distribution.workers": [1, 2]}, r"training\.distribution\.workers cannot be searched: trials are"),
        ({"data.label": ["a", "b"]}, r"data\.label cannot be searched\. Keys of model, training and features can"),
        ({"model.dropout": {"range": [0, 1.5]}}, r"model\.dropout cannot be 1\.5: .*input should be less than 1"),
        ({"model.dropout": [0.1, 1.5]}, r"model\.dropout cannot be 1\.5: .*input should be less than 1"),
        ({"model.dropout": {"range": [0.5, 0.1]}}, r"the interval is empty\. Received: \[0\.5, 0\.1\]"),
        ({"model.dropout": {"range": [0.1, 0.1]}}, r"the interval is empty"),
        ({"training.learning_rate": {"log": [0, 0.1]}}, r"log needs numbers above 0\. Received: log: \[0, 0\.1\]"),
        ({"training.learning_rate": {"log": [1e-4, 0.1], "step": 0.1}}, r"step applies to range"),
        ({"model.dropout": {"range": [0, 0.1], "step": 0.2}}, r"the step is longer than the range"),
        ({"model.dropout": {"range": [0, 0.1], "log": [0.1, 0.2]}}, r"give either `range"),
        ({"model.dropout": {"rnge": [0, 1]}}, r"unknown key\. Did you mean 'range'"),
        ({"model.dropout": []}, r"a choice needs at least two values\. Received: \[\]"),
        ({"model.dropout": 0.3}, r"tuning\.search\.model\.dropout: .* Received: 0\.3"),
        ({"training.epochs": {"range": [1.5, 3]}}, r"training\.epochs takes whole numbers"),
        ({"training.optimizer": {"range": [1, 3]}}, r"training\.optimizer takes no numbers"),
        ({"model.trees.num_leaves": {"log": [2, 64]}}, r"model\.trees requires model\.kind: trees or auto\. Received"),
    ],
)
def test_search_that_cannot_be_made_is_told(search, message):
    with pytest.raises(ConfigError, match=message):
        searching(search)


def test_roles_of_columns_are_not_searched_with_a_frozen_schema(tmp_path):
    data = {**TABLE["data"], "schema_file": "schema.pbtxt"}
    search = {"features.vocabulary_size": [100, 1000]}
    with pytest.raises(ConfigError, match=r"decides what columns are used for, which a frozen schema already fixes"):
        load_config({**TABLE, "data": data, "tuning": {"search": search}})


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        ({"metric": "root_mean_squared_error"}, r"unknown metric 'root_mean_squared_error' for classification"),
        ({"metric": "acuracy"}, r"Did you mean 'accuracy'"),
        ({"trials": 0}, r"tuning\.trials: .*greater than or equal to 1"),
        ({"trails": 3}, r"Did you mean 'trials'"),
        (
            {"storage": "postgresql://me:secret@host/db"},
            r"would be stored in clear.*postgresql://me:\$\{PASSWORD\}@host",
        ),
        ({"storage": "studies.db"}, r"a URL of PostgreSQL or MySQL is needed.*Received: studies\.db"),
    ],
)
def test_other_keys_are_checked(tuning, message):
    with pytest.raises(ConfigError, match=message):
        searching(**tuning)


def test_password_of_a_storage_stays_a_reference(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "open sesame")
    config = searching(storage="postgresql://me:${DB_PASSWORD}@host/db")

    assert "open sesame" not in config.model_dump_json()


@pytest.mark.parametrize(
    ("document", "metric"),
    [
        ({}, ("cross_entropy", "lower")),
        ({"model": {"task": "regression"}}, ("root_mean_squared_error", "lower")),
        ({"evaluation": {"thresholds": {"auc": {"at_least": 0.5}, "f1": {}}}}, ("auc", "higher")),
        ({"tuning": {"metric": "f1"}, "evaluation": {"thresholds": {"auc": {"at_least": 0.5}}}}, ("f1", "higher")),
    ],
    ids=["classification", "regression", "threshold", "named"],
)
def test_metric_is_that_of_the_thresholds_unless_it_is_named(document, metric):
    if "evaluation" in document:
        document["evaluation"]["thresholds"].pop("f1", None)
    assert metric_of(load_config({**TABLE, **document})) == metric


def test_settings_replace_values_and_are_checked():
    config = searching({"model.dropout": [0.1, 0.2]})

    changed = config.with_settings({"model.dropout": 0.3, "training.schedule.kind": "constant"})
    assert (changed.model.dropout, changed.training.schedule.kind, changed.tuning) == (0.3, "constant", None)
    with pytest.raises(ConfigError, match=r"model\.dropout: input should be less than 1"):
        config.with_settings({"model.dropout": 2})
