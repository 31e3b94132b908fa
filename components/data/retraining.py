"""Decides when to run a pipeline again: what is new, when the next run may begin, and why not now.

The decision depends on the files of the data, the log of requests, the time, and the memory of earlier runs. This
memory is retraining.json in the workspace or, on Kubeflow, in the push directory; it is written before a run begins and
after it has ended. So a process that was killed in between, or a pod that starts every hour, decides like one that runs
all the time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kubetfx.components.data.span_store import SpanStates, changes, state_of, states_of
from kubetfx.components.data.tables import find_files
from kubetfx.config.data_section import DataConfig
from kubetfx.config.durations import duration
from kubetfx.config.retrain_section import RetrainConfig
from kubetfx.errors import DataError, KubetfxError
from kubetfx.serving.image_folders import find_pictures
from kubetfx.storage import Location, write_text

MEMORY = "retraining.json"
"""File with the memory of earlier runs."""
DECISIONS = "retraining.jsonl"
"""File of a workspace with the decisions, one per line."""
_LONGEST_BACK_OFF = timedelta(days=1)
_ALL = "data.path"
"""Label of data without spans."""

Outcome = Literal["running", "ended", "not_blessed", "stopped_by_anomalies", "failed", "interrupted"]
"""How a run ended. `running`: it is still running, or its process was killed."""
_OUTCOMES: dict[int, Outcome] = {0: "ended", 3: "stopped_by_anomalies", 4: "not_blessed", 130: "interrupted"}


class Memory(BaseModel):
    """The memory of the runs that were started."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    spans: SpanStates = {}
    """All spans that runs have used."""
    began_at: datetime | None = None
    """Start of the last run, in UTC. None: there was no run yet."""
    ended_at: datetime | None = None
    outcome: Outcome = "ended"
    failures: int = 0
    """Number of consecutive runs that failed or were killed."""

    @classmethod
    def read(cls, folder: Location) -> "Memory":
        """Read the memory; it is empty if the file is missing or cannot be parsed.

        Args:
            folder: The workspace, or the push directory.

        Returns:
            The memory.

        Raises:
            StorageError: the bucket cannot be read.
        """
        try:
            return cls.model_validate_json((folder / MEMORY).read_text())
        except (OSError, ValidationError):
            return cls()

    def write(self, folder: Location) -> None:
        """Write the memory atomically.

        Args:
            folder: the workspace, or the push directory.
        """
        write_text(folder / MEMORY, self.model_dump_json(indent=1))

    def begun(self, spans: SpanStates, now: datetime) -> "Memory":
        """Return the memory when a run begins.

        Args:
            spans: The spans that it will use.
            now: the time.
        """
        failures = self.failures + (self.outcome == "running" and self.began_at is not None)
        return Memory(spans=self.spans | spans, began_at=now, outcome="running", failures=failures)

    def ended(self, exit_code: int, now: datetime) -> "Memory":
        """Return the memory when a run has ended.

        Args:
            exit_code: The exit code of the run: 0, 3 for anomalies, 4 for a threshold that was missed, 130 for an
                interrupt.
            now: the time.
        """
        outcome = _OUTCOMES.get(exit_code, "failed")
        failures = self.failures + 1 if outcome == "failed" else 0
        return self.model_copy(update={"outcome": outcome, "ended_at": now, "failures": failures})


@dataclass(frozen=True)
class Decision:
    """Whether to run now."""

    retrain: bool
    why: str
    """Sentences."""
    spans: SpanStates
    """The spans that exist now."""


