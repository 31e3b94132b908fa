"""The study of a search: its trials, the remaining budget, and the best trial.

Optuna draws settings, prunes, and stores trials. This module adds an exact budget across several processes, and
restarts of trials whose process was killed.
"""

import math
import re
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from kubetfx.components.tuning.search_space import SearchSpace
from kubetfx.components.tuning.study_storage import open_storage
from kubetfx.config.metric_catalogue import Better
from kubetfx.config.tuning_section import TuningConfig
from kubetfx.errors import ConfigError, StorageError, TrainingError

RETRY_OF = "retry_of"
"""Attribute of a trial: the number of one whose process was killed, and whose settings it has."""
SURPLUS = "surplus"
"""Attribute of a trial that began when the others were enough already, and does nothing."""
ERROR = "error"
"""Attribute of a trial that failed: why."""
_SEARCH = "search"
"""Attribute of the study: the digest of what is searched, and with what."""
_RETRIES = 2
"""Number of retries of settings whose process was killed, since the settings may be the cause."""
_REDUCTION = 3
"""Reduction factor of Hyperband: one of this many trials at a rung continues."""
_RUNGS = 2
"""Rungs of Hyperband before the last epoch."""
_POLL_SECONDS = 1.0


class FailedTrial(Exception):  # noqa: N818 - not an error of the search
    """The training of a trial failed; the search goes on."""


