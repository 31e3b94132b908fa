"""Verifies a push: the server has the version, and its answers match the Evaluator's offline predictions.

Otherwise, if the server itself answered, the version is withdrawn, and we wait until the server is back on the version
that it served before.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from absl import logging

from kubetfx.artifacts import PUSHED_GOLDEN_ROWS
from kubetfx.components.evaluation import golden
from kubetfx.components.push import push_directory
from kubetfx.config.serving_section import EndpointConfig
from kubetfx.errors import KubetfxError, PushError, RequestError
from kubetfx.serving.grpc_client import GrpcClient
from kubetfx.serving.predict_client import ClientOptions, Target
from kubetfx.serving.rest_client import RestClient
from kubetfx.serving.status import Code
from kubetfx.serving.version_state import State, VersionStatus
from kubetfx.storage import Location

POLL_SECONDS = 0.2
REQUEST_SECONDS = 30.0
RETRY_SECONDS = 2.0
OPTIONS = ClientOptions(timeout_seconds=REQUEST_SECONDS, retry_seconds=RETRY_SECONDS)
SETTLED_SECONDS = 3.0
"""Seconds for which a version must have failed to load before the failure counts: a version that was removed while
loading and is back keeps its old error until the server polls the folder again, each second by default.
"""

Clients = dict[str, RestClient | GrpcClient]
"""Clients by the name of their protocol."""


def pushed_golden_rows(directory: Location, version: int) -> golden.GoldenRows | None:
    """Return the golden rows of a pushed version, or None.

    Args:
        directory: where versions are pushed.
        version: its number.
    """
    text = push_directory.read_added(directory, version, PUSHED_GOLDEN_ROWS)
    return None if text is None else golden.parse(text)


class Verification:
    """Verifies versions of one model on the server that watches its push directory."""

    def __init__(
        self,
        endpoint: EndpointConfig,
        model_name: str,
        directory: Location,
        *,
        take_away: Callable[[Location, int], None] = push_directory.remove,
    ) -> None:
        """Set up; the server is not contacted yet.

        Args:
            endpoint: The address of the server, and its timeout.
            model_name: The name of the model on the server.
            directory: The directory that the server watches.
            take_away: Removes a failed version from the directory.
        """
        self._take_away = take_away
        self._endpoint = endpoint
        self._model_name = model_name
        self._directory = directory

    def verify(self, version: int, read_golden_rows: Callable[[], golden.GoldenRows]) -> set[int]:
        """Wait until the version is available, and compare the server's answers to golden rows.

        Args:
            version: A version in the push directory.
            read_golden_rows: Reads the rows whose answers must match the offline predictions.

        Returns:
            The versions that the server has available.

        Raises:
            PushError: the version is not served, or its answers differ. It was withdrawn, unless it had been verified
                before, or the server did not answer.
        """
        record = push_directory.read_record(self._directory, version)
        is_pending = record is not None and record.is_pending
        try:
            with self._clients() as clients:
                self._examine(clients, version, read_golden_rows())
                served = {status.version for client in clients.values() for status in self._available(client)}
        except Exception as error:
            reason = str(error) if isinstance(error, KubetfxError) else f"{type(error).__name__}: {error}."
            if not is_pending:  # it was verified before; a server that cannot be reached now must not withdraw it
                raise PushError(
                    f"Version {version} could not be verified again: {reason} It was not withdrawn; "
                    "rolling back does that."
                ) from error
            if isinstance(error, RequestError) and not error.is_answer:
                raise PushError(
                    f"Version {version} could not be verified: {reason} That is not the server's answer, so the "
                    "version was not withdrawn. The next run verifies it; rolling back takes it away."
                ) from error
            raise PushError(f"Version {version} was withdrawn: {reason}{self._withdraw(version)}") from error
        except BaseException:  # Ctrl-C: no time to wait
            if is_pending:
                self._take_away(self._directory, version)
            raise
        push_directory.mark_verified(self._directory, version)
        return served

    def wait_until_served(self, version: int | None) -> None:
        """Wait until a version is the newest that the server has available.

        Args:
            version: The version; None: wait until it has none.

        Raises:
            KubetfxError: it cannot be reached, cannot load the version, or takes too long.
        """
        with self._clients() as clients:
            if version is not None:
                self._wait(clients, version)
            end = time.monotonic() + self._endpoint.timeout_seconds
            for client in clients.values():
                while any(status.version > (version or 0) for status in self._available(client)):
                    if time.monotonic() > end:
                        raise PushError("the server still has a newer version available.")
                    time.sleep(POLL_SECONDS)

    def available(self) -> set[int]:
        """Return the versions that the server has available now.

        Raises:
            RequestError: it cannot be reached.
        """
        with self._clients() as clients:
            return {status.version for client in clients.values() for status in self._available(client)}

    def _examine(self, clients: Clients, version: int, golden_rows: golden.GoldenRows) -> None:
        """Raise an error unless the server has the version and its answers are right."""
        self._wait(clients, version)
        self._compare(clients, Target(self._model_name, version=version), golden_rows)

    @contextmanager
    def _clients(self) -> Iterator[Clients]:
        clients: Clients = {}
        with ExitStack() as stack:
            if self._endpoint.rest:
                clients["REST"] = stack.enter_context(RestClient(self._endpoint.rest, OPTIONS))
            if self._endpoint.grpc:
                clients["gRPC"] = stack.enter_context(GrpcClient(self._endpoint.grpc, OPTIONS))
            yield clients

    def _available(self, client: RestClient | GrpcClient) -> list[VersionStatus]:
        return [status for status in self._status(client) if status.state is State.AVAILABLE]

    def _status(self, client: RestClient | GrpcClient) -> list[VersionStatus]:
        try:
            return client.status(self._model_name)
        except RequestError as error:
            if error.code is Code.NOT_FOUND and error.is_answer:  # it serves no version yet
                return []
            raise

    def _wait(self, clients: Clients, version: int) -> None:
        end = time.monotonic() + self._endpoint.timeout_seconds
        for protocol, client in clients.items():
            failed_at: float | None = None
            while True:
                statuses = self._status_while_starting(client, end=end)
                mine = next((status for status in statuses if status.version == version), None)
                if mine and mine.state is State.AVAILABLE:
                    break
                now = time.monotonic()
                if not (mine and mine.error and mine.state is State.END):
                    failed_at = None
                elif failed_at is None:
                    failed_at = now
                elif now - failed_at > SETTLED_SECONDS:
                    raise PushError(f"the server could not load it: {mine.error.message}.")
                if now > end:
                    raise PushError(
                        f"the server did not report it AVAILABLE over {protocol} within "
                        f"serving.endpoint.timeout_seconds, {self._endpoint.timeout_seconds:g} s. Received: "
                        f"{_describe(statuses)}. Is {self._directory} the base path of its model {self._model_name!r}?"
                    )
                time.sleep(POLL_SECONDS)

    def _status_while_starting(self, client: RestClient | GrpcClient, *, end: float) -> list[VersionStatus]:
        """Return the versions of a server that may be starting or restarting; none if it does not answer yet."""
        try:
            return self._status(client)
        except RequestError as error:
            if error.code not in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED) or time.monotonic() > end:
                raise
            return []

    def _compare(self, clients: Clients, target: Target, golden_rows: golden.GoldenRows) -> None:
        for protocol, client in clients.items():
            answers = list(client.predict(target, golden_rows.rows))
            difference = golden_rows.difference(answers, tolerance=self._endpoint.tolerance)
            if difference:
                raise PushError(
                    f"over {protocol} the server's answers differ from the Evaluator's offline predictions. "
                    f"Received: {difference}. The preprocessing of the exported model is not that of training; or, if "
                    "the difference is one of rounding, raise serving.endpoint.tolerance."
                )
            logging.info("%d golden rows over %s: as offline.", len(golden_rows.rows), protocol)

    def _withdraw(self, version: int) -> str:
        """Withdraw a version, wait for the one before it, and describe the outcome."""
        self._take_away(self._directory, version)
        previous = max(push_directory.versions(self._directory), default=None)
        try:
            self.wait_until_served(previous)
        except KubetfxError as error:
            return f" The server is not back on {f'version {previous}' if previous else 'no version'}: {error}"
        if previous is None:
            return " No version is served now, as before."
        return f" The server is back on version {previous}."


def _describe(statuses: list[VersionStatus]) -> str:
    texts = [f"version {s.version} {s.state.name}{f' ({s.error.message})' if s.error else ''}" for s in statuses]
    return ", ".join(texts) or "no version of this model"
