"""`kubetfx.tune`: a pipeline up to its Tuner."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubetfx.config.loading import ConfigSource, as_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.tuning_section import TuningConfig
from kubetfx.pipeline import running
from kubetfx.progress import Progress, silent

if TYPE_CHECKING:  # importing TFX takes seconds
    from kubetfx.components.tuning.tuning_results import TuningResults
    from kubetfx.pipeline.run_result import RunResult


@dataclass(frozen=True)
class TuningRun:
    """A run of a pipeline up to its Tuner."""

    run: "RunResult"
    results: "TuningResults"
    """Every trial, and the best."""


def tune(config: ConfigSource, *, progress: Progress = silent, command: Sequence[str] = ()) -> TuningRun:
    """Search for better settings: run a pipeline up to its Tuner; what did not change is taken from the cache.

    Trials that were finished before the process was killed are kept, and the same call goes on with them.

    Args:
        config: The config of the pipeline, or what `load_config` takes. Without a section `tuning`, the defaults of
            that section.
        progress: is given each event as it happens: `print`, `kubetfx.progress.Console()`, or a function of yours.
        command: that started the run, for its record.

    Returns:
        The results of the search.

    Raises:
        ConfigError: the config is wrong, has a `definition` without a Tuner, or names columns that the data lacks; or
            the study is that of another search.
        DataError: the data cannot be read, or its label cannot be learned.
        UsageError: another run is using the workspace.
        TrainingError: no trial could be trained to its end.
        StorageError: the database of the trials cannot be reached.
        NodeFailedError: a node failed; the next run goes on from there.

    Example:
        >>> import kubetfx
        >>> found = kubetfx.tune("examples/penguins/pipeline.yaml")
        >>> found.results.best_settings["training.learning_rate"] > 0
        True
    """
    config = with_tuning(as_config(config))

    from kubetfx.components.tuning import tuning_results

    run = running.run(config, until="Tuner", progress=progress, command=command)
    folder = next(uris[0] for node in run.nodes for key, uris in node.outputs.items() if key == "tuner_results")
    found = config.artifacts.find(folder)
    results = tuning_results.read(found) if found else None
    assert results is not None  # the Tuner has just ended, or is in the cache
    return TuningRun(run, results)


def with_tuning(config: PipelineConfig) -> PipelineConfig:
    """Return a config that has a search.

    Args:
        config: which need not have one.
    """
    return config if config.tuning is not None else config.model_copy(update={"tuning": TuningConfig()})


def results_so_far(config: PipelineConfig) -> "TuningResults | None":
    """Return what the last search in a workspace had found when it was interrupted; None if that was nothing.

    Args:
        config: The config of the pipeline.
    """
    from kubetfx.components.tuning.tuning_results import TuningResults, latest_path

    path = latest_path(config.artifacts.folder / "Tuner")
    if not path.is_file():
        return None
    results = TuningResults.model_validate_json(path.read_text(encoding="utf-8"))
    return results if results.best_trial else None
