"""Containers of a package as processes of this machine."""

import time

from kubetfx.config.loading import load_config
from kubetfx.kubeflow.emulation.task_results import TaskResult
from kubetfx.kubeflow.local import PackageRunner

KILLED = 137
"""Exit status that Kubernetes tells of a container that it ended."""


class Alone(PackageRunner):
    """Runs one command, as one task."""

    def run_one(self, task, script):
        self._root = self._config.workspace_path
        self._log_folder.mkdir(parents=True)
        exit_code = self._run_command(["python", "-c", script], {}, "it", task)
        return exit_code, self._log_path(task).read_text()


def test_task_is_ended_after_its_timeout(tmp_path):
    config = load_config({"name": "late", "data": {"path": "rows.csv", "label": "y"}, "workspace": str(tmp_path)})
    script = "import time; print('started', flush=True); time.sleep(600)"
    started = time.monotonic()

    exit_code, log = Alone(config).run_one(TaskResult("late", "Late", deadline_seconds=3), script)

    assert exit_code == KILLED
    assert log.startswith("started")
    assert "The task was ended after its timeout of 3 s." in log
    assert time.monotonic() - started < 60
