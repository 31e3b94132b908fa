"""Studies: a budget that is kept to, killed trials that are run again, and what a search says that found nothing."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace

import optuna
import pytest

from kubetfx.components.tuning.search_space import SearchSpace
from kubetfx.components.tuning.study import ERROR, FailedTrial, Plan, Search, check_some_succeeded, named
from kubetfx.components.tuning.tuning_results import describe
from kubetfx.config.tuning_section import Interval, TuningConfig
from kubetfx.errors import ConfigError, TrainingError

SPACE = SearchSpace({"model.dropout": Interval(range=(0, 0.5)), "model.hidden_units": ([64], [128, 64])})


@pytest.fixture
def plan(tmp_path):
    return plan_in(tmp_path)


def plan_in(folder, **tuning):
    config = TuningConfig(**{"trials": 6, **tuning})
    journal = str(folder / "study.journal")
    return named(Plan("houses", "0" * 64, config, SPACE, "auc", "higher", journal, seed=0, max_resource=None))


def drawn(search):
    """An objective: the dropout; the first trial is that of the config."""

    def objective(trial):
        settings = {} if search.is_of_config(trial.number) else SPACE.suggest(trial)
        return settings.get("model.dropout", 0.1)

    return objective


def run(search, objective=None):
    search.run(objective or drawn(search), after=lambda _: None)
    return search


def test_search_ends_with_as_many_trials_as_were_asked_for(plan):
    search = run(Search(plan))

    assert [one.number for one in search.trials] == list(range(6))
    assert search.settings_of(search.trials[0]) == {}
    assert search.best.value == max(one.value for one in search.trials)
    assert set(search.settings_of(search.best)) == {"model.dropout", "model.hidden_units"}
    assert type(search.settings_of(search.best)["model.hidden_units"]) is list


def test_same_search_goes_on_and_does_no_more(plan):
    first = Search(replace(plan, tuning=TuningConfig(trials=2)))
    run(first)
    parameters = [one.params for one in first.trials]
    second = run(Search(plan))

    assert len(second.trials) == 6
    assert len(run(Search(plan)).trials) == 6
    assert [one.params for one in second.trials[:2]] == parameters
    values = [one.value for one in second.trials[1:]]
    assert len(set(values)) == 5  # and draws others than before


def test_trial_of_a_killed_process_is_run_again_with_its_settings(tmp_path, plan):
    process = multiprocessing.get_context("fork").Process(target=_die_in_the_second, args=(plan,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL

    search = Search(plan)
    dead = next(one for one in search.trials if one.state == optuna.trial.TrialState.RUNNING)
    search.retry_killed()
    run(search)

    assert len(search.finished) == len(search.trials) == 6
    again = next(one for one in search.trials if one.user_attrs.get("retry_of") == dead.number)
    assert again.params == dead.params != {}
    assert dead.number not in [one.number for one in search.trials]


def _die_in_the_second(plan):
    search = Search(plan)

    def objective(trial):
        value = drawn(search)(trial)
        if trial.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    run(search, objective)


def test_settings_that_kill_each_time_are_given_up(plan):
    search = Search(plan)
    for _ in range(5):
        for one in search.trials:
            if one.state == optuna.trial.TrialState.WAITING:
                search.study.ask()
        if not [one for one in search.trials if one.state == optuna.trial.TrialState.RUNNING]:
            search.study.ask()
        search.retry_killed()

    tried = [one for one in search.study.get_trials() if one.user_attrs.get(ERROR)]
    assert [one.user_attrs.get("retry_of") for one in tried[:3]] == [None, 0, 1]
    assert tried[3].user_attrs.get("retry_of") is None  # other settings


def test_interrupted_trial_is_run_again(plan):
    search = Search(plan)

    def interrupted(trial):
        if trial.number == 2:
            raise KeyboardInterrupt
        return drawn(search)(trial)

    with pytest.raises(KeyboardInterrupt):
        run(search, interrupted)
    run(search)

    assert len(search.finished) == len(search.trials) == 6


def test_several_processes_share_one_budget(tmp_path):
    plan = plan_in(tmp_path, trials=9, parallel=3)
    Search(plan)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_run_slowly, args=(plan, index)) for index in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)

    search = Search(plan)
    assert len(search.finished) == len(search.trials) == 9
    assert [one.state for one in search.trials] == [optuna.trial.TrialState.COMPLETE] * 9


def _run_slowly(plan, index):
    search = Search(plan, index=index)

    def objective(trial):
        time.sleep(0.05)
        return drawn(search)(trial)

    run(search, objective)


def test_another_search_of_the_same_name_is_refused(plan):
    mine = replace(plan, tuning=TuningConfig(study="mine"))
    run(Search(named(mine)))

    with pytest.raises(ConfigError, match=r"The study 'mine' is that of another search.*Give this search another name"):
        Search(named(replace(mine, digest="1" * 64)))
    assert named(replace(plan, digest="1" * 64)).name != plan.name


def test_search_without_a_success_tells_each_kind_of_reason_once(plan):
    search = Search(plan)

    def failing(trial):
        SPACE.suggest(trial)
        kind = "The loss is not a number. Received: nan, in epoch" if trial.number % 2 else "No memory for"
        trial.set_user_attr(ERROR, f"TrainingError: {kind} {trial.number}")
        raise FailedTrial

    run(search, failing)
    with pytest.raises(
        TrainingError, match=r"No trial .* Received: 6 trials\.\n  3 x .*\n  3 x [^\n]*\nLet tuning"
    ) as told:
        check_some_succeeded(search)
    assert str(told.value).count("The loss is not a number") == 1


def test_one_success_is_enough(plan):
    search = Search(plan)

    def objective(trial):
        if trial.number:
            raise FailedTrial
        return 0.5

    run(search, objective)
    check_some_succeeded(search)
    assert search.best.number == 0


def test_no_trial_begins_when_the_time_is_over(tmp_path):
    search = Search(plan_in(tmp_path, trials=None, minutes=0.02))

    def objective(trial):
        time.sleep(0.3)
        return drawn(search)(trial)

    started = time.monotonic()
    run(search, objective)
    assert 2 <= len(search.finished) <= 6
    assert time.monotonic() - started < 10


def test_trials_that_are_behind_are_stopped(tmp_path):
    plan = replace(plan_in(tmp_path, trials=20), max_resource=90)
    assert plan.rungs == [10, 30]
    search = Search(plan)

    def objective(trial):
        value = drawn(search)(trial)
        for rung in plan.rungs:
            trial.report(value, rung)
            if trial.number and trial.should_prune():
                raise optuna.TrialPruned
        return value

    run(search, objective)
    states = [one.state for one in search.trials]
    assert len(states) == 20
    assert states.count(optuna.trial.TrialState.PRUNED) >= 2
    assert search.best.state == optuna.trial.TrialState.COMPLETE


def test_importance_is_that_of_trials_that_were_trained_to_their_end(tmp_path):
    whole = run(Search(plan_in(tmp_path, trials=12)))
    importance = describe(whole, {}).importance
    assert set(importance) == {"model.dropout", "model.hidden_units"}
    assert importance["model.dropout"] > importance["model.hidden_units"]

    (tmp_path / "few").mkdir()
    few = Search(plan_in(tmp_path / "few", trials=12))

    def objective(trial):
        value = drawn(few)(trial)
        if trial.number > 4:
            trial.report(value, 1)
            raise optuna.TrialPruned
        return value

    run(few, objective)
    assert describe(few, {}).importance == {}
