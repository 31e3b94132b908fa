import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from kubetfx.config.data_section import DataConfig
from kubetfx.config.loading import load_config
from kubetfx.config.metric_catalogue import CATALOGUE, names_for
from kubetfx.config.model_section import DEFAULT_MODULE
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.section import nearest
from kubetfx.errors import ConfigError
from kubetfx.storage import ObjectPath, locate

MINIMAL = {"name": "penguins", "data": {"path": "data", "label": "species"}}


@pytest.fixture
def write(tmp_path: Path):
    def write_config(document: Any = None, **sections: Any) -> Path:
        path = tmp_path / "pipeline.yaml"
        content = document if isinstance(document, str) else yaml.safe_dump((document or MINIMAL) | sections)
        path.write_text(content, encoding="utf-8")
        return path

    return write_config


def with_data(**fields: Any) -> dict[str, Any]:
    return {"path": "data", "label": "species", **fields}


def test_two_sections_are_enough_and_the_rest_has_defaults(write):
    config = load_config(write())

    assert config.data.splits.fractions == {"train": 0.7, "validation": 0.1, "eval": 0.2}
    assert config.data.format == "auto"
    assert config.model.task == "classification"
    assert config.training.epochs == 200
    assert config.training.early_stopping.enabled
    assert config.validation.on_anomaly == "stop"
    assert config.evaluation.thresholds == {}
    assert config.beam.runner == "DirectRunner"
    assert config.model_name == "penguins"


def test_checkpoints_of_a_table_have_a_folder_beside_the_file(write, tmp_path):
    config = load_config(write(training={"checkpoint_directory": "checkpoints", "checkpoint_seconds": 5}))

    assert config.training.checkpoint_directory == str(tmp_path / "checkpoints")


def test_the_models_name_can_differ_from_the_pipelines(write):
    config = load_config(write(serving={"model_name": "antarctic"}))

    assert config.model_name == "antarctic"
    assert config.push_path.name == "antarctic"


def test_config_is_frozen(write):
    config = load_config(write())

    with pytest.raises(ValidationError, match="frozen"):
        config.training.epochs = 3
    with pytest.raises(ValidationError, match="frozen"):
        config.name = "other"


@pytest.mark.parametrize(
    ("sections", "dotted", "suggestion"),
    [
        ({"trainning": {}}, "trainning", "training"),
        ({"training": {"epoch": 3}}, "training.epoch", "epochs"),
        ({"training": {"early_stopping": {"patiense": 3}}}, "training.early_stopping.patiense", "patience"),
        ({"data": with_data(splits={"evaluation": 0.2})}, "data.splits.evaluation", "validation"),
        ({"data": with_data(lable="species")}, "data.lable", "label"),
        (
            {"evaluation": {"thresholds": {"accuracy": {"atleast": 0.9}}}},
            "evaluation.thresholds.accuracy.atleast",
            "at_least",
        ),
    ],
    ids=["section", "key", "nested section", "splits", "beside the right one", "below a metric's name"],
)
def test_unknown_key_names_its_path_and_the_nearest_key(write, sections, dotted, suggestion):
    with pytest.raises(ConfigError, match=f"{dotted}: unknown key. Did you mean '{suggestion}'") as caught:
        load_config(write(**sections))
    assert "Known here: " in str(caught.value)


