"""Every component with the documents that the open-source driver writes, and the ExecutorOutput that comes back."""

import csv
import html
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubetfx.components.data.retraining import Memory
from kubetfx.config.kubeflow_section import COMPONENTS
from kubetfx.config.loading import load_config
from kubetfx.errors import AnomaliesError, KubetfxError
from kubetfx.kubeflow.compiler import write_package
from kubetfx.kubeflow.emulator import Emulator
from kubetfx.kubeflow.executor_io import ExecutorInput, local_path, write_output
from kubetfx.kubeflow.package import compile_config
from kubetfx.kubeflow.package_document import read_package
from kubetfx.kubeflow.task_run import run_task
from kubetfx.kubeflow.task_spec import Node, OutputSlot, Property, TaskSpec
from tests.components.report import chromium
from tests.kubeflow.conftest import InThisProcess, launcher_root_at

S3 = "s3://team-bucket/runs"


def write_table(folder: Path) -> None:
    """Three kinds of shells, told apart by their sizes and colours."""
    chance = random.Random(1)
    folder.mkdir()
    with (folder / "shells.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "length", "colour"])
        for index in range(240):
            kind = index % 3
            writer.writerow(["abc"[kind], f"{kind + chance.random() * 0.8:.3f}", "red" if kind else "blue"])


class Finished:
    """A package that has run, in an S3 bucket as the launcher lays it out."""

    def __init__(self, emulator: Emulator, tasks: InThisProcess, folder: Path) -> None:
        self.emulator = emulator
        self.seen = tasks.seen
        self.folder = folder

    def output(self, title: str) -> dict[str, Any]:
        return self.seen[title][1]

    def metadata(self, title: str, slot: str) -> dict[str, Any]:
        return self.output(title)["artifacts"][slot]["artifacts"][0]["metadata"]

    def path(self, title: str, slot: str) -> Path:
        return local_path(self.output(title)["artifacts"][slot]["artifacts"][0]["uri"])


ELSEWHERE = {
    *("ImageExampleGen", "Tuner", "BestTrial", "Tracker"),
    *("FoldExamples", "FoldTransform", "FoldTrainer", "FoldEvaluator", "CrossValidation", "FoldEnsemble"),
}
"""Components that this package does not have; tests/e2e has runs of packages with them."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("shells")
    write_table(folder / "data")
    (folder / "pipeline.yaml").write_text(
        "name: shells\ndata: {path: data, label: kind}\n"
        "training: {epochs: 20, learning_rate: 0.01, warm_start: served}\n"
        "evaluation: {thresholds: {accuracy: {at_least: 0.5}}, slices: [colour]}\n"
        "retrain: {on: [new_span]}\n"
    )
    path = folder / "package.yaml"
    write_package(compile_config(load_config(folder / "pipeline.yaml"), retrain_gate=True)[0], path)
    with launcher_root_at(folder / "launcher") as root:
        tasks = InThisProcess()
        emulator = Emulator(read_package(path), root=root, run_id="1", run_command=tasks, bucket=S3)
        emulator.run({"push_directory": str(folder / "pushed"), "epochs": 15})
        yield Finished(emulator, tasks, folder)


def test_recurring_run_without_a_reason_is_one_task(finished):
    folder = finished.folder
    with launcher_root_at(folder / "launcher of another run") as root:
        tasks = InThisProcess()
        emulator = Emulator(read_package(folder / "package.yaml"), root=root, run_id="2", run_command=tasks, bucket=S3)
        emulator.run({"push_directory": str(folder / "pushed")})
    assert [task.title for task in emulator.tasks] == ["RetrainGate"]
    (page,) = (root / "s3" / "team-bucket").rglob("decision_page")
    assert "Nothing to do: the data is that of the last run." in page.read_text()
    assert Memory.read(folder / "pushed").outcome == "ended"


def test_documents_are_those_of_the_open_source_driver(finished):
    document = json.loads(finished.seen["Trainer"][0])

    assert document["inputs"]["parameterValues"] == {"epochs": 15.0}
    (examples,) = document["inputs"]["artifacts"]["examples"]["artifacts"]
    assert examples["type"] == {"instanceSchema": ""}
    assert examples["uri"].startswith("s3://team-bucket/runs/shells/1/table-example-gen/")
    assert "executor-logs" in document["outputs"]["artifacts"]


@pytest.mark.parametrize("component", [name for name in COMPONENTS if name not in ELSEWHERE])
def test_what_comes_back_is_what_the_launcher_takes(finished, component):
    document, output = json.loads(finished.seen[component][0]), finished.output(component)

    declared = {slot for slot in document["outputs"]["artifacts"] if slot != "executor-logs"}
    assert set(output) == {"artifacts"} | ({"parameterValues"} if component == "RetrainGate" else set())
    assert set(output["artifacts"]) == declared
    for slot, entry in output["artifacts"].items():
        (artifact,) = entry["artifacts"]
        (asked,) = document["outputs"]["artifacts"][slot]["artifacts"]
        assert set(artifact) == {"name", "uri", "metadata"}
        assert (artifact["name"], artifact["uri"]) == (slot, asked["uri"])
        assert None not in artifact["metadata"].values()
        assert str(finished.folder / "launcher") not in json.dumps(artifact["metadata"])
        pushed_nothing = artifact["metadata"].get("empty")
        assert local_path(artifact["uri"]).exists() or "metrics" in slot or pushed_nothing


def test_driver_tells_fingerprint_and_span_as_an_output_parameter(finished):
    output = finished.output("TableExampleGen driver")

    properties = json.loads(output["parameterValues"]["driver_output"])["execProperties"]
    assert properties["input_fingerprint"]["stringValue"].startswith("split:all,num_files:1")
    assert properties["span"]["intValue"] == "0"
    metadata = finished.metadata("TableExampleGen", "examples")
    assert metadata["input_fingerprint"] == properties["input_fingerprint"]["stringValue"]


def test_run_parameter_reaches_the_training(finished):
    history = json.loads((finished.path("Trainer", "model") / "history.json").read_text())

    assert history["epochs"] <= 15


def test_nothing_is_served_before_the_first_push(finished):
    assert finished.metadata("ServedModelResolver", "served_model")["empty"] == "true"


def test_model_is_pushed_where_the_run_says(finished):
    metadata = finished.metadata("Pusher", "pushed_model")

    assert (finished.folder / "pushed" / metadata["pushed_version"] / "saved_model.pb").is_file()


@pytest.mark.parametrize(
    ("title", "slot", "holds"),
    [
        ("TableExampleGen", "examples_page", "| train |"),
        ("StatisticsGen", "statistics_page", "length</h4>"),
        ("SchemaGen", "schema_page", ">category</td>"),
        ("ExampleValidator", "anomalies_page", "alone predicts 100.0% of the labels"),
        ("AnomalyGate", "schema_page", ">colour</th>"),
        ("Transform", "features_page", "numeric"),
        ("Trainer", "model_page", "<polyline"),
        ("ServedModelResolver", "model_page", "no version is served"),
        ("Evaluator", "evaluation_page", "must be at least 0.5: it passes"),
        ("Evaluator", "evaluation_page", "colour=red"),
        ("Pusher", "push_page", ":predict"),
        ("RetrainGate", "decision_page", "No run has begun yet"),
        ("Report", "report_page", "Pushed as version"),
        ("Report", "report_page", "Confusion matrix"),
    ],
)
def test_page_is_one_file_that_needs_no_other(finished, title, slot, holds):
    path = finished.path(title, slot)

    text = path.read_text()
    assert path.is_file()
    assert holds in text
    assert "<script" not in text
    assert 'src="http' not in text


PAGES_OF_HTML = [
    ("StatisticsGen", "statistics_page"),
    ("SchemaGen", "schema_page"),
    ("ExampleValidator", "anomalies_page"),
    ("AnomalyGate", "schema_page"),
    ("Transform", "features_page"),
    ("WarmStartModel", "model_page"),
    ("Trainer", "model_page"),
    ("ServedModelResolver", "model_page"),
    ("Evaluator", "evaluation_page"),
    ("Report", "report_page"),
]
FRAME = """<!doctype html><link rel="icon" href="data:,">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline';
  style-src 'unsafe-inline'; img-src data:; font-src data:; frame-src 'self'">
<style>body {{margin: 0}} iframe {{width: 100%; height: 880px; border: 0}}</style>
<script>measured = new Promise(found => addEventListener("message", event => found(event.data)));</script>
<iframe sandbox="allow-scripts" srcdoc="{page}"></iframe>"""
"""As the UI shows a page (frontend/src/components/viewers/HTMLViewer.tsx), under a strict policy."""
PANELS = [window // 2 for window in (800, 1440, 2560)]
"""Widths of the panel in which the UI of 2.17.0 shows a task: half of the window (`defaultWidth={'50%'}`,
frontend/src/pages/RunDetailsV2.tsx:226)."""
PAGES_OF_MARKDOWN = [
    ("TableExampleGen", "examples_page"),
    ("Pusher", "push_page"),
    ("RetrainGate", "decision_page"),
    ("RetrainEnd", "summary"),
]
MOST_CHARACTERS = 400_000
"""Of Markdown, that the UI shows (MAX_MARKDOWN_STR_LENGTH in frontend/src/components/viewers/MarkdownViewer.tsx)."""
MEASURE = """<script>
const look = () => innerWidth ? parent.postMessage(
  [document.documentElement.scrollWidth, innerWidth, parseFloat(getComputedStyle(document.body).fontSize)], "*"
) : setTimeout(look, 20);
addEventListener("load", look);
</script>"""


@pytest.fixture(scope="module")
def tab() -> Iterator[chromium.Page]:
    with chromium.running() as one:
        yield one


@pytest.mark.parametrize(
    ("kind", "pages"),
    [("system.HTML", PAGES_OF_HTML), ("system.Markdown", PAGES_OF_MARKDOWN)],
    ids=["HTML", "Markdown"],
)
def test_each_page_is_looked_at_as_in_the_ui(finished, kind, pages):
    found = {
        (title, slot)
        for title, (document, _) in finished.seen.items()
        for slot, entry in json.loads(document)["outputs"]["artifacts"].items()
        if entry["artifacts"][0]["type"].get("schemaTitle") == kind
    }

    assert found == set(pages)


@pytest.mark.parametrize(("title", "slot"), PAGES_OF_MARKDOWN)
def test_page_of_markdown_has_nothing_that_the_ui_would_show_as_text_or_fetch(finished, title, slot):
    """The UI puts it into its own page, not into a frame, and reads no HTML in it (`disableParsingRawHTML`)."""
    text = finished.path(title, slot).read_text()

    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    assert prose.strip()
    assert not re.search(r"(?<!\\)</?[a-zA-Z!]", prose)
    assert not re.search(r"!\[[^]]*]\(", prose)  # an image
    assert len(text) < MOST_CHARACTERS


@pytest.mark.parametrize("width", PANELS)
@pytest.mark.parametrize(("title", "slot"), PAGES_OF_HTML)
def test_page_is_readable_in_the_sandboxed_frame_of_the_ui(finished, tab, tmp_path, title, slot, width):
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(page=html.escape(finished.path(title, slot).read_text() + MEASURE)))
    tab.open(frame, width=width, scheme="light")

    content, window, font_size = tab.evaluate("measured")
    assert tab.problems == []
    assert tab.requests == []
    assert content <= window
    assert font_size >= 12


def test_metrics_are_numbers(finished):
    metadata = finished.metadata("Evaluator", "metrics")

    assert metadata["accuracy"] > 0.5
    assert metadata["blessed"] == 1.0
    assert all(isinstance(value, float) for value in metadata.values())


def test_confusion_matrix_and_roc_are_those_of_the_evaluation_split(finished):
    metadata = finished.metadata("Evaluator", "classification_metrics")
    numbers = finished.metadata("Evaluator", "metrics")

    matrix = metadata["confusionMatrix"]
    rows = [entry["row"] for entry in matrix["rows"]]
    assert [spec["displayName"] for spec in matrix["annotationSpecs"]] == ["a", "b", "c"]
    assert sum(map(sum, rows)) == numbers["example_count"]
    assert sum(rows[i][i] for i in range(3)) / numbers["example_count"] == pytest.approx(numbers["accuracy"])
    curve = metadata["confidenceMetrics"]
    assert curve[-1] == {"confidenceThreshold": 0.0, "recall": 1.0, "falsePositiveRate": 1.0}
    assert [point["recall"] for point in curve] == sorted(point["recall"] for point in curve)


def artifact(uri: str, number: str = "17", **metadata: Any) -> dict[str, Any]:
    """An input as the driver tells of it."""
    return {"artifacts": [{"name": number, "uri": uri, "type": {"instanceSchema": ""}, "metadata": metadata}]}


def pusher_spec(directory: Path) -> TaskSpec:
    return TaskSpec(
        nodes=(
            Node(
                id="Pusher",
                executor="kubetfx.components.pusher.Executor",
                driver="kubetfx.components.pusher.Driver",
                inputs={name: (name,) for name in ("model", "model_blessing", "evaluation")},
                outputs={"pushed_model": "pushed_model"},
                properties={
                    "push_directory": Property(value=str(directory)),
                    "model_name": Property(value="m"),
                    "endpoint": Property(value=""),
                    "keep_versions": Property(value=0),
                },
            ),
        ),
        inputs={
            "model": "tfx.types.standard_artifacts.Model",
            "model_blessing": "tfx.types.standard_artifacts.ModelBlessing",
            "evaluation": "tfx.types.standard_artifacts.ModelEvaluation",
        },
        outputs={"pushed_model": OutputSlot(type="tfx.types.standard_artifacts.PushedModel")},
    )


@pytest.mark.parametrize("scheme", ["minio", "s3", "gs"])
@pytest.mark.parametrize("blessed", [1, 0], ids=["blessed", "not blessed"])
def test_pusher_with_a_document_written_by_hand(launcher_root, tmp_path, scheme, blessed):
    place = launcher_root / {"gs": "gcs"}.get(scheme, scheme)
    saved_model = place / "b" / "model" / "Format-Serving"
    saved_model.mkdir(parents=True)
    (saved_model / "saved_model.pb").write_text("model")
    (place / "b" / "evaluation").mkdir()
    (place / "b" / "evaluation" / "evaluation.json").write_text('{"metrics": {"accuracy": 0.75}}')
    blessing = json.dumps({"custom_properties": {"blessed": {"int_value": str(blessed)}}})
    output_file = tmp_path / "outputs" / "output_metadata.json"
    document = {
        "inputs": {
            "parameterValues": {},
            "artifacts": {
                "model": artifact(f"{scheme}://b/model"),
                "model_blessing": artifact(f"{scheme}://b/blessing", blessed=float(blessed), tfx_artifact=blessing),
                "evaluation": artifact(f"{scheme}://b/evaluation"),
            },
        },
        "outputs": {
            "artifacts": {
                "pushed_model": {
                    "artifacts": [
                        {
                            "name": "pushed_model",
                            "uri": f"{scheme}://b/pushed",
                            "type": {"schemaTitle": "system.Model", "schemaVersion": "0.0.1"},
                        }
                    ]
                },
                "executor-logs": {
                    "artifacts": [
                        {
                            "name": "executor-logs",
                            "uri": f"{scheme}://b/logs",
                            "type": {"schemaTitle": "system.Artifact"},
                        }
                    ]
                },
            },
            "outputFile": str(output_file),
        },
    }

    run_task(pusher_spec(tmp_path / "serving"), ExecutorInput.from_json(json.dumps(document)))

    output = json.loads(output_file.read_text())
    (pushed,) = output["artifacts"]["pushed_model"]["artifacts"]
    assert pushed["uri"] == f"{scheme}://b/pushed"
    assert set(output["artifacts"]) == {"pushed_model"}
    if blessed:
        assert (tmp_path / "serving" / pushed["metadata"]["pushed_version"] / "saved_model.pb").read_text() == "model"
    else:
        assert pushed["metadata"]["empty"] == "true"
        assert not (tmp_path / "serving").exists()


def gate_document(root: Path, output_file: Path) -> str:
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    anomalies = anomalies_pb2.Anomalies()
    anomalies.anomaly_info["length"].severity = anomalies_pb2.AnomalyInfo.ERROR
    anomalies.anomaly_info["length"].description = "out of range"
    (root / "minio/b/anomalies/Split-train").mkdir(parents=True)
    (root / "minio/b/anomalies/Split-train/SchemaDiff.pb").write_bytes(anomalies.SerializeToString())
    (root / "minio/b/schema").mkdir(parents=True)
    (root / "minio/b/schema/schema.pbtxt").write_text("")
    splits = json.dumps({"properties": {"split_names": {"string_value": '["train"]'}}})
    return json.dumps(
        {
            "inputs": {
                "artifacts": {
                    "anomalies": artifact("minio://b/anomalies", tfx_artifact=splits),
                    "schema": artifact("minio://b/schema"),
                }
            },
            "outputs": {
                "artifacts": {
                    "approved_schema": {"artifacts": [{"name": "approved_schema", "uri": "minio://b/approved"}]}
                },
                "outputFile": str(output_file),
            },
        }
    )


def gate_spec() -> TaskSpec:
    return TaskSpec(
        nodes=(
            Node(
                id="AnomalyGate",
                executor="kubetfx.components.anomaly_gate.Executor",
                inputs={"anomalies": ("anomalies",), "schema": ("schema",)},
                outputs={"approved_schema": "approved_schema"},
                properties={"validation": Property(value="{}")},
            ),
        ),
        inputs={
            "anomalies": "tfx.types.standard_artifacts.ExampleAnomalies",
            "schema": "tfx.types.standard_artifacts.Schema",
        },
        outputs={"approved_schema": OutputSlot(type="tfx.types.standard_artifacts.Schema")},
    )


def test_gate_stops_at_anomalies_and_writes_no_output(launcher_root, tmp_path):
    document = gate_document(launcher_root, tmp_path / "output.json")

    with pytest.raises(AnomaliesError, match="out of range"):
        run_task(gate_spec(), ExecutorInput.from_json(document))
    assert not (tmp_path / "output.json").exists()


def test_retry_finds_nothing_of_the_earlier_try(launcher_root, tmp_path):
    (launcher_root / "minio/b/pushed").mkdir(parents=True)
    (launcher_root / "minio/b/pushed/half").write_text("half")
    document = {
        "outputs": {
            "artifacts": {"pushed_model": {"artifacts": [{"name": "pushed_model", "uri": "minio://b/pushed"}]}},
            "outputFile": str(tmp_path / "output.json"),
        },
        "inputs": {
            "artifacts": {"model": artifact("minio://b/model"), "model_blessing": artifact("minio://b/blessing")}
        },
    }
    run_task(pusher_spec(tmp_path / "serving"), ExecutorInput.from_json(json.dumps(document)))

    assert list((launcher_root / "minio/b/pushed").iterdir()) == []


def test_folder_that_the_launcher_did_not_download_is_there_and_empty(launcher_root, tmp_path):
    """An object store has no empty folders."""
    node = Node(id="List", executor=f"{__name__}.Lists", inputs={"model": ("model",)}, outputs={"found": "found"})
    path = "tfx.types.standard_artifacts"
    spec = TaskSpec(
        nodes=(node,), inputs={"model": f"{path}.Model"}, outputs={"found": OutputSlot(type=f"{path}.Model")}
    )
    document = {
        "inputs": {"artifacts": {"model": artifact("gs://b/model")}},
        "outputs": {
            "artifacts": {"found": {"artifacts": [{"name": "found", "uri": "gs://b/found"}]}},
            "outputFile": str(tmp_path / "output.json"),
        },
    }
    run_task(spec, ExecutorInput.from_json(json.dumps(document)))

    assert (launcher_root / "gcs/b/found/names").read_text() == "[]"


def test_what_the_launcher_cannot_store_is_left_out(tmp_path):
    """Null in metadata ends its task, and JSON has no NaN."""
    document = {
        "outputs": {
            "artifacts": {"metrics": {"artifacts": [{"name": "metrics", "uri": "minio://b/metrics"}]}},
            "outputFile": str(tmp_path / "output.json"),
        }
    }
    values = {"auc": 0.5, "recall": None, "loss": float("nan"), "most": float("inf"), "rows": 3}

    write_output(ExecutorInput.from_json(json.dumps(document)), metadata={"metrics": values}, parameters={})

    (written,) = json.loads((tmp_path / "output.json").read_text())["artifacts"]["metrics"]["artifacts"]
    assert written["metadata"] == {"auc": 0.5, "rows": 3}


def test_argument_survives_what_looks_like_a_placeholder():
    node = Node(id="A", executor="b.C", properties={"text": Property(value="{{$.inputs}} {{{ \\{{ $(HOME) $$ \\$")})
    argument = TaskSpec(nodes=(node,)).to_argument()

    assert "{{" not in argument
    assert "$" not in argument
    assert TaskSpec.from_argument(argument).nodes[0] == node


def test_several_artifacts_in_one_output_are_refused(launcher_root, tmp_path):
    spec = pusher_spec(tmp_path / "serving")
    spec = spec.model_copy(
        update={"nodes": (spec.nodes[0].model_copy(update={"executor": f"{__name__}.Twice", "driver": None}),)}
    )
    document = {
        "outputs": {
            "artifacts": {"pushed_model": {"artifacts": [{"name": "pushed_model", "uri": "minio://b/pushed"}]}},
            "outputFile": str(tmp_path / "output.json"),
        }
    }
    with pytest.raises(KubetfxError, match="wrote several artifacts to 'pushed_model'"):
        run_task(spec, ExecutorInput.from_json(json.dumps(document)))


@pytest.mark.parametrize(
    ("executor", "reason"),
    [("no_such_module.Executor", "No module named 'no_such_module'"), ("json.Executor", "no attribute 'Executor'")],
)
def test_executor_that_the_image_lacks_is_told_with_what_to_do(launcher_root, tmp_path, executor, reason):
    spec = TaskSpec(nodes=(Node(id="Own", executor=executor),))
    document = {"outputs": {"outputFile": str(tmp_path / "output.json")}}
    with pytest.raises(KubetfxError, match=rf"Own: what the node runs cannot be .*{reason}.*Install its module"):
        run_task(spec, ExecutorInput.from_json(json.dumps(document)))


class Lists:
    """An executor that looks what its input holds."""

    Context = dict

    def __init__(self, context: Any) -> None:
        pass

    def Do(self, inputs: Any, outputs: Any, properties: Any) -> None:
        names = [path.name for path in Path(inputs["model"][0].uri).iterdir()]
        Path(outputs["found"][0].uri, "names").write_text(str(names))


class Twice:
    """An executor that writes two artifacts."""

    Context = dict

    def __init__(self, context: Any) -> None:
        pass

    def Do(self, inputs: Any, outputs: Any, properties: Any) -> None:
        outputs["pushed_model"] *= 2
