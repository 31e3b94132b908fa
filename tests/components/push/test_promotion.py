"""Canary, promotion and approval, on a server that runs: models as the Trainer exports them."""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import keras
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2
from tfx.types import standard_artifacts

import kubetfx
from kubetfx import run_record
from kubetfx.artifacts import PROVENANCE, PUSHED_GOLDEN_ROWS
from kubetfx.components.push import labels, promotion, push_directory
from kubetfx.components.push.labelled_server import LabelledServer
from kubetfx.components.push.push_directory import read_record, versions, waiting_versions
from kubetfx.components.pusher import Executor
from kubetfx.components.served_model_resolver import baseline_version, saved_model_path
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError, PushError, RequestError, UsageError
from kubetfx.models.network import build_model
from kubetfx.serving.model_config import ModelConfig as ServedModel
from kubetfx.serving.server import RunningServer
from tests.components.push.test_push_verification import FINE_ROWS, WRONG_ROWS, Export
from tests.models.conftest import multiclass, preprocess, rows  # noqa: F401 - fixtures
from tests.serving.conftest import options, wait_until

Push = Callable[..., list[standard_artifacts.PushedModel]]


@pytest.fixture(scope="module")
def artifacts(multiclass, preprocess, tmp_path_factory):  # noqa: F811
    """By name: two right models, and one with a wrong transform graph, each with its evaluation."""
    folder = tmp_path_factory.mktemp("models")
    made = {}
    for name, seed in (("first", 1), ("second", 2)):
        keras.utils.set_random_seed(seed)
        network = build_model(
            multiclass.output, model=ModelConfig(hidden_units=(8,)), features=multiclass.config, num_outputs=3
        )
        export = Export(
            multiclass, folder / name, model=keras.Model(network.input, keras.layers.Softmax()(network.output))
        )
        model = export.model(name, multiclass)
        made[name] = (model, export.evaluation(model))
    wrong = preprocess(WRONG_ROWS, label="species", vocabulary_size=10, hash_buckets=16)
    export = Export(multiclass, folder / "wrong")
    model = export.model("wrong", wrong)
    return {**made, "wrong": (model, export.evaluation(model))}


@pytest.fixture
def config(server, served, tmp_path) -> Callable[..., PipelineConfig]:
    def make(**serving: object) -> PipelineConfig:
        endpoint = {
            "rest": f"http://127.0.0.1:{server.rest_port}",
            "grpc": f"127.0.0.1:{server.grpc_port}",
            "timeout_seconds": 10,
            **serving.pop("endpoint", {}),  # type: ignore[dict-item]
        }
        section = {"push_directory": str(served), "endpoint": endpoint, "canary": {"minutes": 0}, **serving}
        data = {"path": str(tmp_path / "data.csv"), "label": "species"}
        return PipelineConfig(name="penguins", data=data, workspace=str(tmp_path / "workspace"), serving=section)

    return make


@pytest.fixture
def push(artifacts, served) -> Push:
    def execute(name: str, config: PipelineConfig, *, version: int) -> list[standard_artifacts.PushedModel]:
        model, evaluation = artifacts[name]
        output = {"pushed_model": [standard_artifacts.PushedModel()]}
        serving = config.serving
        properties = {
            "push_directory": str(served),
            "version": version,
            "model_name": "penguins",
            "endpoint": serving.endpoint.model_dump_json() if serving.endpoint else "",
            "canary": serving.canary.model_dump_json() if serving.canary else "",
            "needs_approval": int(serving.approval == "required"),
            "keep_versions": serving.keep_versions or 0,
        }
        Executor().Do({"model": [model], "evaluation": [evaluation]}, output, properties)
        return output["pushed_model"]

    return execute


