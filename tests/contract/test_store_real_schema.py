"""The schema of a real database goes up and down whole, days come and go, and people can ask what is in it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from history_rows import NOON, deployment_row, pod_row, usage_row
from history_store import dsn_file, migrated
from retinue.cli.db import app
from retinue.cli.exits import CommandError
from retinue.domain.records import Row
from retinue.domain.row_class import RowClass
from retinue.domain.spool_format import QueuedRow
from retinue.store import queries
from retinue.store.dsn import DsnFile
from retinue.store.errors import Failure, StoreError
from retinue.store.migrate import known_versions, migrate, render
from retinue.store.partitions import keep_partitions
from retinue.store.pool import Connection, Database, Limits
from retinue.store.schema import SCHEMA_VERSION, current_version, wait_for_schema
from retinue.store.sending import send
from retinue.store.tables import TABLES
from testbed.postgres_server import PostgresServer

pytestmark = pytest.mark.contract

Sql = Callable[..., Any]


@pytest.fixture
def dsn(postgres: str, tmp_path: Path) -> DsnFile:
    return dsn_file(tmp_path, postgres)


@pytest.fixture
async def database(dsn: DsnFile) -> AsyncIterator[Database]:
    opened = Database(dsn, application="test", limits=Limits.long(30))
    yield opened
    await opened.close()


@pytest.fixture
async def sql(dsn: DsnFile) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(dsn.read())

    async def query(statement: str, *args: object) -> list[Any]:
        return [row[0] for row in await connection.fetch(statement, *args)]

    yield query
    await connection.close()


async def put(database: Database, *rows: Row) -> None:
    outcome = await send(database, [QueuedRow(row, RowClass.RAW) for row in rows])
    assert (outcome.stored, outcome.error) == (len(rows), None)


TABLE_NAMES = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'i') AND relnamespace = 'public'::regnamespace"


def test_the_newest_step_is_the_version_that_this_release_asks_for() -> None:
    assert known_versions() == list(range(1, SCHEMA_VERSION + 1))


def test_no_way_leads_to_an_unknown_version() -> None:
    with pytest.raises(ValueError, match="schema version 99: this release knows 0 to"):
        render(0, 99)


async def test_up_and_down_leave_an_empty_database_and_may_be_repeated(database: Database, sql: Sql) -> None:
    assert await current_version(database) is None
    for _ in range(2):
        assert await migrate(database) == (0, SCHEMA_VERSION)
        assert await migrate(database) == (SCHEMA_VERSION, SCHEMA_VERSION)
        assert await current_version(database) == SCHEMA_VERSION
        await keep_partitions(database, now=NOON, retention_days=14)
        await put(database, pod_row(), deployment_row(), usage_row())
        assert await migrate(database, 0, down=True) == (SCHEMA_VERSION, 0)
        assert await sql(TABLE_NAMES) == []


async def test_columns_are_the_fields_of_the_rows(database: Database, sql: Sql) -> None:
    await migrate(database)
    for name, table in TABLES.items():
        found = await sql("SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0", name)
        assert tuple(found) == table.columns


async def test_a_newer_schema_is_left_as_it_is(database: Database, sql: Sql) -> None:
    await migrate(database)
    await sql("UPDATE alembic_version SET version_num = '0099'")
    assert await migrate(database) == (99, 99)
    assert await wait_for_schema(database) == 99


async def test_many_migrations_at_once_do_the_work_once(dsn: DsnFile) -> None:
    databases = [Database(dsn, application=f"m{n}", limits=Limits.long(30)) for n in range(5)]
    moves = await asyncio.gather(*(migrate(database) for database in databases))
    assert sorted(moves) == [(0, SCHEMA_VERSION), *[(SCHEMA_VERSION, SCHEMA_VERSION)] * 4]
    for database in databases:
        await database.close()


async def test_a_migration_that_is_cut_off_leaves_nothing(database: Database, dsn: DsnFile, sql: Sql) -> None:
    async def half(connection: Connection) -> None:
        await connection.execute(render(0, SCHEMA_VERSION))
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(StoreError):
        await database.run(half)
    assert await sql(TABLE_NAMES) == []
    await migrated(dsn)


async def test_a_user_without_rights_is_told_what_is_missing(
    postgres_server: PostgresServer, postgres: str, tmp_path: Path
) -> None:
    name = postgres.rpartition("/")[2]
    postgres_server.sql(f"CREATE ROLE guest_{name} LOGIN")
    database = Database(dsn_file(tmp_path, postgres.replace("retinue@", f"guest_{name}@")), application="guest")
    with pytest.raises(StoreError, match="make it the owner of the database") as caught:
        await migrate(database)
    assert caught.value.failure is Failure.REFUSED
    await database.close()
    postgres_server.sql(f"DROP ROLE guest_{name}")


async def test_a_role_waits_until_the_schema_is_there(database: Database, dsn: DsnFile) -> None:
    heard: list[str] = []

    async def sleep(_: float) -> None:
        if heard:
            await migrated(dsn)

    assert await wait_for_schema(database, on_waiting=heard.append, sleep=sleep) == SCHEMA_VERSION
    assert heard == [f"the database has schema none, this release needs {SCHEMA_VERSION}"]


async def test_waiting_outlives_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    database = Database(dsn_file(tmp_path, "postgresql://retinue@127.0.0.1:1/x"), application="t")
    heard: list[str] = []
    slept = 0

    async def sleep(_: float) -> None:
        nonlocal slept
        slept += 1
        if slept == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await wait_for_schema(database, on_waiting=heard.append, sleep=sleep)
    assert len(heard) == 1
    assert "cannot be reached" in heard[0]
    await database.close()


async def test_a_rotated_password_is_used_by_the_next_connection(
    postgres_server: PostgresServer, postgres: str, tmp_path: Path
) -> None:
    name = postgres.rpartition("/")[2]
    for role in ("old", "new"):
        postgres_server.sql(f"CREATE ROLE {role}_{name} LOGIN")
    dsn = dsn_file(tmp_path, postgres.replace("retinue@", f"old_{name}@"))
    database = Database(dsn, application="rotation")

    async def user(connection: Connection) -> str:
        return str(await connection.fetchval("SELECT current_user"))

    assert await database.run(user) == f"old_{name}"
    dsn.path.write_text(postgres.replace("retinue@", f"new_{name}@"))
    assert await database.run(user) == f"old_{name}"
    await database.expire()
    assert await database.run(user) == f"new_{name}"
    await database.close()
    for role in ("old", "new"):
        postgres_server.sql(f"DROP ROLE {role}_{name}")


async def test_a_call_that_hangs_for_ever_is_torn_down(dsn: DsnFile) -> None:
    database = Database(dsn, application="hang", limits=Limits(connect=1, command=1, hard=0.5))

    async def hang(_: Connection) -> None:
        await asyncio.Event().wait()

    with pytest.raises(StoreError) as caught:
        await database.run(hang)
    assert caught.value.failure is Failure.UNAVAILABLE

    async def one(connection: Connection) -> Any:
        return await connection.fetchval("SELECT 1")

    assert await database.run(one) == 1
    await database.close()


# Days ---------------------------------------------------------------------------------------------------------------

DAYS = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE $1 ORDER BY relname"


async def test_days_are_made_ahead_and_dropped_when_old_and_a_second_pass_does_nothing(
    database: Database, sql: Sql
) -> None:
    await migrate(database)
    first = await keep_partitions(database, now=NOON, retention_days=3)
    assert len(first.created) == 9 * len(TABLES)
    assert (await sql(DAYS, "usage_p%"))[0] == "usage_p20260313"
    assert (await sql(DAYS, "usage_p%"))[-1] == "usage_p20260321"
    again = await keep_partitions(database, now=NOON, retention_days=3)
    assert (again.created, again.dropped, again.postponed, again.default_rows) == ((), (), (), 0)
    later = await keep_partitions(database, now=NOON + timedelta(days=5), retention_days=3)
    assert [name for name in later.dropped if name.startswith("usage")] == [
        "usage_p20260313",
        "usage_p20260314",
        "usage_p20260315",
    ]
    assert len(later.created) == 5 * len(TABLES)
    assert later.default_rows == 0


async def test_a_row_of_a_day_without_a_partition_is_kept_and_moved_when_its_day_is_made(
    database: Database, sql: Sql
) -> None:
    await migrate(database)
    rows = [pod_row(at=NOON - timedelta(days=days), pod=f"{days}") for days in (0, 2, 5, 40)]
    ahead = pod_row(at=NOON + timedelta(days=30), pod="ahead")
    await put(database, *rows, ahead)
    assert len(await sql("SELECT pod FROM pod_health_default")) == 5
    done = await keep_partitions(database, now=NOON, retention_days=14)
    assert await sql("SELECT pod FROM pod_health_default") == ["ahead"]
    assert done.default_rows == 1
    assert await sql("SELECT pod FROM pod_health ORDER BY at") == ["5", "2", "0", "ahead"]
    assert await sql("SELECT pod FROM pod_health_p20260309") == ["5"]
    await put(database, rows[0])
    assert await sql("SELECT count(*) FROM pod_health") == [4]


async def test_a_day_that_somebody_reads_is_dropped_by_a_later_pass(dsn: DsnFile, sql: Sql) -> None:
    await migrated(dsn)
    database = Database(dsn, application="upkeep", limits=Limits(command=10, lock=0.2, hard=20))
    await keep_partitions(database, now=NOON, retention_days=3)
    reader = await asyncpg.connect(dsn.read())
    later = NOON + timedelta(days=4)
    async with reader.transaction():
        await reader.fetch("SELECT * FROM usage")
        done = await keep_partitions(database, now=later, retention_days=3)
        assert {"usage_p20260313", "usage_p20260314"} < set(done.postponed)
        assert all(name.startswith("usage") for name in done.postponed)
    await reader.close()
    done = await keep_partitions(database, now=later, retention_days=3)
    assert done.dropped == ("usage_p20260313", "usage_p20260314")
    await database.close()


async def test_two_operators_may_keep_the_same_days(dsn: DsnFile, sql: Sql) -> None:
    await migrated(dsn)
    databases = [Database(dsn, application=f"k{n}", limits=Limits.long(30)) for n in range(3)]
    done = await asyncio.gather(*(keep_partitions(d, now=NOON, retention_days=3) for d in databases))
    assert sum(len(d.created) for d in done) == 9 * len(TABLES)
    assert len(await sql(DAYS, "pod_health_p%")) == 9
    for database in databases:
        await database.close()


async def test_rows_go_to_the_partition_of_their_day(database: Database, sql: Sql) -> None:
    await migrate(database)
    await keep_partitions(database, now=NOON, retention_days=3)
    midnight = datetime(2026, 3, 15, tzinfo=UTC)
    await put(
        database,
        usage_row(at=midnight - timedelta(microseconds=1), request_id="a"),
        usage_row(at=midnight, request_id="b"),
    )
    assert await sql("SELECT request_id FROM usage_p20260314") == ["a"]
    assert await sql("SELECT request_id FROM usage_p20260315") == ["b"]


# Questions ----------------------------------------------------------------------------------------------------------


async def test_the_newest_row_of_each_deployment_and_pod_is_found(database: Database) -> None:
    await migrate(database)
    now = datetime.now(UTC)
    await put(
        database,
        deployment_row(at=now - timedelta(minutes=2), deployment="a", ready=False, reason="NoPods"),
        deployment_row(at=now - timedelta(minutes=1), deployment="a"),
        deployment_row(at=now - timedelta(minutes=1), deployment="b", namespace="others"),
        deployment_row(at=now - timedelta(days=3), deployment="forgotten"),
        pod_row(at=now - timedelta(minutes=2), pod="p"),
        newest := pod_row(at=now - timedelta(minutes=1), pod="p", phase="Loading"),
        pod_row(at=now - timedelta(minutes=1), pod="p", probe="generate", tokens_per_second=42.5),
        usage_row(at=now, request_id="r"),
        usage_row(at=now - timedelta(hours=2), request_id="old"),
    )
    found = await queries.newest_deployment_health(database)
    assert [(row.deployment, row.ready) for row in found] == [("a", True), ("b", True)]
    assert [row.namespace for row in await queries.newest_deployment_health(database, namespace="others")] == ["others"]
    assert len(await queries.newest_deployment_health(database, limit=1)) == 1
    pods = await queries.newest_pod_health(database)
    assert [(row.probe, row.phase) for row in pods] == [("generate", "Ready"), ("status", "Loading")]
    assert pods[1] == newest
    history = await queries.deployment_health_since(
        database, now - timedelta(hours=1), namespace="bots", deployment="a"
    )
    assert [row.ready for row in history] == [True, False]
    assert [row.request_id for row in await queries.usage_since(database, now - timedelta(hours=1))] == ["r"]


@pytest.mark.parametrize("hostile", ["' OR 1=1 --", "$1", "%s", 'a"; DROP TABLE usage; --', "\\"])
async def test_a_name_is_only_ever_a_value(database: Database, hostile: str) -> None:
    await migrate(database)
    await put(database, usage_row())
    assert await queries.newest_deployment_health(database, namespace=hostile, deployment=hostile) == []
    assert await queries.usage_since(database, NOON - timedelta(days=999), namespace=hostile) == []
    assert len(await queries.usage_since(database, NOON - timedelta(days=999))) == 1


# Command line -------------------------------------------------------------------------------------------------------


def call(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    if isinstance(result.exception, CommandError):
        return result.exception.code, str(result.exception)
    return result.exit_code, result.output


def test_the_command_line_migrates_up_and_down(dsn: DsnFile) -> None:
    file = str(dsn.path)
    assert call("migrate", "status", "--dsn-file", file)[0] == 1
    assert call("migrate", "up", "--dsn-file", file) == (0, f"✔ schema 0 -> {SCHEMA_VERSION}\n")
    assert call("migrate", "up", "--dsn-file", file) == (0, f"✔ schema {SCHEMA_VERSION}, nothing to do\n")
    assert call("migrate", "status", "--dsn-file", file)[0] == 0
    assert call("retention", "--days", "3", "--dsn-file", file) == (0, "✔ 27 days made, 0 dropped\n")
    assert call("migrate", "down", "--to", "9", "--dsn-file", file)[0] == 2
    assert call("migrate", "down", "--to", "0", "--dsn-file", file)[0] == 1
    assert call("migrate", "status", "--dsn-file", file)[0] == 0
    assert call("migrate", "down", "--to", "0", "--yes", "--dsn-file", file) == (0, f"✔ schema {SCHEMA_VERSION} -> 0\n")


def test_the_printed_sql_is_what_up_runs(postgres_server: PostgresServer, dsn: DsnFile) -> None:
    code, script = call("migrate", "sql")
    assert code == 0
    postgres_server.sql(script, dsn.read().rpartition("/")[2])
    assert call("migrate", "up", "--dsn-file", str(dsn.path)) == (0, f"✔ schema {SCHEMA_VERSION}, nothing to do\n")
    assert call("migrate", "sql", "--to", "99") == (2, "schema version 99: this release knows 0 to 1")


def test_an_error_of_the_command_line_is_one_sentence(tmp_path: Path) -> None:
    code, text = call("migrate", "up", "--dsn-file", str(tmp_path / "none"))
    assert (code, str(tmp_path / "none") in text) == (1, True)
