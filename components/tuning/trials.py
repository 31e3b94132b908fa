"""A trial of a search: a training in memory with other settings, judged by the validation split."""

import functools
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
from absl import logging

from kubetfx.arrays import Array
from kubetfx.components.evaluation.metric import value_of
from kubetfx.components.evaluation.metric_registry import find_metric
from kubetfx.components.tuning.analyses import Analyses, AnalysisSources
from kubetfx.components.tuning.study import ERROR, FailedTrial, Plan, Search
from kubetfx.config.training_section import TrainingConfig
from kubetfx.errors import StorageError, TrainingError
from kubetfx.models.devices import prepare_devices
from kubetfx.models.fitting import Rows, Work, fit_model, load, predicted, validation_batch
from kubetfx.models.team import Team
from kubetfx.models.training import make_repeatable
from kubetfx.models.training_launch import TrainingJob
from kubetfx.models.tuned_settings import with_settings

PROCESS = "process"
"""Attribute of a trial: the number of the process that runs it."""


@dataclass(frozen=True)
class Workplace:
    """The inputs of trials besides the plan of their search."""

    job: TrainingJob
    """As for the Trainer, with the settings of the config."""
    sources: AnalysisSources


class Trials:
    """Trains the trials of one process, which share the rows that are in memory."""

    def __init__(self, plan: Plan, place: Workplace, *, index: int, folder: Path) -> None:
        """Open the study.

        Args:
            plan: The plan of the search.
            place: what is trained on.
            index: of this process.
            folder: for what is written on the way.

        Raises:
            ConfigError: the study is that of another search.
            StorageError: the storage cannot be reached.
        """
        self._plan, self._job, self._index = plan, place.job, index
        self._folder = folder
        self._analyses = Analyses(place.sources, folder)
        self._rows: tuple[str, tuple[Rows, Rows]] | None = None
        self.search = Search(plan, index=index)
        self._metric = find_metric(plan.metric, task=place.sources.task)

    def run(self, *, after: Callable[[Search], None] = lambda _: None) -> None:
        """Run trials until there are enough.

        Args:
            after: called with the search after each trial.

        Raises:
            StorageError: the storage no longer answers.
            TrainingError: there is no GPU, and the config says that there must be.
        """
        prepare_devices(TrainingConfig.model_validate(self._sections({})["training"]))
        self.search.run(self._objective, after=after)

    def _objective(self, trial: optuna.Trial) -> float:
        trial.set_user_attr(PROCESS, self._index)
        settings = {} if self.search.is_of_config(trial.number) else self._plan.space.suggest(trial)
        logging.info("Trial %d: %s", trial.number, settings or "the settings of the config")
        watch = TrialWatch(self.search, trial, is_of_config=not settings)
        try:
            value = self._trained(settings, watch)
        except (optuna.TrialPruned, StorageError):
            raise
        except Exception as error:
            logging.exception("Trial %d failed.", trial.number)
            first = next(iter(str(error).splitlines()), "")
            trial.set_user_attr(ERROR, f"{type(error).__name__}: {first}")
            raise FailedTrial(first) from error
        finally:
            trial.set_user_attr("epochs", watch.steps)
            keras.backend.clear_session()
            gc.collect()
        logging.info("Trial %d: %s %g", trial.number, self._plan.metric, value)
        return value

    def _trained(self, settings: Mapping[str, Any], watch: "TrialWatch") -> float:
        sections = self._sections(settings)
        training = TrainingConfig.model_validate(sections["training"])
        analysis = self._analyses.of(sections["features"])
        job = replace(
            self._job,
            custom_config=sections,
            schema_path=analysis.schema_path,
            transform_graph_path=analysis.transform_graph_path,
            model_run_dir=str(self._folder / "logs"),
        )
        work = Work.of(job.fn_args(), training, Team())
        train, validation = self._rows_of(work)
        make_repeatable(training.seed, Team())
        weights = getattr(validation, "weights", None)
        if watch.is_needed:
            watch.score = functools.partial(self.value, labels=validation.labels, weights=weights)
            work = replace(work, watch=watch)
        started = time.perf_counter()
        fitted = fit_model(work, train, validation, None, load_seconds=0)
        watch.steps = int(fitted.history["epochs"])
        logging.info("Trained %d epochs in %.1f s.", watch.steps, time.perf_counter() - started)
        answers = predicted(fitted.model, validation, validation_batch(work))
        value = self.value(answers, validation.labels, weights)
        if not np.isfinite(value):
            raise TrainingError(f"The metric {self._plan.metric} is not defined on the validation rows.")
        return value

    def _sections(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the custom config of the Trainer with other settings.

        One process trains a trial; it is repeated as a whole if killed.
        """
        fixed = {"training.distribution": None, "training.checkpoint_directory": None}
        return with_settings(self._job.custom_config, {**settings, **fixed})

    def _rows_of(self, work: Work) -> tuple[Rows, Rows]:
        """Return the rows of both splits, which are kept for the next trials with the same features."""
        if self._rows is None or self._rows[0] != work.rows_key:
            self._rows = None  # there may not be enough memory for two
            self._rows = (work.rows_key, load(work))
        return self._rows[1]

    def value(self, answers: Array, labels: Array, weights: Array | None) -> float:
        """Return the metric of predictions.

        Args:
            answers: (rows, outputs).
            labels: (rows,).
            weights: (rows,); None: each row counts once.
        """
        top_k = self._job.custom_config["model"]["top_k"]
        predictions = answers.astype(np.float64)
        predictions = predictions[:, 0] if self._metric.tasks == ("regression",) else predictions
        weights = None if weights is None else weights.astype(np.float64)
        return float(value_of(self._metric.make_accumulator(top_k=top_k), labels, predictions, weights))


class TrialWatch:
    """Reports the metric to Optuna at the rungs, and ends a trial that is behind or out of time."""

    def __init__(self, search: Search, trial: optuna.Trial, *, is_of_config: bool) -> None:
        """Find out at which epochs or rounds there is something to tell.

        Args:
            search: of the trial.
            trial: to watch.
            is_of_config: whether it has the settings of the config, and is trained to its end.
        """
        self._search, self._trial = search, trial
        self._rungs = set() if is_of_config else set(search.plan.rungs)
        self.is_needed = bool(self._rungs) or search.plan.tuning.minutes is not None
        self.steps = 0
        """Epochs or rounds so far."""
        self.score: Callable[[Array], float] = lambda _: float("nan")
        """The metric of predictions for the validation rows."""

    def __call__(self, step: int, predictions: Callable[[], Array]) -> None:
        """Look at a trial after an epoch or round.

        Args:
            step: its number, from 1.
            predictions: gives those for the validation rows, (rows, outputs).

        Raises:
            optuna.TrialPruned: the trial is to end.
        """
        self.steps = step
        if self._search.is_over_time and self._search.best is not None:
            raise optuna.TrialPruned("The time is over.")
        if step in self._rungs:
            self._trial.report(self.score(predictions()), step)
            if self._trial.should_prune():
                raise optuna.TrialPruned(f"Behind other trials after {step} epochs.")
