"""A spool segment gives back every whole record, whatever happened to the bytes around it."""

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from history_rows import NOON, deployment_row, pod_row, usage_row
from retinue.domain.row_class import RowClass
from retinue.domain.spool_format import (
    MAX_PAYLOAD,
    Garbage,
    QueuedRow,
    UnreadableRow,
    UnspoolableRow,
    decode,
    encode,
    scan,
)

pytestmark = pytest.mark.unit

_texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
_times = st.datetimes(timezones=st.just(UTC))
_amounts = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
_rows = st.one_of(
    st.builds(pod_row, at=_times, reason=_texts, latency_ms=_amounts, vram_bytes=st.none() | st.integers(0, 2**53)),
    st.builds(deployment_row, at=_times, reason=_texts, latency_ms=st.none() | _amounts),
    st.builds(usage_row, at=_times, error=_texts, prompt_tokens=st.none() | st.integers(0, 2**40)),
)
_queued = st.builds(QueuedRow, _rows, st.sampled_from(RowClass))


@given(_queued)
def test_a_row_comes_back_as_it_was(queued: QueuedRow) -> None:
    assert [decode(part) for part in scan(encode(queued)) if isinstance(part, bytes)] == [queued]


@given(st.lists(_queued, min_size=1, max_size=6), st.data())
def test_a_segment_cut_at_any_byte_gives_exactly_the_records_before_the_cut(
    rows: list[QueuedRow], data: st.DataObject
) -> None:
    records = [encode(queued) for queued in rows]
    whole = b"".join(records)
    cut = data.draw(st.integers(0, len(whole)))
    expected, end = [], 0
    for queued, record in zip(rows, records, strict=True):
        end += len(record)
        if end <= cut:
            expected.append(queued)
    parts = list(scan(whole[:cut]))
    assert [decode(part) for part in parts if isinstance(part, bytes)] == expected
    garbage = [part for part in parts if isinstance(part, Garbage)]
    kept = sum(len(record) for record in records[: len(expected)])
    assert garbage == ([Garbage(kept, cut - kept)] if cut > kept else [])


@given(st.lists(_queued, min_size=1, max_size=5), st.data())
def test_a_damaged_byte_costs_only_the_record_that_it_lies_in(rows: list[QueuedRow], data: st.DataObject) -> None:
    records = [encode(queued) for queued in rows]
    whole = bytearray(b"".join(records))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    start, expected = 0, []
    for queued, record in zip(rows, records, strict=True):
        if not start <= place < start + len(record):
            expected.append(queued)
        start += len(record)
    assert [decode(part) for part in scan(bytes(whole)) if isinstance(part, bytes)] == expected


@given(st.binary(max_size=300))
def test_bytes_that_were_never_written_hold_no_record(noise: bytes) -> None:
    assert [part for part in scan(noise) if isinstance(part, bytes)] == []


def test_records_behind_foreign_bytes_are_found() -> None:
    first, second = (encode(QueuedRow(pod_row(at=NOON), RowClass.RAW)) for _ in range(2))
    parts = list(scan(b"noise" + first + b"\xf5RT\xfa more noise" + second))
    assert [type(part) for part in parts] == [Garbage, bytes, Garbage, bytes]


@pytest.mark.parametrize(
    "row",
    [
        pod_row(reason="\ud800"),
        pod_row(in_flight=2**70),
        pod_row(reason="x" * (MAX_PAYLOAD + 1)),
        pod_row(reason=object()),
    ],
    ids=["lone surrogate", "huge number", "too long", "not a value"],
)
def test_a_row_without_a_spool_form_is_refused_alone(row: object) -> None:
    with pytest.raises(UnspoolableRow):
        encode(QueuedRow(row, RowClass.RAW))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{}", b'{"table":"nobody","class":0,"row":{"at":"2026-01-01T00:00:00+00:00"}}', b'{"row":{"at":1}}'],
)
def test_a_whole_record_that_is_no_row_is_reported(payload: bytes) -> None:
    with pytest.raises(UnreadableRow):
        decode(payload)
