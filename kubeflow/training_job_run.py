"""Trains in pods of their own: hands the data over, creates the job, follows it, and brings back what it made.

Task and workers meet in a folder of a shared volume, `training.distribution.directory`. The process of a worker is
models/training_process.py's. Here is what the Trainer's task does meanwhile; the job is gone when it ends, on SIGTERM,
too, and with the task's pod in any case.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from absl import logging
from tfx.components.trainer.fn_args_utils import FnArgs

from kubetfx.child_process import raise_error
from kubetfx.config.training_section import DistributionConfig
from kubetfx.errors import KubeflowError, TrainingError
from kubetfx.kubeflow.kubernetes_api import Document, KubernetesApi
from kubetfx.kubeflow.termination import on_termination
from kubetfx.kubeflow.training_jobs import DOCUMENTS, NAME_LABEL, ROLE_LABEL, TeamJob, worker_template
from kubetfx.models.training_launch import ENDED, JOB, Death, keep_going, tasks_of
from kubetfx.models.training_share import Shared, shared_folder

MAIN_CONTAINER = "main"
"""In which Argo runs a task."""
POLL_SECONDS = 2.0
_SLOW_FILE_SECONDS = 90
"""A shared folder shows a file of another machine so late, at most: NFS remembers for a minute what is not there."""
_LOG_LINES = 10_000
_OF_PROCESS = ("HOME", "USER", "MPLCONFIGDIR", "PYTHONPATH")
"""Variables that kubeflow/entrypoint.py, or the image, has settled for this process, and that a worker needs, too."""
_REMEDY = (
    "Mount a ReadWriteMany claim above training.distribution.directory (kubeflow.resources.Trainer.volumes), which the "
    "pod's user or group may write."
)
_OVER = {
    "tfjob": ("Succeeded", "Failed"),
    "jobset": ("Completed", "Failed"),
    "rayjob": ("SUCCEEDED", "FAILED"),
}
"""Conditions in which a job ends well, and badly; of a RayJob, which has none, the status."""
_START_AGAIN = ("jobset", "rayjob")
"""Launchers whose jobs start a team again by themselves."""


def launch(fn_args: FnArgs, distribution: DistributionConfig) -> None:
    """Train in pods, whose chief exports.

    Args:
        fn_args: The `fn_args` of TFX's Trainer.
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
    assert distribution.directory is not None
    with shared_folder(fn_args, distribution.directory, name, remedy=_REMEDY) as shared, on_termination(shared.remove):
        template = worker_template(pod, container=MAIN_CONTAINER, environment=_environment(shared))
        owner = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        tasks, version = tasks_of(distribution), distribution.ray.version
        job = TeamJob(name, api.namespace, tasks, template, distribution.restarts, version, owner)
        _train(api, job, distribution, shared)
        shared.bring_back(fn_args)


def _environment(shared: Shared) -> dict[str, str]:
    settled = {name: os.environ[name] for name in _OF_PROCESS if os.environ.get(name)}
    path = [str(shared.modules), *filter(None, [settled.get("PYTHONPATH")])]
    return {**settled, "PYTHONPATH": os.pathsep.join(path), JOB: str(shared.job)}


def _train(api: KubernetesApi, job: TeamJob, distribution: DistributionConfig, shared: Shared) -> None:
    """Follow a job to its end. A JobSet and a RayJob start a team again by themselves; of others, a new one is made."""

    def run(number: int) -> Death | None:
        team = Team(api, replace(job, name=f"{job.name}-{number}"), distribution, shared)
        with _created(api, DOCUMENTS[distribution.launcher](team.job)):
            death = team.follow()
            team.keep_logs()
        return death

    tries = 1 if distribution.launcher in _START_AGAIN else None
    keep_going(run, restarts=distribution.restarts, tries=tries)


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
    last_death: Death | None = None

    def follow(self) -> Death | None:
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
            death = self._died()
            state = self._state()
            raise_error(self.shared.job.parent)
            if state == "succeeded":
                self._wait_for_file()
            if self.shared.has_ended:
                return None
            self.last_death = death or self.last_death  # the pod that died may be gone when the job has failed
            if state == "failed":
                return self.last_death or Death(f"{self.job.name} has failed")
            if death and self.distribution.launcher not in _START_AGAIN:
                return death
            self._check_arrival(until)
            time.sleep(POLL_SECONDS)

    def keep_logs(self) -> None:
        """Write the logs of all pods into the folder of the run."""
        for pod in self.pods:
            name = pod["metadata"]["name"]
            text = self.logs.get(name) or self.api.log(name, lines=_LOG_LINES)
            (self.shared.logs / f"{_task(pod)}.log").write_text(text, encoding="utf-8")
        if self.shared.process_logs.is_dir():
            shutil.copytree(self.shared.process_logs, self.shared.logs, dirs_exist_ok=True)

    def _state(self) -> str:
        """Return what the operator says."""
        if self.distribution.launcher == "statefulset":
            return "running"
        (document,) = DOCUMENTS[self.distribution.launcher](self.job)
        found = self.api.get(document["kind"], self.job.name, version=document["apiVersion"])
        status = found.get("status", {})
        true = {condition["type"] for condition in status.get("conditions", ()) if condition["status"] == "True"}
        true |= {status.get("jobStatus"), str(status.get("jobDeploymentStatus", "")).upper()}
        well, badly = _OVER[self.distribution.launcher]
        return "succeeded" if well in true else "failed" if badly in true else "running"

    def _died(self) -> Death | None:
        """Return which process that the others cannot do without has died, and how. Its log is kept: its pod may go."""
        deaths = []
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
            how = ends[0] if ends else "was replaced by another pod"
            if self.job.is_asynchronous and _role(pod) == "worker":
                returned += max(_restarts(pod), 1)
                how += f", the {returned}th time" if returned > 1 else ""
                if returned <= self.job.restarts:
                    continue
            deaths.append(Death(f"{_task(pod)} {how}", self.shared.logs / f"{_task(pod)}.log"))
        return deaths[0] if deaths else None

    def _check_arrival(self, until: float) -> None:
        here = sum(pod["status"].get("phase") in ("Running", "Succeeded") for pod in self.pods)
        wanted = len(self.job.tasks) + (self.distribution.launcher == "rayjob")  # its head
        self.has_come = self.has_come or here >= wanted
        if not self.has_come and time.monotonic() > until:
            raise TrainingError(
                f"Not all pods of the training have come. Received: {here} of {wanted} run after "
                f"{self.distribution.timeout:g} s, of training.distribution.timeout. {self._obstacles()} Make room in "
                "the cluster, ask for fewer workers or less per worker (kubeflow.resources.Trainer), or wait longer."
            )

    def _obstacles(self) -> str:
        """Return what Kubernetes says of pods that wait, or of why there are none."""
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
    """Yield how a process of the pod has died, in words."""
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
    """Yield why a pod does not run, in words."""
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
    """Return role and number, as a process of this machine would be called."""
    metadata = pod["metadata"]
    index = metadata.get("annotations", {}).get("batch.kubernetes.io/job-completion-index")
    return f"{_role(pod)}-{index or metadata['name'].rpartition('-')[2]}"
