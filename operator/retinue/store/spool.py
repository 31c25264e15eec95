"""Rows on disk while Postgres is away.

A folder of segment files, each with rows of one class. A batch is one append and one fsync; a segment is deleted when
all of it is in Postgres. After a crash everything that was synced is there again; what had been sent already is sent
twice and stored once. When the folder is full, whole segments go: the oldest of the lowest class first.

Blocking: the writer calls it in a thread, one call at a time.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from retinue.domain.row_class import RowClass
from retinue.domain.spool_format import FORMAT, Garbage, QueuedRow, UnreadableRow, UnspoolableRow, decode, encode, scan
from retinue.store.ring import DropKey, Drops, drop_key

_NAME: Final = re.compile(rf"(\d{{12}})\.(raw|summary|transition)\.v{FORMAT}\.spool")
_UNKNOWN_TABLE: Final = "unknown"


class SpoolError(Exception):
    """The spool folder cannot be read."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a batch."""

    left: list[QueuedRow]
    """Rows that the disk did not take; they are still the caller's."""
    error: str = ""
    """Why, empty if nothing is left."""


@dataclass(slots=True)
class _Segment:
    sequence: int
    row_class: RowClass
    path: Path
    size: int
    tables: Counter[str]
    """Rows not yet acknowledged, per table."""

    @property
    def rows(self) -> int:
        return self.tables.total()


@dataclass(slots=True)
class _Reading:
    """The segment that is being drained, held in memory."""

    segment: _Segment
    rows: list[QueuedRow] = field(default_factory=list)
    position: int = 0