def test_unknown_key_that_is_like_none_suggests_nothing(write):
    with pytest.raises(ConfigError, match=r"training\.zzzzqqqq: unknown key\. Known here: epochs"):
        load_config(write(training={"zzzzqqqq": 1}))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"training": {"epochs": "many"}}, r"training\.epochs: .*integer.*\. Received: 'many' \(text\)\."),
        ({"training": {"epochs": 0}}, r"training\.epochs: .*greater than or equal to 1\. Received: 0 \(a number\)\."),
        ({"training": {"epochs": 2.5}}, r"training\.epochs: .*\. Received: 2\.5 \(a number\)\."),
        ({"training": ["epochs"]}, r"training: .*\. Received: \['epochs'\] \(a list\)\."),
        ({"training": {"optimizer": "adm"}}, r"training\.optimizer: .*'adam'.*\. Received: 'adm' \(text\)\."),
        ({"model": {"hidden_units": [64, 0]}}, r"model\.hidden_units\.1: .*\. Received: 0 \(a number\)\."),
        (
            {"serving": {"endpoint": {}}},
            r"serving\.endpoint needs rest \(http://HOST:PORT\), grpc \(HOST:PORT\), or both",
        ),
        (
            {"serving": {"endpoint": {"rest": "localhost:8501"}}},
            r"serving\.endpoint\.rest: .*Received: 'localhost:8501'",
        ),
        ({"serving": {"endpoint": {"grpc": "localhost"}}}, r"serving\.endpoint\.grpc: .*Received: 'localhost'"),
        ({"serving": {"keep_versions": 0}}, r"serving\.keep_versions: .*Received: 0"),
        ({"model": {"hidden_units": 64}}, r"model\.hidden_units: .*\. Received: 64 \(a number\)\."),
        (
            {"model": {"kind": "auto", "module": "mine"}},
            r"model\.module is your own network\. Received: model\.module: mine, model\.kind: auto",
        ),
        (
            {"model": {"trees": {"num_leaves": 7}}},
            r"model\.trees requires model\.kind: trees or auto\. Received: model\.kind: network",
        ),
        (
            {"model": {"kind": "trees"}, "training": {"loss": "own:loss"}},
            r"training\.loss applies to networks only\. Received: model\.kind: trees",
        ),
        ({"model": {"dropout": 1}}, r"model\.dropout: .*less than 1\. Received: 1 \(a number\)\."),
        ({"data": with_data(drop={"a": 1})}, r"data\.drop: .*\. Received: \{'a': 1\} \(a mapping\)\."),
        ({"data": with_data(path=None)}, r"data\.path: .*\. Received: None \(nothing\)\."),
        (
            {"data": with_data(drop_rows_without_label="perhaps")},
            r"data\.drop_rows_without_label: .*Received: 'perhaps'",
        ),
        ({"validation": {"features": {"sex": "halt"}}}, r"validation\.features\.sex: .*\. Received: 'halt' \(text\)\."),
        ({"name": "two words"}, r"name: .*\. Received: 'two words' \(text\)\."),
        ({"beam": {"runner": "NoSuchRunner"}}, r"beam\.runner: .*\. Received: 'NoSuchRunner' \(text\)\."),
    ],
    ids=lambda value: next(iter(value)) + ":" + str(next(iter(value.values())))[:30] if isinstance(value, dict) else "",
)
def test_wrong_value_names_its_path_and_what_was_received(write, sections, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(**sections))


@pytest.mark.parametrize(
    ("sections", "dotted"),
    [
        ({"training": {"class_weights": "heavy"}}, "training.class_weights"),
        ({"evaluation": {"slices": [{"a": 3}]}}, "evaluation.slices.0"),
    ],
    ids=["word or mapping", "text or list"],
)
def test_value_that_fits_no_alternative_is_reported_in_the_words_of_the_yaml(write, sections, dotted):
    with pytest.raises(ConfigError, match=dotted) as caught:
        load_config(write(**sections))

    assert all(f"  {dotted}: " in f"  {line.strip()}" for line in str(caught.value).splitlines()[1:])


@pytest.mark.parametrize("missing", ["name", "data"])
def test_required_section_is_asked_for(write, missing):
    document = {key: value for key, value in MINIMAL.items() if key != missing}

    with pytest.raises(ConfigError, match=f"{missing}: is required"):
        load_config(write(document))


def test_required_key_is_asked_for_by_its_path(write):
    with pytest.raises(ConfigError, match=r"data\.label: is required"):
        load_config(write(data={"path": "data"}))


