"""Text: which columns are text, cleaning, tokens, encoders, and the served graph."""

import html
import random
import unicodedata
from types import SimpleNamespace

import keras
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from pydantic import ValidationError

from kubetfx.components.data.column_roles import choose_role
from kubetfx.components.data.column_scan import ColumnScan
from kubetfx.components.data.word_counts import WordCounts
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.text_section import TextCleaningConfig, TextEncoderConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.errors import ConfigError
from kubetfx.models.columns.column_profile import LENGTH_STEP, ColumnProfile
from kubetfx.models.columns.column_type import Column
from kubetfx.models.columns.text import cleaning
from kubetfx.models.columns.text.encoders import kind_of
from kubetfx.models.columns.text.text_type import MANY_CELLS, TOKENS_OF_TREES, Text
from kubetfx.models.columns.text.tokens import ngrams, tokenize
from kubetfx.models.fitting import Work, fit_model
from kubetfx.models.layers import fit_layers
from kubetfx.models.network import build_model
from kubetfx.models.optimization import class_weights, compile_model
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.models.team import Team
from tests.models.conftest import to_examples
from tests.models.test_export import TOLERANCE, export
from tests.models.test_trees import rows_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SUBJECTS = ["the film", "this plot", "her acting", "our hero", "every scene", "that song", "the ending", "his voice"]
VERBS = ["was", "is", "seemed", "looked", "felt", "remained"]
GOOD = ["wonderful", "great fun", "a delight", "moving and wise"]
BAD = ["dreadful", "not great", "a bore", "flat and silly"]


def message(number: int) -> str:
    chance = random.Random(number)
    words = GOOD if number % 2 else BAD
    return f"{chance.choice(SUBJECTS)} {chance.choice(VERBS)} {chance.choice(words)}, no. {number}!"


ROWS = [{"review": message(i), "stars": i * 7 % 5 + 0.5, "liked": ["no", "yes"][i % 2]} for i in range(240)]
ODD = [
    "",
    "   ",
    "!!! ... ???",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 wow \u2764\ufe0f",
    "cafe\u0301 caf\u00e9 CAF\u00c9",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "wo\u200bnder\u00adful",
    "<b>great <i>fun",
    "a <b unclosed <3 & co",
    "great " * 50_000,
    "\u8fd9\u90e8\u7535\u5f71\u5f88\u597d",
    "x" * 1_000_000,
]


def cleaned(*texts: str | bytes, **config) -> list[str]:
    found = cleaning.clean(tf.constant(texts), TextCleaningConfig(**config))
    return [text.decode() for text in found.numpy()]


def profile_of(cells: list[str | None]):
    scan = ColumnScan("text", "string")
    scan.add(pa.array(cells, pa.string()))
    return scan.column()


def role_of(cells: list[str | None], **config) -> tuple[str, str]:
    return choose_role(profile_of(cells), num_rows=len(cells), config=FeaturesConfig(**config))


def test_many_different_cells_of_several_words_are_text():
    assert role_of([message(i) for i in range(200)]) == ("text", "200 different cells, of 7.03 words on average")


@pytest.mark.parametrize(
    ("cells", "role"),
    [
        ([f"id-{i}" for i in range(200)], "excluded"),
        ([f"Ann Miller{i}" for i in range(200)], "excluded"),
        ([f"https://a.org/{i}/b-c-d" for i in range(200)], "excluded"),
        (["rather good value", "not so good value"] * 100, "vocabulary"),
        ([f"\u8fd9\u90e8\u7535\u5f71\u5f88\u597d{i}" for i in range(200)], "text"),
        (["a b c d", "e f g h", "a b c e"], "vocabulary"),
    ],
    ids=["identifier", "names", "addresses", "few", "chinese", "tiny"],
)
def test_other_columns_are_not_text(cells, role):
    assert role_of(cells)[0] == role


def test_config_overrules_what_a_column_is():
    cells = [message(i) for i in range(200)]

    assert role_of(["yes", "no"] * 50, text=["text"]) == ("text", "as configured")
    assert role_of(cells, categorical=["text"])[0] == "vocabulary"