def ask(server: RunningServer, label: str) -> list[str] | str:
    """Answers of a label; or why there is none."""
    whole = [row for row in FINE_ROWS if None not in row.values()]
    instances = [{name: value for name, value in row.items() if name != "species"} for row in whole[:5]]
    body = json.dumps({"instances": instances})
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/penguins/labels/{label}:predict"
    answer = httpx.post(url, content=body).json()
    return answer.get("error") or [one["score"] for one in answer["predictions"]]


def labelled(served: Path) -> dict[str, int]:
    return labels.numbers(labels.read_labels(served))


def kinds(served: Path, version: int) -> list[str]:
    record = read_record(served, version)
    assert record is not None
    return [event.kind for event in record.events]


def test_first_version_is_stable_and_the_next_one_the_canary_until_it_is_promoted(push, config, served, server):
    push("first", config(), version=7)
    assert labelled(served) == {"canary": 7, "stable": 7}
    before = ask(server, "stable")

    push("second", config(), version=8)

    assert labelled(served) == {"canary": 8, "stable": 7}
    assert ask(server, "stable") == before
    assert ask(server, "canary") != before
    event = kubetfx.promote(config(), 8, reason="a day of good answers", by="ada")
    assert labelled(served) == {"canary": 8, "stable": 8}
    assert ask(server, "stable") == ask(server, "canary") != before
    assert event.by == "ada"
    assert event.reason == "a day of good answers"
    assert "40 rows: " in event.comparison
    assert "than from version 7" in event.comparison
    assert kinds(served, 7) == ["canary", "stable", "replaced", "replaced"]
    assert kinds(served, 8) == ["canary", "stable"]
    wait_until(lambda: available(server) == ["8"])  # what has no label is not served


def available(server: RunningServer) -> list[str]:
    answer = httpx.get(f"http://127.0.0.1:{server.rest_port}/v1/models/penguins").json()
    return [one["version"] for one in answer.get("model_version_status", []) if one["state"] == "AVAILABLE"]


@pytest.mark.long
def test_going_back_is_a_promotion_that_does_not_wait(push, config, served, server):
    push("first", config(), version=7)
    before = ask(server, "stable")
    push("second", config(), version=8)
    kubetfx.promote(config(), 8)

    kubetfx.promote(config(canary={"minutes": 1000}), 7, reason="complaints")

    assert labelled(served) == {"canary": 8, "stable": 7}
    assert ask(server, "stable") == before


@pytest.mark.long
def test_newest_version_is_taken_for_stable_where_labels_are_new(push, config, served, server):
    push("first", config(canary=None), version=7)

    push("second", config(), version=8)

    assert labelled(served) == {"canary": 8, "stable": 7}
    assert ask(server, "stable") != ask(server, "canary")


def test_wrong_canary_is_withdrawn_and_labels_stay(push, config, served, server):
    push("first", config(), version=7)
    before = ask(server, "stable")

    with pytest.raises(PushError, match=r"Version 8 was withdrawn: .*answers differ.*labels are as before: canary is"):
        push("wrong", config(), version=8)

    assert versions(served) == [7]
    assert labelled(served) == {"canary": 7, "stable": 7}
    assert ask(server, "stable") == ask(server, "canary") == before


@pytest.mark.long
def test_wrong_version_that_is_the_first_leaves_a_server_that_takes_the_next(push, config, served, server):
    with pytest.raises(PushError, match="labels are as before: there are none"):
        push("wrong", config(), version=7)

    push("first", config(), version=8)

    assert labelled(served) == {"canary": 8, "stable": 8}


def test_baseline_of_the_next_evaluation_is_the_stable_version(push, config, served, artifacts):
    push("first", config(), version=7)
    push("second", config(), version=8)

    assert baseline_version(served, candidate=saved_model_path([artifacts["wrong"][0]])) == 7
    assert baseline_version(served, candidate=saved_model_path([artifacts["second"][0]])) == 7
    assert read_record(served, 8).replaced_version == 7


