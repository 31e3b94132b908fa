"""What a trial tells Optuna while it trains, and when it ends early."""

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from kubetfx.components.tuning.search_space import SearchSpace
from kubetfx.components.tuning.study import Plan, Search
from kubetfx.components.tuning.trials import TrialWatch
from kubetfx.config.tuning_section import Interval, TuningConfig

SPACE = SearchSpace({"model.dropout": Interval(range=(0, 0.5))})


def search_in(folder, *, max_resource, **tuning):
    config = TuningConfig(**tuning)
    journal = str(folder / "study.journal")
    return Search(Plan("p", "0" * 64, config, SPACE, "auc", "higher", journal, seed=0, max_resource=max_resource))


def train(search, values):
    """An objective: trials that are as good as their value from the first epoch on, and the predictions asked for."""
    asked = []

    def objective(trial):
        SPACE.suggest(trial)
        watch = TrialWatch(search, trial, is_of_config=search.is_of_config(trial.number))
        watch.score = lambda predictions: float(predictions[0, 0])
        value = values[trial.number]
        for step in range(1, 10):
            watch(step, lambda step=step: asked.append((trial.number, step)) or np.full((1, 1), value))
        assert watch.steps == 9
        return value

    search.run(objective, after=lambda _: None)
    return asked


def test_trial_is_looked_at_at_its_rungs_and_ends_when_it_is_behind(tmp_path):
    search = search_in(tmp_path, max_resource=9, trials=12)
    assert search.plan.rungs == [1, 3]
    values = [0.1, *(1 - number / 20 for number in range(1, 12))]

    asked = train(search, values)

    states = [one.state for one in search.trials]
    assert states[0] == TrialState.COMPLETE  # that of the config is trained to its end, and nobody looks
    assert TrialState.PRUNED in states
    assert {step for _, step in asked} == {1, 3}
    assert 0 not in {number for number, _ in asked}
    pruned = search.trials[states.index(TrialState.PRUNED)]
    assert pruned.intermediate_values == dict.fromkeys(pruned.intermediate_values, values[pruned.number])


def test_without_rungs_and_limits_of_time_nobody_looks(tmp_path):
    search = search_in(tmp_path, max_resource=None, trials=2)
    trial = search.study.ask()

    assert not TrialWatch(search, trial, is_of_config=False).is_needed
    timed = search_in(tmp_path / "timed", max_resource=None, minutes=1)
    assert TrialWatch(timed, timed.study.ask(), is_of_config=True).is_needed


def test_trial_ends_with_the_time_once_there_is_a_best(tmp_path):
    search = search_in(tmp_path, max_resource=None, minutes=0.0001)
    trial = search.study.ask()
    watch = TrialWatch(search, trial, is_of_config=True)
    while not search.is_over_time:
        pass

    watch(1, lambda: np.zeros((1, 1)))  # the only trial is trained to its end
    search.study.tell(trial, 0.5)
    later = TrialWatch(search, search.study.ask(), is_of_config=False)
    with pytest.raises(optuna.TrialPruned, match=r"The time is over"):
        later(1, lambda: np.zeros((1, 1)))
