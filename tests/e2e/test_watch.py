"""`kubetfx run --watch`: a process that stays, runs again after a change, and gives what a fresh process gives."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.e2e.project import Project, command, environment, kubetfx

DEADLINE_SECONDS = 120


class Watching:
    """The command, and what it has said so far."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self._log = project.folder / "watch.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                command("run", project.config, "--watch", *arguments), stdout=log, stderr=log, env=environment()
            )

    def said(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str, *, times: int = 1) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.said().count(text) < times:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=DEADLINE_SECONDS)


@pytest.fixture
def watching(new_penguins: Project) -> Iterator[Watching]:
    text = new_penguins.config.read_text()
    new_penguins.config.write_text(text + "training: {epochs: 2}\n")
    started = Watching(new_penguins, "--set", "evaluation.thresholds={accuracy: {at_least: 0}}")
    yield started
    if started.process.poll() is None:
        started.process.kill()
        started.process.wait()


def weights(project: Project) -> dict[str, np.ndarray]:
    """Of the newest version."""
    newest = max(project.pushed.iterdir(), key=lambda path: int(path.name))
    checkpoint = tf.train.load_checkpoint(str(newest / "variables" / "variables"))
    names = [name for name in checkpoint.get_variable_to_shape_map() if name.startswith("variables/")]
    assert names
    return {name: checkpoint.get_tensor(name) for name in names}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_change_runs_what_it_touches_and_gives_the_model_of_a_fresh_process(
    watching: Watching, new_penguins: Project, tmp_path: Path
) -> None:
    watching.wait_for("Ctrl-C ends it.")
    first = weights(new_penguins)
    assert "Pushed penguins version" in watching.said()

    edit(new_penguins.config, "epochs: 2", "epoch: 3")
    watching.wait_for("Ctrl-C ends it.", times=2)
    assert "Did you mean 'epochs'?" in watching.said()

    edit(new_penguins.config, "epoch: 3", "epochs: 3")
    watching.wait_for("Ctrl-C ends it.", times=3)
    third = watching.said().rpartition("Changed: ")[2]
    assert "Transform            cached" in third
    assert "Trainer              done" in third
    assert "Changed: " + str(new_penguins.config) in watching.said()
    third_weights = weights(new_penguins)
    assert any((third_weights[name] != array).any() for name, array in first.items())

    again = Project(tmp_path / "again")
    again.folder.mkdir()
    fresh = kubetfx(
        "run",
        new_penguins.config,
        "--format=json",
        "--set=evaluation.thresholds={accuracy: {at_least: 0}}",
        f"--set=workspace={again.workspace}",
    )
    assert fresh.exit_code == 0, fresh.stderr
    fresh_weights = weights(again)
    assert fresh_weights.keys() == third_weights.keys()
    for name, array in fresh_weights.items():
        np.testing.assert_array_equal(array, third_weights[name], err_msg=name)

    edit(new_penguins.config, "epochs: 3", "epochs: 5000")
    watching.wait_for("Transform            cached", times=2)
    assert watching.interrupt() == 130
    assert "Interrupted. What was finished is kept" in watching.said()
