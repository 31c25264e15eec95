"""Where usage rows go: to Postgres through the buffered writer, if this gateway was given a database."""

import socket
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from retinue.gateway.health import Health
from retinue.gateway.metrics import GatewayMetrics
from retinue.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retinue.store.writer import RowWriter


@asynccontextmanager
async def usage_writer(
    settings: GatewaySettings, metrics: GatewayMetrics, health: Health
) -> "AsyncIterator[RowWriter | None]":
    """A running writer, None without a database. Postgres need not be there: requests never wait for it."""
    if settings.postgres_dsn_file is None:
        yield None
        return
    # Imported here: a gateway without a database does without the driver's memory.
    from retinue.store.dsn import DsnFile
    from retinue.store.pool import Database
    from retinue.store.spool import Spool
    from retinue.store.writer import RowWriter

    database = Database(DsnFile(settings.postgres_dsn_file), application="retinue-gateway", max_size=2)
    spool = Spool(settings.spool_dir) if settings.spool_dir is not None else None
    writer = RowWriter(database, spool, name=socket.gethostname())
    await writer.start()
    metrics.registry.register(_WriterCollector(writer))
    health.add("postgres", lambda: _state(writer), needed=False)
    try:
        yield writer
    finally:
        await writer.stop()


def _state(writer: "RowWriter") -> tuple[bool, str]:
    stats = writer.stats()
    return (
        stats.up,
        f"{stats.stored} rows stored, {stats.ring_rows + stats.spool_rows} waiting, {stats.dropped_total} dropped",
    )


class _WriterCollector(Collector):
    """Shows the writer's own counters, so that nothing is counted twice."""

    def __init__(self, writer: "RowWriter") -> None:
        self._writer = writer

    def collect(self) -> Iterator[Metric]:
        """The counters of this moment."""
        stats = self._writer.stats()
        rows = CounterMetricFamily("retinue_gateway_rows", "Usage rows by what became of them.", labels=["outcome"])
        for outcome, count in (
            ("produced", stats.produced),
            ("recovered", stats.recovered),
            ("stored", stats.stored),
            ("dropped", stats.dropped_total),
        ):
            rows.add_metric([outcome], count)
        yield rows
        waiting = GaugeMetricFamily("retinue_gateway_rows_waiting", "Usage rows not yet in Postgres.", labels=["where"])
        waiting.add_metric(["memory"], stats.ring_rows)
        waiting.add_metric(["disk"], stats.spool_rows)
        yield waiting
        yield GaugeMetricFamily("retinue_gateway_postgres_up", "1 if the last call went well.", value=stats.up)
