"""How a batch of rows gets into its table: COPY into a staging table of the session, then one INSERT.

COPY is several times faster than INSERT and cannot skip what is there already; the INSERT from staging can, so that a
batch whose commit was not heard of may be sent again. Staging lives as long as the session and empties at commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final

from retinue.domain.records import DeploymentHealth, PodHealth, Row, Usage
from retinue.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Table:
    """One table of rows. SQL is written out per table: nothing is ever formatted into it."""

    row_type: type[PodHealth] | type[DeploymentHealth] | type[Usage]
    staging: str
    stage: str
    merge: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names, in the order of the row's fields."""
        return tuple(f.name for f in fields(self.row_type))

    async def insert(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Store rows that are not there yet; returns how many were new. Part of the caller's transaction."""
        columns = self.columns
        values = attrgetter(*columns)
        await connection.execute(self.stage)
        await connection.copy_records_to_table(
            self.staging, records=[values(row) for row in rows], columns=columns, schema_name="pg_temp"
        )
        done: Any = await connection.execute(self.merge)
        return int(str(done).rpartition(" ")[2])


TABLES: Final[dict[str, Table]] = {
    PodHealth.table: Table(
        row_type=PodHealth,
        staging="stage_pod_health",
        stage="CREATE TEMP TABLE IF NOT EXISTS stage_pod_health"
        " (LIKE pod_health INCLUDING DEFAULTS) ON COMMIT DELETE ROWS",
        merge="INSERT INTO pod_health SELECT * FROM pg_temp.stage_pod_health ON CONFLICT (sample_id, at) DO NOTHING",
    ),
    DeploymentHealth.table: Table(
        row_type=DeploymentHealth,
        staging="stage_deployment_health",
        stage="CREATE TEMP TABLE IF NOT EXISTS stage_deployment_health"
        " (LIKE deployment_health INCLUDING DEFAULTS) ON COMMIT DELETE ROWS",
        merge="INSERT INTO deployment_health SELECT * FROM pg_temp.stage_deployment_health"
        " ON CONFLICT (sample_id, at) DO NOTHING",
    ),
    Usage.table: Table(
        row_type=Usage,
        staging="stage_usage",
        stage="CREATE TEMP TABLE IF NOT EXISTS stage_usage (LIKE usage INCLUDING DEFAULTS) ON COMMIT DELETE ROWS",
        merge="INSERT INTO usage SELECT * FROM pg_temp.stage_usage ON CONFLICT (request_id, at) DO NOTHING",
    ),
}
"""Every table that rows go to, by name."""
