"""Texts that are changed at random in training: what may change, how often, and that a served model does none of it."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from kubetfx.config.model_section import ModelConfig
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.text_section import TextAugmentationConfig, TextEncoderConfig
from kubetfx.config.word_files import read_words
from kubetfx.errors import ConfigError
from kubetfx.models.columns.text.text_augmentation import TextAugmentation, synonym_table
from kubetfx.models.layers import fit_layers
from kubetfx.models.network import build_model
from tests.models.columns.text.test_text_type import ROWS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

NONE = np.zeros((50, 1), np.int64)
TOKENS = tf.constant([[[*range(2, 42), 0, 0], [7, 8, 9, *[0] * 39]]] * 500, tf.int64)


def changed(tokens=TOKENS, **options) -> np.ndarray:
    keras.utils.set_random_seed(3)
    layer = TextAugmentation(**{"drop": 0, "swap": 0, "replace": 0, "table": NONE, "left_out": 1} | options)
    assert (layer(tokens, training=False).numpy() == tokens.numpy()).all()
    found = layer(tokens, training=True).numpy()
    assert ((found > 0) == (tokens.numpy() > 0)).all()
    return found


def test_words_are_left_out_as_often_as_said():
    found = changed(drop=0.2)
    is_token = TOKENS.numpy() > 0

    assert (found == 1)[is_token].mean() == pytest.approx(0.2, abs=0.01)
    assert (found == TOKENS.numpy())[found != 1].all()


def test_neighbours_change_places_as_often_as_said():
    found, before = changed(swap=0.3), TOKENS.numpy()

    assert (np.sort(found) == np.sort(before)).all()
    assert np.abs(np.where(before[0, 0] > 0, found[:, 0] - before[:, 0], 0)).max() == 1
    assert (found != before)[:, 0, 2:38].mean() == pytest.approx(0.3, abs=0.02)


def test_words_become_their_synonyms():
    config = TextEncoderConfig(
        augmentation={"synonyms": {"Film": ["movie", "caf\u00e9"], "plot": ["story"], "x": ["y"]}}
    )
    vocabulary = ["film", "movie", "plot", "cafe\u0301", "rest"]
    table = synonym_table(config.augmentation.synonyms, vocabulary, config, first=2)

    found = changed(tf.constant([[[2, 4, 6, 3, 0]]] * 2_000, tf.int64), replace=0.5, table=table)[:, 0]

    assert table.tolist() == [[0, 0, 0], [0, 0, 0], [2, 3, 5], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    shares = [(found[:, 0] == number).mean() for number in (2, 3, 5)]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.04)
    assert (found[:, 1:] == [4, 6, 3, 0]).all()


def test_augmentation_of_a_seed_is_always_the_same():
    first, second = (changed(drop=0.2, swap=0.2) for _ in range(2))

    assert (first == second).all()


@pytest.mark.parametrize("kind", [pytest.param("bag", marks=pytest.mark.long), "cnn"])
def test_network_is_trained_on_changed_texts_and_asked_with_the_texts(preprocess, kind):
    augmentation = {"synonyms": {"film": ["plot"], "plot": ["film"]}, "replace": 0.9}
    texts = preprocess(
        ROWS[:60], label="liked", text_encoder={"kind": kind, "dropout": 0, "augmentation": augmentation}
    )
    features = texts.transform([{"review": "the film was this plot", "stars": 1.5}])
    network = build_model(texts.output, model=ModelConfig(members=1, dropout=0), features=texts.config, num_outputs=2)
    fit_layers(network, features)
    inputs = {tensor.name: features[tensor.name] for tensor in network.inputs}
    asked = [network(inputs, training=False).numpy() for _ in range(2)]
    trained = [network(inputs, training=True).numpy() for _ in range(8)]

    assert (asked[0] == asked[1]).all()
    assert any((one != asked[0]).any() for one in trained)


@pytest.mark.parametrize("kind", ["auto", "bag", "fasttext"])
def test_order_of_words_is_not_augmented_where_nothing_looks_at_it(kind):
    with pytest.raises(ValidationError, match=f"augmentation.swap applies to kind: cnn .* Received: kind: {kind}"):
        TextEncoderConfig(kind=kind, augmentation={"swap": 0.1})
    with pytest.raises(ValidationError, match="For other kinds set dropout"):
        TextEncoderConfig(kind=kind, augmentation={"drop": 0.1})


def test_files_of_words_are_read_with_the_config(tmp_path):
    (tmp_path / "synonyms.tsv").write_text("# mine\nfilm\tmovie\tpicture\n\nplot\tstory\n")
    (tmp_path / "short.tsv").write_text("pls\tplease\ndon't\tdo\tnot\n")
    encoder = {"augmentation": {"synonyms": "synonyms.tsv"}, "cleaning": {"contractions": "short.tsv"}}

    config = PipelineConfig(
        tmp_path, name="a", data={"path": "a.csv", "label": "b"}, features={"text_encoder": encoder}
    )

    found = config.features.text_encoder
    assert found.augmentation.synonyms == {"film": ("movie", "picture"), "plot": ("story",)}
    assert found.cleaning.contractions == {"pls": "please", "don't": "do not"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"film\tmovie\nfilm\tpicture\n", "line 2 of .* since its first word is a duplicate"),
        (b"film movie\n", "line 1 of .* since it has no tab between two words"),
        (b"\xff\xfe\x00", "the file of words cannot be read"),
        (None, "the file of words cannot be read"),
        (b"# mine\n\n", "the file has no words"),
        (b"", "the file has no words"),
    ],
    ids=["twice", "no tab", "binary", "missing", "comments alone", "empty"],
)
def test_file_of_words_that_cannot_be_read_is_refused(tmp_path, content, problem):
    file = tmp_path / "words.tsv"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError, match=f"(?s)features.x: {problem}.*Received"):
        read_words(str(file), key="features.x")


def test_a_pipe_in_place_of_a_file_of_words_is_refused(tmp_path):
    os.mkfifo(tmp_path / "words.tsv")

    with pytest.raises(ConfigError, match=r"cannot be read.*not a regular file"):
        read_words(str(tmp_path / "words.tsv"), key="features.x")


def test_only_line_feeds_end_the_lines_of_a_file_of_words(tmp_path):
    (tmp_path / "words.tsv").write_bytes("film\tmo\u2028vie\x0cs\r\nplot\tstory\r\n".encode())

    found = read_words(str(tmp_path / "words.tsv"), key="features.x")

    assert found == {"film": ("mo\u2028vie\x0cs",), "plot": ("story",)}


@pytest.mark.parametrize(
    ("part", "key"), [("augmentation", "synonyms"), ("cleaning", "contractions")], ids=["synonyms", "contractions"]
)
def test_a_path_with_a_nul_character_is_refused(tmp_path, part, key):
    encoder = {part: {key: "a\0b"}}

    with pytest.raises(ConfigError, match=rf"features.text_encoder.{part}.{key}: no path has a NUL .*Take it out"):
        PipelineConfig(tmp_path, name="a", data={"path": "a.csv", "label": "b"}, features={"text_encoder": encoder})


@pytest.mark.parametrize(
    "synonyms", [{"a": ["a"]}, {"a": []}, {"": ["b"]}, {"a": [" "]}], ids=["itself", "none", "no word", "a space"]
)
def test_synonyms_that_are_none_are_refused(synonyms):
    with pytest.raises(ValueError, match=r"synonyms are of a word, and other words than it.*Received"):
        TextAugmentationConfig(synonyms=synonyms)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"pretrained": ""}, "pretrained is empty.*leave pretrained out"),
        ({"kind": "pretrained", "pretrained": ""}, "pretrained is empty"),
        ({"ngrams": True}, "a number is needed. Received: true"),
        ({"vocabulary_size": True}, "a number is needed. Received: true"),
        ({"vocabulary_size": 10**21}, "less than or equal to 1000000000"),
        ({"min_count": 10**21}, "less than or equal to 1000000000"),
        ({"cleaning": {"characters": 10**21}}, "less than or equal to 1000000000"),
    ],
    ids=str,
)
def test_values_of_text_that_mean_nothing_are_refused(encoder, message):
    with pytest.raises(ValueError, match=message):
        TextEncoderConfig(**encoder)
