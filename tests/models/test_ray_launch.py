"""Training on the nodes of a real Ray cluster; and what is said where there is none, or it has no room."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kubetfx.config.training_section import DistributionConfig
from kubetfx.errors import ConfigError, TrainingError
from kubetfx.models import ray_launch, training_launch
from kubetfx.models.training_launch import ENDED, JOB, TrainingJob
from tests.models.ray_cluster import START_SECONDS, RayCluster, ray_cluster
from tests.models.test_distributed_training import fn_args, table, trained  # noqa: F401 - fixtures

LOSER = """
import json, os, pathlib, signal
import keras

class Loser(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        once = pathlib.Path(os.environ["LOST"])
        if epoch == 2 and json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1 and not once.exists():
            once.touch()
            os.kill(os.getppid(), signal.SIGKILL)
"""
"""Takes the actor that started it away, as a node that is gone does."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    ray = pytest.importorskip("ray", reason="needs the package ray (the extra `ray` of kubetfx)")
    with ray_cluster() as running:
        ray.init(address=running.address, log_to_driver=False)
        deadline = time.monotonic() + START_SECONDS
        while len(ray.nodes()) < 2:
            assert time.monotonic() < deadline, "the node did not come"
            time.sleep(0.2)
        ray.shutdown()
        yield running


def on_ray(cluster: RayCluster, strategy: str = "multi_worker", **changes: object) -> dict[str, object]:
    ray = {"address": cluster.address, "cpus": 1, **changes.pop("ray", {})}  # type: ignore[dict-item]
    return {"strategy": strategy, "workers": 2, "launcher": "ray", "ray": ray, **changes}


@pytest.mark.long
def test_nodes_of_ray_learn_what_processes_learn_though_one_is_lost(cluster, fn_args, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "loser.py").write_text(LOSER)
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    options = {"callbacks": ["loser:Loser"], "checkpoint_seconds": 0}
    monkeypatch.setenv("LOST", str(tmp_path / "mine" / "loser.py"))  # there is such a file: nobody is lost
    expected, alone = trained(fn_args("here", distribution={"strategy": "multi_worker", "workers": 2}, **options))
    directory = tmp_path / "shared"
    directory.mkdir()
    lost = tmp_path / "lost"
    loser = LOSER.replace('os.environ["LOST"]', repr(str(lost)))
    (tmp_path / "mine" / "loser.py").write_text(loser)
    arguments = fn_args("there", distribution=on_ray(cluster, restarts=1, directory=str(directory)), **options)

    found, together = trained(arguments)

    assert lost.exists()
    np.testing.assert_array_equal(found, expected)
    assert together["history"] == alone["history"]
    logs = sorted(path.name for path in Path(arguments.model_run_dir, "workers").glob("*.log"))
    assert logs == ["worker-0.log", "worker-1.log"]
    assert list(directory.iterdir()) == []


@pytest.mark.long
def test_parameter_servers_on_nodes_of_ray(cluster, fn_args):  # noqa: F811
    distribution = on_ray(cluster, "parameter_server", workers=2, parameter_servers=1)
    _, history = trained(fn_args("servers", distribution=distribution))
    assert history["team"]["strategy"] == "parameter_server"
    assert history["team"]["workers"] == 2


@pytest.mark.long
def test_entrypoint_of_a_rayjob_trains_and_leaves_errors_beside_the_job(cluster, fn_args, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    distribution = {"strategy": "multi_worker", "workers": 1, "launcher": "rayjob", "directory": str(tmp_path)}
    for name, changes, code in (("good", {}, 0), ("bad", {"loss": "no_such_module:loss"}, 1)):
        arguments = fn_args(name, distribution=distribution, **changes)
        folder = tmp_path / f"{name}-job"
        folder.mkdir()
        Path(arguments.model_run_dir).mkdir(parents=True)
        TrainingJob.of(arguments).write(folder / "job.json")
        monkeypatch.setenv(JOB, str(folder / "job.json"))

        assert ray_launch.main() == code

        assert (folder / ENDED).exists() == (name == "good")
    with pytest.raises(ConfigError, match=r"training\.loss"):
        training_launch.raise_error(folder)


def test_cluster_without_room_is_said_to_have_none(cluster, fn_args):  # noqa: F811
    arguments = fn_args("large", distribution=on_ray(cluster, timeout=3, ray={"cpus": 50}))
    Path(arguments.model_run_dir).mkdir(parents=True)
    distribution = DistributionConfig(**arguments.custom_config["training"]["distribution"])
    with pytest.raises(TrainingError, match=r"Received: 0 of 2 after 3 s.*each wants 50 CPU.*4 CPU, 0 GPU are free"):
        training_launch.launch(arguments, distribution)


def test_node_that_does_not_see_the_folder_is_named(cluster, tmp_path):
    ray = pytest.importorskip("ray")
    distribution = DistributionConfig(**on_ray(cluster))
    with (
        ray_launch._connected(ray, distribution.ray),
        pytest.raises(TrainingError, match=r"does not see the folder.*job\.json on [\d.]+\..*directory"),
    ):
        ray_launch.train(tmp_path / "nowhere" / "job.json", distribution, tmp_path / "logs")


def test_address_where_no_cluster_is(cluster, fn_args):  # noqa: F811
    arguments = fn_args("nobody", distribution=on_ray(cluster, ray={"address": "127.0.0.1:9"}))
    Path(arguments.model_run_dir).mkdir(parents=True)
    distribution = DistributionConfig(**arguments.custom_config["training"]["distribution"])
    with pytest.raises(TrainingError, match=r"cannot be reached. Received: 127\.0\.0\.1:9 \(nobody listens there"):
        training_launch.launch(arguments, distribution)


def test_without_ray_the_error_says_what_to_install(fn_args, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"needs the package ray.*extra `ray` of kubetfx"):
        training_launch.launch(fn_args("x"), DistributionConfig(strategy="multi_worker", launcher="ray"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"launcher": "tfjob", "directory": "/a", "ray": {"cpus": 2}},
            r"ray applies to the launchers.*Received: .*tfjob",
        ),
        ({"launcher": "ray", "strategy": "mirrored"}, "mirrored uses the devices of one machine, and"),
        ({"launcher": "rayjob"}, "the launcher rayjob needs directory"),
    ],
)
def test_config_of_ray_that_does_not_fit(fields, words):
    with pytest.raises(ValueError, match=words):
        DistributionConfig(**{"strategy": "multi_worker", **fields})
