"""`kubetfx mirror`: the models of a bucket in a folder, for a server that reads folders.

TensorFlow is never imported here: the command runs beside a server for as long as that does.
"""

import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from kubetfx.cli.invocation import open_output
from kubetfx.errors import StorageError, UsageError
from kubetfx.serving.log_lines import log_to_standard_error
from kubetfx.storage import ObjectPath, locate

app = typer.Typer()


@app.command(rich_help_panel="Models")
def mirror(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="s3://BUCKET/FOLDER or gs://BUCKET/FOLDER.", show_default=False)
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the copies are kept.", show_default=False)],
    models: Annotated[
        list[str],
        typer.Option("--model", metavar="NAME", envvar="MODEL_NAMES", help="A model to copy; can be repeated."),
    ],
    interval_seconds: Annotated[float, typer.Option(min=0.1, help="Seconds between two checks of the bucket.")] = 15.0,
    once: Annotated[
        bool, typer.Option("--once", help="Copy once, and exit with code 1 if a model was not copied.")
    ] = False,
) -> None:
    """Copy the models of a bucket to a folder, and follow what is pushed: for servers that read no bucket.

    SOURCE/NAME/VERSION becomes FOLDER/NAME/VERSION, whole or not at all. A version that is gone from the bucket goes
    here too, but never the last one. The file .mirrored in FOLDER says that every model was read. SIGTERM and Ctrl-C
    end the command.
    """
    open_output("human")
    bucket = _bucket(source)
    log_to_standard_error()

    from kubetfx.components.push.mirror import keep_models, mirror_models

    if not once:
        _end_when_told()
        keep_models(bucket, folder, models, interval_seconds=interval_seconds)
    if missing := mirror_models(bucket, folder, models):
        raise StorageError(
            f"Not every model was mirrored. Received: {', '.join(missing)} in {source}. The lines above say why."
        )


def _bucket(source: str) -> ObjectPath:
    try:
        found = locate(source)
    except ValueError as error:
        raise UsageError(f"SOURCE: {error}") from error
    if isinstance(found, Path):
        raise UsageError(
            f"SOURCE is s3://BUCKET/FOLDER or gs://BUCKET/FOLDER. Received: {source}. A server reads a folder itself."
        )
    return found


def _end_when_told() -> None:
    """End the process with exit code 0 on SIGTERM and Ctrl-C, whatever it waits for.

    A thread waits for the signals, since Python's handlers wait for Arrow's calls, which may wait for the network. What
    is left of a copy is out of the servers' sight, and is removed before the next.
    """
    told = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, told)

    def wait() -> None:
        signal.sigwait(told)
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
