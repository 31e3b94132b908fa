"""The section `beam`: which engine processes the data, and how it is reached.

Beam's own parsers check the options before a run (kubetfx/engine/arguments.py): importing Beam takes
seconds, and most commands need only the section.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from kubetfx.config.section import Section, nearest

_DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"
"""Beam has no short name for it."""
RUNNERS = (
    "DirectRunner",
    "PrismRunner",
    "PortableRunner",
    "FlinkRunner",
    "SparkRunner",
    "DataflowRunner",
    "DaskRunner",
    "KafkaStreamsRunner",
    "InteractiveRunner",
    "FnApiRunner",
    "BundleBasedDirectRunner",
    "SwitchingDirectRunner",
    "TestDirectRunner",
    "TestDataflowRunner",
)
"""The runners that Beam names (`StandardOptions.KNOWN_RUNNER_NAMES`), and DaskRunner."""
_ADDRESS = re.compile(r"[^\s/:]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")


class EnvironmentConfig(Section):
    """Where an engine runs the Python code of a step, as Beam names it."""

    type: Literal["DOCKER", "PROCESS", "EXTERNAL", "LOOPBACK"]
    """DOCKER: a container per worker. PROCESS: a command on the engine's machines. EXTERNAL: a pool of workers that is
    already running. LOOPBACK: the process that runs the pipeline, for trials.
    """
    config: str | dict[str, str | dict[str, str]] = ""
    """DOCKER: the image. PROCESS: `{command: /opt/apache/beam/boot}`. EXTERNAL: host and port of the pool, as the
    engine reaches it."""

    @model_validator(mode="after")
    def _has_what_its_type_needs(self) -> Self:
        needed = {"PROCESS": "the command, {command: /opt/apache/beam/boot}", "EXTERNAL": "the pool, HOST:PORT"}
        if self.type in needed and not self.config:
            raise ValueError(
                f"beam.environment.config is missing. Received: nothing, with type: {self.type}. Give "
                f"{needed[self.type]}"
            )
        if self.type == "EXTERNAL" and isinstance(self.config, str):
            _check_address("beam.environment.config", self.config)
        return self


class BeamConfig(Section):
    """How the data-parallel nodes run."""

    runner: str = "DirectRunner"
    """`DirectRunner` runs on this machine: the nodes process the data themselves, in blocks, with one thread per core.
    Otherwise any other runner that Beam names, such as `PortableRunner`, `FlinkRunner`, `SparkRunner` or
    `DataflowRunner`, or the import path of a runner's class.
    """
    endpoint: str | None = None
    """Host and port of the engine's job service: `localhost:8099`."""
    environment: EnvironmentConfig | None = None
    """Where the engine runs Python. Default: the runner's."""
    image: str | None = None
    """Image of the engine's workers; the Dockerfile's target `beam-worker` is one."""
    options: dict[str, Any] = {}
    """Options of Beam and of its runner by name, without dashes: `{parallelism: 4, flink_version: "1.19"}`."""
    timeout: float = Field(120.0, gt=0)
    """Seconds that the engine has to answer, and to start its first worker."""
    arguments: tuple[str, ...] = ()
    """The same as `options`, as Beam's command line takes them. `--direct_num_workers=2` alone is a number of threads
    on this machine; with any other, such as `--direct_running_mode=multi_processing`, the nodes run as Beam
    pipelines."""

    @field_validator("runner")
    @classmethod
    def _runner_is_known(cls, runner: str) -> str:
        if runner in RUNNERS or "." in runner:
            return runner
        raise ValueError(
            f"unknown runner.{nearest(runner, RUNNERS)} Known: {', '.join(RUNNERS)}; or "
            f"the import path of a class. Received: {runner!r} (text)"
        )

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_an_address(cls, endpoint: str | None) -> str | None:
        if endpoint is not None:
            _check_address("beam.endpoint", endpoint)
        return endpoint

    @field_validator("options")
    @classmethod
    def _options_are_values_by_name(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name, value in options.items():
            inner = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else [value]
            if any(isinstance(part, dict | list) for part in inner):
                raise ValueError(
                    f"beam.options.{name} must be a value, a list of values, or a mapping of values. Received: "
                    f"{value!r}"
                )
            if name.startswith("-"):
                raise ValueError(f"names of options have no leading dashes. Received: {name}. Try {name.strip('-')}")
        return options

    @field_validator("arguments")
    @classmethod
    def _number_of_workers_is_one(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        for argument in arguments:
            name, _, value = argument.partition("=")
            if name == "--direct_num_workers" and value and not value.isdecimal():
                raise ValueError(f"--direct_num_workers must be a whole number, 0 for all cores. Received: {value}")
        return arguments

    @model_validator(mode="after")
    def _nothing_is_said_twice(self) -> Self:
        given = {argument.partition("=")[0].lstrip("-") for argument in self.arguments} | set(self.options)
        for key, names in {
            "runner": ("runner",),
            "endpoint": ("job_endpoint",),
            "environment": ("environment_type", "environment_config"),
            "image": ("sdk_container_image", "worker_harness_container_image"),
        }.items():
            if twice := [name for name in names if name in given and getattr(self, key) is not None]:
                if key == "runner" and "runner" not in self.changed:
                    raise ValueError(
                        f"beam.options: the runner has a key of its own. Received: {twice[0]}. Set beam.runner"
                    )
                raise ValueError(f"beam.{key} and the option {twice[0]} say the same. Leave one of them out")
        if self.image and self.environment and self.environment.type != "DOCKER":
            raise ValueError(
                f"beam.image applies to containers only. Received: beam.environment.type: {self.environment.type}. "
                f"Leave "
                "beam.image out: whoever starts the workers chooses their image"
            )
        return self

    @property
    def command_line(self) -> list[str]:
        """All options in the form of Beam's command line; references to variables stay unresolved.

        Empty if all are defaults.
        """
        found = [*self._reached_by(), *_as_arguments(self.options), *self.arguments]
        if self.runner == "DirectRunner" and not found:
            # with any option, TFX packages itself for remote workers at every node, which takes more than a second
            return []
        return [f"--runner={_DASK if self.runner == 'DaskRunner' else self.runner}", *found]

    def _reached_by(self) -> Iterator[str]:
        if self.endpoint:
            yield f"--job_endpoint={self.endpoint}"
        if self.environment:
            config = self.environment.config or self.image or ""
            yield f"--environment_type={self.environment.type}"
            if config:
                yield f"--environment_config={config if isinstance(config, str) else json.dumps(config)}"
        elif self.image and self.runner == "DataflowRunner":
            yield f"--sdk_container_image={self.image}"
        elif self.image:
            yield "--environment_type=DOCKER"
            yield f"--environment_config={self.image}"


def _as_arguments(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if value is True:
            yield f"--{name}"
        elif isinstance(value, list):
            yield from (f"--{name}={entry}" for entry in value)
        elif isinstance(value, dict):
            yield f"--{name}={json.dumps(value)}"
        elif value is not None and value is not False:
            yield f"--{name}={value}"


def _check_address(key: str, address: str) -> None:
    if "${" in address or address.startswith("{"):
        return  # resolved where it is used; or Beam's own JSON
    if not _ADDRESS.fullmatch(address):
        raise ValueError(f"{key} must be HOST:PORT. Received: {address!r}. Try localhost:8099")
