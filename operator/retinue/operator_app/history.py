"""Where health rows go: to Postgres through the buffered writer, if the operator was given a database."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from retinue.domain.records import Row
from retinue.store.dsn import DsnFile
from retinue.store.errors import StoreError
from retinue.store.partitions import keep_partitions
from retinue.store.pool import Database, Limits
from retinue.store.spool import Spool
from retinue.store.writer import RowWriter

APPLICATION: Final = "retinue-operator"
UPKEEP_SECONDS: Final = 3600.0
"""Seconds between two looks at the partitions; a week of them is made ahead."""
UPKEEP_RETRY_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)


class Rows(Protocol):
    """What takes rows."""

    def put(self, row: Row, *, transition: bool = False) -> None:
        """Take a row, at once."""
        ...


class NoRows:
    """Stands where no database is configured: rows are not kept."""

    def put(self, row: Row, *, transition: bool = False) -> None:
        """Forgets the row."""


@asynccontextmanager
async def row_writer(
    dsn_file: Path | None, spool_dir: Path | None, name: str, registry: CollectorRegistry
) -> AsyncIterator[Rows]:
    """A running writer. Postgres need not be there: no reconcile ever waits for it."""
    if dsn_file is None:
        log.info("no database is configured: health rows are not kept")
        yield NoRows()
        return
    database = Database(DsnFile(dsn_file), application=APPLICATION, max_size=2)
    writer = RowWriter(database, Spool(spool_dir) if spool_dir is not None else None, name=name)
    await writer.start()
    registry.register(_WriterCollector(writer))
    try:
        yield writer
    finally:
        await writer.stop()


async def keep_history(dsn_file: Path, retention_days: int) -> None:
    """Makes partitions ahead and drops old ones, until cancelled. Only the leader runs it."""
    database = Database(DsnFile(dsn_file), application=APPLICATION, max_size=1, limits=Limits.long(300))
    try:
        while True:
            delay = UPKEEP_SECONDS
            try:
                done = await keep_partitions(database, now=datetime.now(UTC), retention_days=retention_days)
                if done.created or done.dropped:
                    log.info("partitions kept", created=len(done.created), dropped=len(done.dropped))
            except StoreError as error:
                delay = UPKEEP_RETRY_SECONDS
                log.warning("partitions were not kept", cause=str(error))
            await asyncio.sleep(delay)
    finally:
        await database.close()


class _WriterCollector(Collector):
    """Shows the writer's own counters, so that nothing is counted twice."""

    def __init__(self, writer: RowWriter) -> None:
        self._writer = writer

    def collect(self) -> Iterator[Metric]:
        """The counters of this moment."""
        stats = self._writer.stats()
        rows = CounterMetricFamily("retinue_operator_rows", "Health rows by what became of them.", labels=["outcome"])
        for outcome, count in (
            ("produced", stats.produced),
            ("recovered", stats.recovered),
            ("stored", stats.stored),
            ("dropped", stats.dropped_total),
        ):
            rows.add_metric([outcome], count)
        yield rows
        waiting = GaugeMetricFamily(
            "retinue_operator_rows_waiting", "Health rows not yet in Postgres.", labels=["where"]
        )
        waiting.add_metric(["memory"], stats.ring_rows)
        waiting.add_metric(["disk"], stats.spool_rows)
        yield waiting
        yield GaugeMetricFamily("retinue_operator_postgres_up", "1 if the last call went well.", value=stats.up)
