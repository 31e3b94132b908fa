"""The console script in the process of the tests, and how a command ended."""

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any, NamedTuple
from unittest import mock

from kubetfx.cli import app as cli


class Finished(NamedTuple):
    """A command that ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """What `--format json` printed."""
        return json.loads(self.stdout)


def kubetfx_here(*arguments: object) -> Finished:
    """In this process, which has paid the imports: for commands that only look at what a run left."""
    with (
        mock.patch.object(sys, "argv", ["kubetfx", *map(str, arguments)]),
        mock.patch.object(sys, "path", list(sys.path)),
        contextlib.redirect_stdout(io.StringIO()) as stdout,
        _standard_error_to_a_file() as stderr,
    ):
        try:
            cli.main()
        except SystemExit as ended:
            stderr.seek(0)
            return Finished(int(ended.code or 0), stdout.getvalue(), stderr.read())
    raise AssertionError("a command ends with an exit code")


@contextlib.contextmanager
def _standard_error_to_a_file() -> Iterator[IO[str]]:
    """The descriptor, which the command's output has, and `sys.stderr`, which the parser of the command line has."""
    saved = os.dup(2)
    with tempfile.TemporaryFile("w+", buffering=1, encoding="utf-8") as file:
        os.dup2(file.fileno(), 2)
        try:
            with contextlib.redirect_stderr(file):
                yield file
        finally:
            os.dup2(saved, 2)
            os.close(saved)
