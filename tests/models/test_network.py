import apache_beam as beam
import numpy as np
import pytest
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import metadata_io

from kubetfx.components.data.parquet_tfxio import ParquetExamples
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.config.model_section import ModelConfig
from kubetfx.models.network import averaged, build_model, sized, with_head
from tests.models.conftest import Preprocessed, preprocessing_fn, write_split

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def column_of(rows, name) -> np.ndarray:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


def test_numbers_are_standard_scores_over_the_cells_that_are_there(multiclass, rows):
    scaled = multiclass.transform(rows)["numeric"]

    for index, name in enumerate(multiclass.features.numeric):
        values = column_of(rows, name)
        expected = (values - np.nanmean(values)) / np.nanstd(values)
        np.testing.assert_allclose(scaled[:, index], np.nan_to_num(expected, nan=0.0), atol=1e-5)


def test_column_with_missing_cells_has_an_indicator_and_no_other_has(multiclass, rows, odd_names):
    numeric = multiclass.transform(rows)["numeric"]
    optional = [column.name for column in multiclass.features.by_type["numeric"] if column.is_optional]

    assert optional == ["bill", odd_names["integer"]]
    assert numeric.shape == (len(rows), len(multiclass.features.numeric) + 2)
    for index, name in enumerate(optional, start=len(multiclass.features.numeric)):
        np.testing.assert_array_equal(numeric[:, index], np.isnan(column_of(rows, name)))


def test_number_missing_where_it_never_was_in_training_is_the_mean(multiclass, rows, odd_names):
    index = multiclass.features.numeric.index(odd_names["float"])

    numeric = multiclass.transform([rows[0] | {odd_names["float"]: None}])["numeric"]

    assert numeric[0, index] == 0
    assert np.isfinite(numeric).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan], ids=["infinite", "minus infinite", "not a number"])
def test_number_that_is_none_counts_as_missing(multiclass, rows, value):
    numeric = multiclass.transform([rows[0] | {"bill": value}, rows[0] | {"bill": None}])["numeric"]

    np.testing.assert_array_equal(numeric[0], numeric[1])


def test_infinite_number_in_training_leaves_the_scores_of_the_others_as_they_are(preprocess, rows):
    kept = [{name: row[name] for name in ("bill", "sex")} for row in rows]
    infinite = [kept[0] | {"bill": np.inf}, kept[1] | {"bill": -np.inf}, *kept[2:]]
    missing = [kept[0] | {"bill": None}, kept[1] | {"bill": None}, *kept[2:]]

    scores, expected = (preprocess(table, label="sex").transform(table)["numeric"] for table in (infinite, missing))

    assert scores[:, 0].std() > 0.5
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


@pytest.mark.parametrize(("value", "expected"), [(1e30, 10), (-1e30, -10)], ids=["large", "small"])
def test_outlier_is_clipped(multiclass, rows, value, expected):
    assert multiclass.transform([rows[0] | {"bill": value}])["numeric"][0, 0] == expected


def categories(preprocessed, rows, name) -> np.ndarray:
    return preprocessed.transform(rows)["categorical"][:, preprocessed.features.vocabulary.index(name)]


def test_values_of_a_vocabulary_are_told_apart(multiclass, rows, odd_names):
    for name in ("year", odd_names["text"], odd_names["dotted"]):
        indices = categories(multiclass, rows, name)
        pairs = {(row[name], int(index)) for row, index in zip(rows, indices, strict=True)}
        values = {row[name] for row in rows}
        assert len(pairs) == len(values) == len({index for _, index in pairs})


def test_columns_share_no_index(multiclass, rows):
    indices = multiclass.transform(rows)["categorical"]

    for first in range(indices.shape[1]):
        for second in range(first):
            assert set(indices[:, first]).isdisjoint(indices[:, second])


def test_missing_category_is_a_value_of_its_own_where_training_had_it(multiclass, rows, odd_names):
    name = odd_names["text"]
    size = multiclass.output.vocabulary_size_by_name("categorical")

    (missing,) = categories(multiclass, [rows[0] | {name: None}], name)

    assert missing < size
    assert missing not in {
        index for row, index in zip(rows, categories(multiclass, rows, name), strict=True) if row[name]
    }


