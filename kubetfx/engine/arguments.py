"""Beam's command line, checked by Beam's own parsers before anything runs."""

import argparse
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kubetfx.config.beam_section import RUNNERS, BeamConfig
from kubetfx.config.references import redacted, resolved
from kubetfx.config.section import nearest
from kubetfx.errors import ConfigError

SECRETS = "beam"
"""The section, for errors about variables of the environment that are not set."""
_IN_THIS_PROCESS = frozenset(
    {"DirectRunner", "FnApiRunner", "BundleBasedDirectRunner", "SwitchingDirectRunner", "TestDirectRunner",
     "InteractiveRunner"}
)  # fmt: skip
"""Runners that have no workers elsewhere."""
_HAVE_PACKAGES = ("setup_file", "extra_package", "extra_packages")
"""Options by which the user ships code."""

_PARSER = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
_PARSER.add_argument("--runner", default="DirectRunner")
_PARSER.add_argument("--job_endpoint")
_PARSER.add_argument("--environment_type")
_PARSER.add_argument("--environment_config", default="")


@dataclass(frozen=True)
class Engine:
    """What a command line says of the engine."""

    runner: str
    endpoint: str | None
    """Endpoint of its job service, host and port."""
    environment: str | None
    """Type of the environment of its workers."""
    pool: str | None
    """Host and port of the pool of workers, as the engine reaches it."""

    @property
    def is_remote(self) -> bool:
        """Whether the data is read by other processes than this one, which somebody else has started."""
        return self.runner not in _IN_THIS_PROCESS and not self.is_loopback

    @property
    def is_loopback(self) -> bool:
        """Whether the engine hands the work back to this process."""
        default = "LOOPBACK" if self.runner == "PrismRunner" else None
        return (self.environment or default) == "LOOPBACK"

    @property
    def is_elsewhere(self) -> bool:
        """Whether there is an engine besides this process at all."""
        return self.runner not in _IN_THIS_PROCESS

    def __str__(self) -> str:
        return self.runner + (f" at {self.endpoint}" if self.endpoint else "")


def engine_of(arguments: Sequence[str]) -> Engine:
    """Say what a command line of Beam is about.

    Args:
        arguments: with values instead of references.

    Returns:
        The engine.
    """
    known, _ = _PARSER.parse_known_args(list(arguments))
    is_pool = known.environment_type == "EXTERNAL"
    return Engine(
        runner=known.runner.rpartition(".")[2],
        endpoint=known.job_endpoint,
        environment=known.environment_type,
        pool=_address_of(known.environment_config) if is_pool else None,
    )


def ships_code(arguments: Sequence[str]) -> bool:
    """Return whether the user's options name packages for the workers already.

    Args:
        arguments: Beam's command line.
    """
    return any(argument.partition("=")[0].lstrip("-") in _HAVE_PACKAGES for argument in arguments)


def check(config: BeamConfig, *, looks_up: bool = True) -> list[str]:
    """Let Beam's own parsers check the section, and look its references up.

    Args:
        config: the section.
        looks_up: whether the variables of references are those of this machine. In a package they are the pods', and
            what refers to one is not checked.

    Returns:
        The command line, with values instead of references if they are looked up. Empty where all are defaults.

    Raises:
        ConfigError: a variable of the environment is not set, Beam knows no such option, a value is of another type, or
            the runner cannot be imported.
    """
    asked = [argument for argument in config.command_line if looks_up or "${" not in argument]
    arguments: list[str] = resolved(asked, key=SECRETS)
    if not arguments:
        return []
    unknown = _unknown_options(arguments, known_to_engine=())
    engine = engine_of(arguments)
    if unknown and not engine.endpoint:  # a job service may know more: it is asked when it is reached
        raise _no_such_option(unknown[0])
    _check_runner(config.runner)
    return arguments


def check_with_engine(arguments: Sequence[str], described: Collection[str]) -> None:
    """Check options that only the job service can know.

    Args:
        arguments: Beam's command line.
        described: names of the options that the job service has, without dashes.

    Raises:
        ConfigError: neither Beam nor the job service knows an option.
    """
    if unknown := _unknown_options(arguments, known_to_engine=described):
        raise _no_such_option(unknown[0], described)


class _RefusedError(Exception):
    """What one of Beam's parsers says."""


def _unknown_options(arguments: Sequence[str], *, known_to_engine: Collection[str]) -> list[str]:
    parser = _beam_parser()
    for name in known_to_engine:
        if f"--{name}" not in parser._option_string_actions:
            parser.add_argument(f"--{name}", nargs="?")
    try:
        _, unknown = parser.parse_known_args(list(arguments))
    except (_RefusedError, argparse.ArgumentError, ValueError) as error:
        raise ConfigError(
            f"beam: Beam refuses an option: {redacted(str(error))}. Received: {redacted(' '.join(arguments[1:]))}. "
            "Correct it in beam.options or beam.arguments."
        ) from None
    return unknown


def _beam_parser() -> argparse.ArgumentParser:
    from apache_beam.options import pipeline_options

    class Parser(pipeline_options._BeamArgumentParser):
        def error(self, message: str) -> None:
            raise _RefusedError(message.removeprefix("argument "))

    parser: argparse.ArgumentParser = Parser(allow_abbrev=False, add_help=False)
    for options in {str(cls): cls for cls in pipeline_options.PipelineOptions.__subclasses__()}.values():
        options._add_argparse_args(parser)
    return parser


def _no_such_option(argument: str, described: Collection[str] = ()) -> ConfigError:
    name = argument.partition("=")[0]
    if not name.startswith("--"):
        return ConfigError(f"beam: Beam takes options alone. Received: {redacted(argument)}. Write --NAME=VALUE.")
    known = [option.lstrip("-") for option in _beam_parser()._option_string_actions] + list(described)
    return ConfigError(
        f"beam: Beam has no such option.{nearest(name.lstrip('-'), known)} Received: {name}. Correct it in "
        "beam.options or beam.arguments; Beam's documentation of its runners lists the options."
    )


def _check_runner(runner: str) -> None:
    from apache_beam.runners.runner import create_runner

    name = BeamConfig(runner=runner).command_line[0].partition("=")[2] if runner != "DirectRunner" else runner
    try:
        create_runner(name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        remedy = "Install what it needs, `apache-beam[dask]`" if runner == "DaskRunner" else "Install what it needs"
        if runner not in RUNNERS:
            remedy = "Name the class by its import path"
        raise ConfigError(
            f"beam.runner: the runner cannot be imported ({type(error).__name__}: {error}). Received: {runner}. "
            f"{remedy}, or choose another."
        ) from error


def _address_of(config: str) -> str | None:
    if config.lstrip().startswith("{"):
        try:
            return str(json.loads(config)["url"])
        except (ValueError, KeyError, TypeError):
            return None
    return config or None
