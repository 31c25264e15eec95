"""The bounded buffer in memory between the makers of rows and the flusher."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from retinue.domain.row_class import RowClass
from retinue.domain.spool_format import QueuedRow


@dataclass(frozen=True, slots=True)
class DropKey:
    """What a drop counter counts: rows of one table and class, given up for one cause."""

    table: str
    row_class: str
    cause: str
    """`overflow` (memory full), `spool_full`, `poison` (refused by its table), `unreadable` (damaged on disk) or
    `shutdown` (process ended without a spool)."""


Drops = Counter[DropKey]


def drop_key(queued: QueuedRow, cause: str) -> DropKey:
    """The counter that a row belongs to."""
    return DropKey(queued.row.table, queued.row_class.label, cause)


class Ring:
    """Rows waiting in memory, one queue per class. When it is full, the oldest row of the lowest class goes.

    Not thread-safe: everything runs on the writer's event loop.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._queues: dict[RowClass, deque[QueuedRow]] = {c: deque() for c in RowClass}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, queued: QueuedRow) -> QueuedRow | None:
        """Add a row at the end; returns the row that had to go for it, which may be itself."""
        victim = None
        if self._length >= self._capacity:
            victim = self._make_room(queued.row_class)
            if victim is None:
                return queued
        self._queues[queued.row_class].append(queued)
        self._length += 1
        return victim

    def take(self, limit: int) -> list[QueuedRow]:
        """Remove and return up to `limit` rows: state changes first, then summaries, each oldest first."""
        taken: list[QueuedRow] = []
        for row_class in reversed(RowClass):
            queue = self._queues[row_class]
            while queue and len(taken) < limit:
                taken.append(queue.popleft())
        self._length -= len(taken)
        return taken

    def put_back(self, rows: Iterable[QueuedRow]) -> list[QueuedRow]:
        """Put taken rows back at the front, in order; returns those for which newer rows left no room."""
        lost: list[QueuedRow] = []
        for queued in reversed(list(rows)):
            if self._length >= self._capacity:
                victim = self._make_room(queued.row_class, below_only=True)
                if victim is None:
                    lost.append(queued)
                    continue
                lost.append(victim)
            self._queues[queued.row_class].appendleft(queued)
            self._length += 1
        return lost

    def _make_room(self, row_class: RowClass, *, below_only: bool = False) -> QueuedRow | None:
        for candidate in RowClass:
            if candidate > row_class or (below_only and candidate == row_class):
                return None
            if self._queues[candidate]:
                self._length -= 1
                return self._queues[candidate].popleft()
        return None
