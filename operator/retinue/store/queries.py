"""What people ask of the history. Values travel only as parameters, never inside the SQL."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from retinue.domain.records import DeploymentHealth, PodHealth, Usage
from retinue.store.pool import Connection, Database

RECENT: Final = timedelta(hours=24)
"""How far back "newest" looks: older rows say nothing about now, and their partitions stay unread."""


async def newest_deployment_health(
    database: Database,
    *,
    namespace: str | None = None,
    deployment: str | None = None,
    limit: int = 100,
    within: timedelta = RECENT,
) -> list[DeploymentHealth]:
    """The newest row of each AssistantDeployment, by namespace and name. Raises StoreError."""
    rows = await _fetch(
        database,
        "SELECT DISTINCT ON (namespace, deployment) * FROM deployment_health"
        " WHERE at > now() - $1::interval AND ($2::text IS NULL OR namespace = $2)"
        " AND ($3::text IS NULL OR deployment = $3)"
        " ORDER BY namespace, deployment, at DESC LIMIT $4",
        (within, namespace, deployment, limit),
    )
    return [DeploymentHealth(**row) for row in rows]


async def newest_pod_health(
    database: Database,
    *,
    model_server: str | None = None,
    limit: int = 100,
    within: timedelta = RECENT,
) -> list[PodHealth]:
    """The newest row of each model pod and probe, by ModelServer, pod and probe. Raises StoreError."""
    rows = await _fetch(
        database,
        "SELECT DISTINCT ON (namespace, model_server, pod_uid, probe) * FROM pod_health"
        " WHERE at > now() - $1::interval AND ($2::text IS NULL OR model_server = $2)"
        " ORDER BY namespace, model_server, pod_uid, probe, at DESC LIMIT $3",
        (within, model_server, limit),
    )
    return [PodHealth(**row) for row in rows]


async def deployment_health_since(
    database: Database, since: datetime, *, namespace: str, deployment: str, limit: int = 1_000
) -> list[DeploymentHealth]:
    """Rows of one AssistantDeployment, newest first. Raises StoreError."""
    rows = await _fetch(
        database,
        "SELECT * FROM deployment_health WHERE at >= $1 AND namespace = $2 AND deployment = $3"
        " ORDER BY at DESC LIMIT $4",
        (since, namespace, deployment, limit),
    )
    return [DeploymentHealth(**row) for row in rows]


async def usage_since(
    database: Database,
    since: datetime,
    *,
    namespace: str | None = None,
    deployment: str | None = None,
    limit: int = 1_000,
) -> list[Usage]:
    """Requests that the gateway answered, newest first. Raises StoreError."""
    rows = await _fetch(
        database,
        "SELECT * FROM usage WHERE at >= $1 AND ($2::text IS NULL OR namespace = $2)"
        " AND ($3::text IS NULL OR deployment = $3) ORDER BY at DESC LIMIT $4",
        (since, namespace, deployment, limit),
    )
    return [Usage(**row) for row in rows]


async def _fetch(database: Database, sql: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:
    async def read(connection: Connection) -> list[dict[str, Any]]:
        return [dict(row) for row in await connection.fetch(sql, *parameters)]

    rows = await database.run(read)
    for row in rows:
        if "sample_id" in row:
            row["sample_id"] = str(row["sample_id"])
    return rows