def test_all_faults_are_listed_at_once(write):
    sections = {
        "data": {"path": "data"},
        "training": {"epochs": "many", "batchsize": 3},
        "model": {"dropout": 2},
    }

    with pytest.raises(ConfigError, match="is not a valid pipeline") as caught:
        load_config(write(**sections))

    for dotted in ("data.label", "training.epochs", "training.batchsize", "model.dropout"):
        assert f"  {dotted}: " in str(caught.value)


@pytest.mark.parametrize(
    ("evaluation", "task", "message"),
    [
        (
            {"thresholds": {"acuracy": {"at_least": 0.9}}},
            "classification",
            r"evaluation\.thresholds: unknown metric 'acuracy' for classification\. Did you mean 'accuracy'\?",
        ),
        (
            {"metrics": ["aucc"]},
            "classification",
            r"evaluation\.metrics: unknown metric 'aucc'.* Did you mean 'auc'",
        ),
        (
            {"thresholds": {"accuracy": {"at_least": 0.9}}},
            "regression",
            r"evaluation\.thresholds: unknown metric 'accuracy' for regression\..*Known: mean_absolute_error",
        ),
        (
            {"metrics": ["mean_squared_error"]},
            "classification",
            r"unknown metric 'mean_squared_error' for classification",
        ),
    ],
    ids=["threshold", "metric", "threshold of the other task", "metric of the other task"],
)
def test_unknown_metric_is_refused_with_the_known_ones(write, evaluation, task, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(evaluation=evaluation, model={"task": task}))


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_metric_of_a_task_may_have_a_threshold(write, task):
    sides = {"higher": "at_least", "lower": "at_most"}
    thresholds = {metric: {sides[CATALOGUE[metric].better]: 0.5} for metric in names_for(task)}

    config = load_config(write(evaluation={"thresholds": thresholds}, model={"task": task}))

    assert set(config.evaluation.thresholds) == set(names_for(task))


def test_metric_of_the_users_own_stands_beside_ours(write):
    config = load_config(
        write(evaluation={"metrics": ["m.y:f1", "recall", "accuracy"], "thresholds": {"own:cost": {"at_most": 1}}})
    )

    assert config.evaluation.metric_names("classification") == ("accuracy", "recall", "m.y:f1", "own:cost")
    assert config.own_modules == {"evaluation: m.y:f1": "m.y", "evaluation: own:cost": "own"}


@pytest.mark.parametrize("name", ["own:", ":cost", "own cost:f", "own:cost:more", "own.py:1"])
def test_name_that_is_no_reference_is_refused(write, name):
    with pytest.raises(ConfigError, match=r"unknown metric.*and your own as module:attribute"):
        load_config(write(evaluation={"metrics": [name]}))


def test_threshold_without_a_bound_is_refused(write):
    message = r"evaluation\.thresholds\.accuracy: a threshold needs at_least, at_most, worse_by_at_most or better"
    with pytest.raises(ConfigError, match=message):
        load_config(write(evaluation={"thresholds": {"accuracy": {}}}))
    with pytest.raises(ConfigError, match=message):
        load_config(write(evaluation={"thresholds": {"accuracy": {"better_than_baseline": False}}}))


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        (
            {"island": {"acuracy": {"at_least": 0.7}}},
            r"slices\.island: unknown metric 'acuracy' .*Did you",
        ),
        ({"island": {"accuracy": {}}}, r"slices\.island\.accuracy: a threshold needs at_least, at_most or worse_by"),
        ({"island": {"accuracy": {"at_last": 1}}}, r"slices\.island\.accuracy\.at_last: unknown key"),
        ({"island": {"cross_entropy": {"at_least": 1}}}, r"slices\.island\.cross_entropy: lower values are better"),
        ({"island": {"drop_blur_1": {"at_most": 1}}}, r"slices\.island: unknown metric 'drop_blur_1'"),
        ({"island": 3}, r"evaluation\.slices\.island"),
    ],
)
def test_bound_of_a_slice_is_checked_like_any_other(write, slices, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(evaluation={"slices": slices}))


