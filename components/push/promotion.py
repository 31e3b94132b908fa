"""Canary and stable: moves labels between versions, and checks each move with golden rows on the server.

A version is loaded and checked by its number before a label moves to it, and by the label afterwards; a label that
gives wrong answers moves back. The next process undoes an interrupted move.
"""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from kubetfx import run_record
from kubetfx.components.evaluation.golden import GoldenRows
from kubetfx.components.push import labels as labelling
from kubetfx.components.push import push_directory
from kubetfx.components.push.labelled_server import LabelledServer
from kubetfx.components.push.labels import Label, Labels, numbers
from kubetfx.components.push.push_directory import Event, PushRecord
from kubetfx.components.push.push_verification import OPTIONS, POLL_SECONDS, Clients, Verification, pushed_golden_rows
from kubetfx.config.serving_section import STABLE, CanaryConfig, EndpointConfig
from kubetfx.errors import KubetfxError, PushError, RequestError, UsageError
from kubetfx.serving.grpc_client import GrpcClient
from kubetfx.serving.predict_client import Target
from kubetfx.serving.rest_client import RestClient
from kubetfx.storage import Location


class CanaryVerification(Verification):
    """Verifies a push and gives it the canary label. The caller holds the lock of the labels."""

    def __init__(
        self,
        endpoint: EndpointConfig,
        model_name: str,
        directory: Location,
        *,
        canary: CanaryConfig,
        by: str,
        **arguments: Any,
    ) -> None:
        """Set up; the server is not contacted yet.

        Args:
            endpoint: The address of the server.
            model_name: The name of the model on the server.
            directory: The directory that the server watches.
            canary: The label.
            by: Who pushes, for the record.
            arguments: Other arguments of Verification.
        """
        super().__init__(endpoint, model_name, directory, **arguments)
        self._server = LabelledServer(endpoint, model_name, directory, OPTIONS)
        self._canary = canary
        self._by = by

    def prepare(self, version: int | None = None) -> Labels:
        """Undo an interrupted move, and make the server serve exactly the labelled versions.

        Args:
            version: The version to examine, which is already visible to the server.

        Returns:
            The current labels.

        Raises:
            RequestError: the server cannot be reached, or refuses.
            PushError: its file of models cannot be read or written.
        """
        before = labelling.read_labels(self._directory)
        if not before:  # until now clients used the newest version
            older = [one for one in push_directory.versions(self._directory) if one != version]
            before = {STABLE: Label(version=older[-1], since=run_record.now())} if older else {}
        self._load({*numbers(before).values(), *([version] if version else [])}, before)
        labelling.end_move(self._directory, before or None)
        return before

    def _load(self, versions: set[int], before: Labels) -> None:
        """Load versions first: a label can only be given to a loaded version."""
        with self._clients() as clients:
            if before:
                self._reassert(clients, versions, before)
            else:
                self._server.serve(versions, {})

    def _reassert(self, clients: Clients, versions: set[int], before: Labels) -> None:
        try:
            self._server.serve(versions, numbers(before))
        except RequestError as error:
            if not error.is_answer:
                raise
            self._server.serve(versions, {})  # a restarted server has no labels
            for version in numbers(before).values():
                self._wait(clients, version)
            self._server.serve(versions, numbers(before))

    def _examine(self, clients: Clients, version: int, golden_rows: GoldenRows) -> None:
        before = self.prepare(version)
        super()._examine(clients, version, golden_rows)
        names = [self._canary.label, *([] if STABLE in before else [STABLE])]
        self.move(clients, before, dict.fromkeys(names, version), golden_rows)
        for name in names:
            note_move(self._directory, name, version, before, by=self._by)

    def move(self, clients: Clients, before: Labels, moved: Mapping[str, int], golden_rows: GoldenRows) -> None:
        """Move labels to a loaded version, and check their answers.

        Args:
            clients: The clients of the server.
            before: The current labels.
            moved: The version of each label that moves.
            golden_rows: The rows whose answers must match the offline predictions.

        Raises:
            KubetfxError: the server refuses, or its answers differ; the labels are unchanged.
        """
        now = run_record.now()
        after = {**before, **{name: Label(version=version, since=now) for name, version in moved.items()}}
        loaded = {*numbers(before).values(), *numbers(after).values()}
        labelling.begin_move(self._directory, before)
        try:
            self._server.serve(loaded, numbers(after))
            for name in moved:
                self._compare_label(clients, name, golden_rows)
        except BaseException:
            with contextlib.suppress(KubetfxError):  # otherwise the next process undoes it
                self._server.serve(loaded, numbers(before))
                labelling.end_move(self._directory, None)
            raise
        labelling.end_move(self._directory, after)
        try:
            self._server.serve(set(numbers(after).values()), numbers(after))
        except KubetfxError as error:
            logging.warning("Versions without a label stay loaded: %s", error)

    def _compare_label(self, clients: Clients, name: str, golden_rows: GoldenRows) -> None:
        """Query a label until its answers are right: a server that polls its file of models needs some time."""
        end = time.monotonic() + self._endpoint.timeout_seconds
        while True:
            try:
                self._compare(clients, Target(self._model_name, label=name), golden_rows)
                return
            except (PushError, RequestError) as error:
                is_answer = isinstance(error, PushError) or error.is_answer
                if not is_answer or self._endpoint.models_config is None or time.monotonic() > end:
                    raise PushError(f"the label {name!r}: {error}") from error
            time.sleep(POLL_SECONDS)

    def _withdraw(self, version: int) -> str:
        self._take_away(self._directory, version)
        try:
            before = self.prepare()
        except KubetfxError as error:
            return f" The labels of the server could not be set again: {error}"
        said = ", ".join(f"{name} is version {label.version}" for name, label in sorted(before.items()))
        return f" The labels are as before: {said or 'there are none'}."

    def promote(self, version: int, *, reason: str, force: bool, needs_approval: bool) -> Event:
        """Move the label `stable` to a version.

        Args:
            version: in the push directory.
            reason: why, for the record.
            force: Promote before the version has been the canary for long enough.
            needs_approval: Whether a person must have approved it.

        Returns:
            The event in the record of the version.

        Raises:
            UsageError: the version does not exist, or must not be promoted yet.
            PushError: the server's answers differ from the offline predictions; the labels are unchanged.
            RequestError: the server cannot be reached, or refuses.
        """
        golden_rows = self._promotable(version, force=force, needs_approval=needs_approval)
        with self._clients() as clients:
            before = self.prepare(version)
            old = before.get(STABLE)
            try:
                super()._examine(clients, version, golden_rows)
                comparison = self._comparison(clients, version, old, golden_rows)
                self.move(clients, before, {STABLE: version}, golden_rows)
            except KubetfxError as error:
                with contextlib.suppress(KubetfxError):
                    self.prepare()
                stays = f"version {old.version} stays stable" if old else "no version is stable, as before"
                raise PushError(f"Version {version} was not promoted, and {stays}: {error}") from error
        return note_move(
            self._directory, STABLE, version, before, by=self._by, reason=reason, forced=force, comparison=comparison
        )

    def _promotable(self, version: int, *, force: bool, needs_approval: bool) -> GoldenRows:
        """Return the golden rows of a version, and raise an error if it must not be promoted."""
        directory = self._directory
        there = push_directory.all_versions(directory)
        if version not in there:
            known = ", ".join(map(str, there)) or "none"
            raise UsageError(f"There is no such version. Received: {version}. There are: {known}.")
        record = push_directory.read_record(directory, version)
        if version in push_directory.rolled_back_versions(directory):
            raise UsageError(f"The version was rolled back. Received: {version}. Bring it back first.")
        if record is not None and record.approval is None and (needs_approval or record.needs_approval):
            raise UsageError(
                f"The version is not approved. Received: {version}, and serving.approval: required. Have a person "
                "approve it."
            )
        if record is None or record.verified_at is None:
            raise UsageError(
                f"The version is not verified: no server was seen to answer with it as it should. Received: {version}. "
                "Push it with serving.endpoint; one that was approved and taken back is approved once more."
            )
        current = labelling.read_labels(directory)
        if STABLE in current and current[STABLE].version == version:
            raise UsageError(f"The version is stable already. Received: {version}, since {current[STABLE].since}.")
        self._check_minutes(record, current, force=force)
        golden_rows = pushed_golden_rows(directory, version)
        if golden_rows is None:
            raise UsageError(
                f"The version has no golden rows to check it with. Received: {version}. Push the model again."
            )
        return golden_rows

    def _check_minutes(self, record: PushRecord, current: Labels, *, force: bool) -> None:
        was_stable = any(event.kind == "stable" for event in record.events)
        if force or was_stable:  # a rollback to a good version must not wait
            return
        minutes = canary_minutes(record, current, self._canary.label)
        wanted = self._canary.minutes
        if minutes < wanted:
            raise UsageError(
                f"The version has been {self._canary.label} for {minutes:.1f} of {wanted:g} minutes "
                f"(serving.canary.minutes). Received: {record.version}. Wait, or overrule it: `force=True`."
            )

    def _comparison(self, clients: Clients, version: int, old: Label | None, golden_rows: GoldenRows) -> str:
        """Describe how the answers of a version differ from those of the stable one."""
        if old is None:
            return "no version was stable before"
        client = clients.get("gRPC") or clients["REST"]
        answers, seconds = _asked(client, Target(self._model_name, version=version), golden_rows)
        try:
            others, before = _asked(client, Target(self._model_name, label=STABLE), golden_rows)
        except KubetfxError as error:  # it may need columns that the rows no longer have
            return f"version {old.version} could not be asked for the same rows: {error}"
        return (
            f"{len(answers):,} rows: {_difference(answers, others)} than from version {old.version}; "
            f"{seconds * 1e3:.2f} ms per row, and {before * 1e3:.2f} ms before"
        )


