"""Real database servers on loopback, in a folder of their own; never as root, which they refuse."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy

from tests.ports import free_ports

PASSWORD = "open sesame"
_START_SECONDS = 60


@dataclass
class Database:
    """A server that can be stopped and started again with what it holds."""

    url: str
    """As a config has it, with a reference in the place of the password."""
    line: list[str]
    driver: str
    log: Path
    user: str | None = None
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def engine(self) -> sqlalchemy.Engine:
        rest = self.url.partition("://")[2].replace("${DB_PASSWORD}", "open%20sesame")
        return sqlalchemy.create_engine(f"{self.driver}://{rest}", poolclass=sqlalchemy.NullPool)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.line, stdout=log, stderr=log, user=self.user)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            assert self.process.poll() is None, self.log.read_text()
            try:
                self.engine.connect().close()
                return
            except sqlalchemy.exc.OperationalError:
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.2)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate() if "mariadb" in self.line[0] else self.process.send_signal(2)  # a fast shutdown
        self.process.wait(30)


@contextlib.contextmanager
def running_postgresql() -> Iterator[Database]:
    """A PostgreSQL server; skips the test where there is none on this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(found[-1]) if found else None)
    if initdb is None:
        pytest.skip("PostgreSQL is not installed: Debian's package is postgresql.")
    with _folder("postgres") as (folder, user):
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        data = folder / "data"
        line = [initdb, "-D", str(data), "-U", "tuner", "--auth=scram-sha-256", f"--pwfile={secret}", "-N"]
        subprocess.run(line, check=True, capture_output=True, user=user)
        (port,) = free_ports(1)
        server = str(Path(initdb).with_name("postgres"))
        options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        url = f"postgresql://tuner:${{DB_PASSWORD}}@127.0.0.1:{port}/postgres"
        line = [server, "-D", str(data), "-p", str(port), *options]
        with _started(Database(url, line, "postgresql+psycopg", folder / "log", user)) as database:
            yield database


@contextlib.contextmanager
def running_mariadb() -> Iterator[Database]:
    """A MariaDB server, which speaks MySQL's protocol; skips the test where there is none on this machine."""
    install, server = shutil.which("mariadb-install-db"), shutil.which("mariadbd") or "/usr/sbin/mariadbd"
    if install is None or not Path(server).exists():
        pytest.skip("MariaDB is not installed: Debian's package is mariadb-server.")
    with _folder("mysql") as (folder, user):
        data = folder / "data"
        common = ["--no-defaults", f"--datadir={data}"]
        line = [install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(line, check=True, capture_output=True, user=user)
        first = folder / "first.sql"
        first.write_text(
            "CREATE DATABASE IF NOT EXISTS studies;\n"
            f"CREATE USER IF NOT EXISTS 'tuner'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON studies.* TO 'tuner'@'127.0.0.1';\n"
        )
        first.chmod(0o644)
        (port,) = free_ports(1)
        options = [f"--init-file={first}", "--bind-address=127.0.0.1", f"--port={port}", f"--socket={folder}/socket"]
        url = f"mysql://tuner:${{DB_PASSWORD}}@127.0.0.1:{port}/studies"
        database = Database(
            url, [server, *common, *options, "--skip-name-resolve"], "mysql+pymysql", folder / "log", user
        )
        with _started(database):
            yield database


@contextlib.contextmanager
def _started(database: Database) -> Iterator[Database]:
    try:
        database.start()
        yield database
    finally:
        if database.process is not None:
            database.process.kill()
            database.process.wait()


@contextlib.contextmanager
def _folder(owner: str) -> Iterator[tuple[Path, str | None]]:
    """A folder, and whom it belongs to, where this is root."""
    folder = Path(tempfile.mkdtemp(prefix="kubetfx-database-"))
    user = None
    if os.getuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = owner if owner in names else "nobody"
        shutil.chown(folder, user)
    try:
        yield folder, user
    finally:
        shutil.rmtree(folder, ignore_errors=True)


RUNNING: dict[str, Callable[[], "contextlib.AbstractContextManager[Database]"]] = {
    "postgresql": running_postgresql,
    "mysql": running_mariadb,
}
