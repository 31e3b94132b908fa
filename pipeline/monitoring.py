"""`kubetfx.monitor`: compares a log of requests with the version that answered them."""

import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubetfx import run_record
from kubetfx.components.monitoring import findings as finding
from kubetfx.components.monitoring import notes as notes_on
from kubetfx.components.monitoring import page as pages
from kubetfx.components.monitoring import reference as references
from kubetfx.components.monitoring.findings import Crossing, Findings
from kubetfx.components.monitoring.late_labels import Labels, read_labels
from kubetfx.components.monitoring.reference import Reference
from kubetfx.components.monitoring.served import Adder, Plan, Served
from kubetfx.config.durations import seconds_of
from kubetfx.config.loading import ConfigSource, as_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.section import nearest
from kubetfx.cores import num_cores
from kubetfx.errors import ConfigError, DataError, UsageError
from kubetfx.serving.log_files import LogFiles, Part, look_at
from kubetfx.serving.logged_rows import LogReader, Skipped, Wanted
from kubetfx.serving.tfrecords import RecordFile, sound
from kubetfx.storage import Location, copy_folder, locate, write_text
from kubetfx.tables.files import is_hidden

FOLDER = "monitoring"
PAGE, METRICS, DOCUMENT = "monitoring.html", "monitoring.prom", "monitoring.json"
CHUNK_RECORDS = 8_192
CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class MonitorResult:
    """The result of monitoring."""

    version: int
    run_id: str
    """Run id of the run that pushed the version."""
    rows: int
    since: str
    """UTC, ISO 8601; of the oldest period."""
    until: str
    """UTC, ISO 8601: of the newest request."""
    findings: Findings
    notes: list[str]
    """Notes about the log and the labels, in sentences."""
    page: Path
    metrics: Path
    """Path of the metrics in Prometheus's text format."""

    @property
    def crossed(self) -> list[Crossing]:
        """The exceeded bounds of `monitoring`."""
        return self.findings.crossed

    @property
    def document(self) -> dict[str, Any]:
        """Return the result as a document for programs."""
        quality = self.findings.quality
        columns = [
            {
                "name": one.name,
                "rows": one.rows,
                "skew": one.skew.value if one.skew else None,
                "drift": one.drift.value if one.drift else None,
                "missing": one.missing,
                "missing_in_training": one.missing_in_training,
                "unseen": one.unseen,
                "unseen_values": dict(one.unseen_values),
                "texts": one.texts_document,
                "outside": one.outside,
                "crossed": list(one.crossed),
            }
            for one in self.findings.columns
        ]
        answers = self.findings.answers
        return {
            "version": self.version,
            "run_id": self.run_id,
            "rows": self.rows,
            "since": self.since,
            "until": self.until,
            "crossed": [{**asdict(one), "text": str(one)} for one in self.crossed],
            "columns": columns,
            "answers": answers
            and {
                "skew": answers.skew.value if answers.skew else None,
                "drift": answers.drift.value if answers.drift else None,
                "classes": {name: share for name, _, share in answers.classes},
            },
            "quality": quality and asdict(quality),
            "notes": self.notes,
            "page": str(self.page),
            "metrics": str(self.metrics),
        }


def monitor(
    config: ConfigSource,
    requests: str | Path | None = None,
    *,
    version: int | None = None,
    labels: str | Path | None = None,
    key: Sequence[str] = (),
    folder: Path | None = None,
) -> MonitorResult:
    """Compare logged requests with the training data of the version that answered them.

    Args:
        config: The config of the pipeline, or what `load_config` takes.
        requests: folder of the log, also in a bucket. Default: `monitoring.requests`.
        version: whose requests are looked at. Default: the one that most of the newest period was answered by.
        labels: a table's file with labels that have arrived since.
        key: columns of the requests, by which `labels` are joined.
        folder: where page and metrics are written. Default: `monitoring` in the workspace.

    Returns:
        The result. `crossed` has the exceeded bounds.

    Raises:
        UsageError: there is no log, none of this model, or no run that pushed the version.
        ConfigError: `monitoring` names a column that the model does not have.
        DataError: the labels cannot be read.
        StorageError: the bucket cannot be read.

    Example:
        >>> import kubetfx
        >>> found = kubetfx.monitor("pipeline.yaml", "requests")  # doctest: +SKIP
        >>> [str(one) for one in found.crossed]  # doctest: +SKIP
        []
    """
    pipeline = as_config(config)
    place = _place(pipeline, requests)
    if labels is not None and not key:
        raise UsageError(
            f"`labels` are joined by `key`, columns of the requests. Received: {labels} and no key. Name one or more."
        )
    if key and labels is None:
        raise UsageError(f"`key` is for `labels`. Received: {', '.join(key)} and no labels. Give both, or none.")
    with ExitStack() as stack:
        paths = _files(place, stack)
        log = look_at(paths, pipeline.model_name)
        record, chosen = _run_of(pipeline, log, version, place)
        reference = references.read(record, chosen, ignored=pipeline.monitoring.ignore)
        _check_columns(pipeline, reference)
        plan = _plan(pipeline, log, reference, _labels(pipeline, reference, labels, key))
        adder, skipped, damaged = _added_up(log.parts, plan, _wanted(pipeline, reference, key))
    if not adder.state.rows:
        raise UsageError(
            f"The log has no rows of version {chosen} in the time that is looked at. Received: {place}. Widen "
            "monitoring.last, or name another version."
        )
    return _result(pipeline, place, log, plan, adder, skipped, damaged, folder)


