"""Starts the processes of a distributed training, here on this machine, and keeps them going.

Each of them is models/training_process.py. TensorFlow cannot form a team in a process that has used it before, and what
dies must not take the run with it. A team whose member dies is started again as a whole, and goes on from the last
checkpoint, as `keras.callbacks.BackupAndRestore` does: those that are left could not end their step without it.
Whoever else starts them (models/ray_launch.py, kubeflow/training_job_run.py) keeps them going by the same functions.
"""

import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from absl import logging

from kubetfx.child_process import ERROR, how_it_ended, last_lines, raise_error, started
from kubetfx.config.training_section import DistributionConfig
from kubetfx.errors import TrainingError
from kubetfx.user_code import load_object

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs  # it imports TensorFlow, which whoever waits does without

JOB = "KUBETFX_TRAINING_JOB"
"""Environment variable: the file of the job."""
ENDED = "ended.json"
"""Beside the job: the chief has exported, and the training is over."""
CLUSTER, ROLE, INDEX = "KUBETFX_TRAINING_CLUSTER", "KUBETFX_TRAINING_ROLE", "JOB_COMPLETION_INDEX"
"""Environment variables of a process to which nobody has given TF_CONFIG: the addresses by role as JSON, its own role,
and its number, which Kubernetes gives to pods of an indexed Job. Without it the name of the host ends with it."""
LOGS = "workers"
"""Folder of the processes' logs, in that of the run."""
LOST = 255
"""Exit code of a process that is gone with its machine."""

_MODULE = "kubetfx.models.training_process"
_ON_RAY = "kubetfx.models.ray_launch:launch"
_IN_CLUSTER = "kubetfx.kubeflow.training_job_run:launch"
"""Imported where they are needed: ray is there where it is asked for, and what is written for Kubeflow is above what is
here."""
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
    base_model: str | None = None
    """The model that is served, for `training.warm_start`."""

    @classmethod
    def of(cls, fn_args: "FnArgs") -> "TrainingJob":
        """Return what can be written down of the arguments.

        Args:
            fn_args: The `fn_args` of TFX's Trainer.
        """
        return cls(**{name: getattr(fn_args, name) for name in cls.__dataclass_fields__})

    @classmethod
    def read(cls, path: Path) -> "TrainingJob":
        """Read it from a file.

        Args:
            path: The path of the file.

        Returns:
            The job.
        """
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        """Write it to a file.

        Args:
            path: The path of the file.
        """
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def fn_args(self) -> "FnArgs":
        """Return the arguments again."""
        from tfx.components.trainer.fn_args_utils import FnArgs

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


class Process(Protocol):
    """One that was started somewhere."""

    def poll(self) -> int | None:
        """Return the exit code; None as long as it runs."""


@dataclass(frozen=True)
class Death:
    """The end of a process that the others cannot do without."""

    words: str
    """Which process it was, and how it ended."""
    log: Path | None = None
    """Its log; None: there is none."""

    def __str__(self) -> str:
        if self.log is None or not self.log.is_file():
            return f"{self.words}."
        return f"{self.words}. Its log, {self.log}, ends with:\n{last_lines(self.log)}"


def launch(fn_args: "FnArgs", distribution: DistributionConfig) -> None:
    """Train in processes of this machine, on a Ray cluster, or in pods; their chief exports.

    Args:
        fn_args: The `fn_args` of TFX's Trainer.
        distribution: the section of the config.

    Raises:
        ConfigError: of a process, as it was raised there; DataError and TrainingError too.
        TrainingError: processes died more often than `restarts`.
    """
    if distribution.launcher != "processes":
        other = _ON_RAY if distribution.launcher == "ray" else _IN_CLUSTER
        load_object(other, key="training.distribution.launcher")(fn_args, distribution)
        return
    with job_here(fn_args) as job:
        keep_going(lambda _: _run_team(job, distribution, logs_of(fn_args)), restarts=distribution.restarts)


