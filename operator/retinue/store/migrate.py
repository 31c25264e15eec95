"""Moves a database from one schema version to another.

Alembic orders the versions and renders their SQL; the SQL runs over asyncpg as one script in one transaction, under
an advisory lock. So a migration that is killed leaves nothing behind, two at once do the work once, and what
`retinue db migrate sql` prints is exactly what runs.
"""

import io
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from retinue.store.pool import Connection, Database
from retinue.store.schema import SCHEMA_VERSION, version_of

_LOCK: Final = 0x7265_7469_6E75_6501
"""Key of the advisory lock of migrations: "retinue", 1."""


def known_versions() -> list[int]:
    """All schema versions of this release, oldest first; 0 (nothing) is not among them."""
    return sorted(
        int(script.revision) for script in ScriptDirectory.from_config(_config(io.StringIO())).walk_revisions()
    )


def render(start: int, target: int) -> str:
    """The SQL that leads from one version to another; 0 is an empty database. Raises ValueError."""
    for version in (start, target):
        if version != 0 and version not in known_versions():
            raise ValueError(f"schema version {version}: this release knows 0 to {SCHEMA_VERSION}")
    if start == target:
        return ""
    script = io.StringIO()
    step = command.upgrade if target > start else command.downgrade
    step(_config(script), f"{_name(start)}:{_name(target)}", sql=True)
    if target == 0:
        script.write("DROP TABLE alembic_version;\n")
    return script.getvalue()


async def migrate(database: Database, target: int = SCHEMA_VERSION, *, down: bool = False) -> tuple[int, int]:
    """Bring the schema to `target`; returns (version before, version after). Raises StoreError or ValueError.

    Without `down` a newer schema is left as it is: an older release never takes tables from a newer one.
    """

    async def move(connection: Connection) -> tuple[int, int]:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        start = await version_of(connection) or 0
        if start == target or (start > target and not down):
            return start, start
        await connection.execute(render(start, target))
        return start, target

    return await database.run(move)


def _config(output: io.StringIO) -> Config:
    config = Config(output_buffer=output, stdout=output)
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _name(version: int) -> str:
    return f"{version:04d}" if version else "base"
