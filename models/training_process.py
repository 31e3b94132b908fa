"""A process of a distributed training: `python -m kubetfx.models.training_process`.

Who it is says TF_CONFIG, as TensorFlow's own strategies read it and Kubernetes' training operators write it. Where
nobody has, it follows from the name of the pod. What it does is models/training.py's; here the team comes together.
"""

import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from absl import logging

from kubetfx.child_process import FAILED, leave_with_parent, write_error, write_whole
from kubetfx.config.training_section import DistributionConfig, TrainingConfig
from kubetfx.errors import KubetfxError, TrainingError
from kubetfx.models.training_launch import CLUSTER, ENDED, INDEX, JOB, ROLE, TrainingJob

_CONNECT_SECONDS = 2.0
_POLL_SECONDS = 0.2


def main() -> int:
    """Train as one of the team.

    Returns:
        The exit code.
    """
    logging.set_verbosity(logging.INFO)
    path = Path(os.environ[JOB])
    leave_with_parent()
    _leave_on_sigterm()
    os.environ.setdefault("TF_CONFIG", _config_of_pod())
    if (path.parent / ENDED).exists():  # Kubernetes has started what had ended
        return 0
    try:
        _run(TrainingJob.read(path), path)
    except KubetfxError as error:
        logging.exception("The training failed.")
        write_error(path.parent, error)
        return FAILED
    except Exception as error:
        logging.exception("The training failed.")
        if not _may_be_of_another(error):
            write_error(path.parent, TrainingError(f"{type(error).__name__}: {error} (in {_name()} of the training)"))
        return FAILED
    if _is_chief():
        write_whole(path.parent / ENDED, {"by": _task()})
    while ENDED not in os.listdir(path.parent):  # a StatefulSet would start this process again, which would disturb
        time.sleep(_POLL_SECONDS)
    return 0


def _may_be_of_another(error: Exception) -> bool:
    """Return whether it may have come from a process or a connection that is gone, so that a restart fixes it."""
    import tensorflow as tf

    return isinstance(error, (tf.errors.OpError, OSError))


def _name() -> str:
    task = _task()
    return f"{task['type']}-{task['index']}"


def _run(job: TrainingJob, path: Path) -> None:
    from kubetfx.models.devices import prepare_devices  # they import TensorFlow
    from kubetfx.models.training import train

    training = TrainingConfig.model_validate(job.custom_config["training"])
    assert training.distribution is not None
    prepare_devices(training)
    if training.distribution.strategy == "parameter_server" and _task()["type"] != "chief":
        _serve(path)
    _meet(training.distribution)
    train(job.fn_args(), training, _team(training.distribution, path))


def _serve(path: Path) -> None:
    """Do what the chief asks for, until this process is ended."""
    import tensorflow as tf

    from kubetfx.models.asynchronous import ROWS

    task = _task()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path(ROWS).symlink_to(path.parent.resolve() / ROWS / str(task["index"]))
        cluster = tf.train.ClusterSpec(_cluster())
        tf.distribute.Server(cluster, job_name=task["type"], task_index=task["index"], protocol="grpc").join()


def _team(distribution: DistributionConfig, path: Path) -> Any:
    import tensorflow as tf

    from kubetfx.models.asynchronous import AsynchronousTeam
    from kubetfx.models.team import Team

    if distribution.strategy == "parameter_server":
        os.environ["GRPC_FAIL_FAST"] = "use_caller"  # a worker that is gone is an error, and not waited for
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver(rpc_layer="grpc")
        strategy = tf.distribute.ParameterServerStrategy(resolver)
        coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        return AsynchronousTeam(strategy, workers=distribution.workers, folder=path.parent, coordinator=coordinator)
    if distribution.strategy == "mirrored":
        devices = [device.name for device in tf.config.list_logical_devices("GPU")]
        if not devices:
            devices = [device.name for device in tf.config.list_logical_devices("CPU")]
        return Team(tf.distribute.MirroredStrategy(devices))
    return Team(tf.distribute.MultiWorkerMirroredStrategy(), _task()["index"], distribution.workers)


def _task() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(os.environ["TF_CONFIG"])["task"]
    return found | {"index": int(found["index"])}


def _cluster() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(os.environ["TF_CONFIG"])["cluster"]
    return found


def _is_chief() -> bool:
    """Return whether it is this process that exports: where there is no chief, the first worker."""
    return _task()["type"] == "chief" or ("chief" not in _cluster() and _task()["index"] == 0)


def _config_of_pod() -> str:
    """Return TF_CONFIG where nobody has written it: a pod's number is in its environment, or at the end of its name."""
    if CLUSTER not in os.environ:
        return "{}"
    index = os.environ.get(INDEX) or os.environ["HOSTNAME"].rpartition("-")[2]
    task = {"type": os.environ[ROLE], "index": int(index)}
    return json.dumps({"cluster": json.loads(os.environ[CLUSTER]), "task": task})


def _meet(distribution: DistributionConfig) -> None:
    """Wait until every process of the team can be reached.

    TensorFlow would wait for ever, and hold Python's lock meanwhile.

    Raises:
        TrainingError: they have not come in time.
    """
    if distribution.strategy == "mirrored":
        return
    own = _name()
    addresses = {f"{role}-{index}": address for role, some in _cluster().items() for index, address in enumerate(some)}
    deadline = time.monotonic() + distribution.timeout
    with _listening(addresses.pop(own)):
        while addresses:
            addresses = {name: address for name, address in addresses.items() if not _listens(address)}
            if addresses and time.monotonic() > deadline:
                absent = ", ".join(f"{name} ({address})" for name, address in addresses.items())
                raise TrainingError(
                    f"Not all processes of the training have come. Received: nobody listens at {absent} after "
                    f"{distribution.timeout:g} s, of training.distribution.timeout. See whether they were started, "
                    "whether their machines have room for them, and whether a network policy lets them reach one "
                    "another."
                )
            time.sleep(_POLL_SECONDS if addresses else 0)


def _listening(address: str) -> socket.socket:
    """Return a socket at the address of this process, until TensorFlow listens there: others see that it has come."""
    host, _, port = address.rpartition(":")
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((host if host == "127.0.0.1" else "", int(port)))  # a name in the cluster may be of an address outside
    found.listen()
    return found


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _leave_on_sigterm() -> None:
    """End at once: process 1 of a pod is not ended by a signal, and Python looks at one only between two steps."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        signal.sigwait({signal.SIGTERM})
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