@pytest.mark.long
def test_labelled_versions_are_kept(push, config, served):
    push("first", config(keep_versions=1), version=7)
    push("second", config(keep_versions=1), version=8)

    assert versions(served) == [7, 8]


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        (9, r"There is no such version\. Received: 9\. There are: 5, 6, 7, 8\."),
        (7, r"stable already\. Received: 7, since "),
        (8, r"has been canary for 0\.0 of 30 minutes .*Received: 8\. Wait, or overrule it: `force=True`"),
        (6, r"not verified: .*Received: 6"),
        (5, r"not approved\. Received: 5, .*Have a person approve it"),
    ],
)
def test_what_is_not_to_be_promoted_is_told(push, config, served, artifacts, version, problem):
    push("first", config(), version=7)
    push("second", config(), version=8)
    model = saved_model_path([artifacts["second"][0]])
    push_directory.push(model, served, version=6, replaced_version=None)
    push_directory.push(model, served, version=5, replaced_version=None, needs_approval=True)

    with pytest.raises(UsageError, match=problem):
        kubetfx.promote(config(canary={"minutes": 30}), version)

    assert labelled(served) == {"canary": 8, "stable": 7}


def test_promotion_before_its_time_is_recorded_as_forced(push, config, served):
    push("first", config(), version=7)
    push("second", config(), version=8)

    assert kubetfx.promote(config(canary={"minutes": 30}), 8, force=True, reason="a fix").forced
    assert labelled(served)["stable"] == 8


@pytest.mark.long
def test_minutes_are_those_as_the_canary_also_of_earlier_times(push, config, served, monkeypatch):
    push("first", config(), version=7)
    push("second", config(), version=8)
    record = read_record(served, 8)
    current = labels.read_labels(served)
    monkeypatch.setattr(run_record, "now", lambda: current["canary"].since.replace("20", "21", 1))

    assert promotion.canary_minutes(record, current, "canary") > 1_000_000
    assert promotion.canary_minutes(read_record(served, 7), current, "canary") < 1


def test_version_that_answers_otherwise_now_is_not_promoted(push, config, served, server):
    """Its golden rows are not those of its model: as after a fault of the disk."""
    push("first", config(), version=7)
    before = ask(server, "stable")
    push("second", config(), version=8)
    golden_rows = served / "8" / PUSHED_GOLDEN_ROWS
    document = json.loads(golden_rows.read_text())
    golden_rows.write_text(json.dumps({**document, "outputs": document["outputs"][::-1]}))

    with pytest.raises(PushError, match=r"Version 8 was not promoted, and version 7 stays stable: .*answers differ"):
        kubetfx.promote(config(), 8)

    assert labelled(served) == {"canary": 8, "stable": 7}
    assert ask(server, "stable") == before
    assert kinds(served, 8) == ["canary"]


@pytest.mark.long
def test_label_that_answers_otherwise_after_the_move_goes_back(push, config, served, server, monkeypatch):
    push("first", config(), version=7)
    before = ask(server, "stable")
    push("second", config(), version=8)
    compare = promotion.CanaryVerification._compare

    def with_a_fault(self, clients, target, golden_rows):
        if target.label == "stable":
            raise PushError("over gRPC server's answers differ from.")
        compare(self, clients, target, golden_rows)

    monkeypatch.setattr(promotion.CanaryVerification, "_compare", with_a_fault)
    with pytest.raises(PushError, match=r"not promoted, and version 7 stays stable: the label 'stable': over gRPC"):
        kubetfx.promote(config(), 8)

    assert labelled(served) == {"canary": 8, "stable": 7}
    assert ask(server, "stable") == before


def test_server_that_is_down_is_told_and_nothing_has_moved(push, config, served, server):
    made = config(endpoint={"timeout_seconds": 1})
    push("first", made, version=7)
    push("second", made, version=8)
    server.ask_to_stop()
    server.wait()

    with pytest.raises(RequestError, match="did not answer"):
        kubetfx.promote(made, 8)

    assert labelled(served) == {"canary": 8, "stable": 7}


