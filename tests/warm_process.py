"""Commands that do not pay for imports: each is a process forked from one that has imported what runs need.

`kubetfx run --watch` starts its runs in the same way. The rest is as in a process that a shell starts: arguments,
environment, working directory, output and exit code are its own.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.command import Finished

REPOSITORY = Path(__file__).parents[1]
_LOCK = threading.Lock()
_PR_SET_PDEATHSIG = 1
"""linux/prctl.h: the signal that a process gets when the thread that made it ends."""


def run_forked(
    arguments: list[str],
    *,
    cwd: Path | None,
    env: Mapping[str, str],
    seconds: float,
    server: "subprocess.Popen[str] | None" = None,
) -> Finished:
    """Run `kubetfx` in a process that is forked from a warm one, which the first call starts.

    Args:
        arguments: of the command.
        cwd: its working directory; None: the one of this process.
        env: its environment.
        seconds: after which it is killed.
        server: that `start` returned; None: one that all tests share.

    Returns:
        How it ended; the exit code of a killed one is negative, as that of `subprocess`.

    Raises:
        subprocess.TimeoutExpired: it did not end in time.
    """
    with _LOCK, tempfile.TemporaryDirectory(prefix="kubetfx-command-") as temporary:
        outputs = [Path(temporary) / name for name in ("stdout", "stderr")]
        asked = {"arguments": arguments, "cwd": str(cwd or Path.cwd()), "env": dict(env), "outputs": outputs}
        server = server or _server()
        assert server.stdin
        assert server.stdout
        server.stdin.write(json.dumps(asked, default=str) + "\n")
        server.stdin.flush()
        pid = int(server.stdout.readline())
        is_late = threading.Event()

        def kill() -> None:
            is_late.set()
            os.killpg(pid, signal.SIGKILL)

        timer = threading.Timer(seconds, kill)
        timer.start()
        status = int(server.stdout.readline())
        timer.cancel()
        if is_late.is_set():
            raise subprocess.TimeoutExpired(arguments, seconds)
        stdout, stderr = (path.read_text(encoding="utf-8") for path in outputs)
        return Finished(status, stdout, stderr)


_servers: list["subprocess.Popen[str]"] = []


def _server() -> "subprocess.Popen[str]":
    if not _servers or _servers[0].poll() is not None:
        _servers[:] = [start()]
    return _servers[0]


def start(*words: str) -> "subprocess.Popen[str]":
    """Start a warm process.

    Args:
        words: a command that executes the one after it.
    """
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [*words, sys.executable, "-m", "tests.warm_process"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, cwd=REPOSITORY, env=env, text=True, **pipes)


def serve() -> None:
    """Import, and then fork a process for each line of standard input; its id and its exit code are printed."""
    from kubetfx.config.loading import load_config
    from kubetfx.pipeline.local_runner import import_for_runs

    import_for_runs(load_config(REPOSITORY / "examples" / "penguins" / "pipeline.yaml"))
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
            return  # after the command's own SystemExit, this is not reached
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the child does it too; the first one wins
            os.setpgid(pid, pid)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(asked: Any) -> None:
    """Be the command, in the forked process."""
    with contextlib.suppress(PermissionError):
        os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, path in enumerate(asked["outputs"], start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.path[0] = asked["cwd"]
    sys.argv = ["kubetfx", *asked["arguments"]]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - what was read ahead of the pipe is the parent's

    from kubetfx.cli.app import main

    main()


if __name__ == "__main__":
    serve()
