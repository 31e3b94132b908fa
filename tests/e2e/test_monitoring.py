"""`kubetfx serve --log-requests` and `kubetfx monitor` on the penguins."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc

import kubetfx as library
from kubetfx.errors import ConfigError
from kubetfx.serving.model_config import ModelConfig
from kubetfx.serving.request_log import RequestLogOptions
from kubetfx.serving.server import RunningServer, ServerOptions
from kubetfx.serving.tensor_proto import from_array
from tests.command import Finished
from tests.components.report import chromium
from tests.e2e.project import Project
from tests.e2e.project import kubetfx as kubetfx_command

TEXT = ("island", "sex")
NUMBERS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "year")
WHOLE = ("flipper_length_mm", "body_mass_g", "year")
KEY = [word for name in (*NUMBERS, *TEXT) for word in ("--key", name)]
DAY = 86_400
NOON = 1_796_000_000


@pytest.fixture(scope="module")
def penguins(known_penguins: Project) -> Project:
    """A project that has pushed a model: nothing here runs it again."""
    return known_penguins


@pytest.fixture(scope="module")
def rows(penguins: Project) -> list[dict[str, str]]:
    with (penguins.folder / "data" / "penguins.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def served_log(penguins: Project, rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All penguins, half over REST and half over gRPC."""
    folder = tmp_path_factory.mktemp("requests")
    options = ServerOptions(
        models=(ModelConfig("penguins", penguins.pushed),),
        rest_port=0,
        grpc_port=0,
        request_log=RequestLogOptions(folder, 1.0),
    )
    half = len(rows) // 2
    with RunningServer(options) as server:
        instances = [{name: _json(row, name) for name in (*NUMBERS, *TEXT)} for row in rows[:half]]
        url = f"http://127.0.0.1:{server.rest_port}/v1/models/penguins:predict"
        for instance in instances:
            assert httpx.post(url, content=json.dumps({"instances": [instance]}), timeout=60).is_success
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "penguins"
        for name, cells in columns_of(rows[half:]).items():
            from_array(cells, request.inputs[name])
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    return folder


def _json(row: dict[str, str], name: str) -> float | str:
    if name in TEXT:
        return "" if row[name] == "NA" else row[name]
    return float("nan") if row[name] == "NA" else float(row[name])