def test_slices_are_a_list_or_a_mapping_with_bounds(write):
    listed = load_config(write(evaluation={"slices": ["island", ["sex", "island"]]})).evaluation
    mapped = load_config(
        write(evaluation={"slices": {"sex": {"f1_macro": {"at_least": 0.1}}, "island": {}}})
    ).evaluation

    assert listed.sliced == [("island",), ("sex", "island")]
    assert sorted(mapped.sliced) == [("island",), ("sex",)]
    assert "f1_macro" in mapped.metric_names("classification")
    assert "f1_macro" not in listed.metric_names("classification")


@pytest.mark.parametrize("baseline", [True, "linear"])
def test_better_than_a_baseline_is_enough_of_a_threshold(write, baseline):
    config = load_config(write(evaluation={"thresholds": {"accuracy": {"better_than_baseline": baseline}}}))

    assert config.evaluation.thresholds["accuracy"].better_than_baseline == baseline


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": 0.8}, r"data\.splits: the fractions must add up to 1. Received: a sum of 1\.1"),
        ({"train": 0.5, "validation": 0, "eval": 0.2}, r"data\.splits: .* add up to 1\. Received: a sum of 0\.7"),
        ({"train": 0, "validation": 0.5, "eval": 0.5}, r"data\.splits\.train: .*greater than or equal to 0\.001"),
        ({"train": 0.9, "validation": 0.1, "eval": 0}, r"data\.splits\.eval: .*greater than or equal to 0\.001"),
        ({"files": {"train": "a.csv", "eval": "/b.csv"}}, r"data\.splits\.files: .*Received: '/b\.csv'\."),
        ({"files": {"train": "./a.csv", "eval": "b.csv"}}, r"below data\.path.*Received: '\./a\.csv'\."),
        ({"files": {"train": "**/a.csv", "eval": "b.csv"}}, r"globs of one folder.*Received: '\*\*/a\.csv'\."),
        ({"train": 1.4, "validation": -0.6, "eval": 0.2}, r"data\.splits\.validation: .*Received: -0\.6"),
    ],
    ids=[
        "above one",
        "below one",
        "no training rows",
        "no evaluation rows",
        "file of the root",
        "with a dot",
        "any depth",
        "negative",
    ],
)
def test_bad_splits_are_refused(write, splits, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(data=with_data(splits=splits)))


def test_validation_split_may_be_zero(write):
    config = load_config(write(data=with_data(splits={"train": 0.8, "validation": 0, "eval": 0.2})))

    assert config.data.splits.validation == 0


def test_column_is_not_both_numeric_and_categorical(write):
    with pytest.raises(
        ConfigError, match=r"features: a column can have one role only\. Received: year, under numeric and categorical"
    ):
        load_config(write(features={"numeric": ["year", "mass"], "categorical": ["year"]}))


@pytest.mark.parametrize(
    "sections",
    [
        {"data": with_data(drop=["species"])},
        {"features": {"numeric": ["species"]}},
        {"features": {"categorical": ["species"]}},
    ],
    ids=["dropped", "numeric", "categorical"],
)
def test_label_is_not_also_a_feature(write, sections):
    with pytest.raises(ConfigError, match=r"data\.label 'species' is also in"):
        load_config(write(**sections))


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"training": {"sample_weight": "species"}}, r"data\.label"),
        ({"training": {"sample_weight": "mass"}, "features": {"numeric": ["mass"]}}, "features"),
    ],
)
def test_weight_of_rows_is_neither_label_nor_feature(write, sections, key):
    with pytest.raises(ConfigError, match=rf"training\.sample_weight '\w+' is also in {key}"):
        load_config(write(**sections))


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("training.epochs=3", lambda c: c.training.epochs, 3),
        ("training.early_stopping.patience=2", lambda c: c.training.early_stopping.patience, 2),
        ("model.hidden_units=[8, 4]", lambda c: c.model.hidden_units, (8, 4)),
        ("data.drop=[a, b]", lambda c: c.data.drop, ("a", "b")),
        (
            "evaluation.thresholds={accuracy: {at_least: 0.5}}",
            lambda c: c.evaluation.thresholds["accuracy"].at_least,
            0.5,
        ),
        ("model.batch_normalization=true", lambda c: c.model.batch_normalization, True),
        ("data.path=a=b.csv", lambda c: Path(c.data.path).name, "a=b.csv"),
        ("serving.model_name=", lambda c: c.serving.model_name, None),
        ('data.types."a.b=c"=text', lambda c: c.data.types["a.b=c"], "text"),
        ('validation.features."s.size"=warn', lambda c: c.validation.features["s.size"], "warn"),
    ],
    ids=[
        "number",
        "nested",
        "list of numbers",
        "list of text",
        "mapping",
        "boolean",
        "equals sign in value",
        "nothing",
        "dots and equals sign in a key",
        "dots in the last key",
    ],
)
def test_set_puts_a_value_over_the_files(write, override, read, expected):
    config = load_config(write(training={"epochs": 9}), overrides=[override])

    assert read(config) == expected


