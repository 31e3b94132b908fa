from pathlib import Path

import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.components.anomaly_gate import DATASET, KINDS, Executor, read_anomalies
from kubetfx.config.data_section import ValidationConfig
from kubetfx.errors import AnomaliesError

ERROR, WARNING = anomalies_pb2.AnomalyInfo.ERROR, anomalies_pb2.AnomalyInfo.WARNING


def write_anomalies(folder: Path, *, dataset: bool = False, **severities: int) -> Path:
    """SchemaDiff.pb as ExampleValidator writes it, an anomaly for each column."""
    document = anomalies_pb2.Anomalies()
    infos = {name: document.anomaly_info[name] for name in severities}
    if dataset:
        infos[DATASET] = document.dataset_anomaly_info
    for name, info in infos.items():
        info.severity = severities.get(name, ERROR)
        info.reason.add(short_description="Unexpected string values", description="Examples contain values missing")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SchemaDiff.pb").write_bytes(document.SerializeToString())
    return folder


def actions(folder: Path, **config) -> dict[str, str]:
    anomalies = read_anomalies({"eval": folder}, ValidationConfig.model_validate(config))
    return {anomaly.feature: anomaly.action for anomaly in anomalies}


def test_each_anomaly_is_read_with_its_split_feature_and_problem(tmp_path):
    folders = {
        "train": write_anomalies(tmp_path / "train"),
        "eval": write_anomalies(tmp_path / "eval", sex=ERROR, island=ERROR),
    }

    anomalies = read_anomalies(folders, ValidationConfig())

    assert [str(anomaly) for anomaly in anomalies] == [
        "island (eval): Unexpected string values: Examples contain values missing",
        "sex (eval): Unexpected string values: Examples contain values missing",
    ]


def test_anomaly_stops_unless_the_config_says_otherwise(tmp_path):
    folder = write_anomalies(tmp_path, sex=ERROR, island=ERROR, year=ERROR)

    assert actions(folder) == {"sex": "stop", "island": "stop", "year": "stop"}
    assert actions(folder, on_anomaly="ignore") == {"sex": "ignore", "island": "ignore", "year": "ignore"}
    assert actions(folder, features={"sex": "warn", "year": "ignore"}) == {
        "sex": "warn",
        "island": "stop",
        "year": "ignore",
    }
    assert actions(folder, on_anomaly="warn", features={"sex": "stop"})["sex"] == "stop"


@pytest.mark.parametrize(
    ("config", "expected"),
    [({}, "warn"), ({"features": {"sex": "stop"}}, "warn"), ({"on_anomaly": "ignore"}, "ignore")],
    ids=["default", "feature says stop", "ignored"],
)
def test_warning_of_tfdv_never_stops(tmp_path, config, expected):
    assert actions(write_anomalies(tmp_path, sex=WARNING), **config) == {"sex": expected}


def test_anomaly_of_the_whole_table_counts(tmp_path):
    assert actions(write_anomalies(tmp_path, dataset=True)) == {DATASET: "stop"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "warn"),
        ({"leakage": "stop"}, "stop"),
        ({"leakage": "off"}, "ignore"),
        ({"on_anomaly": "ignore"}, "warn"),
        ({"leakage": "stop", "features": {"sex": "ignore"}}, "ignore"),
    ],
    ids=["default", "stop", "off", "other anomalies", "a feature"],
)
@pytest.mark.parametrize("key", ["leakage", "text"])
def test_leakage_and_texts_have_an_action_of_their_own(tmp_path, config, expected, key):
    named = {key if name == "leakage" else name: action for name, action in config.items()}
    assert actions(write_leak(tmp_path, "sex", key=key), **named) == {"sex": expected}


def write_leak(folder: Path, column: str, *, key: str = "leakage") -> Path:
    write_anomalies(folder, **{column: WARNING})
    document = anomalies_pb2.Anomalies.FromString((folder / "SchemaDiff.pb").read_bytes())
    (document.anomaly_info[column].reason[0].type,) = (kind for kind, own in KINDS.items() if own == key)
    (folder / "SchemaDiff.pb").write_bytes(document.SerializeToString())
    return folder


def test_gate_says_how_a_leak_is_let_pass(tmp_path):
    for name, severities in {"leak": {}, "both": {"sex": ERROR}}.items():
        write_leak(tmp_path / name / "anomalies" / "Split-train", "wage")
        write_anomalies(tmp_path / name / "anomalies" / "Split-eval", **severities)
    with pytest.raises(AnomaliesError) as caught:
        run_gate(tmp_path / "leak", leakage="stop")
    assert str(caught.value).endswith("\nCorrect the data; or let it pass: validation.leakage: warn")
    with pytest.raises(AnomaliesError) as caught:
        run_gate(tmp_path / "both", leakage="stop")
    assert "let it pass: validation.features: {sex: warn}; validation.leakage: warn; or edit a copy" in str(
        caught.value
    )


def run_gate(tmp_path: Path, **config) -> Path:
    anomalies, schema, approved = (
        standard_artifacts.ExampleAnomalies(),
        standard_artifacts.Schema(),
        standard_artifacts.Schema(),
    )
    anomalies.uri, schema.uri, approved.uri = (str(tmp_path / name) for name in ("anomalies", "schema", "approved"))
    anomalies.split_names = artifact_utils.encode_split_names(["train", "eval"])
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "schema.pbtxt").write_text('feature { name: "sex" }')
    Executor().Do(
        {"anomalies": [anomalies], "schema": [schema]},
        {"approved_schema": [approved]},
        {"validation": ValidationConfig.model_validate(config).model_dump_json()},
    )
    return tmp_path / "approved"


@pytest.fixture
def bad_data(tmp_path) -> Path:
    write_anomalies(tmp_path / "anomalies" / "Split-train")
    write_anomalies(tmp_path / "anomalies" / "Split-eval", sex=ERROR, island=ERROR)
    return tmp_path


def test_gate_passes_the_schema_on(tmp_path):
    for split in ("train", "eval"):
        write_anomalies(tmp_path / "anomalies" / f"Split-{split}")

    assert (run_gate(tmp_path) / "schema.pbtxt").read_text() == 'feature { name: "sex" }'


def test_gate_stops_with_every_anomaly_and_what_to_do(bad_data):
    with pytest.raises(AnomaliesError, match="The data has 2 anomalies:") as caught:
        run_gate(bad_data)

    message = str(caught.value)
    assert "  island (eval): Unexpected string values: " in message
    assert "  sex (eval): Unexpected string values: " in message
    assert "validation.features: {island: warn}" in message
    assert str(bad_data / "schema" / "schema.pbtxt") in message
    assert caught.value.exit_code == 3
    assert not (bad_data / "approved").exists()


def test_gate_counts_only_what_stops(bad_data):
    with pytest.raises(AnomaliesError, match=r"The data has an anomaly:\n  sex \(eval\)"):
        run_gate(bad_data, features={"island": "warn"})


@pytest.mark.parametrize("action", ["warn", "ignore"])
def test_gate_lets_pass_what_the_config_lets_pass(bad_data, action):
    assert (run_gate(bad_data, on_anomaly=action) / "schema.pbtxt").exists()


def test_gate_logs_what_it_warns_of(bad_data, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        run_gate(bad_data, on_anomaly="warn", features={"sex": "ignore"})

    assert "Anomaly: island (eval): Unexpected string values" in caplog.text
    assert "sex" not in caplog.text
