"""A disk that can run full, or become read-only: a tmpfs in a mount namespace of its own, which needs no rights."""

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.command import Finished
from tests.e2e.project import environment
from tests.warm_process import run_forked, start

_MOUNT = 'mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@"'


class SmallDisk:
    """A mounted tmpfs, and commands that see it."""

    def __init__(self, folder: Path, options: str = "size=64m") -> None:
        """Prepare; nothing is mounted yet.

        Args:
            folder: where to mount it.
            options: of the mount.
        """
        if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
            pytest.skip("needs user namespaces, to mount a small disk")
        self.folder = folder
        self._options = options

    def __enter__(self) -> Self:
        """Mount it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = start("unshare", "-rm", "sh", "-c", _MOUNT, self._options, str(self.folder))
        while self.inside("mountpoint", "-q", str(self.folder)).returncode:
            assert self._process.poll() is None, "the disk cannot be mounted"
        return self

    def seen_here(self, path: Path) -> Path:
        """A path of the disk, for this process."""
        return Path(f"/proc/{self._process.pid}/root{path}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End what holds the mount, and with it the mount."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)

    def kubetfx(self, *arguments: str | Path, seconds: float = 300) -> Finished:
        """A command that sees the disk."""
        words = [str(argument) for argument in arguments]
        return run_forked(words, cwd=None, env=environment(), seconds=seconds, server=self._process)

    def remount(self, options: str, *, folder: Path | None = None) -> bool:
        """Mount it with other options.

        Args:
            options: of the mount.
            folder: of another tmpfs that is mounted inside of it.

        Returns:
            Whether it could be done: a disk with an open file does not become read-only.
        """
        return self.inside("mount", "-o", f"remount,{options}", str(folder or self.folder)).returncode == 0

    def inside(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Another command that sees the disk."""
        enter = ["nsenter", f"--target={self._process.pid}", "--user", "--mount", "--preserve-credentials"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, check=False)

    def used(self, what: str = "used") -> int:
        """Bytes that are used; or, of `iused`, files.

        Args:
            what: a column of `df`.
        """
        done = self.inside("df", "-B1", f"--output={what}", str(self.folder))
        return int(done.stdout.split()[-1])
