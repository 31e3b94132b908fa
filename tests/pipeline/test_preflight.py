import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubetfx.config.data_section import MODEL_OUTPUTS
from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError, DataError, UsageError
from kubetfx.pipeline import preflight
from tests.ports import free_ports
from tests.s3_store import READER_KEY, READER_SECRET

HEADER = "mass,year,island,species"
ROWS = [f"{i / 4},{2007 + i % 3},{'abc'[i % 3]},{'Adelie' if i % 2 else 'Gentoo'}" for i in range(12)]


@pytest.fixture
def make_config(tmp_path):
    """A config over a small table in the test's own folder."""

    def make(*rows: str, header: str = HEADER, **sections: Any) -> PipelineConfig:
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "rows.csv").write_text("\n".join([header, *(rows or ROWS)]) + "\n")
        data = {"path": "data", "label": "species", **sections.pop("data", {})}
        path = tmp_path / "pipeline.yaml"
        path.write_text(yaml.safe_dump({"name": "penguins", "data": data, **sections}))
        return load_config(path)

    return make


def test_good_config_passes_and_nothing_is_written(make_config, tmp_path):
    profile = preflight.check(
        make_config(
            features={"numeric": ["year"], "categorical": ["island"]},
            evaluation={"slices": ["island", ["island", "year"]]},
            validation={"features": {"mass": "warn"}},
            training={"class_weights": {"Adelie": 2}},
        )
    )

    assert profile.num_rows == 12
    assert profile.names == ["mass", "year", "island", "species"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data", "pipeline.yaml"]


def test_label_that_is_not_there_lists_the_columns_nearest_first(make_config):
    message = r"There is no column 'specie' to predict\. Did you mean 'species'\? Received the columns: species, mass"
    with pytest.raises(DataError, match=message):
        preflight.check(make_config(data={"label": "specie"}))


def test_trees_refuse_pictures_before_the_run(make_config):
    with pytest.raises(
        ConfigError,
        match=r"Trees cannot use pictures\. .*the column 'island' .*data\.drop: "
        r"\[island\]",
    ):
        preflight.check(make_config(features={"image": ["island"]}, model={"kind": "trees"}))


def test_label_of_one_class_is_refused(make_config):
    with pytest.raises(DataError, match=r"'species' has one value.*'Adelie' in all 2 rows"):
        preflight.check(make_config("1,2007,a,Adelie", "2,2008,b,Adelie"))


@pytest.mark.parametrize(
    ("labels", "remedy"),
    [
        ([f"sentence number {i}" for i in range(20)], "Choose another label"),
        (list(range(20)), r"Set model\.task: regression"),
    ],
    ids=["sentences", "numbers"],
)
def test_classes_that_have_one_row_each_are_refused(make_config, labels, remedy):
    rows = [f"{i / 4},2007,{'abc'[i % 3]},{label}" for i, label in enumerate(labels)]

    with pytest.raises(ConfigError, match=f"every label is different.*'species' with 20 classes.*{remedy}"):
        preflight.check(make_config(*rows, model={"task": "classification"}))
    preflight.check(make_config(*rows, rows[0], model={"task": "classification"}))


def test_rows_without_a_label_are_refused_unless_asked_for(make_config):
    rows = [*ROWS, "1,2007,a,", "2,2008,b,NA"]

    with pytest.raises(DataError, match=r"'species' is missing in 2 of 14 rows"):
        preflight.check(make_config(*rows))
    assert preflight.check(make_config(*rows, data={"drop_rows_without_label": True})).num_rows == 14


@pytest.mark.parametrize("name", sorted(MODEL_OUTPUTS))
def test_column_named_like_an_output_is_refused(make_config, name):
    config = make_config(header=f"mass,year,{name},species")

    with pytest.raises(
        DataError, match=rf"Column '{name}' has the name of something that the model returns .*data\.drop"
    ):
        preflight.check(config)
    assert name not in preflight.check(make_config(header=f"mass,year,{name},species", data={"drop": [name]})).names


@pytest.mark.parametrize("name", ["label", "value"])
def test_label_may_be_named_like_an_output(make_config, name):
    assert preflight.check(make_config(header=f"mass,year,island,{name}", data={"label": name})).num_rows == 12


def test_table_of_a_label_alone_is_refused(make_config):
    with pytest.raises(DataError, match="no column besides the label 'species'"):
        preflight.check(make_config("Adelie", "Gentoo", header="species"))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"features": {"numeric": ["yaer"]}},
            r"features\.numeric: the data has no column 'yaer'\. Did you mean 'year'\?",
        ),
        ({"features": {"categorical": ["iland"]}}, r"features\.categorical: .*'iland'\. Did you mean 'island'\?"),
        (
            {"evaluation": {"slices": ["sex"]}},
            r"evaluation\.slices: the data has no column 'sex'\..* Known: mass, year",
        ),
        ({"evaluation": {"slices": [["island", "sex"]]}}, r"evaluation\.slices: the data has no column 'sex'"),
        ({"validation": {"features": {"sex": "warn"}}}, r"validation\.features: the data has no column 'sex'"),
        (
            {"training": {"class_weights": {"Adely": 2}}},
            r"training\.class_weights: the data has no class 'Adely'\. Did you mean 'Adelie'\? Known: Adelie, Gentoo",
        ),
    ],
    ids=["numeric", "categorical", "slice", "combination of slices", "validation", "class weights"],
)
def test_name_that_the_data_does_not_have_is_refused_with_the_nearest(make_config, sections, message):
    with pytest.raises(ConfigError, match=message):
        preflight.check(make_config(**sections))