def test_later_set_wins(write):
    config = load_config(write(), overrides=["training.epochs=3", "training.epochs=4"])

    assert config.training.epochs == 4


def test_set_keeps_the_other_keys_of_its_section(write):
    config = load_config(write(training={"epochs": 9, "batch_size": 7}), overrides=["training.epochs=3"])

    assert (config.training.epochs, config.training.batch_size) == (3, 7)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", r"An override must have the form dotted\.key=value\. Received: 'training\.epochs'"),
        ("=3", r"An override must have the form dotted\.key=value\. Received: '=3'"),
        ("training..epochs=3", r"An override must have the form dotted\.key=value"),
        ('data.types."a.b=text', r"An override must have the form dotted\.key=value.* into double quotes"),
        ("training.epochs=[3", r"training\.epochs: the value is not YAML\. Received: '\[3'"),
        ("data.csv.delimiter=:", r"(?s)not YAML\. Received: ':' .*needs quotes.*: data\.csv\.delimiter=\"TEXT\"\."),
        ("data.csv.comment=#", r"is a YAML comment\. Received: '#'\. .*: data\.csv\.comment=\"#\"\."),
        ("name.first=3", r"name\.first cannot be set: name has no keys\. Received: name = 'penguins'"),
        ("training.epoch=3", r"training\.epoch: unknown key\. Did you mean 'epochs'"),
        ("training.epochs=many", r"training\.epochs: .*Received: 'many'"),
    ],
    ids=[
        "no value",
        "no key",
        "empty part",
        "quote that is not closed",
        "not YAML",
        "sign of YAML",
        "comment",
        "below a value",
        "unknown key",
        "wrong type",
    ],
)
def test_bad_set_is_refused(write, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(), overrides=[override])


def test_key_of_a_mapping_of_overrides_is_checked_too():
    document = {"name": "a", "data": {"path": "data", "label": "y"}}
    config = load_config(document, overrides={'data.types."a.b"': "text"})

    assert config.data.types == {"a.b": "text"}
    with pytest.raises(ConfigError, match=r"An override must have the form dotted\.key=value\. Received: ''"):
        load_config(document, overrides={"": 3})