@pytest.mark.long
def test_labels_come_back_to_a_server_that_was_started_again(push, config, served, server):
    push("first", config(), version=7)
    push("second", config(), version=8)
    server.manager.reload([ServedModel("penguins", served)])  # as it starts: the newest version, and no labels
    assert "Unrecognized servable version label" in ask(server, "stable")

    kubetfx.promote(config(), 8)

    assert isinstance(ask(server, "stable"), list)
    assert ask(server, "stable") == ask(server, "canary")


def promote_and_die(config: PipelineConfig) -> None:
    LabelledServer._serve = LabelledServer.serve  # type: ignore[attr-defined]

    def serve(self, versions, moved):
        self._serve(versions, moved)
        if moved.get("stable") == 8:
            os.kill(os.getpid(), signal.SIGKILL)

    LabelledServer.serve = serve  # type: ignore[method-assign]
    kubetfx.promote(config, 8)


def killed_promotion(config: PipelineConfig) -> None:
    """In a process of its own: one that has no threads of gRPC to inherit."""
    process = multiprocessing.get_context("spawn").Process(target=promote_and_die, args=(config,))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.long
def test_promotion_that_was_killed_half_way_is_undone_by_the_next_to_come(push, config, served, server):
    push("first", config(), version=7)
    before = ask(server, "stable")
    push("second", config(), version=8)

    killed_promotion(config())

    assert labelled(served) == {"canary": 8, "stable": 7}
    assert labels.broken_off(served)
    push("second", config(), version=8)  # any command that asks the server
    assert ask(server, "stable") == before
    assert not labels.broken_off(served)


@pytest.mark.long
def test_move_that_was_broken_off_is_undone_by_the_next_to_come(push, config, served, server):
    """As after a kill, without the process: the server has the label, and the push directory knows nothing of it."""
    push("first", config(), version=7)
    before = ask(server, "stable")
    push("second", config(), version=8)
    labels.begin_move(served, labels.read_labels(served))
    server.manager.reload([ServedModel("penguins", served, labels={"stable": 8, "canary": 8})])
    assert ask(server, "stable") != before

    with pytest.raises(PushError):
        push("wrong", config(), version=9)

    assert ask(server, "stable") == before
    assert not labels.broken_off(served)


def test_two_promotions_at_once_do_not_interleave(push, config, served):
    push("first", config(), version=7)
    push("second", config(), version=8)

    with labels.locked(served), pytest.raises(UsageError, match=r"Another approval, promotion or push .*Received: "):
        kubetfx.promote(config(), 8)

    assert labelled(served)["stable"] == 7


@pytest.mark.long
def test_push_waits_for_a_promotion(push, config, served):
    push("first", config(), version=7)
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        with labels.locked(served):
            begun.set()
            end.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(20)
    threading.Timer(0.5, end.set).start()
    push("second", config(), version=8)
    thread.join()

    assert labelled(served)["canary"] == 8


def models_config(path: Path, served: Path) -> str:
    path.write_text(
        "model_config_list {\n"
        '  config { name: "other" base_path: "/models/other" model_platform: "tensorflow" }\n'
        f'  config {{ name: "penguins" base_path: "{served}" model_platform: "tensorflow" }}\n'
        "}\n"
    )
    return str(path)


def in_file(path: Path) -> dict[str, dict[str, int]]:
    parsed = text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    return {model.name: dict(model.version_labels) for model in parsed.model_config_list.config}


