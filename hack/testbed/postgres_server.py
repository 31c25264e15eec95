"""A real PostgreSQL 15 of Debian as a local process: loopback port and Unix socket, its own data folder, no fsync."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.child import Child, end_group, free_port, run_folder
from testbed.errors import TestbedError
from testbed.prepared import require_debian, run

BIN = Path("/usr/lib/postgresql/15/bin")
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "timezone": "UTC",
    "log_min_messages": "warning",
}


class PostgresServer:
    """One database server for tests. Superuser `retinue` without a password on loopback; data is gone after stop()."""

    def __init__(self, *, port: int | None = None, settings: dict[str, str] | None = None) -> None:
        """`settings` adds to or replaces the server's configuration, for example {"max_connections": "5"}."""
        require_debian({str(BIN / "postgres"): "postgresql-15"})
        self.port = port or free_port()
        # Not below the cache: that may lie in a home folder which the account `postgres` cannot enter.
        self.folder = run_folder("retinue-postgres", Path(tempfile.gettempdir()))
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self.folder, self._user, self._user)
        self._settings = _SETTINGS | (settings or {})
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        """The running postmaster: tail() of its log, signals."""
        if self._child is None:
            raise TestbedError("this PostgreSQL is not running: call start() first")
        return self._child

    def dsn(self, database: str = "postgres") -> str:
        """A DSN as asyncpg and SQLAlchemy read it."""
        return f"postgresql://retinue@127.0.0.1:{self.port}/{database}"

    def start(self) -> Self:
        """Start (again, with the same data, after kill() or an immediate stop); returns when it accepts connections."""
        data = self.folder / "data"
        if not data.exists():
            self._as_owner(
                [BIN / "initdb", "-D", data, "-U", "retinue", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
            )
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        # A killed postmaster leaves its lock file and its log; both belong to the account that runs the server.
        (data / "postmaster.pid").unlink(missing_ok=True)
        self._child = Child(
            [BIN / "postgres", "-D", data, "-p", str(self.port), "-h", "127.0.0.1", "-k", self.folder, *options],
            log=self.folder / "postgres.log",
            user=self._user,
            remove=self.folder,
        )
        try:
            self._child.wait_until(self._accepts, "accepting connections")
        except BaseException:
            self.stop()
            raise
        return self

    def new_database(self) -> str:
        """Make an empty database with a name of its own and return its name."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.sql(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, also while somebody is still connected to it."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run SQL with psql and return its unaligned output. For set-up and checks; it starts a process per call."""
        psql: list[str | Path] = [BIN / "psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", self.dsn(database)]
        return run([*psql, "-c", statement]).strip()

    def freeze(self) -> None:
        """SIGSTOP to the postmaster and every backend: connections stay open, nothing answers."""
        self.child.freeze()

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self.child.thaw()

    def kill(self) -> None:
        """SIGKILL to postmaster and backends; start() then runs crash recovery on the same data."""
        # Each backend leads a process group of its own, so killing the postmaster's group would leave them to notice.
        family = self.child.family()
        self.child.kill()
        for process in family:
            end_group(process.pid)

    def stop_immediately(self) -> None:
        """Like `pg_ctl stop -m immediate`: every client is disconnected at once; start() brings the server back."""
        self.child.stop(signal.SIGQUIT)

    def stop(self) -> None:
        """End the server and remove its data."""
        if self._child is not None:
            self._child.stop(signal.SIGINT)
            self._child = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _as_owner(self, command: list[str | Path]) -> None:
        run(["runuser", "-u", self._user, "--", *command] if self._user else command)

    def _accepts(self) -> bool:
        try:
            self.sql("SELECT 1")
        except TestbedError:
            return False
        return True

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
