"""The server's log: a line per record, whatever a client's request puts into it.

Names of models and paths come from clients. A line end in one of them would begin a line that looks like the server's
own, and an escape sequence would be carried out by the terminal that shows the log.
"""

import logging
import re
import sys
from types import TracebackType

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters of ASCII and Latin-1, other ends of lines, and what changes the direction of text."""
_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class LineFormatter(logging.Formatter):
    """Formats a record as one line, and tracebacks under it with every line indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        record.message = _escaped(record.message)
        return super().formatMessage(record)

    def formatException(
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None],
    ) -> str:
        """Return a traceback."""
        return "\n".join(f"    {_escaped(line)}" for line in super().formatException(ei).split("\n"))


def log_to_standard_error() -> None:
    """Write the log of this process to its standard error, from level INFO on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