def test_server_with_a_file_of_models_is_moved_by_the_file_alone(push, config, served, tmp_path):
    """It looks at its file now and then; its other models stay."""
    path = tmp_path / "models.config"
    models_config(path, served)
    with RunningServer(options(model_config_file=path, model_config_file_poll_seconds=0.1)) as server:
        made = config(
            endpoint={"rest": f"http://127.0.0.1:{server.rest_port}", "grpc": None, "models_config": str(path)}
        )
        push("first", made, version=7)
        before = ask(server, "stable")
        push("second", made, version=8)
        assert in_file(path) == {"other": {}, "penguins": {"canary": 8, "stable": 7}}
        assert ask(server, "stable") == before

        kubetfx.promote(made, 8)

        assert in_file(path) == {"other": {}, "penguins": {"canary": 8, "stable": 8}}
        assert ask(server, "stable") == ask(server, "canary") != before


@pytest.mark.long
def test_file_of_models_is_as_before_where_the_server_refuses(push, config, served, tmp_path):
    path = tmp_path / "models.config"
    path.write_text(
        f'model_config_list {{ config {{ name: "penguins" base_path: "{served}" model_platform: "tensorflow" }} }}'
    )
    made = config(endpoint={"models_config": str(path)})
    push("first", made, version=7)
    before = in_file(path)
    assert before == {"penguins": {"canary": 7, "stable": 7}}

    server = LabelledServer(made.serving.endpoint, "penguins", served, promotion.OPTIONS)
    with pytest.raises(RequestError, match="not currently available for inference"):
        server.serve({7}, {"stable": 99})

    assert in_file(path) == before


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("model_config_list { config { name: 'b' } }", r"has no model 'penguins'. Received: .*, which has b\. Add"),
        ("nonsense {", r"is not a ModelServerConfig .*Received: .*Fix the file"),
        (None, r"cannot be read: .*Name the file that the server was started with"),
    ],
)
def test_file_of_models_that_does_not_fit_is_told(push, config, served, tmp_path, text, problem):
    path = tmp_path / "models.config"
    if text is not None:
        path.write_text(text)

    with pytest.raises(PushError, match=problem):
        push("first", config(endpoint={"models_config": str(path)}), version=7)

    assert versions(served) == []


def test_nothing_is_served_before_it_is_approved(push, config, served, server):
    made = config(canary=None, approval="required")

    (pushed,) = push("first", made, version=7)

    assert pushed.get_string_custom_property("waiting_version") == "7"
    assert not pushed.get_string_custom_property("pushed_version")
    assert versions(served) == []
    assert waiting_versions(served) == [7]
    server.manager.poll()
    assert available(server) == []

    event = kubetfx.approve(made, 7, reason="reviewed with the field team", by="grace")

    assert (event.by, event.reason) == ("grace", "reviewed with the field team")
    assert available(server) == ["7"]
    found = kubetfx.lineage(made, 7)
    assert found.state == "served"
    assert found.push.approval == event
    assert any("approved by grace: reviewed with the field team" in line for line in found.history)
    with pytest.raises(UsageError, match=r"approved already\. Received: 7, by grace at .*: reviewed with"):
        kubetfx.approve(made, 7, reason="again")


@pytest.mark.long
def test_approved_version_is_the_canary_first(push, config, served, server):
    made = config(approval="required")
    push("first", made, version=7)
    kubetfx.approve(made, 7, reason="the first one")
    before = ask(server, "stable")
    push("second", made, version=8)
    assert available(server) == ["7"]
    with pytest.raises(UsageError, match="not approved"):
        kubetfx.promote(made, 8)

    kubetfx.approve(made, 8, reason="fine")

    assert labelled(served) == {"canary": 8, "stable": 7}
    assert ask(server, "stable") == before
    kubetfx.promote(made, 8)
    assert labelled(served)["stable"] == 8


def test_approved_version_that_answers_otherwise_waits_as_before(push, config, served, server):
    made = config(canary=None, approval="required")
    push("wrong", made, version=7)

    with pytest.raises(PushError, match=r"answers differ.* It waits as before; approve it again"):
        kubetfx.approve(made, 7, reason="looks fine")

    assert versions(served) == []
    assert waiting_versions(served) == [7]
    assert kinds(served, 7) == ["approved", "withdrawn"]
    assert available(server) == []


