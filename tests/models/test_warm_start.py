"""A network that starts from the served model says what that says, until it learns; each weight keeps its meaning."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from kubetfx.artifacts import PUSH_RECORD, SAVED_MODEL, WEIGHTS
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.models.export import export_model
from kubetfx.models.features import LABEL
from kubetfx.models.fitting import Work, fit_model
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.models.team import Team
from kubetfx.models.training_launch import TrainingJob
from kubetfx.models.training_record import Fitted
from kubetfx.models.training_rows import TrainingRows
from tests.models.conftest import Preprocessed, Rows, make_rows

MODEL = {"hidden_units": (8, 4), "members": 2, "dropout": 0.1}
LEARNS = {"epochs": 4, "learning_rate": 0.05}
STAYS = {"epochs": 1, "learning_rate": 1e-30, "average_epochs": 0}
"""A training that changes nothing: what a network says after it, it said at its start."""
NUMBER = 60


def kept(rows: Rows, *left_out: str) -> Rows:
    return [{name: value for name, value in row.items() if name not in ("sex", "mass", *left_out)} for row in rows]


def fitted(
    preprocessed: Preprocessed,
    rows: Rows,
    folder: Path,
    *,
    model: Mapping[str, Any] = MODEL,
    base: Path | None = None,
    **training: Any,
) -> Fitted:
    graph = Path(preprocessed.output.transform_savedmodel_dir).parent
    sections = {
        "model": ModelConfig.model_validate(dict(model)).model_dump(mode="json"),
        "features": preprocessed.config.model_dump(mode="json"),
        "max_pixels": 1,
    }
    job = TrainingJob(
        [],
        [],
        schema_path=str(graph.parent / "schema.pbtxt"),
        transform_graph_path=str(graph),
        serving_model_dir="",
        model_run_dir=str(folder),
        custom_config=sections,
        base_model=str(base) if base else None,
    )
    config = TrainingConfig.model_validate(
        {"batch_size": 16, "warm_start": "served", "early_stopping": {"enabled": False}} | training
    )
    arrays = preprocessed.transform(rows)
    all_rows = TrainingRows(len(rows), arrays[LABEL].reshape(-1), arrays, sample=arrays)
    return fit_model(Work.of(job.fn_args(), config, Team()), all_rows, all_rows, None, load_seconds=0)


def answers(one: Fitted, preprocessed: Preprocessed, rows: Rows) -> np.ndarray:
    features = preprocessed.transform(rows)
    return one.model.predict({tensor.name: features[tensor.name] for tensor in one.model.inputs}, verbose=0)


def weights_of(one: Fitted, layer: str) -> list[np.ndarray]:
    return one.model.get_layer(layer).get_weights()


def export(one: Fitted, preprocessed: Preprocessed, path: Path) -> Path:
    export_model(one.model, Preprocessing(preprocessed.output), preprocessed.features, path)
    (path / PUSH_RECORD).write_text(json.dumps({"version": 7}))
    return path


@dataclass(frozen=True)
class Served:
    """A model that was trained and exported."""

    preprocessed: Preprocessed
    fitted: Fitted
    path: Path


@pytest.fixture(scope="module")
def served(multiclass, tmp_path_factory) -> Served:
    folder = tmp_path_factory.mktemp("served")
    one = fitted(multiclass, kept(make_rows(NUMBER)), folder / "run", **LEARNS)
    return Served(multiclass, one, export(one, multiclass, folder / "model"))


@pytest.fixture(scope="module")
def anew(preprocess) -> Callable[..., Preprocessed]:
    """Another analysis, of other rows."""

    def analyse(rows: Rows, **config: Any) -> Preprocessed:
        return preprocess(rows, label="species", vocabulary_size=10, hash_buckets=16, **config)

    return analyse


def test_training_starts_where_the_served_model_ended(served, tmp_path):
    rows = kept(make_rows(NUMBER))

    warm = fitted(served.preprocessed, rows, tmp_path, base=served.path, **STAYS)

    expected = answers(served.fitted, served.preprocessed, rows)
    np.testing.assert_allclose(answers(warm, served.preprocessed, rows), expected, rtol=1e-6)
    cold = fitted(served.preprocessed, rows, tmp_path, **STAYS)
    assert np.abs(answers(cold, served.preprocessed, rows) - expected).max() > 0.1
    done = warm.history["warm_start"]
    assert (done["version"], done["anew"]) == (7, {})
    assert done["started"] == len({*json.loads((served.path / WEIGHTS).read_text())["weights"]} - {None}) - 4
    labels = served.preprocessed.transform(rows)[LABEL]
    assert warm.history["history"]["val_loss"] == pytest.approx([metrics.log_loss(labels, expected)], rel=1e-3)


def test_vectors_follow_their_values_into_a_new_vocabulary(served, anew, tmp_path):
    rows = kept(make_rows(NUMBER))
    for row in rows[: NUMBER // 2]:  # other values are frequent now, and one is new
        row["is.female?"], row["naïve/island"] = "no", "island z"
    preprocessed = anew(rows)

    warm = fitted(preprocessed, rows, tmp_path, base=served.path, **STAYS)

    assert warm.history["warm_start"]["anew"] == {}
    names = [p.output.vocabulary_by_name("categorical") for p in (served.preprocessed, preprocessed)]
    (vectors, rows_before), (now, _) = (weights_of(one, "categorical_embedding") for one in (served.fitted, warm))
    before = np.concatenate([vectors[rows_before], vectors[-1:]])  # rare values share one
    assert names[0] != names[1][: len(names[0])]
    (new,) = {*names[1]} - {*names[0]}
    assert new.endswith(b"=island z")
    for name in {*names[0]} & {*names[1]}:
        np.testing.assert_array_equal(now[names[1].index(name)], before[names[0].index(name)])
    np.testing.assert_array_equal(now[-2:], before[-2:])  # of unseen values, and of rare ones


@pytest.mark.long
def test_value_that_was_rare_starts_with_the_vector_that_rare_values_had(preprocess, tmp_path):
    rows = [{"place": "rare" if index < 2 else f"p{index % 2}", "label": index % 3} for index in range(NUMBER)]
    before = preprocess(rows, label="label", category_rows=3)
    base = export(fitted(before, rows, tmp_path, **LEARNS), before, tmp_path / "model")
    for row in rows[:10]:
        row["place"] = "rare"
    now = preprocess(rows, label="label", category_rows=3)

    warm = fitted(now, rows, tmp_path, base=base, **STAYS)

    own = now.output.vocabulary_by_name("categorical").index(b"place=rare")
    vectors, row = weights_of(warm, "categorical_embedding")
    assert row[own] == own
    np.testing.assert_array_equal(vectors[own], vectors[-1])


@pytest.mark.long
def test_another_column_leaves_what_is_behind_the_first_layer(served, anew, tmp_path):
    rows = [row | {"added": float(index % 5)} for index, row in enumerate(kept(make_rows(NUMBER), "bill"))]
    preprocessed = anew(rows)  # as many columns as before, so each weight has the shape that it had

    warm = fitted(preprocessed, rows, tmp_path, base=served.path, **STAYS)

    done = warm.history["warm_start"]
    layers = {name.partition("/")[0] for name in done["anew"]}
    assert layers == {"members", "categorical_embedding", "hashed_embedding", "hidden_1"}
    assert {*done["anew"].values()} == {"the columns have changed"}
    for layer in ("hidden_2", "output"):
        for now, before in zip(weights_of(warm, layer), weights_of(served.fitted, layer), strict=True):
            np.testing.assert_array_equal(now, before)


@pytest.mark.long
def test_other_classes_have_an_output_of_their_own(served, anew, tmp_path):
    rows = kept(make_rows(NUMBER))
    for row in rows:
        row["species"] = row["species"].replace("Adelie", "Macaroni")
    preprocessed = anew(rows)

    done = fitted(preprocessed, rows, tmp_path, base=served.path, **STAYS).history["warm_start"]

    assert done["anew"] == dict.fromkeys(["output/kernel", "output/bias"], "the classes have changed")


@pytest.mark.long
def test_layers_of_another_size_begin_anew(served, tmp_path):
    rows = kept(make_rows(NUMBER))

    done = fitted(
        served.preprocessed, rows, tmp_path, base=served.path, model=MODEL | {"hidden_units": (8, 6)}, **STAYS
    ).history["warm_start"]

    assert done["anew"] == {
        "hidden_2/kernel": "its shape is (8, 6), and that of the served one (8, 4)",
        "hidden_2/bias": "its shape is (6,), and that of the served one (4,)",
        "output/kernel": "its shape is (2, 6, 3), and that of the served one (2, 4, 3)",
    }


@pytest.mark.parametrize("base", [None, "empty", "of another"])
def test_without_a_model_to_start_from_it_says_why(served, tmp_path, base):
    folder = tmp_path / "base"
    folder.mkdir()
    if base == "of another":
        (folder / SAVED_MODEL).touch()
    rows = kept(make_rows(NUMBER))

    done = fitted(served.preprocessed, rows, tmp_path, base=folder if base else None, **STAYS).history["warm_start"]

    assert [*done] == ["why"]
    assert ("nothing is served yet" in done["why"]) == (base != "of another")


@pytest.mark.long
def test_each_network_of_an_ensemble_starts_from_its_own(served, tmp_path):
    rows, model = kept(make_rows(NUMBER)), MODEL | {"ensemble": 2}
    before = fitted(served.preprocessed, rows, tmp_path, model=model, **LEARNS)
    base = export(before, served.preprocessed, tmp_path / "model")

    warm = fitted(served.preprocessed, rows, tmp_path, base=base, model=model, **STAYS)

    expected = answers(before, served.preprocessed, rows)
    np.testing.assert_allclose(answers(warm, served.preprocessed, rows), expected, rtol=1e-6)


@pytest.mark.long
def test_network_of_the_users_starts_from_its_weights_by_their_place(served, tmp_path, monkeypatch):
    (tmp_path / "own_network_of_test.py").write_text(
        "import keras\n"
        "class Rows(keras.layers.Layer):\n"
        "    def build(self, shape):\n"
        "        self.row = self.add_weight(shape=(shape[-1],), initializer='ones', name='row')\n"
        "    def call(self, inputs):\n"
        "        return inputs * self.row\n"
        "def build_model(transform_output, *, model, features, num_outputs):\n"
        "    spec = transform_output.transformed_feature_spec()\n"
        "    numbers = keras.Input(spec['numeric'].shape, name='numeric')\n"
        "    others = [keras.Input(spec[name].shape, name=name, dtype='int64') for name in ('categorical', 'hashed')]\n"
        "    hidden = Rows(name='rows')(keras.layers.Dense(5)(keras.layers.Dense(4)(numbers)))\n"
        "    inputs = {tensor.name: tensor for tensor in (numbers, *others)}\n"
        "    return keras.Model(inputs, keras.layers.Dense(num_outputs)(hidden))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rows, model = kept(make_rows(NUMBER)), {"module": "own_network_of_test"}
    before = fitted(served.preprocessed, rows, tmp_path, model=model, **LEARNS)
    base = export(before, served.preprocessed, tmp_path / "model")

    warm = fitted(served.preprocessed, rows, tmp_path, base=base, model=model, **STAYS)

    expected = answers(before, served.preprocessed, rows)
    np.testing.assert_allclose(answers(warm, served.preprocessed, rows), expected, rtol=1e-6)
    assert warm.history["warm_start"]["started"] == 7


@pytest.mark.long
def test_network_beside_trees_starts_from_the_one_that_was_averaged_with_them(served, tmp_path):
    rows, model = kept(make_rows(NUMBER)), MODEL | {"kind": "auto", "trees": {"num_iterations": 4}}
    before = fitted(served.preprocessed, rows, tmp_path, model=model, **LEARNS)
    base = export(before, served.preprocessed, tmp_path / "model")

    history = fitted(served.preprocessed, rows, tmp_path, base=base, model=model, **STAYS).history

    found = history.get("warm_start") or history["beside"]["warm_start"]
    choice = before.history["choice"]["kind"]
    assert ("why" in found) == (choice == "trees")
    assert choice == "trees" or found["anew"] == {}


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "layer", "first"),
    [("bag", "text_vectors", 1), ("cnn", "text_convolution", 2), ("transformer", "text_transformer", 1)],
    ids=["bag", "cnn", "transformer"],
)
def test_vectors_of_words_follow_them_into_a_new_vocabulary(preprocess, tmp_path, kind, layer, first):
    words = ["good", "fine", "bad", "poor", "film", "plot", "hero", "song"]

    def messages(order: list[str]) -> Rows:
        return [
            {"text": f"{order[i % 8]} {order[i * i % 5]} {order[i * 3 % 7]} {i}", "kind": "ab"[i % 2]}
            for i in range(80)
        ]

    both = [
        preprocess(messages(order), label="kind", text_encoder={"kind": kind, "ngrams": 1, "min_count": 3})
        for order in (words, [*reversed(words)])
    ]
    first_fit = fitted(both[0], messages(words), tmp_path / "a", **LEARNS)
    served = export(first_fit, both[0], tmp_path / "served")

    warm = fitted(both[1], messages(words), tmp_path / "b", base=served, **STAYS)

    assert warm.history["warm_start"]["anew"] == {}
    known = [one.output.vocabulary_by_name("text") for one in both]
    assert sorted(known[0]) == sorted(known[1])
    assert known[0] != known[1]
    before, now = (weights_of(one, layer)[0] for one in (first_fit, warm))
    places = [known[0].index(token) for token in known[1]]
    np.testing.assert_allclose(now[first : first + len(places)], before[first:][places], rtol=1e-6)


def remarks(*, classes: int = 2, name: str = "text") -> Rows:
    words = ["good", "fine", "bad", "poor", "film", "plot", "hero", "song"]
    return [
        {
            name: f"{words[i % 8]} {words[i * i % 5]} {words[i * 3 % 7]} it's {i}",
            "number": float(i % 7),
            "place": f"p{i % 3}",
            "kind": "abcdef"[i % classes],
        }
        for i in range(80)
    ]


@pytest.fixture(scope="module")
def analysed(preprocess) -> Callable[..., Preprocessed]:
    def analyse(rows: Rows, name: str = "text", **encoder: Any) -> Preprocessed:
        return preprocess(rows, label="kind", text=[name], text_encoder={"kind": "bag", "ngrams": 1, **encoder})

    return analyse


@pytest.fixture(scope="module")
def served_remarks(analysed, tmp_path_factory) -> Path:
    """A model of texts, a number and a category."""
    folder = tmp_path_factory.mktemp("remarks")
    preprocessed = analysed(remarks())
    return export(fitted(preprocessed, remarks(), folder / "run", **LEARNS), preprocessed, folder / "model")


@pytest.mark.long
@pytest.mark.parametrize("table", [{"it's": "it has"}, {}], ids=["edited", "none"])
def test_table_of_contractions_is_no_vocabulary(served_remarks, analysed, tmp_path, table):
    preprocessed = analysed(remarks(), cleaning={"contractions": table})

    warm = fitted(preprocessed, remarks(), tmp_path, base=served_remarks, **STAYS)

    assert warm.history["warm_start"]["anew"] == {}


@pytest.mark.long
def test_table_of_contractions_in_what_was_written_down_of_a_model_does_not_count(served_remarks, analysed, tmp_path):
    base = shutil.copytree(served_remarks, tmp_path / "model")
    written = json.loads((base / WEIGHTS).read_text())
    written["vocabularies"]["contractions.tsv"] = "digest of another table"
    (base / WEIGHTS).write_text(json.dumps(written))

    warm = fitted(analysed(remarks()), remarks(), tmp_path, base=base, **STAYS)

    assert warm.history["warm_start"]["anew"] == {}


@pytest.mark.long
def test_vectors_of_words_stay_where_a_class_is_added(analysed, tmp_path):
    before, now = (analysed(remarks(classes=number)) for number in (5, 6))
    base = export(fitted(before, remarks(classes=5), tmp_path / "a", **LEARNS), before, tmp_path / "model")

    warm = fitted(now, remarks(classes=6), tmp_path / "b", base=base, **STAYS)

    assert {*warm.history["warm_start"]["anew"].values()} == {"the classes have changed"}


@pytest.mark.long
def test_another_column_of_text_is_another_column(served_remarks, analysed, tmp_path):
    rows = remarks(name="other")

    warm = fitted(analysed(rows, "other"), rows, tmp_path, base=served_remarks, **STAYS)

    assert "the columns have changed" in warm.history["warm_start"]["anew"].values()
