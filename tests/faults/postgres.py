"""A PostgreSQL server of the tests' own, from the binaries that are installed, on a free port of the loopback."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Loopback only, and gone with the test; the password is there so that it can be looked for where it must not be.
PASSWORD = "planted-secret"


def binaries() -> Path | None:
    """Returns the folder of the newest PostgreSQL server that is installed, as Debian or a search path has it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    there = shutil.which("initdb")
    return found[-1].parent if found else Path(there).parent if there else None


def why_not() -> str | None:
    """Returns why no server can be started here; ``None`` where one can."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "needs psycopg: the extra bort[postgres]"
    if binaries() is None:
        return "needs PostgreSQL's server (Debian: apt install postgresql), or BORT_TEST_POSTGRES with the URL of a database"
    if os.geteuid() == 0 and _user() is None:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return None


def _user() -> str | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return None


def free_port() -> int:
    """Returns a port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Postgres:
    """A server that can be killed and started again.

    Args:
        settings: Further settings, by name.
        folder: An empty folder for its data; by default one of its own, removed in the end.
    """

    def __init__(self, settings: dict[str, str] | None = None, folder: Path | None = None) -> None:
        reason = why_not()
        if reason:
            raise RuntimeError(reason)
        self._bin = binaries()
        self._settings = settings or {}
        self._own = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="bort-postgres-"))
        self._as: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")
        self.port = free_port()
        self.url = f"postgresql://bort:{PASSWORD}@127.0.0.1:{self.port}/postgres"
        self.process: subprocess.Popen[bytes] | None = None
        word = self.folder / "word"
        word.write_text(PASSWORD)
        word.chmod(0o644)
        self._run("initdb", "-D", str(self.data), "-U", "bort", "-A", "scram-sha-256", "--pwfile", str(word), "-N", "-E", "UTF8")
        word.unlink()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(self._bin / name), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, **self._as)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stdout}{done.stderr}")

    def start(self, seconds: float = 30.0) -> None:
        """Starts the server and waits until it answers; what the last one left behind is recovered from."""
        # The machine stays up in these tests, so what a killed server has written is there without being forced to the disk.
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
            "log_min_messages": "fatal",
            **self._settings,
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    [str(self._bin / "postgres"), "-D", str(self.data), "-p", str(self.port), *arguments],
                    cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **self._as,
                )  # fmt: skip
            while time.monotonic() < until and self.process.poll() is None:
                with contextlib.suppress(Exception):
                    self.execute("SELECT 1")
                    return
                time.sleep(0.05)
            # The processes of a server that was killed may hold its memory for a moment longer.
            time.sleep(0.2)
        raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text(errors='replace')[-2000:]}")

    def execute(self, query: str, *values: Any) -> list[Any]:
        """Runs one statement, with a connection of its own."""
        import psycopg

        with psycopg.connect(self.url, connect_timeout=5, autocommit=True) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def database(self, name: str) -> str:
        """Makes a database and returns its URL."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url.rpartition("/")[0] + f"/{name}"

    def cut(self) -> None:
        """Cuts all connections."""
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'bort'")

    def kill(self) -> None:
        """Kills the server the hard way."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    def restart(self) -> None:
        """Stops the server, cutting its connections, and starts it again."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """Stops the server."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def close(self) -> None:
        """Stops the server and removes its data."""
        self.stop()
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def server(**settings: str) -> Iterator[Postgres]:
    """A server for as long as the block lasts."""
    postgres = Postgres(settings)
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.close()
