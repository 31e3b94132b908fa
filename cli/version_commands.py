"""`kubetfx versions`, `lineage`, `approve`, `promote`, `rollback`: what was pushed, where from, and what is served.

Nothing heavy is imported before a command runs.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from kubetfx.cli.invocation import (
    ConfigPath,
    FormatOption,
    Overrides,
    load,
    naming_options,
    open_output,
    quoted,
    shown_metrics,
)
from kubetfx.cli.output import Output
from kubetfx.cli.serve_commands import NOWHERE
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.serving_section import EndpointConfig
from kubetfx.errors import KubetfxError, PushError, RequestError, UsageError
from kubetfx.redirection import logged_to
from kubetfx.storage import Location

if TYPE_CHECKING:
    from kubetfx.components.push.push_directory import Event, PushRecord

app = typer.Typer()
_PANEL = "Models"

_MAX_METRICS = 3
_ARGUMENTS = {"force=True": "--force", "reason": "--reason"}

_Version = Annotated[int, typer.Argument(metavar="VERSION", help="Number of a pushed version.", show_default=False)]
_By = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who does it. Default: this user on this machine.", show_default=False),
]


@app.command(rich_help_panel=_PANEL)
def versions(config: ConfigPath, overrides: Overrides = None, format: FormatOption = "human") -> None:
    """List what was pushed: when, with which metrics, and which version is served."""
    output = open_output(format)
    pipeline_config = load(config, overrides)

    from kubetfx.components.push import push_directory
    from kubetfx.components.push.labels import labels_of

    directory = pipeline_config.push_path
    pushed = push_directory.versions(directory)
    served = _served_versions(pipeline_config, pushed, output)
    entries = []
    waiting = push_directory.waiting_versions(directory)
    for version in reversed(push_directory.all_versions(directory)):
        state = "unknown" if served is None else "kept"
        if version not in pushed:
            state = "waits for approval" if version in waiting else "rolled back"
        elif served and version in served:
            state = "served"
        state = ", ".join([state, *labels_of(directory, version)])
        entries.append((version, state, push_directory.read_record(directory, version)))
    if format == "json":
        documents = [
            {**(record.model_dump() if record else {}), "version": version, "state": state}
            for version, state, record in entries
        ]
        output.document({"model_name": pipeline_config.model_name, "versions": documents})
        return
    if not entries:
        output.say(f"No model was pushed yet. Push one: kubetfx run {quoted(config)}")
        return
    found = [record.metrics for _, _, record in entries if record]
    shown = shown_metrics(pipeline_config, found, at_most=_MAX_METRICS)
    columns = ["version ", "pushed", "state", "verified", *(f"{name} " for name in shown)]
    rows = [_version_row(version, state, record, shown) for version, state, record in entries]
    output.table(columns, rows, whole_columns=shown, optional_columns=[f"{name} " for name in shown])


@app.command(rich_help_panel=_PANEL)
def lineage(config: ConfigPath, version: _Version, overrides: Overrides = None, format: FormatOption = "human") -> None:
    """Say where a version comes from: rows, config, code, libraries, run, and who approved it."""
    output = open_output(format)

    from kubetfx.pipeline import lineage as tracing

    found = tracing.lineage(load(config, overrides), version)
    if format == "json":
        output.document(tracing.document(found))
        return
    output.text(str(found))


@app.command(rich_help_panel=_PANEL)
def approve(
    config: ConfigPath,
    version: _Version,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the version.")],
    by: _By = None,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Approve a version; one that waited for it is served from then on, if the server answers as it must."""
    output = open_output(format)
    pipeline_config = load(config, overrides)
    output.begin("Approving")
    with logged_to(NOWHERE), naming_options(_ARGUMENTS):
        from kubetfx.pipeline import promoting

        event = promoting.approve(pipeline_config, version, reason=reason, by=by)
    output.end()
    _print_event(event, version, pipeline_config, output)
    output.say(f"Approved {pipeline_config.model_name} version {version}, by {event.by}.", style="green")
    if canary := pipeline_config.serving.canary:
        then = f"kubetfx promote {quoted(config)} {version}"
        output.say(f"It is the {canary.label} now. After {canary.minutes:g} minutes: {then}")


