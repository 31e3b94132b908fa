"""Notes for readers of the findings: what was not read of the log, and how labels fit, in sentences."""

from collections.abc import Iterator, Sequence

from kubetfx.components.monitoring.served import Plan, Served
from kubetfx.config.monitoring_section import MonitoringConfig
from kubetfx.serving.log_files import LogFiles
from kubetfx.serving.logged_rows import Skipped

_NAMED = 3
"""Maximum number of files of a kind that a note names."""


def files(log: LogFiles, damaged: int) -> Iterator[str]:
    """Describe problems of the files.

    Args:
        log: The files.
        damaged: The number of records with a wrong checksum.

    Yields:
        Sentences.
    """
    for name, position, size in log.torn[:_NAMED]:
        yield (
            f"{name} breaks off at byte {position:,} of {size:,}: it is being written, or was cut. It is read up to "
            "there."
        )
    if len(log.torn) > _NAMED:
        yield f"{len(log.torn) - _NAMED} more files break off, and are read up to there."
    if damaged:
        yield f"{damaged:,} records are damaged, and left out."
    if log.packed:
        yield f"Compressed files are not read: {_listed(log.packed)}. Unpack them with gunzip."
    if log.no_logs:
        yield f"Files that are not TFRecord files are left out: {_listed(log.no_logs)}."


def rows(config: MonitoringConfig, plan: Plan, state: Served, skipped: Skipped) -> Iterator[str]:
    """Describe what was skipped in the log.

    Args:
        config: the section.
        plan: The plan of the computation.
        state: The sums.
        skipped: The records without rows.

    Yields:
        Sentences.
    """
    if skipped.of_other_models:
        counted = ", ".join(f"{name} ({count:,})" for name, count in skipped.of_other_models.most_common(_NAMED))
        yield f"Requests to other models are left out: {counted}."
    if state.other_versions:
        counted = ", ".join(f"{version} ({count:,} rows)" for version, count in sorted(state.other_versions.items()))
        yield f"Rows that other versions answered are left out: {counted}."
    if state.too_old:
        yield f"{state.too_old:,} rows are older than monitoring.last: {config.last}."
    if skipped.broken:
        yield f"{skipped.broken:,} records are not requests with columns of this model, and are left out."
    if state.odd:
        yield f"{state.odd:,} cells are of another type than their column, and are left out."
    if state.rows < config.min_rows:
        least = config.min_rows
        yield f"{state.rows:,} rows are fewer than monitoring.min_rows: {least:,}. Nothing is judged."
    if plan.reference.scores is None:
        yield (
            "The run that pushed the version has not kept how its answers are distributed: those to the requests are "
            "compared over time alone."
        )


def labels(plan: Plan, state: Served, labelled_rows: int) -> Iterator[str]:
    """Describe how labels match rows.

    Args:
        plan: The plan, with the labels.
        state: The sums.
        labelled_rows: The number of rows with a label.

    Yields:
        Sentences; none where there are no labels.
    """
    known = plan.labels
    if known is None:
        return
    matched = 0 if state.hits is None else int((state.hits > 0).sum())
    repeated = 0 if state.hits is None else int((state.hits - 1).clip(0).sum())
    total = len(known.hashes)
    yield f"{labelled_rows:,} of {state.rows:,} rows have a label; {matched:,} of {total:,} labels have a row."
    if total - matched:
        yield f"{total - matched:,} labels have no row in the log, of which a sample may be all there is."
    if repeated:
        yield f"{repeated:,} rows have a key that another row has too. Each of them counts."
    if known.duplicates:
        yield f"{known.duplicates:,} rows of the labels are there twice."
    if known.contradictions:
        yield (
            f"{known.contradictions:,} rows of the labels have a key that a later row has with another label. The "
            "later one counts."
        )
    if known.unknown:
        yield f"{known.unknown:,} labels are of a class that the model does not know. They count as mistakes."
    if known.missing:
        yield f"{known.missing:,} rows of the labels have none, and are left out."
    if state.without_answer:
        yield f"{state.without_answer:,} rows with a label have no probabilities or value in the log, and are left out."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