def test_counts_of_words_do_not_depend_on_blocks():
    cells = [message(i) for i in range(300)] + [None, "one", "", "\u8fd9\u90e8 film", "caf\u00e9"]
    whole = WordCounts()
    whole.add(pa.array(cells))
    parts = [WordCounts() for _ in range(3)]
    for part, start in zip(parts, (0, 7, 290), strict=True):
        part.add(pa.array(cells[start : {0: 7, 7: 290, 290: None}[start]]))
    for part in parts[1:]:
        parts[0].merge(part)

    assert parts[0].texts == whole.texts
    assert whole.texts.num_words == sum(len(cell.split(" ")) for cell in cells[:300]) + 1 + 1 + 4 + 1
    assert sum(whole.texts.lengths) == 304
    assert whole.texts.length_of(0.99) == LENGTH_STEP * 2


def test_details_are_the_length_that_most_messages_have():
    column = profile_of([message(i) for i in range(200)] + ["great " * 600])
    longest = profile_of(["word " * 5_000] * 30)

    assert Text().details(column) == {"length": "24", "many": "no"}
    assert Text().details(longest) == {"length": "any", "many": "no"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't STOP!", "do not stop !"),
        ("They\u2019re here, it's John's", "they are here , it is john s"),
        ("l'homme 'quoted'", "l homme quoted"),
        ("<p>Hi<br/>you</p><!-- no --><script>x < 1</script>", "hi you"),
        ("I <3 a <b and c", "i < 3 a < b and c"),
        (
            "R&amp;D &eacute;t&#233; &#x263A; &nosuch; &#99999999;",
            "r & d e\u0301te\u0301 \u263a & nosuch ; & # 99999999 ;",
        ),
        ("&#x41; &#X263a; &#x; &#65;&#x42;", "a \u263a & # x ; ab"),
        ("see http://a.org/x?y=1 or www.b.com.", "see url or url"),
        ("caf\u00e9", "cafe\u0301"),
        ("\uff26\uff35\uff2c\uff2c \ufb01n", "full fin"),
        ("a\u00a0b\u2028c\td\ne", "a b c d e"),
        ("wo\u200brd soft\u00adhyphen", "word softhyphen"),
        ("\u6771\u4eac2024", "\u6771 \u4eac 2024"),
        ("", ""),
    ],
)
def test_text_is_cleaned(text, expected):
    assert cleaned(text) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 wow \u2764\ufe0f",
            "\U0001f600 \U0001f468 \U0001f469 \U0001f467 wow \u2764",
        ),
        ("\U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea", "\U0001f44d \U0001f3fd \U0001f1e9 \U0001f1ea"),
        ("a\u0301\u0302b CAFE\u0301", "a\u0301\u0302b cafe\u0301"),
        (
            "\u05e9\u05dc\u05d5\u05dd, \u0645\u0631\u062d\u0628\u0627\u200f!",
            "\u05e9\u05dc\u05d5\u05dd , \u0645\u0631\u062d\u0628\u0627 !",
        ),
        ("\u202eevil\u202c x", "evil x"),
        ("\u200b\u200d\ufeff", ""),
        ("<b>great <i>fun", "great fun"),
        ("wonderful <!-- never closed", "wonderful < ! - - never closed"),
        ("wonderful <script>x = 1", "wonderful x = 1"),
        ("<p>one</p", "one < / p"),
        ("!!! ... ???", "! ! ! . . . ? ? ?"),
        ("again " * 1_000_000, " ".join([*["again"] * 3_333, "ag"])),  # 20,000 characters
        ("x" * 2**20, "x" * 20_000),
        ("<" * 5_000, " ".join("<" * 5_000)),
    ],
    ids=["emoji joined", "emoji coloured", "combining", "right to left", "override", "zero width", "tags", "comment",
         "script", "half a tag", "punctuation", "a million times", "a megabyte", "angles"],
)  # fmt: skip
def test_odd_texts_are_cleaned(text, expected):
    assert cleaned(text) == [expected]


def test_invalid_utf8_becomes_spaces():
    assert cleaned(b"good\xff\xfe day \xe4") == ["good day"]