@dataclass(frozen=True)
class Plan:
    """The definition of a search, the same in all of its processes."""

    name: str
    """Name of the study."""
    digest: str
    """Digest of what is searched, and with what."""
    tuning: TuningConfig
    space: SearchSpace
    metric: str
    better: Better
    journal: str
    """File of the study, where `tuning.storage` names no database."""
    seed: int
    max_resource: int | None
    """Epochs or rounds of a trial at most; None: trials are not stopped early."""
    run_here: bool = True
    """Whether `tuning.parallel` processes are started here; or this is one of several tasks in a cluster."""

    @property
    def rungs(self) -> list[int]:
        """Numbers of epochs or rounds after which a trial may be stopped."""
        if self.max_resource is None:
            return []
        lowest = self._min_resource
        powers = range(_RUNGS + 1)
        return [step for step in (lowest * _REDUCTION**power for power in powers) if step < self.max_resource]

    @property
    def _min_resource(self) -> int:
        return max((self.max_resource or 1) // int(_REDUCTION**_RUNGS), 1)

    def pruner(self) -> optuna.pruners.BasePruner:
        """Optuna's pruner, which is consulted at the rungs."""
        if self.max_resource is None:
            return optuna.pruners.NopPruner()
        return optuna.pruners.HyperbandPruner(
            min_resource=self._min_resource, max_resource=self.max_resource, reduction_factor=_REDUCTION
        )

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """Return Optuna's sampler.

        Args:
            seed: A different seed in each process, and after each start.
        """
        if self.tuning.sampler == "random":
            return optuna.samplers.RandomSampler(seed)
        trials = self.tuning.most_trials
        first = 10 if math.isinf(trials) else min(max(int(trials) // 8, 3), 10)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=first, multivariate=True, group=True, constant_liar=self.tuning.parallel > 1
            )


class Search:
    """A study that is open in this process."""

    def __init__(self, plan: Plan, *, index: int = 0) -> None:
        """Open or create the study.

        Args:
            plan: The plan of the search.
            index: of this process among those of the search.

        Raises:
            ConfigError: the study is that of another search.
            StorageError: the storage cannot be reached.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.plan = plan
        self._storage = open_storage(
            plan.tuning, Path(plan.journal), on_stale=lambda _, trial: self.retry(trial.number)
        )
        self.study = optuna.create_study(  # Optuna's own
            study_name=plan.name,
            storage=self._storage,
            direction="minimize" if plan.better == "lower" else "maximize",
            pruner=plan.pruner(),
            load_if_exists=True,
        )
        self._check_is_this()
        self.study.sampler = plan.sampler(plan.seed + 1_000 * index + len(self.study.get_trials(deepcopy=False)))
        self._deadline = self._time_left()

    def _check_is_this(self) -> None:
        known = self.study.user_attrs.get(_SEARCH)
        if known is None:
            self.study.set_user_attr(_SEARCH, self.plan.digest)
        elif known != self.plan.digest:
            raise ConfigError(
                f"The study {self.plan.name!r} is that of another search: of other data, settings or values. Received: "
                f"tuning.study: {self.plan.name}. Give this search another name, or none: then one is made for it."
            )

    def _time_left(self) -> float:
        """Return until when trials may run, by this process' clock."""
        if self.plan.tuning.minutes is None:
            return math.inf
        seconds = sum(one.duration.total_seconds() for one in self.trials if one.duration is not None)
        return time.monotonic() + 60 * self.plan.tuning.minutes - seconds / self.plan.tuning.parallel

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials that count: not those whose settings were retried, or that began when there were enough."""
        found = self.study.get_trials(deepcopy=False)
        replaced = {one.user_attrs[RETRY_OF] for one in found if RETRY_OF in one.user_attrs}
        return [one for one in found if one.number not in replaced and SURPLUS not in one.user_attrs]

    @property
    def finished(self) -> list[FrozenTrial]:
        """The trials that are over."""
        return [one for one in self.trials if one.state.is_finished()]

    @property
    def complete(self) -> list[FrozenTrial]:
        """The trials that were trained to their end."""
        return [one for one in self.trials if one.state == TrialState.COMPLETE]

    @property
    def best(self) -> FrozenTrial | None:
        """The best trial so far that was trained to its end; of equal ones the first."""
        sign = 1 if self.plan.better == "lower" else -1
        return min(self.complete, key=lambda one: (sign * float(one.value or 0), one.number), default=None)

    def settings_of(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return the settings of a trial, by dotted key; none for those of the config itself.

        Args:
            trial: of this study.
        """
        return self.plan.space.settings(trial.params)

    def run(self, objective: Callable[[optuna.Trial], float], *, after: Callable[["Search"], None]) -> None:
        """Run trials until there are enough, or the time is over.

        Args:
            objective: trains with the settings of a trial, and returns the metric. The first trial of a study is to
                have those of the config. It may raise FailedTrial, or `optuna.TrialPruned`.
            after: called after each trial.

        Raises:
            StorageError: the storage no longer answers.
            KeyboardInterrupt: passed on; the trial that ran is run again by the next search.
        """

        def guarded(trial: optuna.Trial) -> float:
            if self._is_surplus(trial.number):
                trial.set_user_attr(SURPLUS, True)
                raise FailedTrial("There are enough trials.")
            try:
                return objective(trial)
            except KeyboardInterrupt:
                self.retry(trial.number)
                raise

        while time.monotonic() < self._deadline:
            self._fail_stale()
            if self._num_begun() < self.plan.tuning.most_trials:
                self._optimize(guarded)
                after(self)
            elif self._others_run():  # and may be killed, so that their trials are to be run again
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _optimize(self, objective: Callable[[optuna.Trial], float]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            try:
                self.study.optimize(objective, n_trials=1, catch=(FailedTrial,))
            except Exception as error:  # Optuna trips over a storage that does not take the end of a trial
                cause: BaseException | None = error
                while cause is not None and not isinstance(cause, StorageError):
                    cause = cause.__context__
                raise cause or error from None

    @property
    def is_over_time(self) -> bool:
        """Whether no trial may begin any more, and those that run are to end."""
        return time.monotonic() >= self._deadline

    def _num_begun(self) -> int:
        return sum(one.state != TrialState.WAITING for one in self.trials)

    def _is_surplus(self, number: int) -> bool:
        """Return whether enough trials began before this one: two processes may begin one at the same time."""
        before = [one for one in self.trials if one.number < number and one.state != TrialState.WAITING]
        return len(before) >= self.plan.tuning.most_trials

    def _others_run(self) -> bool:
        return self.plan.tuning.storage is not None and any(one.state == TrialState.RUNNING for one in self.trials)

    def is_of_config(self, number: int) -> bool:
        """Return whether a trial uses the settings of the config: the first one, or its retry.

        Args:
            number: The number of the trial.
        """
        return self._origin(number) == 0

    def _origin(self, number: int) -> int:
        retried = {one.number: one.user_attrs.get(RETRY_OF) for one in self.study.get_trials(deepcopy=False)}
        while (earlier := retried.get(number)) is not None:
            number = earlier
        return number

    def retry(self, number: int) -> None:
        """Retry the settings of a trial whose process ended during the trial.

        Args:
            number: The number of the trial.
        """
        trial = next(one for one in self.study.get_trials(deepcopy=False) if one.number == number)
        if self._num_tries(number) <= _RETRIES:
            self.study.enqueue_trial(trial.params, user_attrs={RETRY_OF: number})

    def _num_tries(self, number: int) -> int:
        """Return trials with the settings of one, up to it."""
        retried = {one.number: one.user_attrs.get(RETRY_OF) for one in self.study.get_trials(deepcopy=False)}
        tries = 1
        while (earlier := retried.get(number)) is not None:
            number, tries = earlier, tries + 1
        return tries

    def retry_killed(self, numbers: Sequence[int] | None = None) -> None:
        """Retry trials whose processes are gone.

        Args:
            numbers: The numbers of the trials; None: all that seem to be running, if nobody else uses the study.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if numbers is None or trial.number in numbers:
                self._storage.set_trial_user_attr(trial._trial_id, ERROR, "The process was killed.")
                self.study.tell(trial.number, state=TrialState.FAIL)
                self.retry(trial.number)

    def _fail_stale(self) -> None:
        """Retry trials of processes whose heartbeats in a database have stopped."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)


def named(plan: Plan) -> Plan:
    """Return a plan whose study has the configured name, or a derived one.

    Args:
        plan: with the name of the pipeline.
    """
    return replace(plan, name=plan.tuning.study or f"{plan.name}-{plan.digest[:12]}")


def check_some_succeeded(search: Search) -> None:
    """Check that there is a best trial.

    Args:
        search: that is over.

    Raises:
        TrainingError: there is none. The message has each kind of reason once.
    """
    if search.best is not None:
        return
    reasons: dict[str, list[str]] = {}
    for one in search.finished:
        reason = str(one.user_attrs.get(ERROR) or "It was stopped before its end.")
        reasons.setdefault(re.sub(r"[-+.\de]*\d", "", reason), []).append(reason)
    lines = [f"  {len(alike)} x {alike[0]}" for alike in reasons.values()]
    raise TrainingError(
        f"No trial of the search was trained to its end. Received: {len(search.finished)} trials.\n"
        + "\n".join(lines or ["  There was no time for any: raise tuning.minutes."])
        + "\nLet tuning.search have values that can be trained."
    )