@pytest.mark.parametrize(
    ("column", "value"),
    [("text", "island z"), ("dotted", None), ("year", 1999), ("year", None)],
    ids=["word", "missing word", "whole number", "missing whole number"],
)
def test_value_that_training_never_saw_is_out_of_the_vocabulary(multiclass, rows, odd_names, column, value):
    name = odd_names.get(column, column)

    (index,) = categories(multiclass, [rows[0] | {name: value}], name)

    assert index == multiclass.output.vocabulary_size_by_name("categorical")


def test_hashed_values_are_within_the_buckets_of_their_column(preprocess, rows):
    kept = [{"a": row["a-name!"], "b": row["a-name!"], "year": row["year"], "sex": row["sex"]} for row in rows]
    preprocessed = preprocess(kept, label="sex", vocabulary_size=5, hash_buckets=16)

    hashed = preprocessed.transform([*kept, {"a": "never seen", "b": None, "year": 2007, "sex": "male"}])["hashed"]

    assert preprocessed.features.hashed == ("a", "b")
    assert ((hashed[:, 0] >= 0) & (hashed[:, 0] < 16)).all()
    assert ((hashed[:, 1] >= 16) & (hashed[:, 1] < 32)).all()
    assert len(set(hashed[:, 0])) > 5


def test_label_is_the_index_of_its_class_in_the_order_of_the_names(multiclass, binary, rows):
    np.testing.assert_array_equal(
        multiclass.transform(rows)["label"][:, 0],
        [["Adelie", "Chinstrap", "Gentoo"].index(row["species"]) for row in rows],
    )
    assert multiclass.features.classes == ("Adelie", "Chinstrap", "Gentoo")
    np.testing.assert_array_equal(
        binary.transform(rows)["label"][:, 0], [["female", "male"].index(row["sex"]) for row in rows]
    )


def test_class_that_training_never_saw_has_no_index(multiclass, rows):
    label = multiclass.transform([rows[0] | {"species": "Emperor"}, rows[0] | {"species": None}])["label"]

    assert label.tolist() == [[-1], [-1]]


def test_number_to_predict_stays_as_it_is(regression, rows):
    label = regression.transform(rows)["label"]

    assert label.dtype == np.float32
    np.testing.assert_array_equal(label[:, 0], [row["mass"] for row in rows])


@pytest.fixture(scope="module")
def odd_table(preprocess):
    """A whole-number label that is a class, a column that never changes and one that training has no value of."""
    rows = [{"x": index / 2, "same": 3.5, "empty": None, "y": [0, 2, 10][index % 3]} for index in range(12)]
    return preprocess(rows, label="y", numeric=["same", "empty"])


def test_whole_numbers_as_classes_are_in_the_order_of_the_numbers(odd_table):
    label = odd_table.transform([{"x": 1.0, "y": value} for value in (0, 2, 10, 3)])["label"]

    assert odd_table.features.classes == ("0", "2", "10")
    assert label[:, 0].tolist() == [0, 1, 2, -1]


def test_number_that_never_changes_is_finite(odd_table):
    numeric = odd_table.transform([{"x": 1.0, "same": value, "empty": None, "y": 0} for value in (3.5, 100.0)])[
        "numeric"
    ]

    assert np.isfinite(numeric[:, odd_table.features.numeric.index("same")]).all()


@pytest.mark.parametrize("value", [None, 1.0], ids=["missing", "there"])
def test_number_that_training_has_no_value_of_is_finite(odd_table, value):
    numeric = odd_table.transform([{"x": 1.0, "same": 3.5, "empty": value, "y": 0}])["numeric"]

    assert np.isfinite(numeric).all()


def build(preprocessed, *, num_outputs: int, **model):
    return build_model(
        preprocessed.output,
        model=ModelConfig.model_validate(model),
        features=FeaturesConfig(hash_buckets=16),
        num_outputs=num_outputs,
    )


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"hidden_units": []},
        {"batch_normalization": True, "dropout": 0},
        {"activation": "gelu", "embedding_size": 2},
    ],
    ids=["default", "linear", "batch normalisation", "other activation"],
)
def test_network_maps_features_to_logits(multiclass, rows, model):
    features = multiclass.transform(rows)
    features.pop("label")

    outputs = build(multiclass, num_outputs=3, **model)(features)

    assert outputs.shape == (len(rows), 3)
    assert outputs.dtype == "float32"
    assert np.isfinite(outputs).all()


