"""What a writer keeps when its process ends or its bounds are reached, on a real Postgres."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from history_rows import pod_row
from history_store import accounted, dsn_file, make_writer, migrated, put_slowly, running, settled, stored, until
from retinue.store.circuit import Circuit
from retinue.store.dsn import DsnFile
from retinue.store.ring import DropKey
from retinue.store.tables import TABLES
from retinue.store.writer import WriterSettings
from testbed.postgres_server import PostgresServer

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of this module's own: its tests kill, freeze and stop it."""
    with PostgresServer() as running:
        yield running


@pytest.fixture
async def dsn(server: PostgresServer, tmp_path: Path) -> AsyncIterator[DsnFile]:
    name = server.new_database()
    file = dsn_file(tmp_path, server.dsn(name))
    await migrated(file)
    yield file
    server.drop_database(name)


async def test_rows_left_by_a_stopped_process_are_sent_by_the_next(
    server: PostgresServer, dsn: DsnFile, tmp_path: Path
) -> None:
    server.stop_immediately()
    try:
        async with running(make_writer(dsn, tmp_path / "spool")) as writer:
            await put_slowly(writer, 0, 100)
        left = writer.stats()
        assert (left.spool_rows, left.ring_rows, left.dropped_total) == (100, 0, 0)
    finally:
        server.start()
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        stats = await until(writer, lambda s: s.stored == 100)
        assert (stats.recovered, stats.produced, stats.spool_rows) == (100, 0, 0)
    assert len(await stored(dsn)) == 100


async def test_a_frozen_server_does_not_hold_up_the_end_of_the_process(
    server: PostgresServer, dsn: DsnFile, tmp_path: Path
) -> None:
    writer = make_writer(dsn, tmp_path / "spool")
    await writer.start()
    writer.put(pod_row(pod="p0"))
    await until(writer, lambda s: s.stored == 1)
    server.freeze()
    try:
        writer.put(pod_row(pod="p1"))
        await writer.stop(timeout=0.1)
        stats = writer.stats()
        assert accounted(stats)
        assert (stats.stored, stats.spool_rows, stats.ring_rows) == (1, 1, 0)
    finally:
        server.thaw()


async def test_a_process_killed_at_any_moment_loses_nothing_that_had_left_its_memory(
    server: PostgresServer, dsn: DsnFile, tmp_path: Path
) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from history_rows import pod_row\n"
        "from history_store import make_writer; from retinue.store.dsn import DsnFile\n"
        "async def main():\n"
        "    writer = make_writer(DsnFile(Path(sys.argv[1])), Path(sys.argv[2])); await writer.start()\n"
        "    for n in range(100_000):\n"
        "        writer.put(pod_row(pod=f'p{n}')); await asyncio.sleep(0.0005)\n"
        "        s = writer.stats()\n"
        "        print(s.stored + s.spool_rows, s.stored, s.spool_rows, file=sys.stderr, flush=True)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    safe, rows_before = 0, 0
    for _ in range(2):
        command = [sys.executable, "-c", script, str(dsn.path), str(tmp_path / "spool")]
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr is not None
        stopped = False
        while True:
            safe, stored_rows, spooled = map(int, (await process.stderr.readline()).split())
            if stored_rows > 100 and not stopped:
                server.stop_immediately()
                stopped = True
            if stopped and spooled > 300:
                process.kill()
                break
        async for line in process.stderr:
            safe = int(line.split()[0]) if line.endswith(b"\n") else safe
        await process.wait()
        server.start()
        async with running(make_writer(dsn, tmp_path / "spool")) as writer:
            stats = await until(writer, settled)
            assert stats.recovered > 0
        connection = await asyncpg.connect(dsn.read())
        found = [row["pod"] for row in await connection.fetch("SELECT pod FROM pod_health ORDER BY at")]
        await connection.close()
        assert {f"p{n}" for n in range(safe)} <= set(found[rows_before:])
        assert len(set(found[rows_before:])) == len(found[rows_before:])
        rows_before = len(found)


async def test_without_a_spool_memory_is_the_bound_and_each_lost_row_is_counted(
    server: PostgresServer, dsn: DsnFile
) -> None:
    server.stop_immediately()
    settings = WriterSettings(ring_rows=100, flush_seconds=0.05)
    try:
        async with running(make_writer(dsn, None, settings=settings)) as writer:
            for n in range(250):
                writer.put(pod_row(pod=f"p{n}"), transition=n < 20)
            stats = await until(writer, lambda s: s.circuit is not Circuit.CLOSED)
            assert stats.ring_rows == 100
            assert stats.dropped == {DropKey("pod_health", "raw", "overflow"): 150}
            server.start()
            await until(writer, lambda s: s.stored == 100)
    finally:
        if await asyncio.to_thread(lambda: not server.child.alive()):
            server.start()
    assert {f"p{n}" for n in range(20)} <= set(await stored(dsn))


async def test_what_a_full_spool_gave_up_is_exactly_what_is_missing(
    server: PostgresServer, dsn: DsnFile, tmp_path: Path
) -> None:
    server.stop_immediately()
    try:
        writer = make_writer(dsn, tmp_path / "spool", max_bytes=300_000)
        await writer.start()
        for n in range(3_000):
            writer.put(pod_row(pod=f"p{n}"), transition=n % 100 == 0)
            if n % 200 == 0:
                await asyncio.sleep(0.06)
        stats = await until(writer, lambda s: s.ring_rows == 0)
        assert 0 < stats.spool_bytes <= 300_000
        assert stats.dropped_total > 0
    finally:
        server.start()
    stats = await until(writer, settled)
    await writer.stop()
    found = await stored(dsn)
    assert len(found) == len(set(found)) == stats.stored == 3_000 - stats.dropped_total
    assert {f"p{n}" for n in range(0, 3_000, 100)} <= set(found)
    assert set(stats.dropped) == {DropKey("pod_health", "raw", "spool_full")}


async def test_a_spool_folder_that_cannot_be_used_is_done_without(dsn: DsnFile, tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        writer.put(pod_row(pod="p0"))
        await until(writer, lambda s: s.stored == 1)


async def test_new_rows_do_not_wait_behind_a_backlog(server: PostgresServer, dsn: DsnFile, tmp_path: Path) -> None:
    settings = WriterSettings(flush_seconds=0.05, batch_rows=100)
    async with running(make_writer(dsn, tmp_path / "spool", settings=settings)) as writer:
        server.stop_immediately()
        for n in range(20_000):
            writer.put(pod_row(pod=f"p{n}"))
        await until(writer, lambda s: s.spool_rows == 20_000)
        server.start()
        await until(writer, lambda s: s.stored > 0)
        writer.put(pod_row(pod="fresh"))
        await until(writer, lambda s: s.ring_rows == 0)
        assert writer.stats().spool_rows > 0
        assert "fresh" in await stored(dsn)
        await until(writer, settled)


async def test_a_mistake_inside_the_writer_ends_neither_the_flusher_nor_a_row(dsn: DsnFile, tmp_path: Path) -> None:
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        table = TABLES.pop("pod_health")
        try:
            writer.put(pod_row(pod="p0"))
            stats = await until(writer, lambda s: "KeyError" in s.last_error)
            assert (stats.ring_rows, stats.dropped_total) == (1, 0)
        finally:
            TABLES["pod_health"] = table
        await until(writer, lambda s: s.stored == 1)
    assert await stored(dsn) == ["p0"]
