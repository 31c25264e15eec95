"""No row is lost or stored twice, whatever happens to a real Postgres while rows arrive."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from history_rows import deployment_row, pod_row, usage_row
from history_store import dsn_file, make_writer, migrated, put_slowly, running, settled, stored, until
from retinue.domain.records import PodHealth
from retinue.store.circuit import Circuit
from retinue.store.dsn import DsnFile
from retinue.store.ring import DropKey
from retinue.store.writer import RowWriter
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


async def check_all_stored_once(writer: RowWriter, dsn: DsnFile, count: int) -> None:
    stats = await until(writer, settled)
    assert stats.stored == count, stats
    found = await stored(dsn)
    assert sorted(found) == sorted(f"p{n}" for n in range(count))


async def test_rows_of_all_tables_arrive(dsn: DsnFile, tmp_path: Path) -> None:
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        writer.put(pod_row(pod="p0"))
        writer.put(deployment_row(deployment="d0"), transition=True)
        writer.put(usage_row(request_id="r0"))
        stats = await until(writer, lambda s: s.stored == 3)
        assert (stats.up, stats.circuit, stats.last_error, stats.dropped_total) == (True, Circuit.CLOSED, "", 0)
    assert await stored(dsn) == ["p0"]
    assert await stored(dsn, "deployment_health", "deployment") == ["d0"]
    assert await stored(dsn, "usage", "request_id") == ["r0"]


async def test_a_row_that_is_sent_twice_is_stored_once(dsn: DsnFile, tmp_path: Path) -> None:
    same = pod_row(pod="p0")
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        writer.put(same)
        await until(writer, lambda s: s.stored == 1)
        writer.put(same)
        writer.put(same)
        stats = await until(writer, lambda s: s.stored == 3)
        assert stats.duplicates == 2
    assert await stored(dsn) == ["p0"]


async def test_a_killed_server_costs_no_row(server: PostgresServer, dsn: DsnFile, tmp_path: Path) -> None:
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        await put_slowly(writer, 0, 500)
        server.kill()
        await put_slowly(writer, 500, 1500)
        await until(writer, lambda s: s.circuit is not Circuit.CLOSED and s.spool_rows > 0)
        assert writer.stats().last_error.startswith("Postgres: ")
        server.start()
        await put_slowly(writer, 1500, 2000)
        await check_all_stored_once(writer, dsn, 2000)
        assert writer.stats().up


async def test_a_frozen_server_costs_no_row_and_blocks_nobody(
    server: PostgresServer, dsn: DsnFile, tmp_path: Path
) -> None:
    tasks = len(asyncio.all_tasks())
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        await put_slowly(writer, 0, 300)
        await until(writer, lambda s: s.stored > 0)
        server.freeze()
        try:
            await put_slowly(writer, 300, 1300)
            await until(writer, lambda s: s.circuit is not Circuit.CLOSED and s.ring_rows == 0)
        finally:
            server.thaw()
        await put_slowly(writer, 1300, 1500)
        await check_all_stored_once(writer, dsn, 1500)
    assert len(asyncio.all_tasks()) == tasks


async def test_a_restarted_server_costs_no_row(server: PostgresServer, dsn: DsnFile, tmp_path: Path) -> None:
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        feeding = asyncio.create_task(put_slowly(writer, 0, 3000))
        for _ in range(2):
            await asyncio.sleep(0.3)
            server.stop_immediately()
            await asyncio.to_thread(server.start)
        await feeding
        await check_all_stored_once(writer, dsn, 3000)


async def test_a_server_that_turns_read_only_is_noticed_and_left_when_another_takes_over(
    server: PostgresServer, dsn: DsnFile, tmp_path: Path
) -> None:
    database = dsn.read().rpartition("/")[2]
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'writer'"
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        await put_slowly(writer, 0, 200)
        # Holds for sessions that begin from now on, as after a failover; those stay read-only for ever.
        server.sql(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        server.sql(cut)
        await put_slowly(writer, 200, 800)
        stats = await until(writer, lambda s: s.circuit is not Circuit.CLOSED and s.ring_rows == 0)
        assert "read-only" in stats.last_error
        server.sql(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        await check_all_stored_once(writer, dsn, 800)


async def test_a_lock_on_the_table_only_delays_rows(dsn: DsnFile, tmp_path: Path) -> None:
    connection = await asyncpg.connect(dsn.read())
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        async with connection.transaction():
            await connection.execute("LOCK TABLE pod_health IN ACCESS EXCLUSIVE MODE")
            await put_slowly(writer, 0, 300)
            await until(writer, lambda s: s.spool_rows > 0)
        await check_all_stored_once(writer, dsn, 300)
    await connection.close()


async def test_connections_cut_in_the_middle_of_a_batch_cost_no_row(
    server: PostgresServer, dsn: DsnFile, tmp_path: Path
) -> None:
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        feeding = asyncio.create_task(put_slowly(writer, 0, 4000))
        while not feeding.done():
            await asyncio.to_thread(
                server.sql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'writer'"
            )
        await feeding
        await check_all_stored_once(writer, dsn, 4000)


async def test_rows_before_the_first_migration_wait_for_it(server: PostgresServer, tmp_path: Path) -> None:
    name = server.new_database()
    dsn = dsn_file(tmp_path, server.dsn(name))
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        await put_slowly(writer, 0, 50)
        stats = await until(writer, lambda s: s.circuit is not Circuit.CLOSED and s.spool_rows == 50)
        assert "retinue db migrate up" in stats.last_error
        await migrated(dsn)
        await check_all_stored_once(writer, dsn, 50)
    server.drop_database(name)


@pytest.fixture
def small_server() -> Iterator[PostgresServer]:
    """A server whose disk is a RAM disk of 160 MiB."""
    server = PostgresServer(settings={"min_wal_size": "32MB", "max_wal_size": "32MB"})
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", server.folder], check=True)
    try:
        shutil.chown(server.folder, "postgres", "postgres")
        yield server.start()
    finally:
        server.stop()
        subprocess.run(["umount", "-l", server.folder], check=True)
        shutil.rmtree(server.folder, ignore_errors=True)


def fill(path: Path) -> None:
    """Take the last byte of a disk."""
    with path.open("wb", buffering=0) as file:
        for piece in (1 << 16, 1):
            with pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(b"\0" * piece)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
async def test_a_full_disk_costs_no_row(small_server: PostgresServer, tmp_path: Path) -> None:
    dsn = dsn_file(tmp_path, small_server.dsn(small_server.new_database()))
    await migrated(dsn)
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        await put_slowly(writer, 0, 100)
        await until(writer, lambda s: s.stored == 100)
        fill(small_server.folder / "filler")
        for n in range(100, 20_000):
            writer.put(pod_row(pod=f"p{n}"))
        stats = await until(writer, lambda s: not s.up and s.spool_rows > 0 and s.ring_rows == 0)
        assert stats.dropped_total == 0
        (small_server.folder / "filler").unlink()
        if not small_server.child.alive():
            small_server.start()
        await check_all_stored_once(writer, dsn, 20_000)


POISON = {
    "NUL byte": pod_row(reason="a\0b"),
    "ten MiB of text": pod_row(reason="x" * 10_000_000),
    "not a number": pod_row(latency_ms=float("nan")),
    "endless": pod_row(latency_ms=float("inf")),
    "year 9999": pod_row(at=datetime(9999, 1, 1, tzinfo=UTC)),
    "year 1": pod_row(at=datetime(1, 1, 1, tzinfo=UTC)),
    "huge number": pod_row(in_flight=2**70),
    "word for a number": pod_row(in_flight="many"),
    "missing value": pod_row(model_server=None),
    "lone surrogate": pod_row(reason="\ud800"),
    "no UUID": pod_row(sample_id="x"),
}


@pytest.mark.parametrize("bad", POISON.values(), ids=POISON.keys())
async def test_a_poison_row_is_dropped_alone_and_counted(dsn: DsnFile, tmp_path: Path, bad: PodHealth) -> None:
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        for n in range(40):
            writer.put(bad if n == 17 else pod_row(pod=f"p{n}"))
        stats = await until(writer, settled)
        assert stats.dropped == {DropKey("pod_health", "raw", "poison"): 1}
        assert stats.up
    assert sorted(await stored(dsn)) == sorted(f"p{n}" for n in range(40) if n != 17)


async def test_a_poison_row_among_spooled_rows_is_dropped_alone(
    server: PostgresServer, dsn: DsnFile, tmp_path: Path
) -> None:
    async with running(make_writer(dsn, tmp_path / "spool")) as writer:
        server.stop_immediately()
        for n in range(30):
            writer.put(POISON["NUL byte"] if n == 4 else pod_row(pod=f"p{n}"))
        await until(writer, lambda s: s.spool_rows == 30)
        server.start()
        stats = await until(writer, settled)
        assert stats.dropped == {DropKey("pod_health", "raw", "poison"): 1}
    assert len(await stored(dsn)) == 29
