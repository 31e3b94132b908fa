"""`kubetfx watch`: a process that repeatedly decides whether to run the pipeline, and runs it."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from kubetfx.components.data.retraining import DECISIONS, Decision, Memory, decide, utc_now
from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.retrain_section import RetrainConfig
from kubetfx.errors import ConfigError, KubetfxError, UsageError
from kubetfx.pipeline.forked_runs import Interrupts, import_for_runs, sleep
from kubetfx.progress import Message, Progress
from kubetfx.workspace import locked, watched

Clock = Callable[[], datetime]
_TIME = "%Y-%m-%d %H:%M:%S UTC"


def decision_now(config: PipelineConfig, clock: Clock = utc_now) -> Decision:
    """Decide whether to run a pipeline again.

    Args:
        config: with the section `retrain`.
        clock: says what time it is.

    Returns:
        The decision. A run in progress is a reason not to begin another.

    Raises:
        ConfigError: the section is missing.
    """
    retrain = section_of(config)
    try:
        with locked(config.workspace_path):
            pass
    except UsageError:
        return Decision(False, "Not now: a run is using the workspace.", {})
    memory = Memory.read(config.workspace_path)
    return decide(retrain, config.data, memory, clock(), drift=lambda: _crossed(config))


def section_of(config: PipelineConfig) -> RetrainConfig:
    """Return the section `retrain`.

    Args:
        config: The config of the pipeline.

    Raises:
        ConfigError: there is none.
    """
    if config.retrain is None:
        raise ConfigError(
            "There is no section `retrain`, which says when to run again. Received: none. Add it, for example "
            "retrain: {on: [new_span], at_most: 1d}"
        )
    return config.retrain


def watch(
    config_path: Path,
    overrides: Sequence[str],
    progress: Progress,
    *,
    run: Callable[[], int],
    seconds: float,
) -> int:
    """Decide and run until the process is interrupted. Each run is a process forked from this one.

    Args:
        config_path: pipeline.yaml; it is read before each decision, and one with an error waits for its next version.
        overrides: what `--set` puts over it.
        progress: is given each decision that differs from the one before.
        run: runs the pipeline, says how it went, and returns the exit code; called in a process of its own.
        seconds: between two decisions.

    Returns:
        The exit code: 0 if the interruption came between two runs, else that of the run that it ended.

    Raises:
        ConfigError: the config has an error at the start.
        UsageError: another process watches the pipeline.
    """
    config = load_config(config_path, overrides=overrides)
    section_of(config)
    with watched(config.workspace_path):
        import_for_runs(config, progress)
        interrupts = Interrupts()
        said = ""
        while not interrupts.came:
            try:
                config = load_config(config_path, overrides=overrides)
                decision = decision_now(config)
            except KubetfxError as error:
                decision = Decision(False, f"Not now: {error}", {})
            if decision.retrain or decision.why != said:
                _say(config, decision, progress)
            said = decision.why
            if decision.retrain:
                exit_code = _run(config, decision, lambda: interrupts.run(run))
                if interrupts.came:
                    return exit_code
            else:
                sleep(seconds, interrupts)
    return 0


def watch_once(config: PipelineConfig, progress: Progress, *, run: Callable[[], int], clock: Clock = utc_now) -> int:
    """Decide once, and run if that is the decision.

    Args:
        config: with the section `retrain`.
        progress: is given the decision.
        run: runs the pipeline, says how it went, and returns the exit code.
        clock: says what time it is.

    Returns:
        The exit code: that of the run, or 0.

    Raises:
        ConfigError: the section is missing.
        UsageError: another process watches the pipeline.
    """
    section_of(config)
    with watched(config.workspace_path):
        decision = decision_now(config, clock)
        _say(config, decision, progress, clock)
        return _run(config, decision, run, clock) if decision.retrain else 0


def _run(config: PipelineConfig, decision: Decision, run: Callable[[], int], clock: Clock = utc_now) -> int:
    """Run, and write the memory before and after, so that a process that is killed in between is noticed."""
    begun = Memory.read(config.workspace_path).begun(decision.spans, clock())
    begun.write(config.workspace_path)
    exit_code = run()
    begun.ended(exit_code, clock()).write(config.workspace_path)
    return exit_code


def _say(config: PipelineConfig, decision: Decision, progress: Progress, clock: Clock = utc_now) -> None:
    now = clock()
    what = "Running: " if decision.retrain else ""
    progress(Message(f"{now:{_TIME}}  {what}{decision.why}", style="bold" if decision.retrain else "dim"))
    line = {"at": now.isoformat(), "retrain": decision.retrain, "why": decision.why}
    with (config.workspace_path / DECISIONS).open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(line, ensure_ascii=False)}\n")


def _crossed(config: PipelineConfig) -> Sequence[str]:
    from kubetfx.pipeline.monitoring import monitor  # it imports what reads requests

    return [f"Drift: {one}." for one in monitor(config).crossed]
