"""The shared parts of all commands: arguments, output, and reading the config.

The commands themselves are in cli/app.py and, one module per group, in the modules beside it.
"""

import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from kubetfx.cli.output import Format, Output
from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError, KubetfxError
from kubetfx.storage import Location

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="pipeline.yaml", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the file, for example training.epochs=3."),
]
FormatOption = Annotated[Format, typer.Option("--format", help="json: exactly one document on stdout.")]

MAX_SLICES = 10
"""Rows of a table of slices or classes."""

_output = Output("human")


def open_output(format: Format) -> Output:
    """Make the running command's output. Each command calls it once, first.

    Args:
        format: of the option `--format`.

    Returns:
        The output, which `current_output` returns from then on.
    """
    global _output  # noqa: PLW0603
    _output = Output(format)
    return _output


def current_output() -> Output:
    """Return the output that was opened last, for the error that ends the command."""
    return _output


def load(path: Path, overrides: list[str] | None) -> PipelineConfig:
    """Read the config of a command.

    Args:
        path: The path of pipeline.yaml.
        overrides: values of the option `--set`, each `dotted.key=value`.

    Returns:
        The checked config.

    Raises:
        ConfigError: see `load_config`.
    """
    try:
        return load_config(path, overrides=overrides or ())
    except ConfigError as error:
        if path.exists():
            raise
        raise ConfigError(f"{error} `kubetfx init` writes one for your data.") from None


def command_line() -> list[str]:
    """Return the command that is running, as it was given."""
    return ["kubetfx", *sys.argv[1:]]


@contextmanager
def naming_options(options: Mapping[str, str]) -> Iterator[None]:
    """Name a command's options in errors of the library, which name arguments, in backticks.

    Args:
        options: by argument.
    """
    try:
        yield
    except KubetfxError as error:
        error.args = (re.sub(r"`([^`]+)`", lambda name: options.get(name[1], name[0]), str(error)),)
        raise


def shown_metrics(config: PipelineConfig, found: Iterable[Mapping[str, float]], *, at_most: int) -> list[str]:
    """Choose the metrics that a table of runs or versions has room for: those with a threshold first.

    Args:
        config: The config of the pipeline.
        found: the metrics of each run or version.
        at_most: columns of the table.

    Returns:
        Names of metrics, each of which one of them has at least.
    """
    names = dict.fromkeys(name for metrics in found for name in metrics if name != "example_count")
    with_threshold = [name for name in config.evaluation.thresholds if name in names]
    return list(dict.fromkeys([*with_threshold, *names]))[:at_most]


def quoted(path: Location) -> str:
    """Return a path for a command that is printed to be copied: as `shown`, in quotes where the shell needs them.

    Args:
        path: a path, or a place in a bucket.
    """
    return shlex.quote(shown(path))


def shown(path: Location) -> str:
    """Return a path as people read it: relative to the working directory, where that is shorter.

    Args:
        path: a path, or a place in a bucket.
    """
    if not isinstance(path, Path):
        return str(path)
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
