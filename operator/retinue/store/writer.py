"""Takes rows from request and reconcile code without ever making it wait, and brings them to Postgres.

row -> ring in memory -> one flusher task -> Postgres; while Postgres is away -> spool on disk -> Postgres. At every
moment: produced + recovered = stored + dropped + in memory + on disk. Nothing else happens to a row.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog

from retinue.domain.records import Row
from retinue.domain.row_class import class_of
from retinue.domain.spool_format import QueuedRow
from retinue.store.circuit import Breaker, Circuit
from retinue.store.errors import StoreError
from retinue.store.pool import Connection, Database
from retinue.store.ring import Drops, Ring, drop_key
from retinue.store.sending import Outcome, send
from retinue.store.spool import Spool, SpoolError

_SMALLEST_BATCH: Final = 50
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """Sizes and times of a writer."""

    ring_rows: int = 50_000
    """Rows in memory at most."""
    flush_seconds: float = 1
    """Seconds that a row waits in memory at most while all is well."""
    flush_rows: int = 500
    """Rows that make a flush begin at once."""
    batch_rows: int = 5_000
    """Rows of one transaction at most; halved after each failure, doubled after each success."""


@dataclass(frozen=True, slots=True)
class WriterStats:
    """Counters since start, and what is where now. produced + recovered = stored + dropped + ring + spool."""

    produced: int
    """Rows given to `put`."""
    recovered: int
    """Rows that an earlier process left in the spool."""
    stored: int
    """Rows that Postgres has confirmed, each counted once."""
    duplicates: int
    """Of those, rows that were there already: sent before, without an answer."""
    dropped: Drops
    """Rows given up, by table, class and cause."""
    ring_rows: int
    """Rows in memory, those on their way included."""
    spool_rows: int
    spool_bytes: int
    circuit: Circuit
    up: bool
    """The last call to Postgres went well."""
    last_error: str
    """The last failure, empty after a success. Safe to show."""

    @property
    def dropped_total(self) -> int:
        """All drops together."""
        return self.dropped.total()


@dataclass(slots=True)
class _Counts:
    produced: int = 0
    recovered: int = 0
    stored: int = 0
    duplicates: int = 0
    dropped: Drops = field(default_factory=Counter)


class RowWriter:
    """One per process. `put` from the event loop that ran `start`; without a spool the ring is all there is."""

    def __init__(
        self,
        database: Database,
        spool: Spool | None,
        *,
        name: str,
        settings: WriterSettings | None = None,
        breaker: Breaker | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`name` is this writer's row in the probe table: the pod's name."""
        self._database = database
        self._spool = spool
        self._name = name
        self._settings = settings or WriterSettings()
        self._breaker = breaker or Breaker()
        self._now = now
        self._ring = Ring(self._settings.ring_rows)
        self._in_hand: list[QueuedRow] = []
        self._counts = _Counts()
        self._batch_rows = self._settings.batch_rows
        self._up = False
        self._last_error = ""
        self._spool_rows = 0
        self._spool_bytes = 0
        self._spool_drops: Drops = Counter()
        self._spool_error = ""
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None

    def put(self, row: Row, *, transition: bool = False) -> None:
        """Hand over a row; returns at once and never raises. `transition`: it marks a state change, so keep it longest.

        When memory is full the least important oldest row goes, and is counted.
        """
        self._counts.produced += 1
        victim = self._ring.put(QueuedRow(row, class_of(row, transition=transition)))
        if victim is not None:
            self._drop((victim,), "overflow")
        if len(self._ring) >= self._settings.flush_rows:
            self._wake.set()

    async def start(self) -> None:
        """Find rows of an earlier process and begin. Needs no Postgres; an unreadable spool is logged, not used."""
        if self._spool is not None:
            try:
                await asyncio.to_thread(self._spool.open)
            except SpoolError as error:
                _log.error("history goes on without a disk spool", error=str(error))
                self._spool = None
            else:
                self._note_spool()
                self._counts.recovered = self._spool_rows + self._spool_drops.total()
        self._flusher = asyncio.create_task(self._run(), name="row-writer")

    async def stop(self, timeout: float = 10) -> None:
        """Send what is left, within `timeout` seconds; what Postgres has not taken by then goes to the spool.

        Ends the Database as well: it is the writer's own. Idempotent.
        """
        self._stop.set()
        self._wake.set()
        if self._flusher is None:
            return
        await asyncio.wait({self._flusher}, timeout=timeout)
        if not self._flusher.done():
            # The flusher is never cancelled, it may be in the middle of a spool write: its call fails, then it ends.
            self._database.terminate()
            await self._flusher
        else:
            await self._database.close()
        self._flusher = None

    def stats(self) -> WriterStats:
        """A consistent picture, for metrics."""
        return WriterStats(
            produced=self._counts.produced,
            recovered=self._counts.recovered,
            stored=self._counts.stored,
            duplicates=self._counts.duplicates,
            dropped=self._counts.dropped + self._spool_drops,
            ring_rows=len(self._ring) + len(self._in_hand),
            spool_rows=self._spool_rows,
            spool_bytes=self._spool_bytes,
            circuit=self._breaker.state(self._now()),
            up=self._up,
            last_error=self._last_error,
        )

    async def _run(self) -> None:
        more, healthy = False, True
        while not self._stop.is_set():
            if not more:
                # After a failure a full ring must not make the flusher spin.
                event = self._wake if healthy else self._stop
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), self._settings.flush_seconds)
            self._wake.clear()
            healthy, more = await self._safe_cycle()
        await self._safe_cycle()
        if len(self._ring):
            await self._to_spool()
        self._drop(self._ring.take(len(self._ring)), "shutdown")
        if self._spool is not None:
            await asyncio.to_thread(self._spool.close)

    async def _safe_cycle(self) -> tuple[bool, bool]:
        try:
            return await self._cycle()
        except Exception as error:  # noqa: BLE001 - a mistake of ours must neither end the flusher nor lose its rows
            _log.error("history flush failed", error=type(error).__name__)
            self._last_error = f"flush failed: {type(error).__name__}"
            self._up = False
            self._drop(self._ring.put_back(self._release()), "overflow")
            return False, False

    async def _cycle(self) -> tuple[bool, bool]:
        """Send what is in memory, then one batch from disk; returns (all went well, more waits on disk)."""
        sent = await self._may_send()
        while sent and len(self._ring):
            sent = await self._send_from_ring()
        if not sent:
            if len(self._ring):
                await self._to_spool()
            return False, False
        return await self._drain()

    async def _may_send(self) -> bool:
        state = self._breaker.state(self._now())
        if state is not Circuit.PROBING:
            return state is Circuit.CLOSED
        try:
            await self._database.run(self._probe)
        except StoreError as error:
            self._failed(error)
            return False
        self._went_well()
        return True

    async def _probe(self, connection: Connection) -> None:
        # A write, because a read also succeeds on a server that became read-only.
        await connection.execute(
            "INSERT INTO writer_probe (writer, at) VALUES ($1, now()) ON CONFLICT (writer) DO UPDATE SET at = now()",
            self._name,
        )

    async def _send_from_ring(self) -> bool:
        self._in_hand = self._ring.take(self._batch_rows)
        outcome = await send(self._database, self._in_hand)
        self._release()
        self._account(outcome)
        if outcome.left:
            # To disk at once: until then these rows are only in memory.
            self._drop(self._ring.put_back(outcome.left), "overflow")
        return self._judge(outcome)

    async def _drain(self) -> tuple[bool, bool]:
        """Send one batch from disk, oldest first. One at a time, so that new rows are never kept waiting."""
        if self._spool is None or not self._spool.rows:
            return True, False
        try:
            batch = await asyncio.to_thread(self._spool.peek, self._batch_rows)
            outcome = await send(self._database, batch)
            await asyncio.to_thread(self._spool.done, len(batch), outcome.left)
        except (SpoolError, OSError) as error:
            _log.error("spooled rows cannot be read", error=str(error))
            return False, False
        self._account(outcome)
        self._note_spool()
        well = self._judge(outcome)
        return well, well and self._spool.rows > 0

    async def _to_spool(self) -> None:
        if self._spool is None:
            return
        self._in_hand = self._ring.take(len(self._ring))
        appended = await asyncio.to_thread(self._spool.append, self._in_hand)
        self._release()
        self._note_spool()
        self._drop(self._ring.put_back(appended.left), "overflow")
        if appended.error != self._spool_error:
            self._spool_error = appended.error
            if appended.error:
                _log.error("history stays in memory", error=appended.error)

    def _judge(self, outcome: Outcome) -> bool:
        if outcome.error is None:
            self._went_well()
            return True
        self._failed(outcome.error)
        return False

    def _went_well(self) -> None:
        self._breaker.succeeded()
        self._batch_rows = min(self._settings.batch_rows, self._batch_rows * 2)
        if self._last_error:
            _log.info("history goes to Postgres again", spooled=self._spool_rows)
        self._up, self._last_error = True, ""

    def _failed(self, error: StoreError) -> None:
        self._breaker.failed(self._now())
        self._batch_rows = max(min(_SMALLEST_BATCH, self._batch_rows), self._batch_rows // 2)
        if str(error) != self._last_error:
            _log.warning("history does not go to Postgres", error=str(error))
        self._up, self._last_error = False, str(error)

    def _account(self, outcome: Outcome) -> None:
        self._counts.stored += outcome.stored
        self._counts.duplicates += outcome.duplicates
        self._drop(outcome.poison, "poison")

    def _drop(self, rows: Iterable[QueuedRow], cause: str) -> None:
        self._counts.dropped.update(drop_key(queued, cause) for queued in rows)

    def _release(self) -> list[QueuedRow]:
        rows, self._in_hand = self._in_hand, []
        return rows

    def _note_spool(self) -> None:
        """Copy the spool's numbers: it changes in a thread, and `stats` must never see half a change."""
        if self._spool is not None:
            self._spool_rows, self._spool_bytes = self._spool.rows, self._spool.size
            self._spool_drops = self._spool.drops.copy()
