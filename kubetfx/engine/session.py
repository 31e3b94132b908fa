"""An engine for the length of a run.

It has its command line with the values of references, the code for its workers, and one look at it before the first
job.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.references import resolved
from kubetfx.engine.arguments import SECRETS, Engine, engine_of, ships_code
from kubetfx.progress import Begin, End, Progress, silent
from kubetfx.storage import Location, is_url

if TYPE_CHECKING:  # Beam takes a second to import
    import apache_beam as beam

PATIENCE = 120.0
"""Seconds that an engine may take to answer where no config says it."""


class Session:
    """An engine for the length of a run. Nothing is done before it is needed."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        shared: Location | None = None,
        modules: Iterable[str] = (),
        places: Iterable[Path] = (),
        patience: float = PATIENCE,
        progress: Progress = silent,
    ) -> None:
        """Prepare a session.

        Args:
            arguments: Beam's command line, with references.
            folder: of this process, for the package of the workers.
            shared: folder that this process and the workers see, for a file that they are asked for. Default: the same.
            modules: import paths of the user's, that workers need.
            places: files and folders of this file system that workers read.
            patience: seconds that the engine may take to answer.
            progress: is called when the engine is examined.
        """
        self._given = list(arguments)
        self.folder = folder
        self.shared = folder if shared is None else shared
        self.modules = tuple(dict.fromkeys(modules))
        self.places = tuple(places)
        self.patience = patience
        self._progress = progress
        self._is_examined = False

    @classmethod
    def of(cls, config: PipelineConfig, *, progress: Progress = silent) -> "Session":
        """Make the session of a config.

        Args:
            config: The config of the pipeline.
            progress: is called when the engine is examined.

        Returns:
            The session, with the modules and the places that its workers need.
        """
        bucket = config.artifacts.bucket
        places = [config.data.path, *([] if bucket else [str(config.push_path)])]
        return cls(
            config.beam.command_line,
            folder=config.workspace_path / "engine",
            shared=bucket / "engine" if bucket else None,
            modules=config.own_modules.values(),
            places=[Path(place) for place in places if not is_url(place) and Path(place).exists()],
            patience=config.beam.timeout,
            progress=progress,
        )

    @functools.cached_property
    def engine(self) -> Engine:
        """What the command line is about."""
        return engine_of(self._values)

    @functools.cached_property
    def arguments(self) -> list[str]:
        """Beam's command line, with values instead of references, and with the package where workers need it."""
        if not self._values or not self.engine.is_remote or ships_code(self._values):
            return self._values
        from kubetfx.engine.shipping import build_package

        _ = self.code
        return [*self._values, f"--extra_package={build_package(self.modules, self.folder)}"]

    @functools.cached_property
    def code(self) -> str:
        """Digest of kubetfx's code as it was when it was first asked for: before it is packed."""
        from kubetfx.engine.shipping import own_digest

        return own_digest()

    @functools.cached_property
    def _values(self) -> list[str]:
        values: list[str] = resolved(self._given, key=SECRETS)
        return values

    def with_own(self, arguments: Sequence[str]) -> list[str]:
        """Return the command line of a component that has arguments of its own, which count more.

        Args:
            arguments: its own, with references.
        """
        return [*self.arguments, *resolved(list(arguments), key=SECRETS)]

    def pipelines(self, arguments: Sequence[str]) -> "Callable[[], beam.Pipeline] | None":
        """Say how an executor of TFX is to make its pipelines.

        Args:
            arguments: The arguments of the executor: those of the session, and perhaps its own.

        Returns:
            A function that makes a pipeline; None where TFX's own does, since nothing runs elsewhere.
        """
        if not engine_of(arguments).is_elsewhere:
            return None
        return functools.partial(self.pipeline, arguments)

    def pipeline(self, arguments: Sequence[str] | None = None) -> "beam.Pipeline":
        """Make a pipeline. Before the first one the engine is examined.

        Args:
            arguments: default: those of the session.

        Returns:
            The pipeline, to be used as a context.

        Raises:
            EngineError: the engine cannot be reached, or its workers cannot do the work.
            ConfigError: the engine has no such option.
        """
        from kubetfx.engine.jobs import Job

        self.examine()
        return Job(self.arguments if arguments is None else arguments, patience=self.patience)

    def examine(self) -> None:
        """Look at the engine, unless that was done.

        Raises:
            EngineError: it cannot be reached, or its workers cannot do the work.
            ConfigError: it has no such option.
        """
        if self._is_examined or not self.engine.is_elsewhere:
            return
        from kubetfx.engine import examination

        self._progress(Begin(f"Examining {self.engine}"))
        examination.examine_engine(self)
        self._is_examined = True
        self._progress(End())
