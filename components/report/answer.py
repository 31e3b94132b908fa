"""The answer at the top of a report: the outcome of the run, the reason, and how to call the model."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kubetfx.artifacts import REQUEST
from kubetfx.components.evaluation.evaluation_result import format_metric
from kubetfx.components.report.evaluation_facts import Evaluation
from kubetfx.components.report.facts import Facts
from kubetfx.config.metric_catalogue import label_of
from kubetfx.run_record import KILLED, RunRecord
from kubetfx.storage import is_url

MISSED_NAMES = 4
LOG_LINES = 15
LOG_WIDTH = 300
MAX_ARGUMENT_BYTES = 100_000
"""Maximum length of one argument on Linux is 131,072."""
READABLE_BYTES = 2_000
"""Maximum length of a request on the page; a longer one is read from its file."""
"""File of a pushed version with a request for its server."""
_ALL = {1: "its threshold", 2: "both thresholds"}


@dataclass(frozen=True)
class Answer:
    """The top of a report."""

    kind: Literal["good", "bad", "warn"]
    title: str
    reasons: Sequence[str] = ()
    serve: str | None = None
    """The command that serves the pushed version; None if the config names a server."""
    call: str | None = None
    """The command that calls the model there."""
    log_tail: str | None = None


def answer(facts: Facts, record: RunRecord | None) -> Answer:
    """Return the outcome of a run, and the reason.

    Args:
        facts: The facts.
        record: The record of the run, or None.
    """
    if record and record.state in ("failed", "interrupted", "running", "stopped_by_anomalies"):
        return _broken_off(facts, record)
    if facts.push and facts.push.version:
        return _pushed(facts, facts.push.version, record)
    evaluation = facts.evaluation
    if evaluation and not evaluation.is_blessed:
        return Answer(
            "bad",
            f"Not pushed: {_missed(evaluation)}",
            [*evaluation.failures, *evaluation.notes, "What is served is unchanged."],
        )
    if record and record.waiting_version:
        title = f"Waits for approval as version {record.waiting_version}"
        reasons = [_in_short(evaluation), "No server sees it before a person approves it. What is served is unchanged."]
        return Answer("warn", title, [*filter(None, reasons), *(evaluation.notes if evaluation else [])])
    if evaluation is None and record and (found := _of_a_part(facts)):
        return Answer("good", *found)
    notes = evaluation.notes if evaluation else []
    return Answer("warn", "Not pushed", list(filter(None, [_in_short(evaluation), *notes])))


def _of_a_part(facts: Facts) -> tuple[str, list[str]] | None:
    """Return the outcome of a run without a push: of folds, or a search."""
    nothing = "Nothing was pushed: this was a part of the pipeline."
    if facts.cross_validation and facts.cross_validation.metrics:
        found = facts.cross_validation
        name, spread = next(iter(found.metrics.items()))
        between = ""
        if spread.lower is not None and spread.upper is not None:
            between = f", with 95 % confidence {format_metric(spread.lower)} to {format_metric(spread.upper)}"
        title = f"{label_of(name)} is {format_metric(spread.mean)} over {len(found.folds)} folds{between}"
        return title, [*found.notes, nothing]
    if facts.tuning and facts.tuning.best_trial:
        value = facts.tuning.best_trial.value or 0.0
        title = (
            f"The best of {len(facts.tuning.trials)} trials has {label_of(facts.tuning.metric)} {format_metric(value)}"
        )
        return title, [nothing]
    return None


def _pushed(facts: Facts, version: int, record: RunRecord | None) -> Answer:
    title, reasons = f"Pushed as version {version}", []
    if record and record.state == "unchanged":
        title = f"Still served: version {version}"
        is_cached = all(node.state == "cached" for node in record.nodes)
        reasons.append(
            "Nothing changed: every node was taken from the cache."
            if is_cached
            else "No new version: the model is the one that was pushed before."
        )
    reasons += [_in_short(facts.evaluation), *(facts.evaluation.notes if facts.evaluation else [])]
    if facts.push and facts.push.destination:
        reasons.append(f"{facts.settings.model_name} is in {facts.push.destination}.")
    call = _call(facts)
    serve = _serve(record.command) if call and record and not facts.settings.rest else None
    return Answer("good", title, list(filter(None, reasons)), serve, call)


def _missed(evaluation: Evaluation) -> str:
    missed = [check for check in evaluation.checks if not check.passed]
    if not missed:
        return "the model was refused"
    if all(check.reference for check in missed):
        reference = missed[0].reference
        assert reference is not None
        name = label_of(missed[0].metric)
        if missed[0].is_ahead:
            return f"{name} is better than that of {reference.words} by no more than chance explains"
        return f"{name} is not better than that of {reference.words}"
    names = list(dict.fromkeys(check.subject for check in missed))
    if len(names) > MISSED_NAMES:
        return f"{', '.join(names[:MISSED_NAMES])} and {len(names) - MISSED_NAMES} more miss their thresholds"
    if len(names) > 1:
        return f"{', '.join(names[:-1])} and {names[-1]} miss their thresholds"
    margin = missed[0].margin
    return f"{names[0]} misses its threshold" + (f" by {format_metric(abs(margin))}" if margin is not None else "")


def _in_short(evaluation: Evaluation | None) -> str:
    checks = [check for check in evaluation.checks if not check.unjudged] if evaluation else []
    return f"It meets {_ALL.get(len(checks), f'all {len(checks)} thresholds')}." if checks else ""


def _broken_off(facts: Facts, record: RunRecord) -> Answer:
    if record.state == "stopped_by_anomalies":
        return Answer("bad", "Stopped by anomalies of the data", _anomalies(facts) or [record.error or ""])
    node = record.failed_node
    where = f" at {node.id}, node {len(record.nodes)} of {len(record.planned_nodes)}" if node else ""
    pushed = [f"Version {record.pushed_version} was pushed before that."] if record.pushed_version else []
    if record.state == "failed":
        tail = _log_tail(record)
        reasons = list(filter(None, [_error(record, tail), *pushed, _goes_on(record)]))
        return Answer("bad", f"Failed{where}", reasons, log_tail=tail)
    ended = "Killed" if record.error == KILLED else "Interrupted"
    title = ended if record.state == "interrupted" else "Running, or killed without a word"
    return Answer("warn", f"{title}{where}", [*pushed, _goes_on(record)])


def _goes_on(record: RunRecord) -> str:
    command = f"To go on from there: {shlex.join(record.command)}" if record.command else "The same command goes on."
    return f"What was finished is kept. {command}"


def _anomalies(facts: Facts) -> list[str]:
    found = (facts.data.anomalies if facts.data else None) or []
    stopping = [f"{one.column} ({one.split}): {one.problem}" for one in found if one.action == "stop"]
    more = f"And {len(stopping) - 5} more. " if len(stopping) > 5 else ""
    return [*stopping[:5], f"{more}What to do about each is below."] if stopping else []


def _error(record: RunRecord, tail: str | None) -> str:
    """Return the error of the run, without lines of the log that are shown separately."""
    first, _, more = (record.error or "").partition("\n")
    is_shown = all(line.strip()[:LOG_WIDTH] in (tail or "") for line in more.splitlines())
    return first.removesuffix(" The end of its log:") if more and is_shown else record.error or ""


def _log_tail(record: RunRecord) -> str | None:
    path = Path(record.failed_node.log) if record.failed_node else None
    if path is None or not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(line[:LOG_WIDTH] for line in lines[-LOG_LINES:])


def _call(facts: Facts) -> str | None:
    if facts.push is None or facts.push.request is None:
        return None
    address = facts.settings.rest or "http://localhost:8501"
    body, place = facts.push.request, facts.push.destination
    has_file = bool(place) and not is_url(place or "")
    if len(body.encode()) > (READABLE_BYTES if has_file else MAX_ARGUMENT_BYTES):
        if not has_file:
            return None
        body = f"@{place}/{REQUEST}"
    url = shlex.quote(f"{address}/v1/models/{facts.settings.model_name}:predict")
    return f"curl -d {shlex.quote(body)} \\\n  {url}"


def _serve(command: Sequence[str]) -> str | None:
    """Return the command that serves the version that a `kubetfx run` pushed, with its overrides."""
    overrides: list[str] = []
    config = None
    words = iter(command)
    for word in words:
        if word == "--set":
            overrides += ["--set", next(words, "")]
        elif word.startswith("--set="):
            overrides.append(word)
        elif word.endswith((".yaml", ".yml")) and not word.startswith("-"):
            config = config or word
    return shlex.join(["kubetfx", "serve", config, *overrides]) if config else None