@pytest.mark.parametrize(
    ("version", "reason", "problem"),
    [
        (8, "fine", r"no such version that kubetfx pushed\. Received: 8\. There are: 6, 7\."),
        (6, "fine", r"A newer version is served, .*Received: 6, where 7 is served"),
        (6, " ", r"An approval has a reason.*Received: none\. Give `reason`"),
    ],
)
def test_what_cannot_be_approved_is_told(push, config, served, artifacts, version, reason, problem):
    made = config(canary=None, approval="required")
    push_directory.push(
        saved_model_path([artifacts["second"][0]]), served, version=6, replaced_version=None, needs_approval=True
    )
    push("first", config(canary=None), version=7)

    with pytest.raises(UsageError, match=problem):
        kubetfx.approve(made, version, reason=reason)

    assert waiting_versions(served) == [6]


def test_promotion_needs_labels(push, config, served):
    push("first", config(canary=None), version=7)

    with pytest.raises(UsageError, match=r"no labels without serving\.canary\. Received: version 7\. Add the section"):
        kubetfx.promote(config(canary=None), 7)


@pytest.mark.parametrize(
    ("serving", "problem"),
    [
        ({"endpoint": None}, r"for its labels\. Received: no serving\.endpoint\. Add it"),
        ({"endpoint": {"rest": "http://localhost:8501"}}, r"with neither grpc nor models_config\. Add one of them"),
        ({"canary": {"label": "stable"}}, r"label 'stable' is reserved for the promoted version\. Received: stable"),
        ({"canary": {"share_rows": 2}}, "share_rows"),
        ({"approval": "perhaps"}, "approval"),
    ],
)
def test_sections_that_do_not_fit_are_told(tmp_path, serving, problem):
    section = {"endpoint": {"grpc": "localhost:8500"}, "canary": {}, **serving}

    with pytest.raises(ConfigError, match=problem):
        PipelineConfig(name="a", data={"path": str(tmp_path), "label": "b"}, serving=section)


def test_lineage_says_what_is_known_and_what_is_gone(push, config, served, artifacts):
    push("first", config(), version=7)
    found = kubetfx.lineage(config(), 7)
    assert not found.is_whole
    assert any("another component than kubetfx's read the data" in text for text in found.gone)
    assert found.provenance.code.digest
    assert found.provenance.libraries["tensorflow"]
    assert found.labels == ["canary", "stable"]

    provenance = served / "7" / PROVENANCE
    document = json.loads(provenance.read_text())
    provenance.write_text(json.dumps({**document, "run_id": "20260101-000000-abc", "workspace": "/elsewhere/w"}))
    found = kubetfx.lineage(config(), 7)
    assert any("in another workspace, /elsewhere/w" in text for text in found.gone)
    provenance.unlink()
    assert "An earlier version of kubetfx pushed it" in kubetfx.lineage(config(), 7).gone[0]
    (served / "6").mkdir()
    (served / "6" / "saved_model.pb").touch()
    assert "Something other than kubetfx pushed" in str(kubetfx.lineage(config(), 6))
    with pytest.raises(UsageError, match=r"no such version\. Received: 5, .*There are: 6, 7"):
        kubetfx.lineage(config(), 5)


@pytest.mark.long
def test_client_of_a_label_gets_an_answer_all_the_time(push, config, served, server):
    """While canary and stable move to and fro."""
    push("first", config(), version=7)
    failed: list[object] = []
    over = threading.Event()

    def keep_asking() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}"):
            while not over.is_set():
                for label in ("stable", "canary"):
                    if not isinstance(answer := ask(server, label), list):
                        failed.append(answer)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        push("second", config(), version=8)
        kubetfx.promote(config(), 8)
        kubetfx.promote(config(), 7)
    finally:
        over.set()
        thread.join()

    assert failed == []