def _asked(
    client: RestClient | GrpcClient, target: Target, golden_rows: GoldenRows
) -> tuple[list[dict[str, object]], float]:
    """Return the answers to golden rows, and the seconds per row."""
    started = time.perf_counter()
    answers = list(client.predict(target, golden_rows.rows))
    return answers, (time.perf_counter() - started) / max(len(answers), 1)


def _difference(answers: list[dict[str, object]], others: list[dict[str, object]]) -> str:
    if answers and "label" in answers[0]:
        changed = sum(ours.get("label") != theirs.get("label") for ours, theirs in zip(answers, others, strict=True))
        return f"{changed / len(answers):.1%} get another label"
    values = [np.ravel([answer.get("value") for answer in side]).astype(float) for side in (answers, others)]
    return f"values that are {np.abs(values[0] - values[1]).mean():.4g} off on average"


def canary_minutes(record: PushRecord, current: Labels, label: str) -> float:
    """Return the total time that a version has been the canary.

    Args:
        record: The record of the version.
        current: The labels.
        label: The canary label.
    """
    total, since = 0.0, None
    for event in record.events:
        if event.label == label and event.kind != "withdrawn":
            if event.kind == "replaced" and since is not None:
                total, since = total + labelling.minutes_between(since, event.at), None
            elif event.kind == "canary":
                since = event.at
    if label in current and current[label].version == record.version:
        total += current[label].minutes
    return total


def note_move(
    directory: Location,
    label: str,
    version: int,
    before: Labels,
    *,
    by: str,
    reason: str = "",
    forced: bool = False,
    comparison: str = "",
) -> Event:
    """Record the move of a label in both versions.

    Args:
        directory: where versions are pushed.
        label: The label.
        version: The version that has it now.
        before: The labels before.
        by: Who moved it.
        reason: Why.
        forced: Whether a rule was overridden.
        comparison: How the answers compared.

    Returns:
        The event in the record of the version.
    """
    at = run_record.now()
    old = before.get(label)
    if old and old.version != version:
        said = f"version {version} is {label} now"
        push_directory.note(directory, old.version, Event(kind="replaced", at=at, by=by, reason=said, label=label))
    kind = "stable" if label == STABLE else "canary"
    event = Event(kind=kind, at=at, by=by, reason=reason, label=label, forced=forced, comparison=comparison)
    push_directory.note(directory, version, event)
    return event