def test_column_to_leave_out_that_is_not_there_is_refused(make_config):
    """A typing error in data.drop would let the column into the model."""
    with pytest.raises(ConfigError, match=r"data\.drop: the data has no column 'yaer'\. Did you mean 'year'\?"):
        preflight.check(make_config(data={"drop": ["yaer"]}))


def test_column_that_is_left_out_may_have_a_type(make_config):
    """It may decide which rows are for training."""
    preflight.check(make_config(data={"drop": ["year"], "types": {"year": "text"}}))
    with pytest.raises(ConfigError, match=r"data\.types: the data has no column 'yaer'\. Did you mean 'year'\?"):
        preflight.check(make_config(data={"types": {"yaer": "text"}}))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"date": ["island"]}, r"features\.date: a column of dates is needed.*'island'.*data\.types: \{island: date\}"),
        ({"numeric": ["island"]}, r"features\.numeric: a column of numbers is needed.*'island', which holds text"),
        ({"categorical": ["mass"]}, r"features\.categorical: .*'mass', which holds decimal numbers"),
    ],
    ids=["text as dates", "text as numbers", "decimals as categories"],
)
def test_role_that_does_not_go_with_the_type_is_refused(make_config, features, message):
    with pytest.raises(ConfigError, match=message):
        preflight.check(make_config(features=features))


def test_slices_by_lists_are_refused(make_config):
    config = make_config(data={"types": {"island": "list"}}, evaluation={"slices": ["island"]})

    with pytest.raises(
        ConfigError, match=r"evaluation\.slices: a column of one value per row is needed.*'island', of lists"
    ):
        preflight.check(config)


def test_regression_of_text_is_refused(make_config):
    message = r"data\.label: a regression needs numbers, and 'species' holds text\. Received: Adelie, Gentoo\."
    with pytest.raises(ConfigError, match=message):
        preflight.check(make_config(model={"task": "regression"}))


def test_classification_of_decimals_is_refused(make_config):
    with pytest.raises(
        ConfigError, match=r"at most 1,000 classes\. Received: 'mass' with decimal numbers\. Set model\.task"
    ):
        preflight.check(make_config(data={"label": "mass"}))


