"""Trains in pods of their own: hands the data over, creates the job, follows it, and brings back what it made.

Task and workers meet in a folder of a shared volume, `training.distribution.directory`. The process of a worker is
models/training_process.py's. Here is what the Trainer's task does meanwhile; the job is gone when it ends, on SIGTERM,
too, and with the task's pod in any case.
"""

import contextlib
import os
import shutil
import site
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from absl import logging
from tfx.components.trainer.fn_args_utils import FnArgs

import kubetfx
from kubetfx.child_process import raise_error
from kubetfx.config.training_section import DistributionConfig
from kubetfx.errors import KubeflowError, TrainingError
from kubetfx.kubeflow.kubernetes_api import Document, KubernetesApi
from kubetfx.kubeflow.termination import on_termination
from kubetfx.kubeflow.training_jobs import DOCUMENTS, NAME_LABEL, ROLE_LABEL, TeamJob, worker_template
from kubetfx.models.training_launch import ENDED, JOB, LOGS, TrainingJob, tasks_of

MAIN_CONTAINER = "main"
"""In which Argo runs a task."""
POLL_SECONDS = 2.0
_SLOW_FILE_SECONDS = 90
"""A shared folder shows a file of another machine so late, at most: NFS remembers for a minute what is not there."""
_LAST_LINES, _LOG_LINES = 20, 10_000
_OF_PROCESS = ("HOME", "USER", "MPLCONFIGDIR", "PYTHONPATH")
"""Variables that kubeflow/entrypoint.py, or the image, has settled for this process, and that a worker needs, too."""
_OVER = {"tfjob": ("Succeeded", "Failed"), "jobset": ("Completed", "Failed")}
"""Conditions in which a job ends well, and badly."""