def test_cleaning_is_as_configured():
    text = "Don't <b>pay</b> $100 &amp; see http://a.org"

    assert cleaned(text, lower_case=False, html=False, urls=False, contractions={}, digits="zero") == [
        "Don t < b > pay < / b > $ 000 & amp ; see http : / / a . org"
    ]
    assert cleaned("Pls reply asap", contractions={"pls": "please"}) == ["please reply asap"]
    assert cleaned("o'er it's", contractions={"O\u2019er": "over"}) == ["over it s"]
    assert cleaned("you don't", contractions={"don't": "do not", " Don\u2019t": " do  not"}) == ["you do not"]
    assert cleaned("Don't", lower_case=False) == ["do not"]
    assert cleaned("he said 'it's great'") == ["he said it is great"]
    assert cleaned("one two three", characters=5) == ["one t"]


def test_every_entity_of_html_is_known():
    names = [f"&{name}" for name in html.entities.html5 if name.endswith(";")]
    pieces = cleaning._without_entities(tf.constant(names)).numpy()

    assert [piece.decode() for piece in pieces] == [html.unescape(name) for name in names]


def test_decomposition_is_unicodes():
    chance = random.Random(0)
    ranges = [(0x20, 0x250), (0x300, 0x370), (0x900, 0xE00), (0x1F00, 0x2000), (0xAC00, 0xD7A4), (0xF900, 0xFB00)]
    texts = ["".join(chr(chance.randrange(*chance.choice(ranges))) for _ in range(30)) for _ in range(300)]
    texts = ["".join(one for one in text if unicodedata.category(one) not in ("Cc", "Cf", "Zs")) for text in texts]
    texts = [text.replace("\u02bc", "") for text in texts]

    found = [text.decode() for text in cleaning._decomposed(tf.constant(texts)).numpy()]

    assert found == [unicodedata.normalize("NFKD", text) for text in texts]


def test_subwords_are_the_word_and_its_neighbouring_characters():
    config = TextEncoderConfig(tokens="subwords")
    (first, second) = tokenize(tf.constant(["cats", "a cats"]), config, length=8).to_list()

    assert [token.decode() for token in first] == [
        "cats",
        "<ca",
        "cat",
        "ats",
        "ts>",
        "<cat",
        "cats",
        "ats>",
        "<cats",
        "cats>",
    ]
    assert second[0] == b"a"
    assert second[-len(first) :] == first


def test_every_word_of_a_long_text_has_its_subwords(preprocess):
    words = [f"word{number}" for number in range(40)]
    rows = [{"review": " ".join(words), "liked": "no"}, {"review": " ".join(words[:39]), "liked": "yes"}] * 30
    config = {"kind": "bag", "tokens": "subwords", "min_count": 1}
    texts = preprocess(rows, label="liked", text=["review"], text_encoder=config)

    first, second = texts.transform(rows[:2])["text_ngrams"][:, 0]

    vocabulary = [token.decode() for token in texts.output.vocabulary_by_name("text")]
    assert {vocabulary[number - 1] for number in set(first) - set(second)} >= {"word39", "d39>"}


def test_words_of_contractions_have_room(preprocess):
    rows = [{"review": "l'art d'un film, don't you've it's", "liked": "ab"[i % 2]} for i in range(30)]
    texts = preprocess(rows, label="liked", text=["review"], text_encoder={"kind": "cnn", "min_count": 1})

    assert (texts.transform(rows[:1])["text_tokens"] > 0).sum() == 12


def test_characters_are_tokens():
    config = TextEncoderConfig(tokens="characters")

    assert tokenize(tf.constant(["ab c"]), config, length=3).to_list() == [[b"a", b"b", b" "]]


def test_ngrams_of_a_short_text_are_fewer():
    found = ngrams(tf.ragged.constant([["a", "b", "c"], ["a"], []], dtype=tf.string), 2)

    assert found.to_list() == [[b"a", b"b", b"c", b"a b", b"b c"], [b"a"], []]


