"""Training in several processes, and on several devices: real ones, on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tfx.components.trainer.fn_args_utils import FnArgs

from kubetfx import child_process
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.errors import ConfigError, TrainingError
from kubetfx.models import training
from kubetfx.models.asked_model import AskedModel
from kubetfx.models.training_launch import JOB, TrainingJob
from tests.models.conftest import Preprocessed, to_block, write_split
from tests.ports import free_ports

NUM_ROWS = 331
"""The last batch of an epoch has an odd number of rows."""
EXACT = {"dropout": 0.0, "members": 2}
"""A network in which nothing is drawn at random once it is there."""
KILLER = """
import json, os, pathlib, signal
import keras

class Killer(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        index = str(json.loads(os.environ["TF_CONFIG"])["task"]["index"])
        if epoch == 2 and index == os.environ["VICTIM"] and not pathlib.Path(os.environ["KILLED"]).exists():
            pathlib.Path(os.environ["KILLED"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


def make_rows(number: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    numbers = random.normal(size=(number, 3))
    return [
        {"a": float(a), "b": float(b), "c": float(c), "label": "yes" if a - b + c * c > 1 else "no"}
        for a, b, c in numbers
    ]


@pytest.fixture(scope="module")
def table(preprocess) -> Preprocessed:
    return preprocess(make_rows(NUM_ROWS), label="label")


@pytest.fixture
def fn_args(table, tmp_path):
    """Of the Trainer, as TFX makes them, in a folder with the layout of a workspace."""
    files = {
        split: [f"{Path(write_split(tmp_path / split, rows, group_rows=40)[0]).parent}/*"]
        for split, rows in (("train", make_rows(NUM_ROWS)), ("validation", make_rows(90)))
    }
    transform_graph = Path(table.output.transform_savedmodel_dir).parent

    def make(name: str, *, model: dict[str, Any] = EXACT, **changes: Any) -> FnArgs:
        options = {"epochs": 4, "batch_size": 50, "learning_rate": 0.01, **changes}
        custom_config = {
            "model": ModelConfig(hidden_units=[16], **model).model_dump(mode="json"),
            "features": FeaturesConfig().model_dump(mode="json"),
            "training": TrainingConfig(**options).model_dump(mode="json"),
            "max_pixels": 1_000,
            "warmup_rows": 2,
        }
        output = tmp_path / name / "Trainer"
        return FnArgs(
            train_files=files["train"],
            eval_files=files["validation"],
            schema_path=str(transform_graph.parent / "schema.pbtxt"),
            transform_graph_path=str(transform_graph),
            serving_model_dir=str(output / "model" / "1" / "Format-Serving"),
            model_run_dir=str(output / "model_run" / "1"),
            custom_config=json.loads(json.dumps(custom_config)),
        )

    return make


def trained(fn_args: FnArgs) -> tuple[np.ndarray, dict[str, Any]]:
    """What the exported model says of the rows, and the history."""
    Path(fn_args.model_run_dir).mkdir(parents=True)
    training.run_fn(fn_args)
    model = AskedModel(Path(fn_args.serving_model_dir))
    _, outputs, _ = model.ask(to_block(make_rows(NUM_ROWS)))
    model.close()
    history = json.loads((Path(fn_args.serving_model_dir).parent / "history.json").read_text())
    return outputs, history


@pytest.mark.long
@pytest.mark.parametrize(("strategy", "processes"), [("mirrored", 1), ("multi_worker", 2)])
def test_two_workers_learn_what_one_learns(fn_args, strategy, processes):
    """Sums of floating-point numbers depend on their order, so the last digits differ."""
    expected, alone = trained(fn_args("alone"))
    found, together = trained(fn_args(strategy, distribution={"strategy": strategy, "workers": 2}))
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(together["history"]["val_loss"], alone["history"]["val_loss"], rtol=1e-4)
    assert together["team"] == {"strategy": strategy, "workers": processes, "replicas": 2}
    assert together["steps_per_epoch"] == alone["steps_per_epoch"]


@pytest.mark.long
def test_each_worker_reads_a_part_of_rows_that_do_not_fit_in_memory(fn_args):
    distribution = {"strategy": "multi_worker", "workers": 2}
    arguments = fn_args("parts", distribution=distribution, cache_bytes=0, epochs=8)
    found, history = trained(arguments)
    assert history["rows"] == NUM_ROWS
    assert history["history"]["val_loss"][-1] < 0.8 * history["history"]["val_loss"][0]
    assert found.shape == (NUM_ROWS, 2)


@pytest.mark.long
def test_a_killed_worker_is_started_again_and_nothing_is_lost(fn_args, tmp_path, monkeypatch):
    (tmp_path / "killer.py").write_text(KILLER)
    monkeypatch.syspath_prepend(str(tmp_path))
    options = {
        "distribution": {"strategy": "multi_worker", "workers": 2},
        "callbacks": ["killer:Killer"],
        "checkpoint_seconds": 0,
    }
    monkeypatch.setenv("VICTIM", "nobody")
    expected, whole = trained(fn_args("whole", **options))
    for victim in "01":  # the chief and the other
        monkeypatch.setenv("VICTIM", victim)
        monkeypatch.setenv("KILLED", str(tmp_path / f"killed_{victim}"))
        found, again = trained(fn_args(f"without_{victim}", **options))
        assert (tmp_path / f"killed_{victim}").exists()
        np.testing.assert_array_equal(found, expected)
        assert again["history"] == whole["history"]


@pytest.mark.long
def test_parameter_servers_reach_the_score_and_say_how_stale_commits_were(fn_args):
    options: dict[str, Any] = {"epochs": 20, "class_weights": "balanced"}
    _, alone = trained(fn_args("alone", **options))
    distribution = {"strategy": "parameter_server", "workers": 2, "parameter_servers": 1}
    _, found = trained(fn_args("servers", distribution=distribution, **options))
    assert found["team"]["workers"] == 2
    assert found["team"]["most_staleness"] >= found["team"]["mean_staleness"] >= 0
    assert all(0 <= share <= 1 for share in found["history"]["accuracy"])
    assert min(found["history"]["val_loss"]) == pytest.approx(min(alone["history"]["val_loss"]), abs=0.1)


@pytest.mark.long
def test_an_error_of_the_config_is_raised_as_it_is_and_not_tried_again(fn_args):
    distribution = {"strategy": "multi_worker", "workers": 2}
    with pytest.raises(ConfigError, match=r"training\.loss"):
        trained(fn_args("wrong", distribution=distribution, loss="no_such_module:loss"))


@pytest.mark.long
def test_a_process_that_dies_each_time_ends_the_training_with_its_log(fn_args, tmp_path, monkeypatch):
    (tmp_path / "dying.py").write_text("import os\nprint('I leave.', flush=True)\nos._exit(7)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = fn_args("dies", distribution={"strategy": "mirrored", "restarts": 1}, loss="dying:loss")
    with pytest.raises(TrainingError, match=r"(?s)which is 1\. Received: chief-0 ended with exit code 7\..*I leave\."):
        trained(arguments)


@pytest.mark.long
def test_a_worker_that_never_comes_ends_the_training_in_words(fn_args, tmp_path):
    distribution = {"strategy": "multi_worker", "workers": 2, "timeout": 5}
    job = tmp_path / "job.json"
    TrainingJob.of(fn_args("waiting", distribution=distribution)).write(job)
    here, nobody = (f"127.0.0.1:{port}" for port in free_ports(2))
    config = {"cluster": {"worker": [here, nobody]}, "task": {"type": "worker", "index": 0}}
    environment = {**os.environ, JOB: str(job), "TF_CONFIG": json.dumps(config)}
    command = [sys.executable, "-m", "kubetfx.models.training_process"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as process:  # it leaves when that is closed
        assert process.wait(120) == 1
    error = json.loads((tmp_path / child_process.ERROR).read_text())
    assert error["kind"] == "TrainingError"
    assert f"nobody listens at worker-1 ({nobody}) after 5 s" in error["message"]