@app.command(rich_help_panel=_PANEL)
def promote(
    config: ConfigPath,
    version: _Version,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the version.", show_default=False)] = "",
    by: _By = None,
    force: Annotated[
        bool, typer.Option("--force", help="Before it has been the canary for serving.canary.minutes.")
    ] = False,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Give a version the label `stable`, if the server answers with it as it must; an older one too."""
    output = open_output(format)
    pipeline_config = load(config, overrides)
    output.begin("Asking the server")
    with logged_to(NOWHERE), naming_options(_ARGUMENTS):
        from kubetfx.pipeline import promoting

        event = promoting.promote(pipeline_config, version, reason=reason, by=by, force=force)
    output.end()
    _print_event(event, version, pipeline_config, output)
    output.say(f"{pipeline_config.model_name} version {version} is stable now.", style="green")
    if event.comparison:
        output.say(f"Compared on golden rows: {event.comparison}.")


def _print_event(event: "Event", version: int, config: PipelineConfig, output: Output) -> None:
    if output.format == "json":
        output.document({"model_name": config.model_name, "version": version, **event.model_dump(mode="json")})


@app.command(rich_help_panel=_PANEL)
def rollback(
    config: ConfigPath,
    to: Annotated[
        int | None,
        typer.Option(help="The version to serve. Default: the one before what is served now.", show_default=False),
    ] = None,
    overrides: Overrides = None,
    format: FormatOption = "human",
) -> None:
    """Move serving back to an earlier version, or on again to one that was rolled back."""
    output = open_output(format)
    pipeline_config = load(config, overrides)

    from kubetfx.components.push import push_directory
    from kubetfx.components.push.labels import read_labels

    directory = pipeline_config.push_path
    if read_labels(directory):
        raise UsageError(
            f"Versions have labels here, and going back is a promotion. Received: {directory}. Promote the version to "
            f"go back to: kubetfx promote {quoted(config)} VERSION; kubetfx versions {quoted(config)} lists them."
        )
    target = _rollback_target(directory, to)
    newest = max(push_directory.versions(directory), default=None)
    if target == newest:
        raise UsageError(
            f"Version {target} is the newest already. See what there is: kubetfx versions {quoted(config)}"
        )
    push_directory.roll_back(directory, to=target)
    if pipeline_config.serving.endpoint:
        with logged_to(NOWHERE):
            from kubetfx.components.push.push_verification import Verification

        output.begin("Waiting for the server")
        verification = Verification(pipeline_config.serving.endpoint, pipeline_config.model_name, directory)
        try:
            verification.wait_until_served(target)
        except KubetfxError as error:
            raise PushError(
                f"Version {target} is the newest in {directory} now, and the server has not followed: {error} "
                f"Don't roll back again; see what it does: kubetfx models {quoted(config)}"
            ) from error
        output.end()
    if format == "json":
        output.document({"model_name": pipeline_config.model_name, "version": target, "rolled_back_from": newest})
        return
    is_back = "The server serves" if pipeline_config.serving.endpoint else "Servers of this directory go to"
    output.say(f"{is_back} {pipeline_config.model_name} version {target} (before: {newest}).", style="green")
    if newest:
        output.say(f"To undo it: kubetfx rollback {quoted(config)} --to {newest}")


def _served_versions(config: PipelineConfig, pushed: list[int], output: Output) -> set[int] | None:
    """Return the versions that the server reports, None if it does not answer.

    Without a server, the newest: servers serve it by default.
    """
    endpoint: EndpointConfig | None = config.serving.endpoint
    if endpoint is None:
        return set(pushed[-1:])
    with logged_to(NOWHERE):
        from kubetfx.components.push.push_verification import Verification

    try:
        return Verification(endpoint, config.model_name, config.push_path).available()
    except RequestError as error:
        output.say(f"What is served is not known: {error}", style="yellow")
        return None


def _version_row(version: int, state: str, record: "PushRecord | None", metrics: list[str]) -> list[str]:
    if record is None:
        return [str(version), "not by kubetfx", state, "", *("" for _ in metrics)]
    values = [f"{record.metrics[name]:.4g}" if name in record.metrics else "" for name in metrics]
    return [str(version), record.pushed_at, state, record.verified_at or "", *values]


def _rollback_target(directory: Location, to: int | None) -> int:
    from kubetfx.components.push import push_directory

    pushed = push_directory.versions(directory)
    rolled_back = push_directory.rolled_back_versions(directory)
    if to is not None:
        if to not in pushed and to not in rolled_back:
            there = ", ".join(map(str, [*pushed, *rolled_back])) or "none"
            raise UsageError(f"There is no such version in {directory}. Received: {to}. There are: {there}.")
        return to
    if len(pushed) < 2:
        there = ", ".join(map(str, pushed)) or "no version"
        raise UsageError(f"There is no version to go back to in {directory}. Received: {there}.")
    record = push_directory.read_record(directory, pushed[-1])
    replaced = record.replaced_version if record else None
    return replaced if replaced in pushed else pushed[-2]
