"""`kubetfx.lineage`: from a served version back to its rows, config, code, libraries, run, and who approved it."""

from typing import Any, Literal

from pydantic import BaseModel

from kubetfx import run_record
from kubetfx.artifacts import PROVENANCE, REPORT
from kubetfx.components.push import labels, push_directory
from kubetfx.components.push.history import history_of
from kubetfx.components.push.push_directory import PushRecord
from kubetfx.config.loading import ConfigSource, as_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import UsageError
from kubetfx.provenance import Provenance, said_of_files
from kubetfx.run_record import RunRecord
from kubetfx.storage import Location

VersionState = Literal["served", "kept", "rolled back", "waiting for approval"]
_SHOWN_FILES = 10


class Lineage(BaseModel):
    """The known origin of a version, and what is unknown."""

    model_name: str
    version: int
    state: VersionState
    """`served`: it is the stable version, or without labels the newest. `kept`: servers see it."""
    labels: list[str]
    push: PushRecord | None
    """None: something other than kubetfx pushed it."""
    provenance: Provenance | None
    """Rows, config, code, libraries. None: nothing kept it."""
    report: str | None
    """Report of the run; None where it is gone, or not on this machine."""
    gone: list[str]
    """What is no longer known, a sentence each."""

    @property
    def is_whole(self) -> bool:
        """Whether rows, config, code, libraries, run and, if required, the approval are known."""
        provenance = self.provenance
        if self.push is None or provenance is None or (self.push.needs_approval and self.push.approval is None):
            return False
        parts = (provenance.data, provenance.config, provenance.code, provenance.libraries)
        return all(parts) and bool(provenance.run_id or provenance.pod)

    @property
    def history(self) -> list[str]:
        """The events of the version, a line each."""
        return history_of(self.push) if self.push else []

    def __str__(self) -> str:
        """Return text for people, a line per fact."""
        return "\n".join(_lines(self))


def lineage(config: ConfigSource, version: int) -> Lineage:
    """Find the origin of a version.

    Args:
        config: The config of the pipeline, or what `load_config` takes.
        version: in the push directory; also one that was rolled back, or that waits for approval.

    Returns:
        The origin, and in `gone` what is unknown: its run may have been pruned, or been on another machine. `str` makes
        text of it, `model_dump(mode="json")` a document.

    Raises:
        UsageError: there is no such version.
        StorageError: the bucket cannot be read.

    Example:
        >>> import kubetfx
        >>> kubetfx.lineage("pipeline.yaml", 1795688431).provenance.data.num_rows  # doctest: +SKIP
        344
    """
    config = as_config(config)
    directory = config.push_path
    known = push_directory.all_versions(directory)
    if version not in known:
        there = ", ".join(map(str, known)) or "none"
        raise UsageError(f"There is no such version. Received: {version}, in {directory}. There are: {there}.")
    push = push_directory.read_record(directory, version)
    text = push_directory.read_added(directory, version, PROVENANCE)
    provenance = Provenance.model_validate_json(text) if text else None
    record = find_run(config, version)
    report = run_record.run_folder(config.workspace_path, record.run_id) / REPORT if record else None
    return Lineage(
        model_name=config.model_name,
        version=version,
        state=state_of(directory, version),
        labels=labels.labels_of(directory, version),
        push=push,
        provenance=provenance,
        report=str(report) if report and report.is_file() else None,
        gone=list(_gone(config, push, provenance, record)),
    )


def state_of(directory: Location, version: int) -> VersionState:
    """Return the state of a version.

    Args:
        directory: where versions are pushed.
        version: its number.
    """
    if version in push_directory.versions(directory):
        return "served" if version == labels.served_version(directory) else "kept"
    return "rolled back" if version in push_directory.rolled_back_versions(directory) else "waiting for approval"


def find_run(config: PipelineConfig, version: int) -> RunRecord | None:
    """Return the record of the run that made a version; None where it is gone, or in another workspace.

    Args:
        config: The config of the pipeline.
        version: its number.
    """
    text = push_directory.read_added(config.push_path, version, PROVENANCE)
    run_id = Provenance.model_validate_json(text).run_id if text else None
    records = list(run_record.read_all(config.workspace_path))
    if run_id is not None:
        return next((record for record in records if record.run_id == run_id), None)
    made = [record for record in records if version in (record.pushed_version, record.waiting_version)]
    return made[-1] if made else None  # later ones found it to be there


