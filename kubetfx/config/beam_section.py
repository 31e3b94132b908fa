"""The section `beam`: how the data-parallel nodes run."""

from pathlib import Path
from typing import Literal

from pydantic import field_validator

from kubetfx.config.section import Section


class BeamConfig(Section):
    """How the data-parallel nodes run."""

    runner: Literal["DirectRunner", "FlinkRunner", "SparkRunner", "DataflowRunner"] = "DirectRunner"
    """`DirectRunner` is this machine: the nodes go through the data themselves, in blocks, with a thread per core."""
    arguments: tuple[str, ...] = ()
    """Pipeline options as Beam's command line takes them. `--direct_num_workers=2` alone is a number of threads on this
    machine; with any other, such as `--direct_running_mode=multi_processing`, the nodes run as Beam pipelines.
    `${NAME}` in them is looked up by each node."""

    @field_validator("arguments")
    @classmethod
    def _number_of_workers_is_one(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        for argument in arguments:
            name, _, value = argument.partition("=")
            if name == "--direct_num_workers" and value and not value.isdecimal():
                raise ValueError(f"--direct_num_workers is a whole number, 0 for all cores. Received: {value}")
        return arguments

    @property
    def options(self) -> list[str]:
        """All of Beam's options, as its command line takes them. Empty where all are defaults."""
        if self.runner == "DirectRunner" and not self.arguments:
            return []  # with any, TFX packs itself for workers elsewhere at every node, which takes more than a second
        options = [f"--runner={self.runner}", *self.arguments]
        setup_file = Path(__file__).parents[2] / "setup.py"
        is_remote = self.runner != "DirectRunner"
        if is_remote and setup_file.is_file() and not any(a.startswith("--setup_file") for a in self.arguments):
            options.append(f"--setup_file={setup_file}")  # workers need our code
        return options