def test_network_has_the_layers_of_the_config(multiclass):
    network = build(multiclass, num_outputs=3, hidden_units=[7, 5], batch_normalization=True, dropout=0.25)

    assert [layer.units for layer in network.layers if hasattr(layer, "units")] == [7, 5, 3]
    assert [layer.rate for layer in network.layers if hasattr(layer, "rate")] == [0.25, 0.25]
    assert sum("normalized" in layer.name for layer in network.layers) == 2


def test_network_takes_only_the_kinds_of_feature_that_the_table_has(odd_table):
    assert [tensor.name for tensor in build(odd_table, num_outputs=3).inputs] == ["numeric"]


def test_embedding_has_room_for_unseen_values(multiclass, rows, odd_names):
    features = multiclass.transform([rows[0] | {odd_names["text"]: "island z", "year": 1999}])
    features.pop("label")

    network = build(multiclass, num_outputs=3)

    size = multiclass.output.vocabulary_size_by_name("categorical")
    assert network.get_layer("categorical_embedding").size == size + 1
    assert features["categorical"].max() == size
    assert np.isfinite(network(features)).all()


@pytest.mark.parametrize(
    ("num_rows", "num_columns", "members", "number_bins"),
    [(20_000, 10, 8, 16), (100_000, 10, 4, 16), (40_000, 100, 1, 4), (10_000, 2_000, 1, 0)],
    ids=["small", "middling", "many columns", "wide"],
)
def test_large_tables_get_fewer_members_and_bins(num_rows, num_columns, members, number_bins):
    rows = {"numeric": np.zeros((1, num_columns), np.float32)}

    model = sized(ModelConfig(), rows, num_rows=num_rows)

    assert (model.members, model.number_bins) == (members, number_bins)
    assert sized(ModelConfig(members=3), rows, num_rows=num_rows).members == 3


def test_ensemble_answers_for_each_member_and_its_mean_is_served(multiclass, rows):
    features = multiclass.transform(rows)
    labels = features.pop("label")
    network = build_model(multiclass.output, model=ModelConfig(members=4), features=multiclass.config, num_outputs=3)
    of_each = with_head(network, labels=labels, is_classifier=True)

    served = averaged(of_each)

    assert of_each(features).shape == (len(rows), 4, 3)
    np.testing.assert_allclose(served(features), of_each(features).numpy().mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("text", [(), pytest.param(("review",), marks=pytest.mark.long)], ids=["other", "text"])
def test_tf_transforms_own_pipeline_finds_the_same_features_of_every_type(preprocess, rows, tmp_path, text):
    """It takes over where the user's own column type needs an analyzer that is known to it alone."""
    table = [
        row
        | dict.fromkeys(text, f"it {'is' if index % 2 else 'was'} a delight, no. {index % 7}!")
        | {"opened": f"2023-{index % 12 + 1:02d}-{index % 28 + 1:02d}", "tags": f"{'abc'[index % 3]};{'de'[index % 2]}"}
        for index, row in enumerate(rows)
    ]
    config = {"vocabulary_size": 10, "hash_buckets": 16, "text": list(text), "text_encoder": {"min_count": 1}}
    ours = preprocess(table, label="species", separators={"tags": ";"}, **config)
    schema = ours.output.raw_metadata.schema

    write_split(tmp_path / "Split-train", table)
    source = ParquetExamples(str(tmp_path / "Split-train" / "*"), schema=schema)
    with beam.Pipeline(runner="DirectRunner") as pipeline, tft_beam.Context(temp_dir=str(tmp_path / "temporary")):
        batches = pipeline | source.BeamSource()
        analyzed = tft_beam.AnalyzeDataset(preprocessing_fn(schema, ours.config, tmp_path))
        transform_fn = (batches, source.TensorAdapterConfig()) | analyzed
        transform_fn | tft_beam.WriteTransformFn(str(tmp_path / "graph"))
    raw_metadata = str(tmp_path / "graph" / tft.TFTransformOutput.RAW_METADATA_DIR)
    metadata_io.write_metadata(ours.output.raw_metadata, raw_metadata)

    types = {"numeric", "vocabulary", "hashed", "date", "list", *(["text"] if text else [])}
    assert set(ours.features.by_type) == types
    theirs = Preprocessed(ours.features, tft.TFTransformOutput(str(tmp_path / "graph")), ours.config)
    found, expected = ours.transform(table), theirs.transform(table)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5, err_msg=name)
