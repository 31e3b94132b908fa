"""The history of a version, in words."""

from kubetfx.components.push.push_directory import Event, PushRecord

_VERBS = {"approved": "approved", "withdrawn": "withdrawn from servers"}


def history_of(record: PushRecord) -> list[str]:
    """Return the events of a version as lines, the oldest first.

    Args:
        record: The record of the version.
    """
    lines = [f"{record.pushed_at}  pushed" + (", to be approved" if record.needs_approval else "")]
    lines += [said_of(event) for event in record.events]
    if record.verified_at:
        lines.append(f"{record.verified_at}  verified: a server answered as offline")
    return sorted(lines)


def said_of(event: Event) -> str:
    """Return an event in words, with its time in front.

    Args:
        event: of a version.
    """
    moved = f"{'lost' if event.kind == 'replaced' else 'got'} the label {event.label}"
    details = [f" by {event.by}", ", forced" if event.forced else "", f": {event.reason}" if event.reason else ""]
    compared = f" ({event.comparison})" if event.comparison else ""
    return f"{event.at}  {_VERBS.get(event.kind, moved)}{''.join(details)}{compared}"
