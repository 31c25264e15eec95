"""A migrated database, a writer that hurries, and the count that must always come out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg

from history_rows import pod_row
from retinue.store.circuit import Breaker
from retinue.store.dsn import DsnFile
from retinue.store.migrate import migrate
from retinue.store.pool import Database, Limits
from retinue.store.spool import Spool
from retinue.store.writer import RowWriter, WriterSettings, WriterStats

FAST = Limits(connect=0.4, command=0.5, lock=0.3, hard=1.5)
"""Bounds as in production, only shorter, so that a frozen server is noticed within a test."""
EAGER = WriterSettings(flush_seconds=0.05, batch_rows=1_000)


def dsn_file(folder: Path, dsn: str) -> DsnFile:
    path = folder / "dsn"
    path.write_text(dsn)
    return DsnFile(path)


async def migrated(dsn: DsnFile) -> None:
    database = Database(dsn, application="migrate", max_size=1, limits=Limits.long(60))
    try:
        await migrate(database)
    finally:
        await database.close()


def make_writer(
    dsn: DsnFile,
    spool: Path | None,
    *,
    settings: WriterSettings = EAGER,
    limits: Limits = FAST,
    max_bytes: int = 64 << 20,
) -> RowWriter:
    return RowWriter(
        Database(dsn, application="writer", limits=limits),
        None if spool is None else Spool(spool, max_bytes=max_bytes, segment_bytes=64 << 10),
        name="writer-0",
        settings=replace(settings),
        breaker=Breaker(first=0.1, longest=0.3),
    )


def accounted(stats: WriterStats) -> bool:
    """Invariant M1: every row is stored, counted as dropped, in memory or on disk."""
    where = stats.stored + stats.dropped_total + stats.ring_rows + stats.spool_rows
    return stats.produced + stats.recovered == where


async def until(writer: RowWriter, condition: Callable[[WriterStats], bool]) -> WriterStats:
    """Wait for a picture, and hold the invariant against each one on the way (the test's timeout ends it)."""
    while True:
        stats = writer.stats()
        assert accounted(stats), stats
        if condition(stats):
            return stats
        await asyncio.sleep(0.02)


def settled(stats: WriterStats) -> bool:
    """Nothing is on its way any more."""
    return stats.ring_rows == 0 and stats.spool_rows == 0


@asynccontextmanager
async def running(writer: RowWriter) -> AsyncIterator[RowWriter]:
    """Start a writer, and stop it however the test ends."""
    await writer.start()
    try:
        yield writer
    finally:
        await writer.stop()


async def stored(dsn: DsnFile, table: str = "pod_health", key: str = "pod") -> list[str]:
    """One column of everything in a table."""
    connection = await asyncpg.connect(dsn.read())
    try:
        return [row[key] for row in await connection.fetch(f"SELECT {key} FROM {table}")]
    finally:
        await connection.close()


async def put_slowly(writer: RowWriter, first: int, last: int) -> None:
    """Rows p<first> to p<last - 1>, every tenth a state change, with the event loop turning in between."""
    for n in range(first, last):
        writer.put(pod_row(pod=f"p{n}"), transition=n % 10 == 0)
        if n % 10 == 0:
            await asyncio.sleep(0.005)
