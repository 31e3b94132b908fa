"""The folder in which whoever asks for a training and its workers meet, where they are on different machines.

Workers see neither the artifacts nor the modules of the one who asks: they are copied there, and the model back.
"""

import contextlib
import os
import shutil
import site
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kubetfx import version
from kubetfx.errors import TrainingError
from kubetfx.models.training_launch import ENDED, LOGS, TrainingJob, logs_of

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs  # it imports TensorFlow, which whoever waits does without


@dataclass(frozen=True)
class Shared:
    """The folder of one training."""

    folder: Path
    logs: Path
    """Where the workers' logs are to be in the end."""

    @property
    def job(self) -> Path:
        """File of the job, beside which workers say how it ended."""
        return self.folder / "job.json"

    @property
    def modules(self) -> Path:
        """Folder of the user's own modules, which the workers' image lacks."""
        return self.folder / "modules"

    @property
    def model(self) -> Path:
        """Folder of the model's artifact."""
        return self.folder / "Trainer" / "model" / "1"

    @property
    def model_run(self) -> Path:
        """Folder of the run's artifact. Checkpoints are beside it."""
        return self.folder / "Trainer" / "model_run" / "1"

    @property
    def process_logs(self) -> Path:
        """Folder of the logs that processes on Ray's nodes write."""
        return self.model_run / LOGS

    @property
    def has_ended(self) -> bool:
        """Whether the chief has exported. To list a folder is to ask its server; to ask for a file is not."""
        return ENDED in os.listdir(self.folder)

    def bring_back(self, fn_args: "FnArgs") -> None:
        """Copy what the chief has made to where the Trainer has to put it.

        Args:
            fn_args: The `fn_args` of TFX's Trainer.
        """
        shutil.copytree(self.model, Path(fn_args.serving_model_dir).parent, dirs_exist_ok=True)
        shutil.copytree(self.model_run, Path(fn_args.model_run_dir), dirs_exist_ok=True)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def shared_folder(fn_args: "FnArgs", directory: str, name: str, *, remedy: str) -> Iterator[Shared]:
    """Copy the inputs of a training to where its workers see them, and remove all of it at the end.

    Args:
        fn_args: The `fn_args` of TFX's Trainer.
        directory: `training.distribution.directory`.
        name: The name of the new folder in it.
        remedy: what to do where it cannot be written, a sentence.

    Yields:
        The folder.

    Raises:
        TrainingError: it cannot be written.
    """
    shared = Shared(Path(directory) / name, logs_of(fn_args))
    try:
        shared.model_run.mkdir(parents=True)
    except OSError as error:
        raise TrainingError(
            f"The folder that the Trainer and its workers share cannot be written. Received: {error}. {remedy}"
        ) from error
    shared.logs.mkdir(parents=True, exist_ok=True)
    try:
        _hand_over(TrainingJob.of(fn_args), shared)
        yield shared
    finally:
        shared.remove()


def copy_modules(folder: Path) -> None:
    """Copy the user's own modules.

    Args:
        folder: into which; it is made.
    """
    folder.mkdir()
    for module in _own_modules():
        shutil.copy(module, folder)


def _hand_over(job: TrainingJob, shared: Shared) -> None:
    inputs = shared.folder / "inputs"
    schema = inputs / Path(job.schema_path).name
    graph = inputs / "transform_graph"
    shutil.copytree(job.transform_graph_path, graph)
    shutil.copyfile(job.schema_path, schema)
    copy_modules(shared.modules)
    base = None
    if job.base_model is not None and Path(job.base_model).is_dir():
        base = str(shutil.copytree(job.base_model, inputs / "base_model"))
    replace(
        job,
        train_files=_copied(job.train_files, inputs / "train"),
        eval_files=_copied(job.eval_files, inputs / "eval"),
        schema_path=str(schema),
        transform_graph_path=str(graph),
        base_model=base,
        serving_model_dir=str(shared.model / Path(job.serving_model_dir).name),
        model_run_dir=str(shared.model_run),
    ).write(shared.job)


def _copied(patterns: list[str], folder: Path) -> list[str]:
    """Return patterns of the files' copies, each in a folder of its own."""
    copies = []
    for number, pattern in enumerate(patterns):
        copy_of = folder / str(number)
        shutil.copytree(Path(pattern).parent, copy_of)
        copies.append(str(copy_of / Path(pattern).name))
    return copies


def _own_modules() -> Iterator[Path]:
    """Yield the user's modules.

    They are in folders of the path, and are neither Python's, nor of installed packages, nor ours.
    """
    installed = [Path(path) for path in (sys.prefix, sys.base_prefix, *site.getsitepackages())]
    ours = Path(version.__file__).parents[1]
    for folder in map(Path, filter(None, sys.path)):
        if folder != ours and folder.is_dir() and not any(folder.is_relative_to(place) for place in installed):
            yield from sorted(folder.glob("*.py"))
