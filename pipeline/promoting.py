"""`kubetfx.promote` and `kubetfx.approve`: a person or a program decides which version is served."""

import contextlib
import getpass
import socket
from typing import TYPE_CHECKING

from kubetfx import run_record
from kubetfx.components.push import labels, push_directory
from kubetfx.components.push.push_directory import Event
from kubetfx.config.loading import ConfigSource, as_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import PushError, UsageError

if TYPE_CHECKING:
    from kubetfx.components.evaluation.golden import GoldenRows


def promote(
    config: ConfigSource, version: int, *, reason: str = "", by: str | None = None, force: bool = False
) -> Event:
    """Give a version the label `stable`, which clients request, after its answers were verified on the server.

    Promoting an older version rolls back.

    Args:
        config: The config of the pipeline, or what `load_config` takes. It has the section `serving.canary`.
        version: in the push directory.
        reason: why, for the record.
        by: who does it. Default: this user on this machine.
        force: do it before the version has been the canary for `serving.canary.minutes`.

    Returns:
        What was done, as it is in the record of the version, with how its answers compare with those before.

    Raises:
        UsageError: there is no such version; it is not verified, not approved, or not the canary for long enough; or
            somebody else is promoting.
        PushError: the server's answers differ from the offline predictions. The label has not moved.
        RequestError: the server cannot be reached, or refuses.

    Example:
        >>> import kubetfx
        >>> kubetfx.promote("pipeline.yaml", 1795688431, reason="a day without complaints")  # doctest: +SKIP
        Event(kind='stable', ...)
    """
    config = as_config(config)
    serving = config.serving
    if serving.canary is None or serving.endpoint is None:
        raise UsageError(
            "A promotion moves the label stable, and there are no labels without serving.canary. Received: version "
            f"{version}. Add the section to the config: canary: {{minutes: 30}}."
        )
    with labels.locked(config.push_path):
        from kubetfx.components.push.promotion import CanaryVerification

        verification = CanaryVerification(
            serving.endpoint, config.model_name, config.push_path, canary=serving.canary, by=by or whoever()
        )
        needed = serving.approval == "required"
        event = verification.promote(version, reason=reason, force=force, needs_approval=needed)
    _publish(config, version)
    return event


def approve(config: ConfigSource, version: int, *, reason: str, by: str | None = None) -> Event:
    """Approve a version. A waiting version is served from then on, after its answers were verified on the server.

    Args:
        config: The config of the pipeline, or what `load_config` takes.
        version: in the push directory.
        reason: why, for the record.
        by: who approves. Default: this user on this machine.

    Returns:
        The approval, as it is in the record of the version.

    Raises:
        UsageError: there is no such version, it is approved already, a newer one is served, or there is no reason.
        PushError: the server's answers differ from the offline predictions. The version is approved, and waits as
            before.

    Example:
        >>> import kubetfx
        >>> kubetfx.approve("pipeline.yaml", 1795688431, reason="reviewed with the field team")  # doctest: +SKIP
        Event(kind='approved', ...)
    """
    config = as_config(config)
    if not reason.strip():
        raise UsageError("An approval has a reason, which is kept with the version. Received: none. Give `reason`.")
    with labels.locked(config.push_path):
        event = _approve_locked(config, version, reason=reason, by=by or whoever())
    _publish(config, version)
    return event


def whoever() -> str:
    """Return the actor: this user on this machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a pod's user may have no name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def _approve_locked(config: PipelineConfig, version: int, *, reason: str, by: str) -> Event:
    directory = config.push_path
    waiting = push_directory.waiting_versions(directory)
    record = push_directory.read_record(directory, version)
    if record is None:
        known = ", ".join(map(str, push_directory.all_versions(directory))) or "none"
        raise UsageError(f"There is no such version that kubetfx pushed. Received: {version}. There are: {known}.")
    is_waiting = version in waiting
    if record.approval and not is_waiting:
        raise UsageError(
            f"The version is approved already. Received: {version}, by {record.approval.by} at {record.approval.at}: "
            f"{record.approval.reason}."
        )
    newest = max(push_directory.versions(directory), default=0)
    if is_waiting and config.serving.canary is None and newest > version:
        raise UsageError(
            f"A newer version is served, and servers serve the newest. Received: {version}, where {newest} is served. "
            "Approve a newer one, or add labels, serving.canary."
        )
    event = record.approval
    if event is None:
        event = Event(kind="approved", at=run_record.now(), by=by, reason=reason)
        push_directory.note(directory, version, event)
    if is_waiting:
        push_directory.release(directory, version)
        _verify(config, version, by=by)
    return event


def _verify(config: PipelineConfig, version: int, *, by: str) -> None:
    serving = config.serving
    if serving.endpoint is None:
        return
    from kubetfx.components.push.push_verification import pushed_golden_rows
    from kubetfx.components.push.verified_push import verification

    def golden_rows() -> "GoldenRows":
        found = pushed_golden_rows(config.push_path, version)
        if found is None:
            raise PushError(
                f"the version has no golden rows to check it with. Received: {version}. Push the model again."
            )
        return found

    verified = verification(
        serving.endpoint,
        config.model_name,
        config.push_path,
        canary=serving.canary,
        by=by,
        take_away=push_directory.hold_back,
    )
    try:
        verified.verify(version, golden_rows)
    except PushError as error:
        if version in push_directory.versions(config.push_path):  # nobody answered: it is not to be seen unverified
            push_directory.hold_back(config.push_path, version)
        said = f"{error} It waits as before; approve it again once that is fixed."
        withdrawn = Event(kind="withdrawn", at=run_record.now(), by=by, reason=str(error))
        push_directory.note(config.push_path, version, withdrawn)
        raise PushError(said) from error


def _publish(config: PipelineConfig, version: int) -> None:
    """Write the report of the run again, which says what happened to its version; it may be gone."""
    from kubetfx.pipeline.lineage import find_run

    record = find_run(config, version)
    if record is not None:
        from kubetfx.components.report import run_report

        with contextlib.suppress(OSError):
            run_report.publish(config, record, ask_model=False)
