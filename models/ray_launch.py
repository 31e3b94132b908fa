"""Trains on a Ray cluster, whose nodes start the processes of the team.

Ray says where there is room for an actor per process. The actor starts models/training_process.py beside itself, which
forms the team and trains as everywhere else. That a team is started again is training_launch.py's to say.
"""

import contextlib
import os
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import logging

from kubetfx.child_process import FAILED, write_error
from kubetfx.config.training_section import DistributionConfig, RayConfig, TrainingConfig
from kubetfx.errors import ConfigError, KubetfxError, TrainingError
from kubetfx.models.training_launch import (
    JOB,
    LOGS,
    LOST,
    Death,
    Task,
    TrainingJob,
    cluster_of,
    follow,
    job_here,
    keep_going,
    logs_of,
    started_as,
    tasks_of,
)
from kubetfx.models.training_share import copy_modules, shared_folder

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs  # it imports TensorFlow, which whoever waits does without

MODULES = "modules"
"""Folder of the user's own modules, beside the job."""
_CONNECT_SECONDS = 10.0
_POLL_SECONDS = 0.5
_END_SECONDS = 15.0


def launch(fn_args: "FnArgs", distribution: DistributionConfig) -> None:
    """Train on the nodes of a Ray cluster, the chief of which exports.

    Args:
        fn_args: The `fn_args` of TFX's Trainer.
        distribution: the section of the config.

    Raises:
        ConfigError: ray is not installed; or, of a process, as it was raised there; DataError and TrainingError too.
        TrainingError: there is no such cluster, it has no room in time, its nodes do not see the folder, or processes
            died more often than `restarts`.
    """
    ray = _imported()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_connected(ray, distribution.ray))
        if distribution.directory is None:
            job, logs = stack.enter_context(job_here(fn_args)), logs_of(fn_args)
            copy_modules(job.parent / MODULES)
            train(job, distribution, logs)
        else:
            name = f"kubetfx-{uuid.uuid4().hex[:10]}"
            remedy = "Mount a folder that this machine and all nodes of the Ray cluster may write."
            shared = stack.enter_context(shared_folder(fn_args, distribution.directory, name, remedy=remedy))
            try:
                train(shared.job, distribution, shared.process_logs)
            finally:
                shutil.copytree(shared.process_logs, shared.logs, dirs_exist_ok=True)
            shared.bring_back(fn_args)


def train(job: Path, distribution: DistributionConfig, logs: Path) -> None:
    """Train in a Ray cluster that this process is connected to.

    Args:
        job: file of the job, which all nodes see.
        distribution: the section of the config.
        logs: folder of the processes' logs, which all nodes see.

    Raises:
        ConfigError: see `launch`.
        TrainingError: see `launch`.
    """
    logs.mkdir(parents=True, exist_ok=True)
    keep_going(lambda _: _run_team(job, distribution, logs), restarts=distribution.restarts)


def main() -> int:
    """Train as the entrypoint of a RayJob, on the head of its cluster.

    Returns:
        The exit code.
    """
    path = Path(os.environ[JOB])
    job = TrainingJob.read(path)
    distribution = TrainingConfig.model_validate(job.custom_config["training"]).distribution
    assert distribution is not None
    try:
        with _connected(_imported(), distribution.ray):
            train(path, distribution, Path(job.model_run_dir) / LOGS)
    except KubetfxError as error:
        logging.error("%s", error)
        write_error(path.parent, error)
        return FAILED
    return 0


def _imported() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "training.distribution.launcher: ray needs the package ray, which is not installed. Received: "
            f"{sys.executable}. Install the extra `ray` of kubetfx, or take another launcher."
        ) from None
    return ray