@contextlib.contextmanager
def job_here(fn_args: "FnArgs") -> Iterator[Path]:
    """Write a job into the folder of the run, from where its processes read inputs and write outputs as they are.

    Args:
        fn_args: The `fn_args` of TFX's Trainer.

    Yields:
        The file of the job, whose folder is removed with the context.
    """
    logs_of(fn_args).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".job-", dir=fn_args.model_run_dir) as folder:
        job = Path(folder) / "job.json"
        TrainingJob.of(fn_args).write(job)
        yield job


def logs_of(fn_args: "FnArgs") -> Path:
    """Return the folder of the processes' logs.

    Args:
        fn_args: The `fn_args` of TFX's Trainer.
    """
    return Path(fn_args.model_run_dir) / LOGS


def keep_going(team: Callable[[int], Death | None], *, restarts: int, tries: int | None = None) -> None:
    """Start a team again as long as one of it dies.

    Args:
        team: starts all of it and follows it to its end, given the number of the try, from 0. It returns who died.
        restarts: how often it is started again.
        tries: how often `team` is called, where what it calls starts teams again by itself. Default: restarts + 1.

    Raises:
        TrainingError: a process died in every try.
    """
    tries = restarts + 1 if tries is None else tries
    for number in range(tries):
        death = team(number)
        if death is None:
            return
        logging.warning("%s", death)
        if number + 1 < tries:
            logging.warning("All workers are started again, from the last checkpoint.")
    raise TrainingError(
        "A process of the training died more often than training.distribution.restarts allows, which is "
        f"{restarts}. Received: {death}"
    )


def follow(
    distribution: DistributionConfig, start: Callable[[Task], Process], *, job: Path, logs: Path, seconds: float
) -> Death | None:
    """Start a team, and wait until it has trained.

    A worker beside parameter servers is started again by itself: the chief waits for it, and the others go on.

    Args:
        distribution: the section of the config.
        start: starts a process.
        job: file of the job, beside which processes leave errors.
        logs: folder of their logs.
        seconds: between two looks at the processes.

    Returns:
        None when all have ended well; otherwise who died first.

    Raises:
        ConfigError: of a process, as it was raised there; DataError and TrainingError too.
    """
    tasks = tasks_of(distribution)
    running = {task: start(task) for task in tasks}
    trained = [task for task in tasks if task.role == "chief"] or tasks  # the others serve until they are ended
    restarts = distribution.restarts
    while any(task in running for task in trained):
        for task, process in list(running.items()):
            code = process.poll()
            may_return = distribution.strategy == "parameter_server" and task.role == "worker" and code != LOST
            if code and may_return and restarts and not (job.parent / ERROR).exists():
                restarts -= 1
                logging.warning("%s ended with %s. It is started again.", task, how_it_ended(code))
                running[task] = start(task)
            elif code:
                raise_error(job.parent)
                how = "was lost with its machine" if code == LOST else f"ended with {how_it_ended(code)}"
                return Death(f"{task} {how}", logs / f"{task}.log")
            elif code == 0:
                del running[task]
        time.sleep(seconds)
    return None


def _run_team(job: Path, distribution: DistributionConfig, logs: Path) -> Death | None:
    tasks = tasks_of(distribution)
    with contextlib.ExitStack() as stack:
        cluster = cluster_of(tasks, [f"{_HOST}:{port}" for port in _free_ports(len(tasks))])

        def start(task: Task) -> Process:
            return stack.enter_context(started_as(task, job, cluster, logs))

        return follow(distribution, start, job=job, logs=logs, seconds=_POLL_SECONDS)


def started_as(
    task: Task, job: Path, cluster: Mapping[str, Sequence[str]], logs: Path
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Start a process of the team on this machine.

    Args:
        task: which it is.
        job: file of the job.
        cluster: addresses by role.
        logs: folder of its log.

    Returns:
        The process, which is ended with the context.
    """
    config = json.dumps({"cluster": cluster, "task": {"type": task.role, "index": task.index}})
    return started(_MODULE, environment={JOB: str(job), "TF_CONFIG": config}, log_path=logs / f"{task}.log")


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind((_HOST, 0))
        return [one.getsockname()[1] for one in sockets]
