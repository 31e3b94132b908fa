"""The storage of a search's trials: a file in the workspace, or a database shared by several machines."""

import functools
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
import sqlalchemy
from absl import logging
from optuna import Study
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from kubetfx.config.references import resolved
from kubetfx.config.tuning_section import DRIVERS, TuningConfig
from kubetfx.errors import StorageError

HEARTBEAT_SECONDS = 5
"""Interval of a process's heartbeat in a database. After three intervals without one, its trial is run again."""
_WAIT_SECONDS = 1.0
_CONNECT_SECONDS = 10
_GONE = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.PendingRollbackError)
"""Errors of a query when the server disappears; the last one if Optuna queries again in the same transaction."""


def open_storage(tuning: TuningConfig, journal: Path, *, on_stale: Callable[[Study, FrozenTrial], None]) -> BaseStorage:
    """Open the storage of a search.

    Args:
        tuning: the section of the config.
        journal: the file, where no database is named.
        on_stale: called with a trial in a database whose process no longer tells that it lives.

    Returns:
        Optuna's storage.

    Raises:
        ConfigError: a variable of the environment is not set.
        StorageError: the database cannot be reached, or refuses.
    """
    if tuning.storage is None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(journal)))
    url = resolved(tuning.storage, key="tuning.storage")
    scheme, _, rest = url.partition("://")
    options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": {"connect_timeout": _CONNECT_SECONDS}}
    try:
        return PatientStorage(
            f"{DRIVERS.get(scheme, scheme)}://{rest}",
            tuning,
            engine_kwargs=options,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=3 * HEARTBEAT_SECONDS,
            heartbeat_stale_trial_callback=on_stale,
        )
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise StorageError(
            f"tuning.storage cannot be used. Received: {without_secrets(tuning.storage)}, which says: {_said(error)}. "
            "Check that the server is running, that it has this database, and that the user may write to it."
        ) from None


def without_secrets(url: str) -> str:
    """Return a URL without its password.

    Args:
        url: The URL of a database.
    """
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@", 1) if password else url


class PatientStorage(RDBStorage):
    """Optuna's storage in a database; queries wait until a lost server is back."""

    def __init__(self, url: str, tuning: TuningConfig, **options: Any) -> None:
        """Connect.

        Args:
            url: The URL of the database, with the driver and the password.
            tuning: says how long the server is waited for.
            options: The options of RDBStorage.
        """
        self._tuning = tuning
        self._asked = threading.local()
        """Whether a thread is within a query, which may consist of several."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            super().__init__(url, **options)

    def ask(self, question: Callable[[], Any]) -> Any:
        """Repeat a query until there is an answer.

        Args:
            question: Queries once.

        Returns:
            The answer.

        Raises:
            StorageError: there is none after `tuning.storage_timeout` seconds.
        """
        if getattr(self._asked, "is_open", False):
            return question()
        deadline = time.monotonic() + self._tuning.storage_timeout
        self._asked.is_open, is_told = True, False
        try:
            while True:
                try:
                    answer = question()
                    if is_told:
                        logging.warning("tuning.storage answers again. The search goes on.")
                    return answer
                except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.DBAPIError) as error:
                    cause = error if isinstance(error, sqlalchemy.exc.DBAPIError) else error.__cause__
                    if not isinstance(cause, _GONE):
                        raise
                    if time.monotonic() > deadline:
                        raise StorageError(self._gone(cause)) from None
                    if not is_told:
                        logging.warning("tuning.storage does not answer, and is waited for: %s", _said(cause))
                    is_told = True
                    time.sleep(_WAIT_SECONDS)
        finally:
            self._asked.is_open = False

    def _gone(self, cause: Exception) -> str:
        return (
            f"tuning.storage no longer answers. Received: {without_secrets(str(self._tuning.storage))}, which was "
            f"waited for {self._tuning.storage_timeout:g} s, of tuning.storage_timeout, and says: {_said(cause)}. "
            "Start it again; the trials that it has are kept, and the same command goes on with them."
        )


def _asked_patiently(name: str) -> Callable[..., Any]:
    method = getattr(RDBStorage, name)

    @functools.wraps(method)
    def ask(storage: PatientStorage, *arguments: Any, **keywords: Any) -> Any:
        return storage.ask(lambda: method(storage, *arguments, **keywords))

    return ask


_OF_THE_CACHE = ("record_heartbeat", "_get_stale_trial_ids", "_get_trials", "_create_new_trial", "get_best_trial")
"""What Optuna's cache and its heartbeats ask besides."""
for _name in (*BaseStorage.__abstractmethods__, *_OF_THE_CACHE):
    setattr(PatientStorage, _name, _asked_patiently(_name))


def _said(error: Exception) -> str:
    """Return the first line of what a driver says."""
    return str(getattr(error, "orig", None) or error).strip().split("\n", maxsplit=1)[0]