def launch(fn_args: FnArgs, distribution: DistributionConfig) -> None:
    """Train in pods, whose chief exports.

    Args:
        fn_args: of TFX's Trainer.
        distribution: the section of the config, with a launcher for Kubeflow.

    Raises:
        ConfigError: of a process, as it was raised there; DataError and TrainingError too.
        TrainingError: processes died more often than `restarts`, or pods did not come in time.
        KubeflowError: Kubernetes refuses, or cannot be reached.
    """
    api = KubernetesApi()
    pod = api.get("Pod", os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME", ""))
    api.account = pod["spec"].get("serviceAccountName", "default")
    name = f"kubetfx-{pod['metadata']['uid'].replace('-', '')[:10]}"
    with _shared(fn_args, distribution, name) as shared:
        template = worker_template(pod, container=MAIN_CONTAINER, environment=_environment(shared))
        owner = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        job = TeamJob(name, api.namespace, tasks_of(distribution), template, distribution.restarts, owner)
        _train(api, job, distribution, shared)
        shared.bring_back(fn_args)


@dataclass(frozen=True)
class Shared:
    """The folder of one training on the shared volume."""

    folder: Path
    logs: Path
    """Where the workers' logs go."""

    @property
    def job(self) -> Path:
        """File of the job, beside which workers say how it ended."""
        return self.folder / "job.json"

    @property
    def modules(self) -> Path:
        """Folder of the user's own modules, which the image lacks."""
        return self.folder / "modules"

    @property
    def model(self) -> Path:
        """Folder of the model's artifact."""
        return self.folder / "Trainer" / "model" / "1"

    @property
    def model_run(self) -> Path:
        """Folder of the run's artifact. Checkpoints are beside it."""
        return self.folder / "Trainer" / "model_run" / "1"

    @property
    def has_ended(self) -> bool:
        """Whether the chief has exported. To list a folder is to ask its server; to ask for a file is not."""
        return ENDED in os.listdir(self.folder)

    def bring_back(self, fn_args: FnArgs) -> None:
        """Copy what the chief has made to where the Trainer has to put it.

        Args:
            fn_args: of TFX's Trainer.
        """
        shutil.copytree(self.model, Path(fn_args.serving_model_dir).parent, dirs_exist_ok=True)
        shutil.copytree(self.model_run, Path(fn_args.model_run_dir), dirs_exist_ok=True)


@contextlib.contextmanager
def _shared(fn_args: FnArgs, distribution: DistributionConfig, name: str) -> Iterator[Shared]:
    """Copy the task's inputs to where workers see them, and remove all of it at the end."""
    assert distribution.directory is not None
    shared = Shared(Path(distribution.directory) / name, Path(fn_args.model_run_dir) / LOGS)
    try:
        shared.model_run.mkdir(parents=True)
    except OSError as error:
        raise TrainingError(
            f"The folder that the Trainer and its workers share cannot be written. Received: {error}. Mount a "
            "ReadWriteMany claim above training.distribution.directory (kubeflow.resources.Trainer.volumes), which the "
            "pod's user or group may write."
        ) from error
    shared.logs.mkdir(parents=True, exist_ok=True)

    def remove() -> None:
        shutil.rmtree(shared.folder, ignore_errors=True)

    with on_termination(remove):
        try:
            _hand_over(TrainingJob.of(fn_args), shared)
            yield shared
        finally:
            remove()


def _hand_over(job: TrainingJob, shared: Shared) -> None:
    inputs = shared.folder / "inputs"
    schema = inputs / Path(job.schema_path).name
    graph = inputs / "transform_graph"
    shutil.copytree(job.transform_graph_path, graph)
    shutil.copyfile(job.schema_path, schema)
    shared.modules.mkdir()
    for module in _own_modules():
        shutil.copy(module, shared.modules)
    replace(
        job,
        train_files=_copied(job.train_files, inputs / "train"),
        eval_files=_copied(job.eval_files, inputs / "eval"),
        schema_path=str(schema),
        transform_graph_path=str(graph),
        serving_model_dir=str(shared.model / Path(job.serving_model_dir).name),
        model_run_dir=str(shared.model_run),
    ).write(shared.job)


def _copied(patterns: list[str], folder: Path) -> list[str]:
    """Patterns of the files' copies, each in a folder of its own."""
    copies = []
    for number, pattern in enumerate(patterns):
        copy_of = folder / str(number)
        shutil.copytree(Path(pattern).parent, copy_of)
        copies.append(str(copy_of / Path(pattern).name))
    return copies


def _own_modules() -> Iterator[Path]:
    """Modules in folders of the path that are neither Python's, nor of installed packages, nor ours: the user's."""
    installed = [Path(path) for path in (sys.prefix, sys.base_prefix, *site.getsitepackages())]
    ours = Path(kubetfx.__file__).parents[1]
    for folder in map(Path, filter(None, sys.path)):
        if folder != ours and folder.is_dir() and not any(folder.is_relative_to(place) for place in installed):
            yield from sorted(folder.glob("*.py"))


def _environment(shared: Shared) -> dict[str, str]:
    settled = {name: os.environ[name] for name in _OF_PROCESS if os.environ.get(name)}
    path = [str(shared.modules), *filter(None, [settled.get("PYTHONPATH")])]
    return {**settled, "PYTHONPATH": os.pathsep.join(path), JOB: str(shared.job)}


def _train(api: KubernetesApi, job: TeamJob, distribution: DistributionConfig, shared: Shared) -> None:
    """Follow a job to its end. A JobSet starts its pods anew by itself; of the others, a new one is made."""
    tries = 1 if distribution.launcher == "jobset" else distribution.restarts + 1
    for number in range(tries):
        team = Team(api, replace(job, name=f"{job.name}-{number}"), distribution, shared)
        with _created(api, DOCUMENTS[distribution.launcher](team.job)):
            reason = team.follow()
            team.keep_logs()
        if reason is None:
            return
        logging.warning("%s", reason)
        if number + 1 < tries:
            logging.warning("All workers are started again, from the last checkpoint.")
    raise TrainingError(
        "A process of the training died more often than training.distribution.restarts allows. Received: "
        f"{reason} after {distribution.restarts} restarts."
    )


@contextlib.contextmanager
def _created(api: KubernetesApi, documents: list[Document]) -> Iterator[None]:
    def delete() -> None:
        for document in documents:
            api.delete(document)

    with on_termination(delete):
        try:
            for document in documents:
                api.create(document)
            yield
        finally:
            try:
                delete()
            except KubeflowError as error:  # it goes with the pod of the task
                logging.warning("%s", error)


@dataclass
class Team:
    """The pods of a training that runs, as they were seen last."""

    api: KubernetesApi
    job: TeamJob
    distribution: DistributionConfig
    shared: Shared
    pods: list[Document] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    """By pod, of those that have died."""
    uids: dict[str, str] = field(default_factory=dict)
    has_come: bool = False
    """Whether all pods have been there at once."""
    last_death: str | None = None

    def follow(self) -> str | None:
        """Wait until the training has ended.

        Returns:
            None: the chief has exported. Otherwise which process died, and how.

        Raises:
            ConfigError: of a process, as it was raised there; DataError and TrainingError too.
            TrainingError: pods did not come in time.
            KubeflowError: Kubernetes refuses, or cannot be reached.
        """
        until = time.monotonic() + self.distribution.timeout
        while True:
            self.pods = self.api.all("Pod", labelSelector=f"{NAME_LABEL}={self.job.name}")
            reason = self._died()
            state = self._state()
            raise_error(self.shared.job.parent)
            if state == "succeeded":
                self._wait_for_file()
            if self.shared.has_ended:
                return None
            self.last_death = reason or self.last_death  # the pod that died may be gone when the job has failed
            if state == "failed":
                return self.last_death or f"{self.job.name} has failed"
            if reason and self.distribution.launcher != "jobset":
                return reason
            self._check_arrival(until)
            time.sleep(POLL_SECONDS)

    def keep_logs(self) -> None:
        """Write the logs of all pods into the folder of the run."""
        for pod in self.pods:
            name = pod["metadata"]["name"]
            text = self.logs.get(name) or self.api.log(name, lines=_LOG_LINES)
            (self.shared.logs / f"{_task(pod)}.log").write_text(text, encoding="utf-8")

    def _state(self) -> str:
        """What the operator says."""
        if self.distribution.launcher == "statefulset":
            return "running"
        (document,) = DOCUMENTS[self.distribution.launcher](self.job)
        found = self.api.get(document["kind"], self.job.name, version=document["apiVersion"])
        conditions = found.get("status", {}).get("conditions", ())
        true = {condition["type"] for condition in conditions if condition["status"] == "True"}
        well, badly = _OVER[self.distribution.launcher]
        return "succeeded" if well in true else "failed" if badly in true else "running"

    def _died(self) -> str | None:
        """Which process that the others cannot do without has died, and how. Its log is kept: its pod may go."""
        reasons = []
        returned = 0
        for pod in self.pods:
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            is_another = self.uids.setdefault(name, uid) != uid
            ends = list(_ends(pod))
            if not ends and not is_another:
                continue
            self.uids[name] = uid
            if ends and name not in self.logs:
                self.logs[name] = self.api.log(name, lines=_LOG_LINES)
            last = "\n".join(self.logs.get(name, "").splitlines()[-_LAST_LINES:])
            how = ends[0] if ends else "was replaced by another pod"
            if self.job.is_asynchronous and _role(pod) == "worker":
                returned += max(_restarts(pod), 1)
                how += f", the {returned}th time" if returned > 1 else ""
                if returned <= self.job.restarts:
                    continue
            reasons.append(
                f"{_task(pod)} {how}. Its log, {self.shared.logs / f'{_task(pod)}.log'}, ends with:\n{last}\n"
            )
        return reasons[0] if reasons else None

    def _check_arrival(self, until: float) -> None:
        here = sum(pod["status"].get("phase") in ("Running", "Succeeded") for pod in self.pods)
        self.has_come = self.has_come or here == len(self.job.tasks)
        if not self.has_come and time.monotonic() > until:
            raise TrainingError(
                f"Not all pods of the training have come. Received: {here} of {len(self.job.tasks)} run after "
                f"{self.distribution.timeout:g} s, of training.distribution.timeout. {self._obstacles()} Make room in "
                "the cluster, ask for fewer workers or less per worker (kubeflow.resources.Trainer), or wait longer."
            )

    def _obstacles(self) -> str:
        """What Kubernetes says of pods that wait, or of why there are none."""
        found = [f"{pod['metadata']['name']}: {words}." for pod in self.pods for words in _waits_for(pod)]
        if not found:
            about = [
                event["message"]
                for event in self.api.all("Event")
                if event["involvedObject"].get("name", "").startswith(self.job.name) and event["type"] == "Warning"
            ]
            found = [f"{message.rstrip('.')}." for message in dict.fromkeys(about)]
        if not found and not self.pods:
            return f"Nothing has made its pods: is the controller of {self.distribution.launcher} up?"
        return " ".join(found) or "Kubernetes says nothing of why."

    def _wait_for_file(self) -> None:
        until = time.monotonic() + _SLOW_FILE_SECONDS
        while not self.shared.has_ended:
            raise_error(self.shared.job.parent)
            if time.monotonic() > until:
                raise TrainingError(
                    f"The workers have ended, and nothing of them is in {self.shared.folder}. Received: no {ENDED} "
                    f"there after {_SLOW_FILE_SECONDS} s. training.distribution.directory has to be the same volume in "
                    "all pods: a ReadWriteMany claim."
                )
            time.sleep(POLL_SECONDS)


def _ends(pod: Document) -> Iterator[str]:
    """How a process of the pod has died, in words."""
    for status in pod["status"].get("containerStatuses", ()):
        for state in (status.get("state", {}), status.get("lastState", {})):
            ended: dict[str, Any] = state.get("terminated") or {}
            if ended.get("exitCode"):
                reason = ended.get("reason") or "Error"
                words = "" if reason == "Error" else f" ({reason})"
                yield f"ended with exit code {ended['exitCode']}{words}"
    if pod["status"].get("phase") == "Failed":  # such as one that was evicted
        yield f"failed: {pod['status'].get('reason', '')} {pod['status'].get('message', '')}".strip()


def _waits_for(pod: Document) -> Iterator[str]:
    """Why a pod does not run, in words."""
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False" and condition.get("message"):
            yield condition["message"].rstrip(".")
    for status in pod["status"].get("containerStatuses", ()):
        if waiting := status.get("state", {}).get("waiting"):
            yield f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": .")


def _restarts(pod: Document) -> int:
    return sum(status.get("restartCount", 0) for status in pod["status"].get("containerStatuses", ()))


def _role(pod: Document) -> str:
    role: str = pod["metadata"]["labels"][ROLE_LABEL]
    return role


def _task(pod: Document) -> str:
    """As a process of this machine would be called: role and number."""
    metadata = pod["metadata"]
    index = metadata.get("annotations", {}).get("batch.kubernetes.io/job-completion-index")
    return f"{_role(pod)}-{index or metadata['name'].rpartition('-')[2]}"