def _place(config: PipelineConfig, requests: str | Path | None) -> Location:
    given = requests if requests is not None else config.monitoring.requests
    if given is None:
        raise UsageError(
            "There is no log of requests. Received: neither `requests` nor monitoring.requests. Name the folder that "
            "the server writes it to."
        )
    try:
        return locate(str(given))
    except ValueError as error:
        raise UsageError(f"`requests`: {error}. Name the folder of the log.") from None


def _files(place: Location, stack: ExitStack) -> list[Path]:
    """Return files of the log on this machine: those of a bucket are copied for the while."""
    if not isinstance(place, Path):
        copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kubetfx-requests-")))
        copy_folder(place, copy)
        folder = copy
    else:
        folder = place
        if not place.exists():
            raise UsageError(f"There is no such folder of requests. Received: {place}. Name the one of the log.")
    found = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    found = [path for path in found if not is_hidden(path.name) and path.stat().st_size]
    if not found:
        raise UsageError(
            f"The folder of requests has no files. Received: {place}. Let the server log some, or name another folder."
        )
    return found


def _run_of(
    config: PipelineConfig, log: LogFiles, version: int | None, place: Location
) -> tuple[run_record.RunRecord, int]:
    """Return the run that pushed the version whose requests are looked at."""
    if not log.seen:
        others = ", ".join(log.other_models)
        received = f"{place}, with requests to {others}" if others else f"{place}"
        remedy = "Name the log of this model." if others else "Name a folder of TFRecord files of PredictionLog."
        raise UsageError(f"The log has no requests to the model {config.model_name!r}. Received: {received}. {remedy}")
    in_log = ", ".join(map(str, log.versions))
    if version is not None and version not in log.versions:
        raise UsageError(f"The log has no requests to this version. Received: {version}. It has: {in_log}.")
    chosen = version if version is not None else log.version(within_seconds=seconds_of(config.monitoring.period))
    assert chosen is not None  # something was seen
    for record in run_record.read_all(config.workspace_path):
        if record.pushed_version == chosen and record.state in ("pushed", "unchanged"):
            return record, chosen
    known = [v for v in log.versions if v != chosen]
    others = f" The log has also: {', '.join(map(str, known))}." if known else ""
    raise UsageError(
        f"No run of the workspace has pushed version {chosen}, so nothing is known of its training rows. Received: "
        f"{config.workspace_path}.{others} Name a version of this workspace, or the config of the pipeline that pushed "
        "it."
    )


def _check_columns(config: PipelineConfig, reference: Reference) -> None:
    known = reference.facts.inputs
    for name, place in config.monitoring.named_columns.items():
        if name not in known:
            raise ConfigError(
                f"{place}: the model has no column {name!r}.{nearest(name, known)} Received: {name}. It has: "
                f"{', '.join(known)}."
            )


def _labels(
    config: PipelineConfig, reference: Reference, labels: str | Path | None, key: Sequence[str]
) -> Labels | None:
    if labels is None:
        return None
    if not Path(labels).exists():
        raise DataError(f"There is no such file of labels. Received: {labels}. Name a table's file.")
    return read_labels(str(labels), key, reference.facts, config.data.csv_options)


def _plan(config: PipelineConfig, log: LogFiles, reference: Reference, labels: Labels | None) -> Plan:
    section = config.monitoring
    metrics: tuple[str, ...] = ()
    if labels is not None:
        task = config.model.task
        ours = config.evaluation.metric_names(task, sees_images=reference.facts.image is not None)
        metrics = tuple(dict.fromkeys([*ours, *section.quality]))
    return Plan(
        reference,
        newest=log.newest,
        period_seconds=seconds_of(section.period),
        oldest=log.newest - seconds_of(section.last) if section.last else None,
        labels=labels,
        metrics=metrics,
        slices=tuple(config.evaluation.sliced),
        task=config.model.task,
        top_k=config.model.top_k or 1,
    )


