"""One attempt to store a batch: all good rows are stored, bad ones found, the rest handed back."""

from dataclasses import dataclass, field
from functools import partial

from retinue.domain.spool_format import QueuedRow
from retinue.store.errors import StoreError
from retinue.store.pool import Database
from retinue.store.tables import TABLES


@dataclass(slots=True)
class Outcome:
    """What became of each row of a batch: stored + poison + left = all of them."""

    stored: int = 0
    duplicates: int = 0
    """Of the stored ones, those that were there already."""
    poison: list[QueuedRow] = field(default_factory=list)
    """Rows that their table refuses."""
    left: list[QueuedRow] = field(default_factory=list)
    """Rows that have to be sent again."""
    error: StoreError | None = None
    """Why, None if nothing is left."""


async def send(database: Database, rows: list[QueuedRow]) -> Outcome:
    """Store rows, each table in a transaction of its own. Never raises.

    A row that its table refuses fails its whole transaction, so the batch is halved until the row stands alone.
    """
    outcome = Outcome()
    by_table: dict[str, list[QueuedRow]] = {}
    for queued in rows:
        by_table.setdefault(queued.row.table, []).append(queued)
    parts = list(reversed(by_table.values()))
    while parts:
        part = parts.pop()
        table = TABLES[part[0].row.table]
        try:
            new = await database.run(partial(table.insert, rows=[queued.row for queued in part]))
        except StoreError as error:
            if not error.lasting:
                outcome.error = error
                outcome.left = [*part, *(queued for rest in reversed(parts) for queued in rest)]
                return outcome
            if len(part) == 1:
                outcome.poison.extend(part)
            else:
                middle = len(part) // 2
                parts.extend((part[middle:], part[:middle]))
            continue
        outcome.stored += len(part)
        outcome.duplicates += len(part) - new
    return outcome