def columns_of(rows: list[dict[str, str]]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name in NUMBERS:
        found[name] = np.array([_json(row, name) for row in rows], np.float64 if name in WHOLE else np.float32)
    for name in TEXT:
        found[name] = np.array([str(_json(row, name)).encode() for row in rows], object)
    return found


def write_log(
    path: Path,
    version: int,
    columns: dict[str, np.ndarray],
    probabilities: np.ndarray,
    *,
    seconds: int = NOON,
    model: str = "penguins",
    append: bytes = b"",
) -> Path:
    """A log as others write it, a record for all rows."""
    log = prediction_log_pb2.PredictionLog()
    log.log_metadata.model_spec.name, log.log_metadata.timestamp_secs = model, seconds
    log.log_metadata.model_spec.version.value = version
    for name, cells in columns.items():
        from_array(cells, log.predict_log.request.inputs[name])
    from_array(probabilities, log.predict_log.response.outputs["probabilities"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(log.SerializeToString())
    path.write_bytes(path.read_bytes() + append)
    return path


def right_answers(rows: list[dict[str, str]]) -> np.ndarray:
    classes = ["Adelie", "Chinstrap", "Gentoo"]
    return np.eye(3, dtype=np.float32)[[classes.index(row["species"]) for row in rows]] * 0.97 + 0.01


def monitor(project: Project, log: Path, *arguments: str | Path) -> Finished:
    return kubetfx_command("monitor", project.config, "--requests", log, "--format", "json", *arguments)


def test_own_rows_cross_no_bound_and_the_page_says_so(penguins: Project, served_log: Path, tmp_path: Path) -> None:
    done = monitor(penguins, served_log, "--output", tmp_path)
    assert done.exit_code == 0, done.stdout + done.stderr
    found = done.document
    assert (found["rows"], found["crossed"]) == (344, [])
    assert found["version"] == penguins.versions[-1]
    by_name = {one["name"]: one for one in found["columns"]}
    assert by_name.keys() == {*NUMBERS, *TEXT}
    assert all(one["skew"] < 0.05 for one in found["columns"])
    assert by_name["sex"]["missing"] == pytest.approx(11 / 344)
    assert by_name["island"]["unseen"] == 0
    assert found["answers"]["skew"] < 0.1
    page = (tmp_path / "monitoring.html").read_text()
    assert "No bound is crossed" in page
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=\"http", page)


def test_shift_new_category_and_missing_cells_are_named_with_value_and_bound(
    penguins: Project, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    columns = columns_of(rows)
    columns["body_mass_g"] = columns["body_mass_g"] + 2000
    columns["island"] = np.array([b"Atlantis"] * 172 + columns["island"].tolist()[172:], object)
    columns["bill_depth_mm"] = np.where(np.arange(344) < 200, np.nan, columns["bill_depth_mm"]).astype(np.float32)
    log = write_log(tmp_path / "log" / "a", penguins.versions[-1], columns, right_answers(rows)).parent
    done = monitor(penguins, log, "--output", tmp_path)
    assert done.exit_code == 3, done.stdout + done.stderr
    crossed = {(one["subject"], one["kind"]): one for one in done.document["crossed"]}
    assert crossed.keys() >= {("body_mass_g", "skew"), ("island", "unseen"), ("bill_depth_mm", "missing")}
    assert crossed["island", "unseen"]["value"] == 0.5
    assert crossed["island", "unseen"]["bound"] == 0.01
    assert crossed["bill_depth_mm", "missing"]["text"].startswith("bill_depth_mm has a share of missing cells 0.58")
    island = next(one for one in done.document["columns"] if one["name"] == "island")
    assert island["unseen_values"] == {"Atlantis": 172}
    families = {
        (sample.name, *sorted(v for k, v in sample.labels.items() if k not in ("model", "version"))): sample.value
        for family in text_string_to_metric_families((tmp_path / "monitoring.prom").read_text())
        for sample in family.samples
    }
    assert families["kubetfx_monitor_unseen_ratio", "island"] == 0.5
    assert families["kubetfx_monitor_rows",] == 344
    assert families["kubetfx_monitor_crossed_bounds",] == len(crossed)
    assert ("kubetfx_monitor_distance", "body_mass_g", "skew") in families
    widened = [
        *("--set", "monitoring.columns={body_mass_g: {skew: 1}, island: {skew: 1, unseen: 1}}"),
        *("--set", "monitoring.ignore=[bill_depth_mm]"),
    ]
    done = monitor(penguins, log, "--output", tmp_path, *widened)
    assert done.exit_code == 0, done.stdout
    human = kubetfx_command("monitor", penguins.config, "--requests", log, "--output", tmp_path)
    assert human.exit_code == 3
    assert (
        "Crossed: island has categories that training never saw in 0.5 of its cells, and may in 0.01." in human.stderr
    )


def test_drift_is_the_newest_period_against_those_before(
    penguins: Project, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    version, log = penguins.versions[-1], tmp_path / "log"
    write_log(log / "a", version, columns_of(rows), right_answers(rows), seconds=NOON - 3 * DAY)
    heavier = columns_of(rows)
    heavier["body_mass_g"] = heavier["body_mass_g"] + 2000
    write_log(log / "b", version, heavier, right_answers(rows), seconds=NOON)
    found = monitor(penguins, log, "--output", tmp_path).document
    by_name = {one["name"]: one for one in found["columns"]}
    assert by_name["body_mass_g"]["drift"] > 0.3
    assert by_name["year"]["drift"] == 0
    assert "drift" in by_name["body_mass_g"]["crossed"]
    newest = monitor(penguins, log, "--output", tmp_path, "--set", "monitoring.last=1d").document
    assert (newest["rows"], newest["notes"][0]) == (344, "344 rows are older than monitoring.last: 1d.")


def test_labels_that_arrive_later_are_joined_and_measured(
    penguins: Project, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    version, log = penguins.versions[-1], tmp_path / "log"
    complete = [row for row in rows if "NA" not in row.values()]
    answers = right_answers(complete)
    answers[:30] = answers[:30][:, [1, 0, 2]]  # the first thirty, all Adelie, are called Chinstrap
    for number, part in enumerate(np.array_split(np.arange(len(complete)), 3)):
        own = columns_of([complete[i] for i in part])
        write_log(log / str(number), version, own, answers[part], seconds=NOON - (2 - number) * DAY)
    labels = tmp_path / "labels.csv"
    stranger = {**complete[0], "body_mass_g": "9999"}
    with labels.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*NUMBERS, *TEXT, "species"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*complete, complete[1], {**complete[2], "species": "Gentoo"}, complete[2], stranger])
    done = monitor(
        penguins, log, "--labels", labels, *KEY, "--output", tmp_path,
        *("--set", "monitoring.quality={accuracy: {at_least: 0.95, worse_by_at_most: 0.5}}"),
        *("--set", "evaluation.slices=[island]"),
    )  # fmt: skip
    found = done.document
    quality = found["quality"]
    overall = {one["name"]: one for one in quality["overall"]}
    assert quality["rows"] == len(complete) == 333
    assert overall["accuracy"]["value"] == pytest.approx(303 / 333)
    assert overall["accuracy"]["pushed"] == pytest.approx(1.0, abs=0.05)
    assert overall["accuracy"]["interval"]["lower"] < 303 / 333 < overall["accuracy"]["interval"]["upper"]
    assert [group["rows"] for group in quality["periods"]] == [111, 111, 111]
    over_time = [next(m["value"] for m in group["metrics"] if m["name"] == "accuracy") for group in quality["periods"]]
    assert over_time == [pytest.approx(81 / 111), 1.0, 1.0]
    assert {group["name"] for group in quality["slices"]} == {"island=Biscoe", "island=Dream", "island=Torgersen"}
    assert done.exit_code == 3
    assert [(one["subject"], one["kind"]) for one in found["crossed"] if one["subject"] == "Accuracy"] == [
        ("Accuracy", "at_least")
    ]
    assert "333 of 333 rows have a label; 333 of 334 labels have a row." in found["notes"]
    assert "1 labels have no row in the log, of which a sample may be all there is." in found["notes"]
    assert any("2 rows of the labels" in note and "another label" in note for note in found["notes"])
    assert "1 rows of the labels are there twice." in found["notes"]
    page = (tmp_path / "monitoring.html").read_text()
    assert "Over time" in page
    assert "island=Torgersen" in page


def test_labels_without_any_match_are_said(penguins: Project, served_log: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("year,species\n1999,Adelie\n1998,Dodo\n1997,\n")
    found = monitor(penguins, served_log, "--labels", labels, "--key", "year", "--output", tmp_path)
    assert found.exit_code == 0, found.stdout
    assert found.document["quality"] is None
    notes = found.document["notes"]
    assert "0 of 344 rows have a label; 0 of 2 labels have a row." in notes
    assert "1 labels are of a class that the model does not know. They count as mistakes." in notes
    assert "1 rows of the labels have none, and are left out." in notes


def test_torn_log_and_other_files_are_read_around_and_said(penguins: Project, served_log: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    shutil.copytree(served_log, log)
    (file,) = log.glob("*.tfrecord")
    content = file.read_bytes()
    file.write_bytes(content[:-100])  # the record of gRPC
    (log / "readme.txt").write_text("not a log, but longer than the head of a record")
    (log / ".hidden").write_text("left alone")
    found = monitor(penguins, log, "--output", tmp_path).document
    assert found["rows"] == 172
    assert any("breaks off at byte" in note and "It is read up to there." in note for note in found["notes"])
    assert "Files that are not TFRecord files are left out: readme.txt." in found["notes"]
    assert "172 rows are fewer than monitoring.min_rows: 300. Nothing is judged." in found["notes"]


def nothing(folder: Path, version: int, rows: list[dict[str, str]]) -> None:
    del folder, version, rows


def no_logs(folder: Path, version: int, rows: list[dict[str, str]]) -> None:
    del version, rows
    (folder / "a.txt").write_text("something else that is long enough")


def another_model(folder: Path, version: int, rows: list[dict[str, str]]) -> None:
    write_log(folder / "a", version, columns_of(rows), right_answers(rows), model="dogs")


def another_version(folder: Path, version: int, rows: list[dict[str, str]]) -> None:
    write_log(folder / "a", version + 5, columns_of(rows), right_answers(rows))


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (nothing, [], "The folder of requests has no files."),
        (no_logs, [], "The log has no requests to the model 'penguins'. .* Name a folder of TFRecord files"),
        (another_model, [], "no requests to the model 'penguins'. Received: .*, with requests to dogs"),
        (another_version, [], r"No run of the workspace has pushed version \d+"),
        (another_version, ["--version", "7"], r"The log has no requests to this version. Received: 7. It has: \d+."),
        (nothing, ["--key", "year"], "--key is for --labels"),
        (nothing, ["--labels", "x.csv"], "--labels are joined by --key"),
    ],
)
def test_log_that_says_nothing_of_the_model_is_an_error(
    penguins: Project,
    rows: list[dict[str, str]],
    tmp_path: Path,
    make: Callable[[Path, int, list[dict[str, str]]], None],
    arguments: list[str],
    message: str,
) -> None:
    make(tmp_path, penguins.versions[-1], rows)
    done = monitor(penguins, tmp_path, *arguments)
    assert done.exit_code == 2
    assert re.search(message, done.document["error"]["message"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("monitoring.ignore=[body_mas_g]", "monitoring.ignore: the model has no column 'body_mas_g'. Did you mean"),
        ("monitoring.columns={specie: {skew: 0.2}}", "monitoring.columns.specie: the model has no column 'specie'"),
        ("monitoring.quality={accuracy: {at_most: 0.5}}", "higher values are better, so the bound is at_least"),
        ("monitoring.quality={accuracy: {at_least: 90}}", "so no model passes"),
        ("monitoring.quality={acuracy: {at_least: 0.5}}", "unknown metric 'acuracy' .* Did you mean 'accuracy'"),
        ("monitoring.skew=1.5", "monitoring.skew"),
        ("monitoring.period=1 day", "monitoring.period"),
        ("monitoring.columns={year: {skev: 0.2}}", "Did you mean 'skew'"),
    ],
)
def test_wrong_monitoring_section_is_explained(penguins: Project, served_log: Path, setting: str, message: str) -> None:
    done = monitor(penguins, served_log, "--set", setting)
    assert done.exit_code == 2
    assert re.search(message, done.document["error"]["message"])


def test_library_says_what_is_crossed(penguins: Project, rows: list[dict[str, str]], tmp_path: Path) -> None:
    log = write_log(
        tmp_path / "log" / "a", penguins.versions[-1], columns_of(rows), np.roll(right_answers(rows), 1, axis=1)
    ).parent
    found = library.monitor(penguins.config, log, folder=tmp_path)
    assert [(one.subject, one.kind) for one in found.crossed] == [("answers", "skew")]
    assert "from that for the evaluation split" in str(found.crossed[0])
    with pytest.raises(ConfigError, match="no column 'x'"):
        library.monitor(library.load_config(penguins.config, overrides={"monitoring.ignore": ["x"]}), log)


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1200, "dark")])
def test_page_is_no_wider_than_the_screen_and_asks_for_nothing(
    penguins: Project, served_log: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    library.monitor(penguins.config, served_log, folder=tmp_path)
    with chromium.running() as page:
        page.open(tmp_path / "monitoring.html", width=width, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.problems == []
        assert page.requests == []