@pytest.fixture(scope="module", params=["bag", "cnn"])
def texts(request, preprocess):
    return preprocess(ROWS, label="liked", text_encoder={"kind": request.param})


def test_odd_texts_have_features_too(texts):
    rows = [ROWS[0] | {"review": text} for text in [*ODD, None]]
    found = texts.transform(rows)
    own = {name: values for name, values in found.items() if name.startswith("text_")}

    assert {values.shape[:2] for values in own.values()} == {(len(rows), 1)}
    for values in own.values():
        assert not values[[0, 1, -1]].any()  # empty, blank and missing
        assert values[7].any()


@pytest.fixture(scope="module")
def exported(texts, tmp_path_factory):
    yield from export(texts, tmp_path_factory.mktemp("texts") / "model", ROWS)


def test_served_texts_are_those_of_training(exported):
    asked = [*ROWS[:20], *({"review": text, "stars": 1.5} for text in ODD)]

    expected = exported.eager(asked)
    inputs = {
        "review": np.array([row["review"].encode() for row in asked], object),
        "stars": np.array([row["stars"] for row in asked], np.float32),
    }
    found = exported.run("serving_default", **inputs)["probabilities"]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    examples = np.array(to_examples(asked), dtype=object)
    np.testing.assert_allclose(
        exported.run("serving_examples", examples=examples)["probabilities"], expected, atol=TOLERANCE
    )


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"don't": "do not", " don't": "never"}, 'one word with two meanings. Received: "don\'t": .* Keep one'),
        ({"don't": "do not", "DON\u2019T": "never"}, "one word with two meanings"),
        ({"do n't": "do not"}, 'single words. Received: "do n\'t". Take it out'),
        ({" ": "space"}, "single words. Received: ' '"),
    ],
    ids=["spaces", "case and apostrophe", "two words", "empty"],
)
def test_tables_of_contractions_that_cannot_be_looked_up_are_refused(table, problem):
    with pytest.raises(ValidationError, match=problem):
        TextCleaningConfig(contractions=table)


def test_contractions_of_the_user_are_an_asset_of_the_model(preprocess, tmp_path):
    rows = [{"review": f"it was {'gr8' if i % 2 else 'bd'} no. {i}", "liked": "yn"[i % 2]} for i in range(60)]
    table = {"Gr8": "really  great", "bd": "bad"}
    config = {"kind": "bag", "cleaning": {"contractions": table}, "min_count": 1}
    texts = preprocess(rows, label="liked", text=["review"], text_encoder=config)

    exported = next(exporting := export(texts, tmp_path / "model", rows))

    (file,) = (tmp_path / "model").rglob("assets/contractions.tsv")
    assert file.read_text().splitlines() == ["gr8\treally great", "bd\tbad"]
    vocabulary = {token.decode() for token in texts.output.vocabulary_by_name("text")}
    assert {"really", "great", "really great", "bad"} <= vocabulary
    assert "gr8" not in vocabulary
    short, long = (np.array([text.encode()], object) for text in ("it was GR8", "it was really great"))
    found = [exported.run("serving_default", review=cells)["probabilities"] for cells in (short, long)]
    np.testing.assert_allclose(*found, atol=TOLERANCE)
    exporting.close()


def test_invalid_utf8_in_a_request_has_the_answer_of_the_words_around_it(exported):
    asked = np.array([b"great \xff\xfe fun", b"great fun", b"a bore"], object)
    inputs = {"review": asked, "stars": np.full(3, 0.5, np.float32)}
    spoiled, whole, other = exported.run("serving_default", **inputs)["probabilities"]
    np.testing.assert_allclose(spoiled, whole, atol=TOLERANCE)
    assert np.abs(whole - other).max() > 10 * TOLERANCE


@pytest.mark.parametrize(
    "kind", ["bag", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("fasttext", "cnn", "transformer"))]
)
def test_a_vocabulary_without_tokens_is_refused(preprocess, kind):
    rows = preprocess(ROWS, label="liked", text_encoder={"kind": kind, "min_count": 1_000})

    with pytest.raises(ConfigError, match=r"no token of the training texts occurs so often.*Received: min_count: 1000"):
        build_model(rows.output, model=ModelConfig(members=1), features=rows.config, num_outputs=2)


