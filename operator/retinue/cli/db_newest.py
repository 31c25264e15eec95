"""`retinue db newest`: what the history says about now, read back from Postgres."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from retinue.cli.exits import USAGE, CommandError
from retinue.cli.screen import aligned

if TYPE_CHECKING:
    from retinue.store.pool import Database

DEPLOYMENT = (
    "at",
    "namespace",
    "deployment",
    "revision",
    "ready",
    "reason",
    "wanted_replicas",
    "ready_replicas",
    "pods_ok",
)
POD = ("at", "model_server", "pod", "probe", "ok", "phase", "reason", "latency_ms", "in_flight", "tokens_per_second")
USAGE_ROW = ("at", "namespace", "deployment", "revision", "status", "prompt_tokens", "completion_tokens", "total_ms")


async def read(
    database: "Database", namespace: str | None, deployment: str | None, limit: int
) -> list[list[list[str]]]:
    """Three tables: deployments, pods, requests."""
    from datetime import UTC, datetime, timedelta

    from retinue.store import queries

    day_ago = datetime.now(UTC) - timedelta(days=1)
    if namespace is not None and deployment is not None:
        rows: list[Any] = list(
            await queries.deployment_health_since(
                database, day_ago, namespace=namespace, deployment=deployment, limit=limit
            )
        )
    else:
        rows = list(await queries.newest_deployment_health(database, namespace=namespace, limit=limit))
    pods = await queries.newest_pod_health(database, limit=limit)
    usage = await queries.usage_since(database, day_ago, namespace=namespace, deployment=deployment, limit=limit)
    return [_table(rows, DEPLOYMENT), _table(pods, POD), _table(usage, USAGE_ROW)]


def show(tables: list[list[list[str]]]) -> None:
    """Print the tables, each under what it is."""
    for title, table in zip(("deployments", "model pods", "requests"), tables, strict=True):
        typer.echo(f"{title}: {'no rows within a day' if len(table) == 1 else ''}".rstrip())
        for line in aligned(table) if len(table) > 1 else []:
            typer.echo(f"  {line}")


def place_of(deployment: str | None) -> tuple[str | None, str | None]:
    """NAMESPACE or NAMESPACE/NAME as people write it. Raises CommandError."""
    if deployment is None:
        return None, None
    namespace, _, name = deployment.partition("/")
    if not namespace:
        raise CommandError(f"{deployment!r}: write NAMESPACE or NAMESPACE/NAME", USAGE)
    return namespace, name or None


DeploymentArgument = Annotated[
    str | None, typer.Argument(help="NAMESPACE, or NAMESPACE/NAME for the last rows of one.", show_default=False)
]


def _table(rows: list[Any], columns: tuple[str, ...]) -> list[list[str]]:
    head = [column.upper() for column in columns]
    return [head, *([_cell(getattr(row, column)) for column in columns] for row in rows)]


def _cell(value: Any) -> str:
    from datetime import datetime

    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return f"{value:.1f}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