def test_paths_are_relative_to_the_folder_of_the_yaml(write, tmp_path, monkeypatch):
    path = write(
        data=with_data(schema_file="schema.pbtxt"),
        serving={"push_directory": "../served"},
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    config = load_config(Path("..") / path.name)

    assert config.data.path == str(tmp_path / "data")
    assert config.data.schema_file == str(tmp_path / "schema.pbtxt")
    assert config.workspace_path == tmp_path / ".kubetfx/penguins"
    assert config.push_path.is_absolute()
    assert config.push_path.resolve() == tmp_path.parent / "served"


@pytest.mark.parametrize("section", ["data.schema_file", "workspace.local"])
def test_what_is_written_or_read_here_cannot_be_in_a_bucket(write, section):
    message = rf"{section}: a path in this machine's file system is needed\. Received: gs://bucket/x"
    with pytest.raises(ConfigError, match=message):
        load_config(write(), overrides=[f"{section}=gs://bucket/x"])


@pytest.mark.parametrize("url", ["s3://bucket/tables/*.csv", "gs://bucket"])
def test_data_and_pushed_models_can_be_in_a_bucket(write, url):
    config = load_config(write(), overrides=[f"data.path={url}", f"serving.push_directory={url}/"])

    assert config.data.path == url
    assert config.push_path == locate(url)


@pytest.mark.parametrize("url", ["s3a://bucket/x", "ftp://bucket/x", "s3://", "s3:///x", "gs://buck?t/x"])
@pytest.mark.parametrize("section", ["data.path", "serving.push_directory"])
def test_url_that_names_no_bucket_is_refused(write, section, url):
    message = rf"{section}: a folder of this machine is needed, or s3://BUCKET/FOLDER.* Received: {re.escape(url)}"
    with pytest.raises(ConfigError, match=message):
        load_config(write(), overrides=[f"{section}={url}"])


def test_absolute_paths_and_import_paths_stay_as_they_are(write):
    config = load_config(
        write(
            data=with_data(path="/var/rows"),
            workspace="/var/work",
            serving={"push_directory": "/var/served"},
            model={"module": "my_package.my_model"},
        )
    )

    assert config.data.path == "/var/rows"
    assert str(config.workspace_path) == "/var/work"
    assert config.serving.push_directory == "/var/served"
    assert config.model.module == "my_package.my_model"


def test_kind_of_a_table_is_a_network_unless_it_is_said(write):
    kinds = [load_config(write(model=model)).model.kind for model in ({}, {"kind": "tabular"}, {"kind": "auto"})]

    assert kinds == ["network", "network", "auto"]


def test_push_directory_is_in_the_workspace_by_default(write, tmp_path):
    config = load_config(write(workspace="work"))

    assert config.push_path == tmp_path / "work/pushed/penguins"


@pytest.mark.parametrize(
    ("given", "path", "keep"),
    [
        ("work", "work", None),
        ({"keep": 3}, ".kubetfx/penguins", 3),
        ({"path": "work", "keep": 3}, "work", 3),
        ({}, ".kubetfx/penguins", None),
    ],
)
def test_workspace_is_a_path_or_a_section(write, tmp_path, given, path, keep):
    config = load_config(write(workspace=given))

    assert (config.workspace_path, config.keep_runs) == (tmp_path / path, keep)
    assert config.push_path == tmp_path / path / "pushed/penguins"


@pytest.mark.parametrize(
    ("given", "local"),
    [
        ("s3://team/houses/", ".kubetfx/penguins"),
        ({"path": "s3://team/houses", "local": "here", "keep": 3}, "here"),
    ],
)
def test_workspace_in_a_bucket_has_a_folder_here(write, tmp_path, given, local):
    config = load_config(write(workspace=given))

    assert config.workspace_path == tmp_path / local
    assert config.artifacts.bucket == ObjectPath("s3", "team/houses")
    assert str(config.push_path) == "s3://team/houses/pushed/penguins"
    assert config.with_settings({"training.epochs": 3}).artifacts == config.artifacts


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kep": 3}, r"workspace\.kep: unknown key\. Did you mean 'keep'\?"),
        ({"keep": 0}, r"workspace\.keep: input should be greater than or equal to 1"),
        ([1], r"workspace: .*Received: \[1\]"),
        ("ftp://bucket/x", r"workspace: a folder of this machine is needed, or s3://"),
        ({"path": "work", "local": "here"}, r"workspace\.local is for a workspace in a bucket\. Received: .*/work\."),
    ],
)
def test_wrong_workspace_is_refused(write, given, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(workspace=given))


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"File not found\. Received: .*pipeline\.yaml\. Give the path of a pipeline"):
        load_config(tmp_path / "pipeline.yaml")


