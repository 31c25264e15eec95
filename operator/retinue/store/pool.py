"""Connections to Postgres that can never hang their caller.

asyncpg waits for ever on a frozen server, and cancelling the waiting task does not free it. So every call has three
bounds: one on getting a connection, one on each statement, and a hard one after which the connection is torn down.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import asyncpg
from asyncpg import exceptions

from retinue.store.dsn import DsnFile
from retinue.store.errors import INVALID_DSN, Failure, StoreError, describe

T = TypeVar("T")
_asyncpg: Any = asyncpg
"""asyncpg carries no types of its own."""


class Connection(Protocol):
    """What work gets: a connection inside a transaction. Parameters are `$1`, `$2`, ..."""

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement, or without parameters several; returns the status of the last, for example `INSERT 0 3`."""
        ...

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows, readable by column name."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """First column of the first row, None without one."""
        ...

    async def copy_records_to_table(
        self, table_name: str, *, records: Iterable[Any], columns: Iterable[str], schema_name: str
    ) -> str:
        """COPY tuples into a table."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that parts of a call may take."""

    connect: float = 3
    """Getting a connection from the pool, or making one."""
    command: float = 5
    """One statement; the server itself gives up at the same time."""
    lock: float = 3
    """Waiting for a lock."""
    hard: float = 15
    """The whole call; after it the connection is torn down."""

    @classmethod
    def long(cls, seconds: float) -> "Limits":
        """For work that may take that many seconds: migrations, partitions. Never for rows."""
        return cls(command=seconds, hard=seconds + 10)


class _Held:
    """The connection of a running call, so that somebody else can tear it down."""

    def __init__(self) -> None:
        self.connection: Any = None

    def terminate(self) -> None:
        if self.connection is not None and not self.connection.is_closed():
            self.connection.terminate()


class Database:
    """A small pool. `run` is the only way in, and raises only StoreError."""

    def __init__(self, dsn: DsnFile, *, application: str, max_size: int = 4, limits: Limits | None = None) -> None:
        self._dsn = dsn
        self._application = application
        self._max_size = max_size
        self._limits = limits or Limits()
        self._pool: Any = None
        self._closed = False
        self._running: dict[asyncio.Task[Any], _Held] = {}

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do `work` in one transaction. Raises StoreError, never later than the hard bound plus a second.

        After an error it is unknown whether a commit happened (its reply may be lost): work must be repeatable.
        """
        held = _Held()
        task = asyncio.ensure_future(self._transact(work, held))
        self._running[task] = held
        try:
            await asyncio.wait({task}, timeout=self._limits.hard)
        finally:
            self._running.pop(task, None)
            if not task.done():
                held.terminate()
                task.cancel()
                # asyncpg may keep a cancelled task waiting for a server that is frozen: leave it behind.
                task.add_done_callback(_forget)
                await asyncio.wait({task}, timeout=1)
        if not task.done():
            raise StoreError(Failure.UNAVAILABLE, "Hung", "no answer in time")
        cause: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
        if cause is None:
            return task.result()
        error = describe(cause)
        del cause
        if error.failure is Failure.READ_ONLY:
            await self.expire()
        raise error

    async def expire(self) -> None:
        """Make every connection anew before its next use: after a failover the old ones lead to the wrong server."""
        if self._pool is not None:
            await self._pool.expire_connections()

    async def close(self) -> None:
        """Close in peace, within the bound of one statement; what still runs then is torn down. Idempotent."""
        self._closed = True
        if self._pool is None:
            return
        closing = asyncio.ensure_future(self._pool.close())
        await asyncio.wait({closing}, timeout=self._limits.command)
        if not closing.done():
            self.terminate()
            await asyncio.wait({closing}, timeout=1)
        closing.add_done_callback(_forget)

    def terminate(self) -> None:
        """Tear down every connection now; running calls fail at once. Idempotent."""
        self._closed = True
        for task, held in list(self._running.items()):
            held.terminate()
            task.cancel()
        if self._pool is not None:
            self._pool.terminate()

    async def _transact(self, work: Callable[[Connection], Awaitable[T]], held: _Held) -> T:
        bounds = self._limits
        pool = await self._ensure_pool()
        connection = held.connection = await pool.acquire(timeout=bounds.connect)
        try:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(
                    "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true),"
                    " set_config('idle_in_transaction_session_timeout', $3, true)",
                    _milliseconds(bounds.command),
                    _milliseconds(bounds.lock),
                    _milliseconds(bounds.hard),
                )
                result = await work(connection)
                await transaction.commit()
            except (exceptions.PostgresError, exceptions.DataError, ValueError, TypeError):
                # The server still talks to us: give the connection back clean.
                await transaction.rollback()
                raise
            return result
        except (exceptions.PostgresError, exceptions.DataError, ValueError, TypeError):
            raise
        except BaseException:
            held.terminate()
            raise
        finally:
            with contextlib.suppress(Exception):
                await pool.release(connection, timeout=bounds.connect)

    async def _ensure_pool(self) -> Any:
        if self._closed:
            raise StoreError(Failure.UNAVAILABLE, "Closed", "the pool is closed")
        if self._pool is None:
            # With min_size=0 this connects to nothing, so it cannot fail or wait.
            self._pool = _asyncpg.create_pool(
                min_size=0,
                max_size=self._max_size,
                max_inactive_connection_lifetime=60,
                connect=self._connect,
            )
            await self._pool
        return self._pool

    async def _connect(self, *_: Any, **pool_arguments: Any) -> Any:
        cause: BaseException
        try:
            return await self._connect_with(self._dsn.read(), pool_arguments)
        except Exception as raised:  # noqa: BLE001 - whatever it is, its frames hold the connection string
            cause = raised
        error = describe(cause)
        if error.lasting:
            # No row is wrong here: the string is (a port that is no number, say).
            error = StoreError(Failure.REFUSED, error.code, INVALID_DSN)
        del cause
        raise error

    async def _connect_with(self, dsn: str, pool_arguments: dict[str, Any]) -> Any:
        # Nothing is prepared under a name: each session runs the same few statements, and a schema may change under it.
        return await _asyncpg.connect(
            dsn,
            timeout=self._limits.connect,
            command_timeout=self._limits.command,
            statement_cache_size=0,
            server_settings={"application_name": self._application, "timezone": "UTC"},
            **pool_arguments,
        )


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))


def _forget(task: "asyncio.Future[Any]") -> None:
    """Take the outcome of a task nobody waits for any more, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()
