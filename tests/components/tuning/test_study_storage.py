"""Studies in real databases: shared, killed, gone for a while, and gone for good."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from absl import logging
from optuna.trial import TrialState

from kubetfx.components.tuning import study_storage
from kubetfx.components.tuning.search_space import SearchSpace
from kubetfx.components.tuning.study import Plan, Search, named
from kubetfx.config.references import redacted
from kubetfx.config.tuning_section import Interval, TuningConfig
from kubetfx.errors import ConfigError, StorageError
from tests.components.tuning.databases import PASSWORD, RUNNING, Database

SPACE = SearchSpace({"model.dropout": Interval(range=(0, 0.5))})


@pytest.fixture(scope="module", params=["postgresql", "mysql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with RUNNING[request.param]() as found:
        yield found


@pytest.fixture
def plan(database: Database, request, monkeypatch, tmp_path) -> Plan:
    monkeypatch.setenv("DB_PASSWORD", PASSWORD.replace(" ", "%20"))
    tuning = TuningConfig(trials=6, storage=database.url, study=request.node.name.partition("[")[0])
    return named(Plan("p", "0" * 64, tuning, SPACE, "auc", "higher", str(tmp_path / "none"), seed=0, max_resource=None))


def objective_of(search, seconds=0.0):
    def objective(trial):
        value = SPACE.suggest(trial)["model.dropout"]
        time.sleep(seconds)
        return value

    return objective


def run(search, seconds=0.0):
    search.run(objective_of(search, seconds), after=lambda _: None)
    return search


def test_plain_urls_lead_to_the_drivers_and_trials_stay(plan):
    run(Search(plan))

    again = Search(plan)
    assert len(run(again).finished) == 6
    assert again.best.value == max(one.value for one in again.finished)
    assert "%20" not in redacted(f"cannot connect with {PASSWORD.replace(' ', '%20')}")


def test_trial_of_a_killed_process_is_run_again_by_another(plan, monkeypatch):
    monkeypatch.setattr(study_storage, "HEARTBEAT_SECONDS", 1)
    process = multiprocessing.get_context("fork").Process(target=_die, args=(plan,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL

    search = run(Search(plan))
    assert len(search.finished) == len(search.trials) == 6
    (again,) = [one for one in search.trials if "retry_of" in one.user_attrs]
    assert again.state == TrialState.COMPLETE


def _die(plan):
    search = Search(plan)

    def objective(trial):
        SPACE.suggest(trial)
        time.sleep(0.5)  # a heartbeat comes first
        os.kill(os.getpid(), signal.SIGKILL)

    search.run(objective, after=lambda _: None)


def test_search_waits_for_a_storage_that_is_gone_and_goes_on(plan, database, monkeypatch):
    search = Search(plan)
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *rest: said.append(text % rest))

    def outage():
        time.sleep(0.5)
        database.stop()
        time.sleep(2)
        database.start()

    thread = threading.Thread(target=outage)
    thread.start()
    try:
        run(search, seconds=0.3)
    finally:
        thread.join()

    assert len(search.finished) == 6
    assert [one.state for one in search.finished] == [TrialState.COMPLETE] * 6
    assert any("does not answer, and is waited for" in line for line in said)
    assert any("answers again. The search goes on" in line for line in said)
    assert not any(PASSWORD.replace(" ", "%20") in line for line in said)


def test_storage_that_does_not_come_back_is_told(plan, database):
    impatient = plan.tuning.model_copy(update={"storage_timeout": 1.5})
    search = Search(Plan(**{**vars(plan), "tuning": impatient}))
    threading.Timer(0.5, database.stop).start()
    try:
        with pytest.raises(
            StorageError, match=r"tuning\.storage no longer answers\. Received: \w+://tuner:\*\*\*@.*1\.5 s"
        ):
            run(search, seconds=0.4)
    finally:
        database.start()


def test_storage_that_is_not_there_is_told_at_once(plan, database):
    database.stop()
    try:
        with pytest.raises(StorageError, match=r"tuning\.storage cannot be used\. Received: \w+://tuner:\*\*\*@"):
            Search(plan)
    finally:
        database.start()


def test_two_searches_on_one_study_are_refused(plan):
    run(Search(plan))
    with pytest.raises(ConfigError, match=r"is that of another search"):
        Search(Plan(**{**vars(plan), "digest": "1" * 64}))


def test_variable_that_is_not_set_is_told(plan, monkeypatch):
    monkeypatch.delenv("DB_PASSWORD")
    with pytest.raises(ConfigError, match=r"tuning\.storage: the environment variable DB_PASSWORD is not set"):
        Search(plan)
