"""Which schema a database has, and waiting for the one that this release needs.

The setup Job migrates; every other role only waits. A newer schema is fine: changes are additive, so that roles one
version older keep working during an upgrade.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from retinue.store.errors import Failure, StoreError
from retinue.store.pool import Connection, Database

SCHEMA_VERSION: Final = 1
"""The schema that this release writes and reads; the newest step in `store/migrations`."""


async def current_version(database: Database) -> int | None:
    """Number of the schema, None for a database that was never migrated. Raises StoreError."""

    async def read(connection: Connection) -> int | None:
        return await version_of(connection)

    return await database.run(read)


async def version_of(connection: Connection) -> int | None:
    """The same inside a running transaction."""
    if not await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL"):
        return None
    found = await connection.fetchval("SELECT max(version_num) FROM alembic_version")
    return None if found is None else int(found)


async def wait_for_schema(
    database: Database,
    *,
    wanted: int = SCHEMA_VERSION,
    pause: float = 2,
    on_waiting: Callable[[str], None] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> int:
    """Return the version as soon as it is at least `wanted`; bound it with `asyncio.timeout` if need be.

    `on_waiting` hears why, each time the reason changes. Nothing that serves requests or reconciles may await this:
    rows go to the spool until the schema is there.
    """
    told = ""
    while True:
        try:
            version = await current_version(database)
            if version is not None and version >= wanted:
                return version
            reason = f"the database has schema {version or 'none'}, this release needs {wanted}"
        except StoreError as error:
            if error.failure is Failure.POISON:
                raise
            reason = str(error)
        if reason != told and on_waiting is not None:
            on_waiting(reason)
        told = reason
        await sleep(pause)
