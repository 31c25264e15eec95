"""Days of history: partitions are made before their day begins and dropped when nobody wants them any more.

Dropping a day takes milliseconds where deleting its rows would take minutes. Every step stands alone under one
advisory lock, so that two operators, or one that was killed, do no harm.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Final

from retinue.store.errors import StoreError
from retinue.store.pool import Connection, Database
from retinue.store.tables import TABLES

DAYS_AHEAD: Final = 7
"""Days after today that have a partition; so the upkeep may fail for a week before a row falls into the default one."""

_LOCK: Final = 0x7265_7469_6E75_6502
"""Key of the advisory lock of partitions: "retinue", 2."""
_DAY: Final = re.compile(r"_p(\d{8})$")


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What one pass did and found."""

    created: tuple[str, ...]
    dropped: tuple[str, ...]
    postponed: tuple[str, ...]
    """Partitions that somebody was using; the next pass tries again."""
    default_rows: int
    """Rows outside all days; more than none means wrong clocks or an upkeep that did not run."""


async def keep_partitions(
    database: Database, *, now: datetime, retention_days: int, days_ahead: int = DAYS_AHEAD
) -> Upkeep:
    """One pass over all tables. `now` must be aware. Raises StoreError; what was done by then stays done.

    Give it a Database with `Limits.long`: moving rows out of the default partition may take longer than a row may.
    """
    today = now.astimezone(UTC).date()
    oldest = today - timedelta(days=retention_days)
    created: list[str] = []
    dropped: list[str] = []
    postponed: list[str] = []
    default_rows = 0
    for table in TABLES:
        have = await database.run(partial(_days, table=table))
        stray = await database.run(partial(_default_days, table=table))
        wanted = {today + timedelta(days=n) for n in range(-1, days_ahead + 1)} | {d for d in stray if oldest <= d}
        for day in sorted(d for d in wanted - have if d <= today + timedelta(days=days_ahead)):
            await _step(database, partial(_create, table=table, day=day), created, postponed, _name(table, day))
        for day in sorted(d for d in have if d < oldest):
            await _step(database, partial(_drop, table=table, day=day), dropped, postponed, _name(table, day))
        default_rows += await database.run(partial(_clear_default, table=table, oldest=oldest))
    return Upkeep(tuple(created), tuple(dropped), tuple(postponed), default_rows)


async def _step(
    database: Database,
    work: Callable[[Connection], Awaitable[bool]],
    done: list[str],
    postponed: list[str],
    name: str,
) -> None:
    try:
        if await database.run(work):
            done.append(name)
    except StoreError as error:
        if error.code != "55P03":
            raise
        postponed.append(name)


async def _days(connection: Connection, table: str) -> set[date]:
    rows = await connection.fetch(
        "SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = to_regclass($1)",
        table,
    )
    found = (_DAY.search(row["name"]) for row in rows)
    return {datetime.strptime(m[1], "%Y%m%d").replace(tzinfo=UTC).date() for m in found if m}


async def _default_days(connection: Connection, table: str) -> set[date]:
    sql = await connection.fetchval(
        "SELECT format('SELECT DISTINCT (at AT TIME ZONE ''UTC'')::date AS day FROM %I', $1::text)", f"{table}_default"
    )
    return {row["day"] for row in await connection.fetch(sql)}


async def _create(connection: Connection, table: str, day: date) -> bool:
    """Make the partition of a day and move into it what the default partition holds of that day.

    Attached, not created in place: that would lock out all readers and writers of the table.
    """
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    if day in await _days(connection, table):
        return False
    script = await connection.fetchval(
        "SELECT format('CREATE TABLE %1$I (LIKE %2$I INCLUDING ALL);"
        " WITH moved AS (DELETE FROM %3$I WHERE at >= %4$L AND at < %5$L RETURNING *) INSERT INTO %1$I TABLE moved;"
        " ALTER TABLE %2$I ATTACH PARTITION %1$I FOR VALUES FROM (%4$L) TO (%5$L)',"
        " $1::text, $2::text, $3::text, $4::timestamptz, $5::timestamptz)",
        _name(table, day),
        table,
        f"{table}_default",
        _midnight(day),
        _midnight(day + timedelta(days=1)),
    )
    await connection.execute(script)
    return True


async def _drop(connection: Connection, table: str, day: date) -> bool:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    if day not in await _days(connection, table):
        return False
    await connection.execute(await connection.fetchval("SELECT format('DROP TABLE %I', $1::text)", _name(table, day)))
    return True


async def _clear_default(connection: Connection, table: str, oldest: date) -> int:
    """Delete what is too old in the default partition; returns how many rows stay there."""
    default = f"{table}_default"
    await connection.execute(
        await connection.fetchval(
            "SELECT format('DELETE FROM %I WHERE at < %L', $1::text, $2::timestamptz)", default, _midnight(oldest)
        )
    )
    count: int = await connection.fetchval(
        await connection.fetchval("SELECT format('SELECT count(*) FROM %I', $1::text)", default)
    )
    return count


def _name(table: str, day: date) -> str:
    return f"{table}_p{day:%Y%m%d}"


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
