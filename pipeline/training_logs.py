"""TensorBoard's logs of all runs in one folder: a link per run to the logs among the Trainer's artifacts."""

from pathlib import Path

from kubetfx import run_record
from kubetfx.errors import UsageError

_FOLDER = "tensorboard"


def link_logs(workspace: Path) -> Path:
    """Make a folder with a link to the logs of each run that trained.

    Args:
        workspace: The workspace of the pipeline.

    Returns:
        The folder.

    Raises:
        UsageError: no run has trained yet.
    """
    folder = workspace / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for link in folder.iterdir():
        link.unlink()
    for record in run_record.read_all(workspace):
        trainer = record.node("Trainer")
        logs = record.output("Trainer", "model_run")
        if trainer and trainer.state == "done" and logs:
            (folder / record.run_id).symlink_to(logs, target_is_directory=True)
    if not any(folder.iterdir()):
        raise UsageError(f"No run has trained yet. Received: the workspace {workspace}. Run the pipeline.")
    return folder