def _gone(
    config: PipelineConfig, push: PushRecord | None, provenance: Provenance | None, record: RunRecord | None
) -> list[str]:
    if push is None:
        return ["Something other than kubetfx pushed the version: nothing is known of where it comes from."]
    if provenance is None:
        return ["An earlier version of kubetfx pushed it, which kept rows, config and code with the run alone."]
    gone = []
    if provenance.run_id is None and provenance.pod is None:
        gone.append("No runner of kubetfx ran it: the run is not known.")
    elif provenance.run_id is not None and record is None:
        elsewhere = provenance.workspace not in (None, str(config.workspace_path))
        why = f"it is in another workspace, {provenance.workspace}" if elsewhere else "it was removed since then"
        gone.append(f"The run {provenance.run_id} is not here, with its report and its artifacts: {why}.")
    if provenance.data is None:
        gone.append("Which rows there were is not known: another component than kubetfx's read the data.")
    if provenance.code is not None and provenance.code.git is None:
        gone.append("The git commit is not known: pipeline.yaml was in no git repository.")
    return gone


def _lines(found: Lineage) -> list[str]:
    labelled = f", {' and '.join(found.labels)}" if found.labels else ""
    lines = [f"{found.model_name} version {found.version}: {found.state}{labelled}"]
    for name, text in _facts(found):
        lines.append(f"  {name:<10}{text}")
    for name, texts in (("History", found.history), ("Not known any more", found.gone)):
        lines += [f"{name}:", *(f"  {text}" for text in texts)] if texts else []
    return lines


def _facts(found: Lineage) -> list[tuple[str, str]]:
    """Return names and texts; those that are not known are left out."""
    provenance = found.provenance
    facts = _facts_of_run(provenance) if provenance else []
    if found.report:
        facts.append(("report", found.report))
    if provenance:
        facts += [*_facts_of_data(provenance), *_facts_of_code(provenance)]
    if push := found.push:
        facts.append(("model", f"sha256 {push.model_digest}"))
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in push.metrics.items())
        compared = f"with version {push.replaced_version}, which was served then" if push.replaced_version else ""
        facts += [(name, text) for name, text in (("metrics", metrics), ("compared", compared)) if text]
    return facts


def _facts_of_run(provenance: Provenance) -> list[tuple[str, str]]:
    run = f"{provenance.run_id}, started {provenance.started_at}" if provenance.run_id else ""
    return [(name, text) for name, text in (("run", run), ("pod", provenance.pod or "")) if text]


def _facts_of_code(provenance: Provenance) -> list[tuple[str, str]]:
    facts = [("config", f"sha256 {provenance.config_digest}")] if provenance.config_digest else []
    if code := provenance.code:
        if code.git:
            facts.append(("commit", str(code.git)))
        facts.append(("code", f"kubetfx {code.kubetfx}, sha256 {code.digest}"))
    return [*facts, ("libraries", ", ".join(f"{name} {number}" for name, number in provenance.libraries.items()))]


def _facts_of_data(provenance: Provenance) -> list[tuple[str, str]]:
    facts = []
    if state := provenance.data_state:
        facts += [("data commit", str(state.git))] if state.git else []
        facts += [("data in DVC", f"{state.dvc.path}, md5 {state.dvc}")] if state.dvc else []
    data = provenance.data
    if data is None:
        return facts
    splits = ", ".join(f"{name} {rows:,}" for name, rows in data.rows.items())
    facts.append(("rows", f"{data.num_rows:,} ({splits})"))
    if data.spans:
        facts.append(("spans", f"{len(data.spans)}: {data.spans[0].name} to {data.spans[-1].name}"))
    files = said_of_files(data.files)
    facts += [("file", text) for text in files[:_SHOWN_FILES]]
    if len(files) > _SHOWN_FILES:
        facts.append(("", f"and {len(files) - _SHOWN_FILES:,} more files"))
    if not files and data.fingerprint:
        facts.append(("files", f"{data.path}, fingerprint {data.fingerprint}"))
    return facts


def document(found: Lineage) -> dict[str, Any]:
    """Return a lineage as a JSON document.

    Args:
        found: of a version.
    """
    digest = found.provenance.config_digest if found.provenance else None
    return {**found.model_dump(mode="json"), "config_digest": digest, "is_whole": found.is_whole}