def _wanted(config: PipelineConfig, reference: Reference, key: Sequence[str]) -> Wanted:
    sliced = (name for kind in config.evaluation.sliced for name in kind) if key else ()
    inputs = frozenset((*reference.columns, *key, *sliced))
    facts = reference.facts
    return Wanted(config.model_name, inputs, frozenset(("probabilities", "value")), facts.classes)


# The work on parts, in this process or in several


_work: tuple[Plan, LogReader] | None = None
"""Work of a process."""


def _added_up(parts: Sequence[Part], plan: Plan, wanted: Wanted) -> tuple[Adder, Skipped, int]:
    whole, skipped, damaged = Adder(plan), Skipped(), 0
    for state, own, broken in _outcomes(parts, plan, wanted):
        whole.merge(state)
        skipped.add(own)
        damaged += broken
    return whole, skipped, damaged


def _outcomes(parts: Sequence[Part], plan: Plan, wanted: Wanted) -> Iterator[tuple[Served, Skipped, int]]:
    """Yield the outcome of each part as it is ready: none is kept."""
    processes = min(num_cores(), len(parts))
    if processes < 2:
        _begin(plan, wanted)
        yield from map(_add, range(len(parts)), parts)
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(plan, wanted)) as pool:
        for done in as_completed({pool.submit(_add, number, part) for number, part in enumerate(parts)}):
            yield done.result()


def _begin(plan: Plan, wanted: Wanted) -> None:
    global _work  # noqa: PLW0603 - the process is for this work alone, or does it at once
    _work = plan, LogReader(wanted)


def _add(number: int, part: Part) -> tuple[Served, Skipped, int]:
    """Add up the rows of a part."""
    assert _work is not None
    plan, reader = _work
    reader.skipped = Skipped()
    adder, damaged = Adder(plan, seed=number), 0
    reading = RecordFile(part.path)
    for chunk in reading.chunks(start=part.start, end=part.end, max_records=CHUNK_RECORDS, max_bytes=CHUNK_BYTES):
        records, broken = sound(chunk)
        damaged += broken
        for block in reader.read(records):
            adder.add(block)
    return adder.state, reader.skipped, damaged


# What is said of it


def _result(
    config: PipelineConfig,
    place: Location,
    log: LogFiles,
    plan: Plan,
    adder: Adder,
    skipped: Skipped,
    damaged: int,
    folder: Path | None,
) -> MonitorResult:
    state, section = adder.state, config.monitoring
    order = sorted(state.rows_by_period, reverse=True)
    names = {number: _period_name(plan, number) for number in order}
    found = finding.find(adder, plan.reference, section, period_names=names, seed=config.training.seed)
    labelled_rows = found.quality.rows if found.quality else 0
    notes = [
        *notes_on.files(log, damaged),
        *notes_on.rows(section, plan, state, skipped),
        *notes_on.labels(plan, state, labelled_rows),
    ]
    since = _iso(plan.newest - (order[0] + 1) * plan.period_seconds)
    about = pages.About(
        name=config.name,
        model_name=config.model_name,
        version=plan.reference.version,
        run_id=plan.reference.run_id,
        rows=state.rows,
        since=since,
        until=_iso(plan.newest),
        period=section.period,
        min_rows=section.min_rows,
        sources=str(place),
        notes=notes,
        score_by_period={
            names[n]: state.scores_by_period[n] / state.rows_by_period[n] for n in order if n in state.scores_by_period
        },
        rows_by_period={names[n]: state.rows_by_period[n] for n in order},
    )
    target = folder or config.workspace_path / FOLDER
    result = MonitorResult(
        plan.reference.version,
        plan.reference.run_id,
        state.rows,
        since,
        _iso(plan.newest),
        found,
        notes,
        page=target / PAGE,
        metrics=target / METRICS,
    )
    write_text(result.page, pages.page(about, found))
    pages.write_metrics(result.metrics, about, found, time.time())
    return result


def _iso(seconds: int) -> str:
    return run_record.in_utc(datetime.fromtimestamp(seconds, UTC))


def _period_name(plan: Plan, number: int) -> str:
    end = plan.newest - number * plan.period_seconds
    first, last = (datetime.fromtimestamp(t, UTC) for t in (end - plan.period_seconds, end))
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