def test_classification_of_too_many_classes_is_refused(make_config):
    rows = [f"{i},a,b,class {i}" for i in range(1_001)]

    with pytest.raises(ConfigError, match="'species' with more than 1,000 distinct values"):
        preflight.check(make_config(*rows))


def test_regression_of_an_infinite_number_is_refused(make_config):
    message = r"'mass' is infinite in some rows\. Received: values from -inf to 2\.75\. Leave"
    with pytest.raises(DataError, match=message):
        preflight.check(make_config(*ROWS, "-inf,2007,a,Gentoo", data={"label": "mass"}, model={"task": "regression"}))


@pytest.mark.parametrize("label", ["mass", "year"], ids=["decimals", "whole numbers"])
def test_regression_of_numbers_passes(make_config, label):
    preflight.check(make_config(data={"label": label}, model={"task": "regression"}))


@pytest.mark.parametrize("module", ["no_such_module", "no.such.module", "a b"])
def test_module_that_cannot_be_imported_is_refused(make_config, module):
    with pytest.raises(ConfigError, match=rf"model\.module cannot be imported\. Received: '{module}'"):
        preflight.check(make_config(model={"module": module}))


def test_module_beside_the_yaml_passes(make_config, tmp_path, monkeypatch):
    (tmp_path / "my_own_model_42.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    preflight.check(make_config(model={"module": "my_own_model_42"}))


@pytest.mark.parametrize("section", ["workspace", "serving.push_directory"])
@pytest.mark.parametrize("folder", ["runs [1]", "a*", "what?", "back\\slash"])
def test_folders_that_tensorflow_takes_for_patterns_are_refused(make_config, tmp_path, section, folder):
    path = str(tmp_path / folder / "x")
    sections = {"workspace": path} if section == "workspace" else {"serving": {"push_directory": path}}
    with pytest.raises(UsageError, match=rf"{section}: TensorFlow takes .* Received: {re.escape(path)}"):
        preflight.check(make_config(**sections))


@pytest.mark.parametrize("section", ["workspace", "serving.push_directory"])
@pytest.mark.parametrize("below", ["", "/deeper"], ids=["a file", "below a file"])
def test_folder_that_is_a_file_is_refused(make_config, tmp_path, section, below):
    (tmp_path / "taken").touch()
    path = f"taken{below}"
    sections = {"workspace": path} if section == "workspace" else {"serving": {"push_directory": path}}

    with pytest.raises(UsageError, match=rf"{section} cannot be written\. Received: .*{path} \(.*taken is a file\)"):
        preflight.check(make_config(**sections))


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="/proc is where even root may not write")
@pytest.mark.parametrize("section", ["workspace", "serving.push_directory"])
def test_folder_that_cannot_be_written_is_refused(make_config, section):
    path = "/proc/kubetfx/pushed"
    sections = {"workspace": path} if section == "workspace" else {"serving": {"push_directory": path}}

    with pytest.raises(
        UsageError, match=rf"{section} cannot be written\. Received: {path} \(.+\)\. Grant write permission"
    ):
        preflight.check(make_config(**sections))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_push_directory_without_permission_is_refused(make_config, tmp_path):
    (tmp_path / "served").mkdir(mode=0o500)

    with pytest.raises(UsageError, match=r"serving\.push_directory cannot be written\. .*\(Permission denied\)"):
        preflight.check(make_config(serving={"push_directory": "served"}))


def test_push_directory_in_a_bucket_is_written_to_and_left_as_it_was(make_config, bucket):
    (bucket / "data" / "rows.csv").write_text("\n".join([HEADER, *ROWS]) + "\n")

    profile = preflight.check(
        make_config(data={"path": str(bucket / "data")}, serving={"push_directory": str(bucket / "served")})
    )

    assert profile.num_rows == 12
    assert [str(info.path) for info in bucket.files()] == [f"{bucket}/data/rows.csv"]