@contextlib.contextmanager
def _connected(ray: Any, config: RayConfig) -> Iterator[None]:
    if ray.is_initialized():  # by whoever calls kubetfx as a library
        yield
        return
    address = config.address or os.environ.get("RAY_ADDRESS") or "auto"
    try:
        _check_listens(address)
        ray.init(address=address, namespace="kubetfx", log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise TrainingError(
            f"The Ray cluster cannot be reached. Received: {address} ({_line(error)}). Start a cluster to which this "
            "machine belongs, or name one: training.distribution.ray.address, such as ray://host:10001."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_listens(address: str) -> None:
    """Check whether somebody listens, since Ray itself tries for minutes.

    Raises:
        ConnectionError: nobody listens there.
    """
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise ConnectionError(f"nobody listens there: {error}") from None


class Starter:
    """An actor on a node, which starts one process of the team there."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        self._context = contextlib.ExitStack()
        self._process: Any = None
        self._socket = socket.socket()

    def address(self, job: str) -> str:
        """Choose where the process will listen.

        Args:
            job: file of the job.

        Returns:
            Host and port.

        Raises:
            FileNotFoundError: this node does not see the file.
        """
        import ray

        host = ray.util.get_node_ip_address()
        if not Path(job).is_file():
            raise FileNotFoundError(f"{job} on {host}")
        self._socket.bind(("", 0))
        return f"{host}:{self._socket.getsockname()[1]}"

    def start(self, task: Task, job: str, cluster: Mapping[str, Sequence[str]], logs: str) -> None:
        """Start the process.

        Args:
            task: which it is.
            job: file of the job.
            cluster: addresses by role.
            logs: folder of its log.
        """
        self._socket.close()
        modules = str(Path(job).parent / MODULES)
        if modules not in sys.path:
            sys.path.append(modules)
        self._context.close()
        self._process = self._context.enter_context(started_as(task, Path(job), cluster, Path(logs)))

    def poll(self) -> int | None:
        """Return the exit code of the process; None as long as it runs."""
        code: int | None = self._process.poll()
        return code

    def end(self) -> None:
        """End the process."""
        self._context.close()


@dataclass(frozen=True)
class _Remote:
    """A process of the team, as its starter sees it."""

    starter: Any

    def poll(self) -> int | None:
        import ray

        try:
            code: int | None = ray.get(self.starter.poll.remote())
        except ray.exceptions.RayActorError:
            return LOST
        return code


def _run_team(job: Path, distribution: DistributionConfig, logs: Path) -> Death | None:
    import ray

    tasks = tasks_of(distribution)
    starters = {task: _starter(task, distribution.ray) for task in tasks}
    try:
        addresses = _met(list(starters.values()), job, distribution)
        cluster = cluster_of(tasks, addresses)

        def start(task: Task) -> _Remote:
            ray.get(starters[task].start.remote(task, str(job), cluster, str(logs)))
            return _Remote(starters[task])

        return follow(distribution, start, job=job, logs=logs, seconds=_POLL_SECONDS)
    except ray.exceptions.RayActorError as error:
        return Death(f"A node of the Ray cluster was lost while the training began ({_line(error)})")
    finally:
        ends = [starter.end.remote() for starter in starters.values()]
        ray.wait(ends, num_returns=len(ends), timeout=_END_SECONDS)
        for starter in starters.values():
            ray.kill(starter)


def _starter(task: Task, config: RayConfig) -> Any:
    import ray

    gpus = config.gpus if task.role == "worker" else 0
    options = {"num_cpus": config.cpus, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}
    return ray.remote(Starter).options(**options).remote()


def _met(starters: Sequence[Any], job: Path, distribution: DistributionConfig) -> list[str]:
    """Return the addresses of all, once Ray has found a place for each."""
    import ray

    asked = [starter.address.remote(str(job)) for starter in starters]
    until = time.monotonic() + distribution.timeout
    come, absent = ray.wait(asked, num_returns=len(asked), timeout=distribution.timeout)
    if absent:
        free = ray.available_resources()
        has = ", ".join(f"{free.get(name, 0):g} {name}" for name in ("CPU", "GPU"))
        wanted = f"{distribution.ray.cpus:g} CPU, {distribution.ray.gpus:g} GPU"
        raise TrainingError(
            f"The Ray cluster has no room for all processes of the training. Received: {len(come)} of {len(asked)} "
            f"after {distribution.timeout:g} s, of training.distribution.timeout; each wants {wanted}, and {has} are "
            f"free on {len(ray.nodes())} nodes. Add nodes, ask for fewer workers or less for each "
            "(training.distribution.ray), or wait longer."
        )
    logging.info("All starters came %.1f s before the timeout.", until - time.monotonic())
    try:
        addresses: list[str] = ray.get(asked)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FileNotFoundError):
            raise TrainingError(
                f"A node of the Ray cluster does not see the folder of the training. Received: {error.cause}. Set "
                "training.distribution.directory to a folder that all nodes share, or put the workspace into one."
            ) from None
        raise TrainingError(
            f"A node of the Ray cluster cannot start a process of the training. Received: {_line(error)}. Its nodes "
            "need Python and kubetfx as this process has them, such as kubetfx's image with the extra `ray`."
        ) from error
    return addresses


def _line(error: BaseException) -> str:
    """Return the last line of an error: Ray puts a traceback before it."""
    return str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
