"""The results of a search: every trial, the best, and the importance of each setting. The report reads them."""

import json
import math
import warnings
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from kubetfx.artifacts import HYPERPARAMETERS, STUDY, TUNER_RESULTS
from kubetfx.config.metric_catalogue import Better
from kubetfx.storage import write_text

LATEST = "latest.json"
"""File with the results of the last search so far, beside its study."""

_FEWEST = 8
"""Minimum number of trials that were trained to their end, which the importance of settings is estimated from."""

State = Literal["complete", "pruned", "failed", "running"]


class TrialResult(BaseModel):
    """A trial."""

    model_config = ConfigDict(frozen=True)

    number: int
    """From 0; the first has the settings of the config."""
    state: State
    settings: dict[str, Any]
    """By dotted key; empty: those of the config."""
    value: float | None = None
    """Value of the metric on the validation split; of one that was pruned, at its last rung."""
    seconds: float | None = None
    epochs: int | None = None
    """Or rounds, that were trained."""
    error: str | None = None


class TuningResults(BaseModel):
    """The results of a search so far."""

    model_config = ConfigDict(frozen=True)

    study: str
    metric: str
    better: Better
    asked: int | None
    """Trials that were asked for; None: as many as there was time for."""
    trials: list[TrialResult]
    best: int | None = None
    """Number of the best trial."""
    best_settings: dict[str, Any] = {}
    """Values of all keys that were searched: where the config's own are the best, those."""
    own_settings: dict[str, Any] = {}
    """Values of these keys in the config, but for those that it leaves to the data."""
    importance: dict[str, float] = {}
    """Share of each key in how much the metric differs between trials."""

    @property
    def best_trial(self) -> TrialResult | None:
        """The best trial."""
        return next((one for one in self.trials if one.number == self.best), None)

    @property
    def default_trial(self) -> TrialResult | None:
        """That with the settings of the config, if it was trained."""
        return next((one for one in self.trials if not one.settings and one.value is not None), None)

    @property
    def ranked(self) -> list[TrialResult]:
        """Trials that were trained to their end, the best first."""
        sign = 1 if self.better == "lower" else -1
        done = [one for one in self.trials if one.state == "complete" and one.value is not None]
        return sorted(done, key=lambda one: (sign * (one.value or 0), one.number))

    def count(self, state: State) -> int:
        """Return the number of trials in a state.

        Args:
            state: in which they are.
        """
        return sum(one.state == state for one in self.trials)


def describe(search: Any, own_settings: dict[str, Any]) -> TuningResults:
    """Return the results of a search so far.

    Args:
        search: the study, see components/tuning/study.py.
        own_settings: values of the searched keys in the config.
    """
    from optuna.trial import TrialState

    states: dict[TrialState, State] = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running",
    }
    trials = [
        TrialResult(
            number=one.number,
            state=states[one.state],
            settings=search.settings_of(one),
            value=_number(one.value if one.state == TrialState.COMPLETE else _last(one.intermediate_values)),
            seconds=one.duration.total_seconds() if one.duration else None,
            epochs=one.user_attrs.get("epochs"),
            error=one.user_attrs.get("error"),
        )
        for one in search.trials
        if one.state in states
    ]
    best = search.best
    plan = search.plan
    asked = plan.tuning.most_trials
    return TuningResults(
        study=plan.name,
        metric=plan.metric,
        better=plan.better,
        asked=None if math.isinf(asked) else int(asked),
        trials=trials,
        best=best.number if best else None,
        best_settings=(search.settings_of(best) or own_settings) if best else {},
        own_settings=own_settings,
        importance=_importance(search),
    )


def _last(values: dict[int, float]) -> float | None:
    return values[max(values)] if values else None


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _importance(search: Any) -> dict[str, float]:
    """Return importances by PED-ANOVA, which needs no forest. Empty with too few trials."""
    import optuna

    values = [one.value for one in search.complete if one.value is not None]
    if len(values) < _FEWEST or min(values) == max(values):
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found = optuna.importance.get_param_importances(
                search.study, evaluator=evaluator, params=list(search.plan.space.search)
            )
    except (ValueError, RuntimeError):
        return {}
    return {key: value for key, value in found.items() if math.isfinite(value)}


def latest_path(tuner_folder: Path) -> Path:
    """Return the file with what the last search has found so far, whether or not it came to its end.

    Args:
        tuner_folder: of the artifacts of all runs of the Tuner.
    """
    return tuner_folder / ".studies" / LATEST


def write(results: TuningResults, folder: Path) -> None:
    """Write the results of a search beside the rows that TFX's Tuner writes.

    Args:
        results: The results of the search.
        folder: The folder of the artifact of tuner results.
    """
    rows = [{"trial_id": str(one.number), "score": one.value, **one.settings} for one in results.ranked]
    write_text(folder / TUNER_RESULTS, json.dumps(rows))
    write_text(folder / STUDY, results.model_dump_json(indent=1))


def read(folder: Path) -> TuningResults | None:
    """Return the results of a search; None without results.

    Args:
        folder: The folder of its artifact.
    """
    path = folder / STUDY
    return TuningResults.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def write_hyperparameters(config: dict[str, Any], folder: Path) -> None:
    """Write the best settings as TFX's Tuner does.

    Args:
        config: The settings as the config of a KerasTuner HyperParameters object.
        folder: The folder of the artifact, which holds nothing else.
    """
    write_text(folder / HYPERPARAMETERS, json.dumps(config))