def test_folder_is_no_pipeline(tmp_path):
    with pytest.raises(ConfigError, match=r"A pipeline is a YAML file\. Received: the folder"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: &a [*a]\ndata: *a", "pipeline.yaml is not YAML: a part of it contains itself"),
        ("card: &a {limits: [*a]}", "pipeline.yaml is not YAML: a part of it contains itself"),
        (
            "card: {purpose: 2024-13-45}",
            r"is not valid for its apparent type \(month must be in 1\.\.12\)\. .*in quotes",
        ),
        ("name: [penguins", r"pipeline\.yaml is not YAML: .*(?s:.*)line"),
        ("", r"must hold a mapping of sections .* Received: nothing"),
        ("- name\n- data\n", "Received: a list"),
        ("penguins", "Received: text"),
    ],
    ids=["endless", "endless in a list of text", "no date", "not YAML", "empty", "list", "text"],
)
def test_file_that_holds_no_mapping_is_refused(write, content, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(content or "\n"))


def test_file_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_bytes("name: größe".encode("latin-1"))

    with pytest.raises(ConfigError, match=r"pipeline\.yaml is not UTF-8: .*byte 0x.*\. Save it as UTF-8\."):
        load_config(path)


def fields() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of the JSON schema, by its dotted path."""
    schema = PipelineConfig.model_json_schema()

    def walk(properties: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, field in properties.items():
            yield prefix + name, field
            for reference in references(field):
                yield from walk(schema["$defs"][reference]["properties"], f"{prefix}{name}.")

    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"].rpartition("/")[2]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    return walk(schema["properties"], "")


def is_section(field: dict[str, Any]) -> bool:
    return "$ref" in field


def test_json_schema_describes_every_field():
    undescribed = [dotted for dotted, field in fields() if not is_section(field) and not field.get("description")]

    assert undescribed == []


def test_json_schema_describes_every_section():
    definitions = PipelineConfig.model_json_schema()["$defs"]

    assert [name for name, definition in definitions.items() if not definition.get("description")] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("labl", " Did you mean 'Label'?"), ("LABEL", " Did you mean 'Label'?"), ("xyz", "")],
    ids=["typing error", "other case", "nothing like it"],
)
def test_nearest_name_is_suggested(name, expected):
    assert nearest(name, ["Label", "weight"]) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs=true", "a number is needed. Received: true"),
        ("training.learning_rate=.inf", "finite number"),
        ("evaluation.thresholds={accuracy: {at_least: .nan}}", "finite number"),
        ("data.csv.encoding=base64", "unknown encoding. Received: base64"),
        ("data.csv.encoding=idna", "unknown encoding. Received: idna"),
        ("model.activation=reluu", "model.activation: input should be"),
    ],
    ids=[
        "boolean for a number",
        "infinite",
        "not a number",
        "no encoding",
        "encoding of no files",
        "unknown activation",
    ],
)
def test_values_that_pydantic_would_take_are_refused(write, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(), overrides=[override])


def test_section_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text("name: a\ndata: {path: data, label: y}\ntraining: {epochs: 1}\ntraining: {seed: 1}\n")
    with pytest.raises(ConfigError, match=r"duplicate key 'training'\n.*line 4"):
        load_config(path)


@pytest.mark.parametrize("old_name", ["models.tabular", "kubetfx.models.tabular"])
def test_names_that_our_network_had_before_are_understood(write, old_name):
    config = load_config(write(model={"module": old_name}))

    assert config.model.module == DEFAULT_MODULE


def test_dictionary_is_read_as_a_file_is(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = MINIMAL | {"training": {"epochs": 9}}
    overrides = {"training.epochs": 3, "evaluation.metrics": ["auc"]}

    assert load_config(document, overrides=overrides) == load_config(write(document), overrides=overrides)
    assert document["training"] == {"epochs": 9}


def test_config_made_in_python_is_one_that_was_read(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    by_dictionaries = PipelineConfig(**MINIMAL)
    by_objects = PipelineConfig(name="penguins", data=DataConfig(path="data", label="species"))

    assert by_dictionaries == by_objects == load_config(write())
    assert by_objects.workspace_path == tmp_path / ".kubetfx" / "penguins"
    assert by_objects.push_path == tmp_path / ".kubetfx" / "penguins" / "pushed" / "penguins"
    assert by_objects.folder == tmp_path
    assert PipelineConfig.model_validate_json(by_objects.model_dump_json()) == by_objects


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"trainin": {}}, r"trainin: unknown key\. Did you mean 'training'\?"),
        ({"training": {"epochs": 0}}, r"training\.epochs: .*Received: 0"),
        ({"name": None}, r"name: "),
        ({"workspace": "http://bucket/x"}, r"workspace: a folder of this machine"),
        ({"data": ["path"]}, r"data: .*Received: \['path'\]"),
        ({"serving": 3}, r"serving: .*Received: 3"),
    ],
    ids=["unknown section", "value", "no name", "url", "no mapping", "number"],
)
def test_fault_of_a_config_made_in_python_is_told_in_the_words_of_a_file(write, sections, message):
    with pytest.raises(ConfigError, match=message) as made:
        PipelineConfig(**MINIMAL | sections)
    with pytest.raises(ConfigError) as read:
        load_config(write(MINIMAL | sections))

    assert str(made.value).splitlines()[1:] == str(read.value).splitlines()[1:]


def test_text_is_what_was_written_whatever_yaml_takes_it_for(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        "name: 123\n"
        "data: {path: data, label: yes, missing_values: [-999, NA, 1.50, null, ~], drop: [no, 2024-05-01, 007]}\n"
        "training: {class_weights: {0: 1, yes: 2, 1.0: 3}, epochs: 7}\n"
        "evaluation: {slices: [on, [2019, 2020]]}\n"
    )
    config = load_config(path)
    assert config.name == "123"
    assert config.data.label == "yes"
    assert config.data.missing_values == ("-999", "NA", "1.50", "null", "~")
    assert config.data.drop == ("no", "2024-05-01", "007")
    assert config.training.class_weights == {"0": 1, "yes": 2, "1.0": 3}
    assert config.training.epochs == 7
    assert config.evaluation.slices == ("on", ("2019", "2020"))


def test_a_mapping_may_take_the_keys_of_another(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        "name: a\ndata: {path: data, label: y, types: {yes: text}}\n"
        "validation: {features: {<<: {yes: warn, x: warn}, x: ignore}}\n"
    )
    assert load_config(path).validation.features == {"yes": "warn", "x": "ignore"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "shift_jis"])
def test_encodings_of_files_are_known(encoding):
    assert DataConfig(path="data", label="y", csv={"encoding": encoding}).csv.encoding == encoding


def test_overrides_are_text_where_the_key_takes_text(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text("name: a\ndata: {path: data, label: y}\n")
    config = load_config(path, overrides=["data.label=no", "data.drop=[1, off]", "training.epochs=3"])
    assert (config.data.label, config.data.drop, config.training.epochs) == ("no", ("1", "off"), 3)


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (
            {"cross_entropy": {"at_least": 0.1}},
            "lower values are better, so the bound is at_most. Received: at_least: 0.1",
        ),
        ({"accuracy": {"at_most": 0.9}}, "higher values are better, so the bound is at_least. Received: at_most: 0.9"),
        ({"accuracy": {"at_least": 95}}, "from 0 to 1, so no model passes. Received: at_least: 95. For 95 % say 0.95"),
        ({"cross_entropy": {"at_most": -1}}, "values are of 0 or more, so no model passes. Received: at_most: -1"),
    ],
)
def test_a_bound_that_only_bad_models_pass_or_none_is_refused(threshold, message):
    document = {"name": "a", "data": {"path": "data", "label": "y"}, "evaluation": {"thresholds": threshold}}
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(document)


def test_what_a_list_is_is_said_in_words_of_yaml(write):
    with pytest.raises(ConfigError, match=r"data\.drop: .* a valid list, \[A, B\] for example\. Received: 'x'"):
        load_config(write(data=with_data(drop="x")))


def test_a_tilde_of_nobody_is_a_name(write):
    path = write(data=with_data(path="~nobody-of-this-name.csv"))

    assert load_config(path).data.path == str(path.parent / "~nobody-of-this-name.csv")
