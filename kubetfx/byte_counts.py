"""Numbers of bytes in words."""

_UNITS = ("KiB", "MiB", "GiB")


def readable(num_bytes: float) -> str:
    """Return a number of bytes as people read it.

    Args:
        num_bytes: 0 or more.

    Returns:
        The number in the unit that keeps it below 1,024, or in GiB: with one decimal below 10.
    """
    if num_bytes < 1024:
        return f"{num_bytes:.0f} bytes"
    power = next((power for power in (1, 2) if num_bytes / 1024**power < 1023.5), 3)
    number, unit = num_bytes / 1024**power, _UNITS[power - 1]
    return f"{number:,.1f} {unit}" if number < 9.95 else f"{number:,.0f} {unit}"