def decide(
    retrain: RetrainConfig, data: DataConfig, memory: Memory, now: datetime, *, drift: Callable[[], Sequence[str]]
) -> Decision:
    """Decide whether to run a pipeline again.

    Args:
        retrain: the section of the config.
        data: the section of the config.
        memory: The memory of earlier runs.
        now: the time, with its zone.
        drift: Returns the bounds that served requests exceed, a sentence each. It is called only if the answer matters,
            and may raise a KubetfxError if it is unknown.

    Returns:
        The decision, with its reasons.
    """
    try:
        spans = {} if data.source else _spans(data)
    except DataError as error:
        return Decision(False, f"Not now: {error}", {})
    if memory.began_at is None:
        return Decision(True, "No run has begun yet.", spans)
    news = () if data.source else _news(spans, memory.spans)
    reasons = [*_unfinished(memory)]
    if "new_span" in retrain.on:
        reasons += news
    elapsed = now - memory.began_at  # if negative, the clock was set back, and nothing is delayed
    if retrain.every and not timedelta() <= elapsed < duration(retrain.every):
        reasons.append(f"The last run began at {_shown(memory.began_at)}, and every is {retrain.every}.")
    held = _held(retrain, memory, now) if elapsed >= timedelta() else None
    may_drift = "drift" in retrain.on and (news or data.source)
    unknown = ""
    if may_drift and not held:
        try:
            reasons += drift()
        except KubetfxError as error:
            unknown = f" Drift is not known. {error}"
    if held and (reasons or may_drift):
        return Decision(False, f"Not now: {' '.join([*reasons, held])}", spans)
    if reasons:
        return Decision(True, f"{' '.join(reasons)}{unknown}", spans)
    return Decision(False, f"Nothing to do: {_nothing(retrain, memory, has_news=bool(news))}{unknown}", spans)


def _unfinished(memory: Memory) -> Sequence[str]:
    if memory.outcome in ("ended", "not_blessed", "stopped_by_anomalies") or memory.began_at is None:
        return ()
    how = {"running": "did not end", "interrupted": "was interrupted", "failed": "failed"}[memory.outcome]
    return (f"The run that began at {_shown(memory.began_at)} {how}.",)


def _held(retrain: RetrainConfig, memory: Memory, now: datetime) -> str | None:
    """Return until when no run may begin, and why; None if one may begin now."""
    assert memory.began_at is not None
    failures = memory.failures + (memory.outcome == "running")
    if failures:
        wait = min(duration(retrain.back_off) * 2 ** min(failures - 1, 20), _LONGEST_BACK_OFF)
        until = (memory.ended_at or memory.began_at) + wait
        failed = "The last run failed" if failures == 1 else f"The last {failures} runs failed"
        why = f"{failed}, so the next begins at {_shown(until)} at the earliest (retrain.back_off)."
    elif retrain.at_most and memory.outcome != "interrupted":
        until = memory.began_at + duration(retrain.at_most)
        why = (
            f"The last run began at {_shown(memory.began_at)}, so the next begins at {_shown(until)} at the earliest "
            "(retrain.at_most)."
        )
    else:
        return None
    return why if now < until else None


def _nothing(retrain: RetrainConfig, memory: Memory, *, has_news: bool) -> str:
    assert memory.began_at is not None
    parts = []
    if "new_span" in retrain.on or ("drift" in retrain.on and not has_news):
        parts.append("the data is that of the last run")
    elif "drift" in retrain.on:
        parts.append("requests exceed no bound of monitoring")
    if retrain.every:
        parts.append(f"by schedule the next run begins at {_shown(memory.began_at + duration(retrain.every))}")
    return f"{'; '.join(parts)}."


def _news(now: SpanStates, before: SpanStates) -> Sequence[str]:
    if _ALL not in now:
        return changes(now, before)
    return ("The files of data.path have changed since the last run.",) if now[_ALL] != before.get(_ALL) else ()


def _spans(data: DataConfig) -> SpanStates:
    """Return the data to train on. A file that vanishes in the meantime counts as data that cannot be read for now."""
    try:
        if data.format == "images":
            return {_ALL: (0, state_of(sorted(find_pictures(Path(data.path)))))}
        files = find_files(data)
        return states_of(files.spans) if files.spans else {_ALL: (0, state_of(files.paths))}
    except FileNotFoundError as error:
        raise DataError(f"A file of data.path has disappeared. Received: {error.filename}.") from None


def utc_now() -> datetime:
    """Return the time, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def _shown(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