@pytest.mark.parametrize("model", ["trees", pytest.param("auto", marks=pytest.mark.long)])
def test_a_vocabulary_without_tokens_is_refused_by_trees_in_the_same_words(preprocess, tmp_path, model):
    rows = preprocess(ROWS, label="liked", text_encoder={"kind": "bag", "min_count": 1_000})
    work = work_of(rows, ModelConfig(kind=model), tmp_path)

    with pytest.raises(ConfigError, match=r"no token of the training texts occurs so often.*Received: min_count: 1000"):
        fit_model(work, rows_of(rows, ROWS), rows_of(rows, ROWS[:40]), None, load_seconds=0)


@pytest.mark.long
def test_trees_with_a_vocabulary_learn_from_it(preprocess, tmp_path):
    rows = preprocess(ROWS, label="liked", text_encoder={"kind": "bag"})
    work = work_of(rows, ModelConfig(kind="trees"), tmp_path)

    fitted = fit_model(work, rows_of(rows, ROWS[:200]), rows_of(rows, ROWS[200:]), None, load_seconds=0)

    assert fitted.history["history"]["val_loss"][-1] < 0.3


def work_of(rows, model, folder):
    return Work(
        SimpleNamespace(model_run_dir=str(folder)),
        model,
        rows.config,
        TrainingConfig(),
        rows.features,
        rows.output,
        Team(),
    )


def test_tfidf_is_that_of_scikit_learns_formula(preprocess):
    rows = preprocess(ROWS, label="liked", text_encoder={"kind": "bag", "ngrams": 1, "min_count": 1})
    features = rows.transform(ROWS)
    network = build_model(rows.output, model=ModelConfig(members=1), features=rows.config, num_outputs=2)
    fit_layers(network, features)
    layer = network.get_layer("text_vectors")
    numbers, counts = features["text_ngrams"][:, 0], features["text_counts"][:, 0]
    documents = np.bincount(numbers.reshape(-1), minlength=layer._vectors.shape[0])
    idf = np.log((1 + len(ROWS)) / (1 + documents)) + 1
    weights = np.where(numbers > 0, (1 + np.log(np.maximum(counts, 1))) * idf[numbers], 0)
    weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
    expected = np.einsum("bn,bnd->bd", weights, layer._vectors.numpy()[numbers])

    found = layer([features["text_ngrams"], features["text_counts"]]).numpy()[:, 0]

    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert layer._rarity.numpy()[0] == 0


def test_gradients_of_vectors_are_added_up_once(preprocess):
    rows = preprocess(ROWS, label="liked", text_encoder={"kind": "fasttext", "dropout": 0})
    layer = build_model(rows.output, model=ModelConfig(members=1), features=rows.config, num_outputs=2).get_layer(
        "text_vectors"
    )
    features = rows.transform(ROWS[:3])
    counts = features["text_counts"]
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer([features["text_ngrams"], counts]))
    gradient = tape.gradient(total, layer._vectors.value)
    expected = np.zeros(layer._vectors.shape[0])
    np.add.at(expected, features["text_ngrams"], counts / counts.sum(axis=-1, keepdims=True) * (counts > 0))

    assert isinstance(gradient, tf.Tensor)
    np.testing.assert_allclose(gradient[:, 0], expected, atol=1e-6)


@pytest.mark.long
def test_vectors_have_no_fewer_dimensions_than_there_are_classes_in_few_steps(preprocess):
    def dimensions(labels: list[float | str], **keywords) -> int:
        rows = [{"review": row["review"], "liked": labels[i % len(labels)]} for i, row in enumerate(ROWS)]
        found = preprocess(rows, label="liked", text_encoder={"kind": "bag"}, **keywords)
        network = build_model(found.output, model=ModelConfig(members=1), features=found.config, num_outputs=1)
        return network.get_layer("text_vectors")._vectors.shape[1]

    assert dimensions(["yes", "no"]) == 4
    for number, size in ((4, 4), (5, 8), (6, 8), (9, 16)):
        assert dimensions([f"class {i}" for i in range(number)]) == size
    assert dimensions([f"class {i}" for i in range(40)]) == 16
    assert dimensions([i + 0.5 for i in range(60)], task="regression") == 16


