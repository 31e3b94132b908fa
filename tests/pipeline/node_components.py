"""Components that note when they run, and that are killed once, for runs whose nodes are processes."""

import os
import signal
import time
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts


@component
def Slow(name: Parameter[str], folder: Parameter[str], model: OutputArtifact[standard_artifacts.Model]) -> None:
    """Notes when it began and ended, a line per execution."""
    print(f"{name} begins")
    began = time.time()
    time.sleep(1)
    print(f"{name} ends")
    with (Path(folder) / name).open("a") as file:
        file.write(f"{began} {time.time()}\n")
    (Path(model.uri) / "text.txt").write_text(name)


@component
def KilledOnce(
    folder: Parameter[str],
    source: InputArtifact[standard_artifacts.Model],
    model: OutputArtifact[standard_artifacts.Model],
) -> None:
    """Leaves half of its output, and its process is killed, at the first try; the second says what it found."""
    tried = Path(folder) / "tried"
    if not tried.exists():
        tried.touch()
        (Path(model.uri) / "half.txt").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    found = sorted(path.name for path in Path(model.uri).iterdir())
    (Path(model.uri) / "text.txt").write_text(f"{Path(source.uri, 'text.txt').read_text()} {found}")


@component
def FailsOnce(folder: Parameter[str], model: OutputArtifact[standard_artifacts.Model]) -> None:
    """Fails at the first try."""
    tried = Path(folder) / "failed"
    if not tried.exists():
        tried.touch()
        raise RuntimeError("not yet")
    (Path(model.uri) / "text.txt").write_text("at last")
