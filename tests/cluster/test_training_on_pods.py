"""A training whose workers are pods, against a real API server: what it asks for is taken, followed, and taken away.

The processes are real, on this machine (tests/cluster/pod_machine.py).
"""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tfx.components.trainer.fn_args_utils import FnArgs

from kubetfx.config.data_section import FeaturesConfig
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.training_section import DistributionConfig, TrainingConfig
from kubetfx.errors import ConfigError, KubeflowError, TrainingError
from kubetfx.kubeflow import training_job_run
from kubetfx.kubeflow.termination import terminate
from kubetfx.kubeflow.training_jobs import DOCUMENTS, TeamJob, worker_template
from kubetfx.models.training_launch import launch, tasks_of
from tests.cluster.conftest import RESTRICTED, namespace
from tests.cluster.kube_api_server import Cluster
from tests.cluster.pod_machine import Machine, running_machine
from tests.cluster.task_pods import task_pods
from tests.kubeflow.rendered_manifests import MANIFESTS, Document, render
from tests.models import conftest as of_models

pytestmark = pytest.mark.cluster

preprocess = of_models.preprocess
HOME, ACCOUNT = "training", "pipeline-runner"
COMPONENT = MANIFESTS / "pipeline" / "components" / "training"
LAUNCHERS = ("tfjob", "jobset", "statefulset")
KINDS = "tfjobs,jobsets,statefulsets,services"
KILLER = """
import os, pathlib, signal
import keras

class Killer(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        marker = pathlib.Path(__file__).with_name("killed")
        if epoch == 2 and '"index": 1' in os.environ["TF_CONFIG"] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Place:
    """A namespace in which the Trainer's task runs."""

    cluster: Cluster
    pod: Document

    def left(self) -> str:
        found = self.cluster.kubectl("get", KINDS, "--namespace", HOME, "--output", "name")
        assert found.returncode == 0, found.stderr
        return found.stdout


