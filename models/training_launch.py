"""Starts the processes of a distributed training on this machine, and keeps them going.

Each of them is models/training_process.py. TensorFlow cannot form a team in a process that has used it before, and what
dies must not take the run with it. A team whose member dies is started again as a whole, and goes on from the last
checkpoint, as `keras.callbacks.BackupAndRestore` does: those that are left could not end their step without it.
"""

import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from absl import logging
from tfx.components.trainer.fn_args_utils import FnArgs

from kubetfx.child_process import ERROR, how_it_ended, last_lines, raise_error, started
from kubetfx.config.training_section import DistributionConfig
from kubetfx.errors import TrainingError
from kubetfx.user_code import load_object

JOB = "KUBETFX_TRAINING_JOB"
"""Environment variable: the file of the job."""
ENDED = "ended.json"
"""Beside the job: the chief has exported, and the training is over."""
CLUSTER, ROLE, INDEX = "KUBETFX_TRAINING_CLUSTER", "KUBETFX_TRAINING_ROLE", "JOB_COMPLETION_INDEX"
"""Environment variables of a process to which nobody has given TF_CONFIG: the addresses by role as JSON, its own role,
and its number, which Kubernetes gives to pods of an indexed Job. Without it the name of the host ends with it."""
LOGS = "workers"
"""Folder of the processes' logs, in that of the run."""

_MODULE = "kubetfx.models.training_process"
_IN_CLUSTER = "kubetfx.kubeflow.training_job_run:launch"
"""Imported where it is needed: what is written for Kubeflow is above what is here."""
_HOST = "127.0.0.1"
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class TrainingJob:
    """What all processes of a training are handed: the part of TFX's FnArgs that a training reads."""

    train_files: list[str]
    eval_files: list[str]
    schema_path: str
    transform_graph_path: str
    serving_model_dir: str
    model_run_dir: str
    custom_config: dict[str, Any]

    @classmethod
    def of(cls, fn_args: FnArgs) -> "TrainingJob":
        """Return what can be written down of the arguments.

        Args:
            fn_args: of TFX's Trainer.
        """
        return cls(**{name: getattr(fn_args, name) for name in cls.__dataclass_fields__})

    @classmethod
    def read(cls, path: Path) -> "TrainingJob":
        """Read it from a file.

        Args:
            path: of the file.

        Returns:
            The job.
        """
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        """Write it to a file.

        Args:
            path: of the file.
        """
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def fn_args(self) -> FnArgs:
        """Return the arguments again."""
        return FnArgs(**asdict(self))


@dataclass(frozen=True)
class Task:
    """One of the processes."""

    role: str
    """In the words of TF_CONFIG: chief, worker or ps."""
    index: int

    def __str__(self) -> str:
        return f"{self.role}-{self.index}"


def tasks_of(distribution: DistributionConfig) -> list[Task]:
    """Return the processes of a training.

    Args:
        distribution: the section of the config.
    """
    if distribution.strategy == "mirrored":
        return [Task("chief", 0)]
    workers = [Task("worker", index) for index in range(distribution.workers)]
    if distribution.strategy == "multi_worker":
        return workers
    servers = [Task("ps", index) for index in range(distribution.parameter_servers)]
    return [Task("chief", 0), *workers, *servers]


def cluster_of(tasks: Sequence[Task], addresses: Sequence[str]) -> dict[str, list[str]]:
    """Return the `cluster` of TF_CONFIG.

    Args:
        tasks: the processes.
        addresses: host and port of each.
    """
    found: dict[str, list[str]] = {}
    for task, address in zip(tasks, addresses, strict=True):
        found.setdefault(task.role, []).append(address)
    return found


def launch(fn_args: FnArgs, distribution: DistributionConfig) -> None:
    """Train in processes of this machine, or in pods, whose chief exports.

    Args:
        fn_args: of TFX's Trainer.
        distribution: the section of the config.

    Raises:
        ConfigError: of a process, as it was raised there; DataError and TrainingError too.
        TrainingError: processes died more often than `restarts`.
    """
    if distribution.is_in_cluster:
        load_object(_IN_CLUSTER, key="training.distribution.launcher")(fn_args, distribution)
        return
    run_path = Path(fn_args.model_run_dir)
    logs = run_path / LOGS
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".job-", dir=run_path) as folder:
        job = Path(folder) / "job.json"
        TrainingJob.of(fn_args).write(job)
        for attempt in range(distribution.restarts + 1):
            died = _run_team(job, distribution, logs)
            if died is None:
                return
            task, code = died
            logging.warning("%s ended with %d.", task, code)
            raise_error(job.parent)
            if attempt < distribution.restarts:
                logging.warning("All workers are started again, from the last checkpoint.")
        raise TrainingError(_died(task, code, logs=logs, restarts=distribution.restarts))


def _run_team(job: Path, distribution: DistributionConfig, logs: Path) -> tuple[Task, int] | None:
    """None when all have ended well; otherwise the first that has not, and its exit code."""
    tasks = tasks_of(distribution)
    with contextlib.ExitStack() as stack:
        cluster = cluster_of(tasks, [f"{_HOST}:{port}" for port in _free_ports(len(tasks))])
        running = {task: stack.enter_context(_started(job, task, cluster, logs)) for task in tasks}
        trained = [task for task in tasks if task.role == "chief"] or tasks  # the others serve until they are ended
        restarts = distribution.restarts
        while running:
            for task, process in list(running.items()):
                code = process.poll()
                may_return = distribution.strategy == "parameter_server" and task.role == "worker"
                if code and may_return and restarts and not (job.parent / ERROR).exists():
                    restarts -= 1  # the chief waits for it, and the others go on
                    logging.warning("%s ended with %d. It is started again.", task, code)
                    running[task] = stack.enter_context(_started(job, task, cluster, logs))
                elif code:
                    return task, code
                elif code == 0:
                    del running[task]
            if not any(task in running for task in trained):
                return None
            time.sleep(_POLL_SECONDS)
    return None


def _started(
    job: Path, task: Task, cluster: Mapping[str, Sequence[str]], logs: Path
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    config = json.dumps({"cluster": cluster, "task": {"type": task.role, "index": task.index}})
    return started(_MODULE, environment={JOB: str(job), "TF_CONFIG": config}, log_path=logs / f"{task}.log")


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind((_HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def _died(task: Task, code: int, *, logs: Path, restarts: int) -> str:
    path = logs / f"{task}.log"
    return (
        f"A process of the training died more often than training.distribution.restarts allows. Received: {task} ended "
        f"with {how_it_ended(code)}, after {restarts} restarts. Its log, {path}, ends with:\n{last_lines(path)}"
    )