class Spool:
    """A bounded queue of rows on disk. `open` first; no method is thread-safe."""

    def __init__(self, folder: Path, *, max_bytes: int = 64 << 20, segment_bytes: int = 1 << 20) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._segments: list[_Segment] = []
        self._active: dict[RowClass, tuple[_Segment, BinaryIO]] = {}
        self._reading: _Reading | None = None
        self._next = 1
        self.drops: Drops = Counter()
        """Every row that was given up since this process started."""

    @property
    def rows(self) -> int:
        """Rows on disk that are not acknowledged."""
        return sum(s.rows for s in self._segments)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(s.size for s in self._segments)

    def open(self) -> None:
        """Find what an earlier process left. Raises SpoolError.

        Each damaged stretch between records counts as one lost row (it may have been more). A torn tail counts as
        none: its batch was never reported as spooled.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            found = sorted((m, p) for p in self._folder.iterdir() if (m := _sequence(p)) is not None)
            for sequence, path in found:
                self._next = max(self._next, sequence + 1)
                segment = self._recover(sequence, path)
                if segment.rows:
                    self._segments.append(segment)
                else:
                    path.unlink()
        except OSError as cause:
            raise SpoolError(f"the spool folder {self._folder} cannot be read: {cause.strerror}") from None

    def append(self, rows: Sequence[QueuedRow]) -> Appended:
        """Write rows and sync them; makes room by dropping, which `drops` counts. Never raises."""
        parts: dict[RowClass, list[tuple[QueuedRow, bytes]]] = {}
        for queued in rows:
            try:
                parts.setdefault(queued.row_class, []).append((queued, encode(queued)))
            except UnspoolableRow:
                self.drops[drop_key(queued, "poison")] += 1
        left: list[QueuedRow] = []
        error = ""
        for row_class in sorted(parts, reverse=True):
            for piece in self._pieces(parts[row_class]):
                if not error:
                    error = self._append_piece(row_class, piece)
                if error:
                    left.extend(queued for queued, _ in piece)
        return Appended(left, error)

    def peek(self, limit: int) -> list[QueuedRow]:
        """Up to `limit` of the oldest rows, which stay until `done`. Raises SpoolError."""
        while True:
            if self._reading is None:
                if not self._segments:
                    return []
                self._reading = self._load(self._segments[0])
            reading = self._reading
            if reading.position < len(reading.rows):
                return reading.rows[reading.position : reading.position + limit]
            self._end(reading.segment)

    def done(self, count: int, left: Sequence[QueuedRow] = ()) -> None:
        """Of the first `count` rows of the last peek only `left` still have to be sent."""
        reading = self._reading
        if reading is None or reading.position + count > len(reading.rows):
            raise ValueError(f"done({count}) without a peek that returned as many rows")
        tables = reading.segment.tables
        tables.subtract(q.row.table for q in reading.rows[reading.position : reading.position + count])
        tables.update(q.row.table for q in left)
        reading.position += count - len(left)
        reading.rows[reading.position : reading.position + len(left)] = left
        if reading.position == len(reading.rows):
            self._end(reading.segment)

    def close(self) -> None:
        """Close files; what is on disk stays. Idempotent."""
        for _, file in self._active.values():
            file.close()
        self._active.clear()

    def _pieces(self, parts: list[tuple[QueuedRow, bytes]]) -> Iterator[list[tuple[QueuedRow, bytes]]]:
        """Cut a batch so that no piece is larger than a segment."""
        piece: list[tuple[QueuedRow, bytes]] = []
        size = 0
        for part in parts:
            if piece and size + len(part[1]) > self._segment_bytes:
                yield piece
                piece, size = [], 0
            piece.append(part)
            size += len(part[1])
        if piece:
            yield piece

    def _append_piece(self, row_class: RowClass, piece: list[tuple[QueuedRow, bytes]]) -> str:
        """Write and sync one piece; returns why it could not be."""
        data = b"".join(record for _, record in piece)
        while self.size + len(data) > self._max_bytes:
            if not self._drop_one(row_class):
                self.drops.update(drop_key(queued, "spool_full") for queued, _ in piece)
                return ""
        try:
            segment = self._write(row_class, data)
        except OSError as cause:
            # The disk may be full before the spool is: one segment less may be enough.
            if not self._drop_one(row_class):
                return f"the spool folder {self._folder} cannot be written: {cause.strerror}"
            try:
                segment = self._write(row_class, data)
            except OSError as again:
                return f"the spool folder {self._folder} cannot be written: {again.strerror}"
        segment.tables.update(queued.row.table for queued, _ in piece)
        return ""

    def _write(self, row_class: RowClass, data: bytes) -> _Segment:
        segment, file = self._active.get(row_class) or self._begin(row_class)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            # Nothing may follow a torn record: what was synced before stays, the next batch begins a new segment.
            self._seal(row_class)
            if segment.size:
                os.truncate(segment.path, segment.size)
            else:
                self._remove(segment)
            raise
        segment.size += len(data)
        if segment.size >= self._segment_bytes:
            self._seal(row_class)
        return segment

    def _begin(self, row_class: RowClass) -> tuple[_Segment, BinaryIO]:
        path = self._folder / f"{self._next:012d}.{row_class.label}.v{FORMAT}.spool"
        file = path.open("xb", buffering=0)
        segment = _Segment(self._next, row_class, path, 0, Counter())
        self._next += 1
        self._segments.append(segment)
        self._active[row_class] = (segment, file)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return segment, file

    def _drop_one(self, at_most: RowClass) -> bool:
        """Delete the oldest segment of the lowest class that is not above `at_most`."""
        victim = min(
            (s for s in self._segments if s.row_class <= at_most and s.rows),
            key=lambda s: (s.row_class, s.sequence),
            default=None,
        )
        if victim is None:
            return False
        self._give_up(victim, "spool_full")
        return True

    def _end(self, segment: _Segment) -> None:
        """Delete a segment that was read to its end; rows that it once had and no longer shows are lost."""
        self._give_up(segment, "unreadable")

    def _give_up(self, segment: _Segment, cause: str) -> None:
        """Delete a segment and count what was left of it."""
        for table, count in segment.tables.items():
            if count:
                self.drops[DropKey(table, segment.row_class.label, cause)] += count
        self._remove(segment)

    def _seal(self, row_class: RowClass) -> None:
        active = self._active.pop(row_class, None)
        if active is not None:
            active[1].close()

    def _remove(self, segment: _Segment) -> None:
        if self._is_active(segment):
            self._seal(segment.row_class)
        segment.path.unlink(missing_ok=True)
        self._segments.remove(segment)
        if self._reading is not None and self._reading.segment is segment:
            self._reading = None

    def _load(self, segment: _Segment) -> _Reading:
        if self._is_active(segment):
            self._seal(segment.row_class)
        try:
            rows, _ = _read(segment.path)
        except OSError as cause:
            raise SpoolError(f"{segment.path} cannot be read: {cause.strerror}") from None
        return _Reading(segment, rows)

    def _is_active(self, segment: _Segment) -> bool:
        active = self._active.get(segment.row_class)
        return active is not None and active[0] is segment

    def _recover(self, sequence: int, path: Path) -> _Segment:
        row_class = RowClass[path.name.split(".")[1].upper()]
        rows, damaged = _read(path)
        if damaged:
            self.drops[DropKey(_UNKNOWN_TABLE, row_class.label, "unreadable")] += damaged
        return _Segment(sequence, row_class, path, path.stat().st_size, Counter(q.row.table for q in rows))


def _sequence(path: Path) -> int | None:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def _read(path: Path) -> tuple[list[QueuedRow], int]:
    """The rows of a segment, and how many damaged stretches lie between or among them (a torn tail is none)."""
    data = path.read_bytes()
    rows: list[QueuedRow] = []
    damaged = 0
    for part in scan(data):
        if isinstance(part, Garbage):
            damaged += part.offset + part.length < len(data)
            continue
        try:
            rows.append(decode(part))
        except UnreadableRow:
            damaged += 1
    return rows, damaged
