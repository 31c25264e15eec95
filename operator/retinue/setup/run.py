"""The setup Job: everything that a release needs once, each part made only if absent, in an order that can be repeated.

Killed at any point it is started again by its Job and ends in the same state.
"""

import asyncio
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import stamina
import structlog

from retinue.domain.presets import all_presets
from retinue.kube.aio import connect
from retinue.kube.client import KubeClient
from retinue.kube.errors import AlreadyExists, ApiError
from retinue.kube.resources import ASSISTANT_TEMPLATE
from retinue.observability.logging import configure
from retinue.setup.credentials import ensure_credentials, read_dsn
from retinue.setup.settings import SetupSettings
from retinue.store.dsn import DsnFile
from retinue.store.errors import StoreError
from retinue.store.migrate import migrate
from retinue.store.partitions import keep_partitions
from retinue.store.pool import Database, Limits

log = structlog.get_logger()
DROPS_NOTHING_DAYS = 36500
"""Dropping old rows is the operator's, by the configured retention; here partitions are only made."""


async def prepare(settings: SetupSettings) -> None:
    """Credentials, then presets, then the database. Raises ApiError or StoreError; the Job tries again."""
    client = await connect(settings.kubeconfig, None)
    try:
        host = settings.embedded_postgres_host
        made = await ensure_credentials(client, settings.release, settings.namespace, settings.models_namespace, host)
        log.info("credentials are in place", made=made)
        for namespace in settings.preset_namespaces:
            log.info("presets are in place", namespace=namespace, made=await ensure_presets(client, namespace))
        dsn = None if host is None else await read_dsn(client, settings.release, settings.namespace)
    finally:
        await client.close()
    if settings.postgres_dsn_file is not None:
        await ensure_database(settings.postgres_dsn_file, settings.postgres_wait_seconds)
    elif dsn is not None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "dsn"
            file.touch(mode=0o600)
            file.write_text(dsn)
            await ensure_database(file, settings.postgres_wait_seconds)


async def ensure_presets(client: KubeClient, namespace: str) -> list[str]:
    """Install the presets that the namespace does not have; returns the names of the new ones."""
    made = []
    for preset in all_presets():
        name = preset["metadata"]["name"]
        body = {**preset, "metadata": {**preset["metadata"], "namespace": namespace}}
        try:
            await client.create(ASSISTANT_TEMPLATE, body, namespace)
        except AlreadyExists:
            continue
        made.append(name)
    return made


async def ensure_database(dsn_file: Path, wait_seconds: float) -> None:
    """Wait for the database, then bring its schema to this release's version."""
    database = Database(DsnFile(dsn_file), application="retinue-setup", max_size=1, limits=Limits.long(120))
    try:
        async for attempt in stamina.retry_context(on=StoreError, attempts=None, timeout=wait_seconds, wait_max=5):
            with attempt:
                before, after = await migrate(database)
        log.info("database schema is in place", before=before, after=after)
        await keep_partitions(database, now=datetime.now(UTC), retention_days=DROPS_NOTHING_DAYS)
    finally:
        await database.close()


def main() -> None:
    """Entry point of `retinue setup`."""
    settings = SetupSettings()
    configure("setup", settings.log_level)
    try:
        asyncio.run(prepare(settings))
    except (ApiError, StoreError) as error:
        log.error("setup failed, the Job tries again", error=str(error))
        sys.exit(1)
