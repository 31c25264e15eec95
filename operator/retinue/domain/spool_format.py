"""Bytes of a spool segment: a run of framed records, each readable on its own.

A process can die at any byte of a write, and a disk can return garbage. So every record carries a mark, its length and
a CRC: a reader takes what is whole, and finds the next record behind what is not.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

import orjson

from retinue.domain.records import DeploymentHealth, PodHealth, Row, Usage
from retinue.domain.row_class import RowClass

FORMAT: Final = 1
"""Version of this format; part of a segment's file name, so that another version never reads it as its own."""
MAX_PAYLOAD: Final = 1 << 20
"""Bytes of one record at most: a row is some hundred bytes, anything near this is a mistake of its maker."""

_MARK: Final = b"\xf5RT\xfa"
"""0xf5 and 0xfa never occur in UTF-8, so no payload can contain the mark."""
_HEAD: Final = struct.Struct(">4sII")


class UnspoolableRow(ValueError):
    """A row that has no spool form: not UTF-8, a number that JSON lacks, or larger than MAX_PAYLOAD bytes."""


class UnreadableRow(ValueError):
    """A whole record that is no row of this version."""


@dataclass(frozen=True, slots=True)
class QueuedRow:
    """A row on its way to Postgres, with what decides its fate when there is no room."""

    row: Row
    row_class: RowClass


@dataclass(frozen=True, slots=True)
class Garbage:
    """A stretch of bytes that is no record: a torn tail or a damaged block."""

    offset: int
    length: int


_TYPES: Final[dict[str, type[PodHealth] | type[DeploymentHealth] | type[Usage]]] = {
    t.table: t for t in (PodHealth, DeploymentHealth, Usage)
}
_NAMES: Final = {table: tuple(f.name for f in fields(t)) for table, t in _TYPES.items()}
_VALUES: Final = {table: attrgetter(*names) for table, names in _NAMES.items()}


def encode(queued: QueuedRow) -> bytes:
    """One framed record. Raises UnspoolableRow."""
    table = queued.row.table
    values = dict(zip(_NAMES[table], _VALUES[table](queued.row), strict=True))
    try:
        payload = orjson.dumps({"table": table, "class": int(queued.row_class), "row": values})
    except orjson.JSONEncodeError:
        raise UnspoolableRow(f"a {table} row holds a value that JSON cannot say") from None
    if len(payload) > MAX_PAYLOAD:
        raise UnspoolableRow(f"a {table} row has {len(payload)} bytes, more than {MAX_PAYLOAD}")
    return _HEAD.pack(_MARK, len(payload), zlib.crc32(payload)) + payload


def scan(data: bytes) -> Iterator[bytes | Garbage]:
    """Payloads of the whole records in order, and one Garbage for each stretch between or behind them."""
    position, damaged_from = 0, -1
    while position < len(data):
        payload = _payload_at(data, position)
        if payload is None:
            if damaged_from < 0:
                damaged_from = position
            found = data.find(_MARK, position + 1)
            position = found if found >= 0 else len(data)
            continue
        if damaged_from >= 0:
            yield Garbage(damaged_from, position - damaged_from)
            damaged_from = -1
        yield payload
        position += _HEAD.size + len(payload)
    if damaged_from >= 0:
        yield Garbage(damaged_from, len(data) - damaged_from)


def decode(payload: bytes) -> QueuedRow:
    """The row in a payload. Raises UnreadableRow."""
    try:
        record = orjson.loads(payload)
        values: dict[str, Any] = record["row"]
        values["at"] = datetime.fromisoformat(values["at"])
        return QueuedRow(_TYPES[record["table"]](**values), RowClass(record["class"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise UnreadableRow("not a row of this version") from None


def _payload_at(data: bytes, position: int) -> bytes | None:
    if len(data) - position < _HEAD.size:
        return None
    mark, length, crc = _HEAD.unpack_from(data, position)
    if mark != _MARK or length > MAX_PAYLOAD:
        return None
    payload = data[position + _HEAD.size : position + _HEAD.size + length]
    return payload if len(payload) == length and zlib.crc32(payload) == crc else None