def test_rows_of_a_block_are_the_same_in_parts(texts, monkeypatch):
    block = pa.RecordBatch.from_pylist([ROWS[i] | {"review": text} for i, text in enumerate(ODD[:10])] + ROWS[:30])
    whole = Preprocessing(texts.output).of_block(block)
    monkeypatch.setattr("kubetfx.models.preprocessing.TEXT_ROWS", 7)
    parts = Preprocessing(texts.output).of_block(block)

    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name], values, err_msg=name)
    assert len(whole["text_ngrams" if "text_ngrams" in whole else "text_tokens"]) == 40


def test_network_of_text_alone_has_no_hidden_layers(preprocess):
    rows = [{"review": row["review"], "liked": row["liked"]} for row in ROWS]
    alone = preprocess(rows, label="liked")
    networks = [
        build_model(alone.output, model=model, features=alone.config, num_outputs=2)
        for model in (ModelConfig(members=1), ModelConfig(members=1, hidden_units=(8,)))
    ]

    assert [sum(isinstance(layer, keras.layers.Dense) for layer in one.layers) for one in networks] == [1, 2]


def test_trees_see_which_frequent_tokens_there_are_and_how_many(preprocess):
    rows = preprocess(ROWS, label="liked", text_encoder={"kind": "bag", "ngrams": 1, "min_count": 1})
    transformed = {
        name: tf.constant(values) for name, values in rows.transform([{"review": "great great fun"}]).items()
    }
    found = Text().for_trees(transformed, rows.features.by_type["text"])
    vocabulary = [token.decode() for token in rows.output.vocabulary_by_name("text")]

    number, *has = found["text_ngrams"].numpy()[0].tolist()
    assert number == 2
    assert found["text_counts"].numpy().tolist() == [[3.0]]
    assert {vocabulary[place - 1] for place, flag in enumerate(has) if flag and place} == {"great", "fun"}
    assert len(has) == TOKENS_OF_TREES


def test_bag_is_for_few_messages_and_fasttext_for_many():
    def of(*numbers: int) -> str:
        profiles = [ColumnProfile("a", "string", number) for number in numbers]
        columns = [Column("a", "string", details=Text().details(profile)) for profile in profiles]
        return kind_of(TextEncoderConfig(), columns)

    assert [of(5_000), of(5_000, MANY_CELLS), of(MANY_CELLS - 1)] == ["bag", "fasttext", "bag"]


@pytest.mark.long
def test_class_weights_count_a_rare_class_of_texts_as_much_as_the_other(preprocess):
    rows = [{"review": message(i // 10), "liked": "yes" if i % 10 == 0 else "no"} for i in range(200)]  # of each, one
    texts = preprocess(rows, label="liked", text=["review"], text_encoder={"kind": "bag"})
    features = texts.transform(rows)
    labels = features.pop("label").reshape(-1)
    rarest = {}
    for weights in ("none", "balanced"):
        training = TrainingConfig(class_weights=weights, learning_rate=0.05, schedule={"kind": "constant"})
        network = build_model(texts.output, model=ModelConfig(members=1), features=texts.config, num_outputs=2)
        fit_layers(network, features)
        model = keras.Model(network.input, keras.layers.Softmax()(network.output))
        compile_model(model, training, labels=labels, num_steps=60, is_classifier=True, has_one_hot_labels=False)
        by_class = class_weights(training, labels, classes=("no", "yes"))
        inputs = {tensor.name: features[tensor.name] for tensor in network.inputs}
        weight = np.vectorize((by_class or {0: 1.0, 1: 1.0}).get)(labels)
        model.fit(inputs, labels, sample_weight=weight, epochs=30, batch_size=200, verbose=0)
        rarest[weights] = float(model(inputs).numpy()[:, 1].mean())

    assert rarest["none"] == pytest.approx(0.1, abs=0.1)
    assert rarest["balanced"] == pytest.approx(0.5, abs=0.15)