@pytest.fixture(scope="module")
def task(cluster: Cluster, compile_example: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Document:
    """The pod of the Trainer's task in a namespace of its own, whose account may do nothing yet."""
    shared = tmp_path_factory.mktemp("shared")
    distribution = {"strategy": "multi_worker", "launcher": "statefulset", "directory": f"{shared}/team"}
    volume = f"volumes: [{{claim: team, mount_path: {shared}}}]"
    package = compile_example(
        "penguins",
        f"training.distribution={json.dumps(distribution)}",
        f"kubeflow.resources={{Trainer: {{cpu: 1, memory: 1Gi, {volume}, env: {{TF_CPP_MIN_LOG_LEVEL: '2'}}}}}}",
        "kubeflow.pod_security=restricted",
    )
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": HOME}}
    made = cluster.apply(documents=[namespace(HOME), account])
    assert made.returncode == 0, made.stderr
    (pod,) = (pod for pod in task_pods(package, service_account=ACCOUNT) if "-trainer-" in str(pod["metadata"]))
    pod["metadata"] |= {"namespace": HOME, "name": "run-1-trainer"}
    created = cluster.kubectl("create", "--filename", "-", "--output", "json", documents=[pod])
    assert created.returncode == 0, created.stderr
    found: Document = json.loads(created.stdout)
    return found


@pytest.fixture
def without_rights(cluster: Cluster, task: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """This process asks the API as the task's account."""
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"] = [{"name": "task", "user": {"token": cluster.token(ACCOUNT, namespace=HOME)}}]
    document["contexts"] = [{"name": "here", "context": {"cluster": "here", "user": "task", "namespace": HOME}}]
    path = tmp_path / "kubeconfig.yaml"
    path.write_text(yaml.safe_dump(document))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("KFP_POD_NAME", task["metadata"]["name"])
    monkeypatch.setattr(training_job_run, "POLL_SECONDS", 0.3)
    return Place(cluster, task)


@pytest.fixture
def place(without_rights: Place) -> Place:
    """The account has the role of the manifests."""
    files = [part for name in ("role", "network-policy") for part in ("--filename", str(COMPONENT / f"{name}.yaml"))]
    applied = without_rights.cluster.apply("--namespace", HOME, *files)
    assert applied.returncode == 0, applied.stderr
    return without_rights


@pytest.fixture(scope="module")
def operators(cluster: Cluster) -> None:
    """The resource definitions of the operators, as their modules have them."""
    folder = Path(__file__).parent / "operators"
    asked = ["go", "mod", "download", "-json", "github.com/kubeflow/training-operator", "sigs.k8s.io/jobset"]
    try:
        found = subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("go is not installed, which brings the operators' resource definitions")
    if found.returncode:
        pytest.skip(f"the operators' modules cannot be had: {found.stderr or found.stdout}")
    decoder, rest, folders = json.JSONDecoder(), found.stdout.strip(), []
    while rest:
        module, end = decoder.raw_decode(rest)
        folders.append(Path(module["Dir"]))
        rest = rest[end:].lstrip()
    names = ("manifests/base/crds/kubeflow.org_tfjobs.yaml", "config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml")
    files = [part / name for part, name in zip(folders, names, strict=True)]
    applied = cluster.apply(*(word for file in files for word in ("--filename", str(file))))
    assert applied.returncode == 0, applied.stderr
    definitions = ("crd/tfjobs.kubeflow.org", "crd/jobsets.jobset.x-k8s.io")
    deadline = time.monotonic() + 60
    while cluster.kubectl("wait", "--for=condition=Established", "--timeout=10s", *definitions).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def machine(cluster: Cluster, task: Document, tmp_path: Path) -> Iterator[Machine]:
    logs = tmp_path / "pods"
    logs.mkdir()
    with running_machine(cluster, HOME, logs) as running:
        yield running


def rows(number: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    return [
        {"a": float(a), "b": float(b), "label": "yes" if a - b > 0 else "no"}
        for a, b in random.normal(size=(number, 2))
    ]


@pytest.fixture(scope="module")
def transform(preprocess: Callable[..., of_models.Preprocessed]) -> Path:
    return Path(preprocess(rows(200), label="label").output.transform_savedmodel_dir).parent


@pytest.fixture
def fn_args(transform: Path, tmp_path: Path) -> Callable[..., FnArgs]:
    """For the Trainer, as its task gets them: in folders that no other pod sees."""
    files = {
        split: [f"{Path(of_models.write_split(tmp_path / split, rows(number), group_rows=40)[0]).parent}/*"]
        for split, number in (("train", 200), ("validation", 60))
    }

    def make(name: str, **changes: Any) -> FnArgs:
        custom_config = {
            "model": ModelConfig(hidden_units=[8], dropout=0.0).model_dump(mode="json"),
            "features": FeaturesConfig().model_dump(mode="json"),
            "training": TrainingConfig(**{"epochs": 4, "batch_size": 50, **changes}).model_dump(mode="json"),
            "max_pixels": 1_000,
            "warmup_rows": 2,
        }
        run = tmp_path / name / "run"
        run.mkdir(parents=True)
        return FnArgs(
            train_files=files["train"],
            eval_files=files["validation"],
            schema_path=str(transform.parent / "schema.pbtxt"),
            transform_graph_path=str(transform),
            serving_model_dir=str(tmp_path / name / "model" / "Format-Serving"),
            model_run_dir=str(run),
            custom_config=json.loads(json.dumps(custom_config)),
        )

    return make


def distribution_of(launcher: str, folder: Path, **changes: Any) -> DistributionConfig:
    directory = None if launcher == "processes" else str(folder / "shared")
    return DistributionConfig(**{"strategy": "multi_worker", "launcher": launcher, "directory": directory, **changes})


def history_of(fn_args: FnArgs) -> Any:
    return json.loads((Path(fn_args.serving_model_dir).parent / "history.json").read_text())


# Before the operators are there


def test_an_account_without_the_role_is_told_what_it_needs(
    without_rights: Place, fn_args: Callable[..., FnArgs], tmp_path: Path
) -> None:
    distribution = distribution_of("statefulset", tmp_path)

    with pytest.raises(KubeflowError) as refused:
        launch(fn_args("it", distribution=distribution.model_dump()), distribution)

    words = str(refused.value)
    assert words.startswith("Kubernetes refused to get Pod run-1-trainer. Received: ")
    assert f'User "system:serviceaccount:{HOME}:{ACCOUNT}" cannot get resource "pods"' in words
    assert "kubeflow/manifests/pipeline/components/training" in words


def test_a_cluster_without_the_operator_is_said_to_have_none(
    place: Place, fn_args: Callable[..., FnArgs], tmp_path: Path
) -> None:
    distribution = distribution_of("tfjob", tmp_path)

    with pytest.raises(KubeflowError, match=r"(?s)has no TFJob.*Install Kubeflow's training operator v1.*statefulset"):
        launch(fn_args("it", distribution=distribution.model_dump()), distribution)
    assert list((tmp_path / "shared").iterdir()) == []


# What the API server takes


@pytest.mark.parametrize("strategy", ["multi_worker", "parameter_server"])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_documents_are_taken_whole(place: Place, operators: None, launcher: str, strategy: str) -> None:
    documents = documents_of(place.pod, launcher, strategy)

    applied = place.cluster.apply("--dry-run=server", "--filename", "-", documents=documents)

    assert applied.returncode == 0, applied.stderr
    assert applied.stderr == ""
    assert len(applied.stdout.splitlines()) == len(documents)


@pytest.mark.parametrize(
    ("launcher", "old", "new", "words"),
    [
        ("tfjob", "cleanPodPolicy", "cleanPodsPolicy", "cleanPodsPolicy"),
        ("jobset", '"operator": "All"', '"operator": "Most"', "Unsupported value"),
        ("statefulset", "podManagementPolicy", "managementPolicy", "managementPolicy"),
    ],
)
def test_documents_with_a_mistake_are_refused(
    place: Place, operators: None, launcher: str, old: str, new: str, words: str
) -> None:
    text = json.dumps(documents_of(place.pod, launcher, "multi_worker"))
    assert old in text

    applied = place.cluster.apply("--dry-run=server", "--filename", "-", documents=json.loads(text.replace(old, new)))

    assert applied.returncode == 1
    assert words in applied.stderr


def documents_of(pod: Document, launcher: str, strategy: str) -> list[Document]:
    template = worker_template(pod, container="main", environment={})
    metadata = pod["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    tasks = tasks_of(DistributionConfig(strategy=strategy))
    return DOCUMENTS[launcher](TeamJob("kubetfx-1-0", HOME, tasks, template, restarts=3, owner=owner))


def test_workers_are_admitted_where_restricted_is_enforced(place: Place) -> None:
    template = worker_template(place.pod, container="main", environment={})
    template["spec"].pop("serviceAccountName")
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] |= {"name": "worker"}

    created = place.cluster.kubectl(
        "create", "--dry-run=server", "--namespace", RESTRICTED, "--filename", "-", documents=[pod]
    )

    assert created.returncode == 0, created.stderr


def test_the_component_fits_an_overlay(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "overlay"
    folder.mkdir()
    up = Path(*[".."] * (len(folder.resolve().parts) - 1))
    pipeline = up / (MANIFESTS / "pipeline").resolve().relative_to("/")
    kustomization = {
        "namespace": "kubetfx",
        "resources": [f"{pipeline}/overlays/pvc"],
        "components": [f"{pipeline}/components/training"],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))

    applied = cluster.apply("--kustomize", str(folder))

    assert applied.returncode == 0, applied.stderr
    assert applied.stderr == ""
    assert {"kubetfx-training"} < {document["metadata"]["name"] for document in render(folder)}


# Trainings


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_workers_on_pods_learn_what_processes_learn_though_one_is_killed(
    place: Place,
    operators: None,
    machine: Machine,
    fn_args: Callable[..., FnArgs],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    launcher: str,
) -> None:
    module = tmp_path / "mine"
    module.mkdir()
    (module / "killer.py").write_text(KILLER)
    (module / "killed").touch()  # by the processes of this machine nobody is killed
    monkeypatch.syspath_prepend(str(module))
    options = {"callbacks": ["killer:Killer"], "checkpoint_seconds": 0}
    here = distribution_of("processes", tmp_path)
    expected = fn_args("here", distribution=here.model_dump(), **options)
    launch(expected, here)
    there = distribution_of(launcher, tmp_path, restarts=1)
    found = fn_args("there", distribution=there.model_dump(), **options)

    launch(found, there)

    assert history_of(found)["history"] == history_of(expected)["history"]
    assert history_of(found)["team"] == {"strategy": "multi_worker", "workers": 2, "replicas": 2}
    assert (Path(found.serving_model_dir) / "saved_model.pb").is_file()
    assert (Path(found.model_run_dir) / "history.json").is_file()
    assert {path.name for path in Path(found.model_run_dir, "workers").glob("*.log")} == {
        "worker-0.log",
        "worker-1.log",
    }
    assert len(machine.made) == 4  # the team was started again as a whole
    assert all(pod["metadata"]["labels"]["kubetfx/training"].startswith("kubetfx-") for pod in machine.made)
    assert list((tmp_path / "shared").iterdir()) == []
    assert place.left() == ""


def test_parameter_servers_are_pods_too(
    place: Place, operators: None, machine: Machine, fn_args: Callable[..., FnArgs], tmp_path: Path
) -> None:
    distribution = distribution_of("tfjob", tmp_path, strategy="parameter_server", workers=1)
    arguments = fn_args("servers", distribution=distribution.model_dump())

    launch(arguments, distribution)

    assert history_of(arguments)["team"]["strategy"] == "parameter_server"
    roles = [pod["metadata"]["labels"]["kubetfx/training-role"] for pod in machine.made]
    assert sorted(roles) == ["chief", "ps", "worker"]
    assert place.left() == ""


# Failures


def test_an_error_of_the_config_ends_the_job_at_once(
    place: Place, operators: None, machine: Machine, fn_args: Callable[..., FnArgs], tmp_path: Path
) -> None:
    distribution = distribution_of("statefulset", tmp_path)
    arguments = fn_args("wrong", distribution=distribution.model_dump(), loss="no_such_module:loss")

    with pytest.raises(ConfigError, match=r"training\.loss"):
        launch(arguments, distribution)

    assert len(machine.made) == 2
    assert place.left() == ""


@pytest.mark.parametrize("launcher", ["tfjob", "statefulset"])
def test_a_process_that_dies_each_time_ends_the_training_with_its_log(
    place: Place,
    operators: None,
    machine: Machine,
    fn_args: Callable[..., FnArgs],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    launcher: str,
) -> None:
    module = tmp_path / "mine"
    module.mkdir()
    (module / "dying.py").write_text("import os\nprint('I leave.', flush=True)\nos._exit(7)\n")
    monkeypatch.syspath_prepend(str(module))
    distribution = distribution_of(launcher, tmp_path, restarts=1)
    arguments = fn_args("dies", distribution=distribution.model_dump(), loss="dying:loss")

    with pytest.raises(TrainingError, match=r"(?s)which is 1\. Received: worker-\d ended with exit code 7.*I leave\."):
        launch(arguments, distribution)

    assert len(machine.made) == 4
    assert place.left() == ""


def test_pods_for_which_there_is_no_room_end_the_training_in_the_schedulers_words(
    place: Place, operators: None, machine: Machine, fn_args: Callable[..., FnArgs], tmp_path: Path
) -> None:
    machine.has_room = False
    distribution = distribution_of("statefulset", tmp_path, timeout=3)
    arguments = fn_args("waits", distribution=distribution.model_dump())

    with pytest.raises(TrainingError, match=r"0 of 2 run after 3 s.*0/3 nodes are available: 3 Insufficient nvidia"):
        launch(arguments, distribution)
    assert place.left() == ""


def test_a_job_that_no_controller_looks_at_ends_in_words(
    place: Place, operators: None, fn_args: Callable[..., FnArgs], tmp_path: Path
) -> None:
    distribution = distribution_of("jobset", tmp_path, timeout=2)
    arguments = fn_args("waits", distribution=distribution.model_dump())

    with pytest.raises(TrainingError, match=r"0 of 2 run after 2 s.*is the controller of jobset up\?"):
        launch(arguments, distribution)
    assert place.left() == ""


def test_sigterm_takes_the_job_and_the_folder_away(
    place: Place, operators: None, fn_args: Callable[..., FnArgs], tmp_path: Path
) -> None:
    distribution = distribution_of("statefulset", tmp_path, timeout=6)
    arguments = fn_args("ended", distribution=distribution.model_dump())

    def follow() -> None:
        with contextlib.suppress(TrainingError, OSError):  # a task that hears of SIGTERM has no time for them
            launch(arguments, distribution)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while "statefulset.apps/" not in place.left():
            assert time.monotonic() < deadline
        assert list((tmp_path / "shared").iterdir())

        terminate()

        assert place.left() == ""
        assert list((tmp_path / "shared").iterdir()) == []
    finally:
        thread.join()