def test_push_directory_in_a_bucket_that_may_only_be_read_is_refused(make_config, bucket, s3_store, monkeypatch):
    for name, value in s3_store.environment(key=READER_KEY, secret=READER_SECRET).items():
        monkeypatch.setenv(name, value)

    message = (
        r"serving\.push_directory cannot be written\. http:\S+ denies access to the bucket 'kubetfx-tests'\. Received"
    )
    with pytest.raises(UsageError, match=message):
        preflight.check(make_config(serving={"push_directory": str(bucket)}))


@pytest.mark.parametrize("section", ["data", "serving"])
def test_bucket_that_does_not_exist_is_told_before_the_work(make_config, bucket, section):
    sections = {"data": {"path": "s3://no-such/x"}, "serving": {"push_directory": "s3://no-such/x"}}

    with pytest.raises(UsageError, match=r"\. There is no bucket 'no-such' at http:.* Received: s3://no-such") as error:
        preflight.check(make_config(**{section: sections[section]}))
    assert isinstance(error.value, DataError) == (section == "data")


@pytest.mark.parametrize("endpoint", [{"rest": "http://127.0.0.1:{port}"}, {"grpc": "127.0.0.1:{port}"}])
def test_server_of_the_push_that_is_not_there_is_told_before_the_work(make_config, endpoint, tmp_path):
    (tmp_path / "served" / "1").mkdir(parents=True)
    (port,) = free_ports(1)
    ((key, address),) = endpoint.items()
    address = address.format(port=port)

    with pytest.raises(
        UsageError,
        match=rf"serving\.endpoint\.{key} cannot be reached\. Received: {address} \(.*watches the push directory",
    ):
        preflight.check(make_config(serving={"push_directory": "served", "endpoint": {key: address}}))


def test_server_that_has_nothing_to_serve_yet_need_not_be_there(make_config):
    preflight.check(make_config(serving={"push_directory": "served", "endpoint": {"grpc": "127.0.0.1:1"}}))


def test_server_of_the_push_that_listens_is_fine(make_config, tmp_path):
    (tmp_path / "served" / "1").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = {"grpc": f"127.0.0.1:{listening.getsockname()[1]}"}
        preflight.check(make_config(serving={"push_directory": "served", "endpoint": endpoint}))


def test_all_errors_here_end_with_exit_code_2():
    assert {ConfigError.exit_code, DataError.exit_code, UsageError.exit_code} == {2}


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        ("-2", DataError, r"a number of 0 or more in the column 'times'\. Received: -2 in row 3 of rows\.csv"),
        ("", DataError, r"Received: a missing cell in row 3 of rows\.csv"),
        ("heavy", DataError, r"Received: 'heavy' in row 3 of rows\.csv"),
    ],
)
def test_wrong_weight_is_told_with_its_row(make_config, cell, error, message):
    rows = [f"{row},{cell if index == 2 else index}" for index, row in enumerate(ROWS)]

    with pytest.raises(error, match=message):
        preflight.check(make_config(*rows, header=f"{HEADER},times", training={"sample_weight": "times"}))


def test_weights_are_no_feature_and_have_to_count_something(make_config):
    header = "times,species"
    numbers = [f"{index % 3},{'Adelie' if index % 2 else 'Gentoo'}" for index in range(12)]

    with pytest.raises(DataError, match="no column besides the label"):
        preflight.check(make_config(*numbers, header=header, training={"sample_weight": "times"}))
    nothing = [f"{row},0" for row in ROWS]
    with pytest.raises(DataError, match="all weights in the column 'times' are 0"):
        preflight.check(make_config(*nothing, header=f"{HEADER},times", training={"sample_weight": "times"}))
    with pytest.raises(ConfigError, match=r"training\.sample_weight: the data has no column 'tims'"):
        preflight.check(make_config(training={"sample_weight": "tims"}))
