"""Rows on disk survive a process that dies at any byte, and what must go goes in the right order and is counted."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from history_rows import NOON, deployment_row, numbers, pod_row, queued
from retinue.domain.row_class import RowClass
from retinue.domain.spool_format import QueuedRow, encode
from retinue.store.ring import DropKey
from retinue.store.spool import Spool, SpoolError

pytestmark = pytest.mark.unit

RAW, SUMMARY, TRANSITION = RowClass.RAW, RowClass.SUMMARY, RowClass.TRANSITION


def opened(folder: Path, **sizes: int) -> Spool:
    spool = Spool(folder, **sizes)
    spool.open()
    return spool


def drain(spool: Spool, limit: int = 7) -> list[int]:
    found: list[int] = []
    while batch := spool.peek(limit):
        found += numbers(batch)
        spool.done(len(batch))
    return found


def test_rows_come_back_oldest_first_and_leave_nothing_behind(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=2_000)
    for start in range(0, 40, 10):
        spool.append([queued(n) for n in range(start, start + 10)])
    assert spool.rows == 40
    assert drain(spool) == list(range(40))
    assert (spool.rows, spool.size, list(tmp_path.iterdir()), spool.drops.total()) == (0, 0, [], 0)


def test_another_process_finds_what_was_not_acknowledged(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=2_000)
    spool.append([queued(n) for n in range(20)])
    first = spool.peek(100)
    spool.done(len(first))
    assert 0 < len(first) < 20
    spool.close()
    later = opened(tmp_path)
    assert later.rows == 20 - len(first)
    assert drain(later) == list(range(len(first), 20))


def test_only_what_is_left_of_a_batch_is_sent_again(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([queued(n) for n in range(6)])
    batch = spool.peek(4)
    spool.done(4, [batch[1], batch[3]])
    assert spool.rows == 4
    assert drain(spool) == [1, 3, 4, 5]


def test_rows_may_arrive_while_older_ones_are_drained(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([queued(0), queued(1)])
    assert numbers(spool.peek(1)) == [0]
    spool.append([queued(2)])
    spool.done(1)
    assert drain(spool) == [1, 2]


@settings(max_examples=60, deadline=None)
@given(batches=st.lists(st.integers(1, 5), min_size=1, max_size=6), data=st.data())
def test_a_process_that_dies_at_any_byte_loses_no_row_that_was_synced(batches: list[int], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spool = opened(folder, segment_bytes=1_500)
        count = 0
        for size in batches:
            spool.append([queued(n) for n in range(count, count + size)])
            count += size
        spool.close()
        # The write that was under way when the process died: any part of it is in the newest segment, or a new one.
        torn = b"".join(encode(queued(n)) for n in range(1_000, 1_003))
        torn = torn[: data.draw(st.integers(0, len(torn)))]
        newest = max(folder.iterdir())
        target = newest if data.draw(st.booleans()) else folder / "000000009999.raw.v1.spool"
        with target.open("ab") as file:
            file.write(torn)
        later = opened(folder)
        found = drain(later)
        assert found[:count] == list(range(count))
        assert found[count:] == list(range(1_000, 1_000 + len(found) - count))
        assert later.drops.total() == 0
        later.append([queued(5_000)])
        assert drain(later) == [5_000]


def test_a_process_killed_while_it_spools_leaves_every_reported_row(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from history_rows import queued; from retinue.store.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), segment_bytes=4000); spool.open(); n = 0\n"
        "while True:\n"
        "    spool.append([queued(i) for i in range(n, n + 5)]); n += 5; print(n, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 300:
                process.send_signal(signal.SIGKILL)
                break
        reported = max([300, *(int(line) for line in process.stdout if line.endswith("\n"))])
    found = drain(opened(tmp_path))
    assert found[:reported] == list(range(reported))
    assert found == list(range(len(found)))


def test_a_full_spool_gives_up_the_oldest_raw_rows_and_counts_each(tmp_path: Path) -> None:
    one = len(encode(queued(0)))
    spool = opened(tmp_path, max_bytes=10 * one + 500, segment_bytes=2 * one)
    spool.append([queued(100, TRANSITION), queued(101, TRANSITION)])
    spool.append([queued(200, SUMMARY), queued(201, SUMMARY)])
    for n in range(0, 20, 2):
        spool.append([queued(n), queued(n + 1)])
    assert spool.size <= 10 * one + 500
    left = drain(spool)
    assert left[:4] == [100, 101, 200, 201]
    assert left[4:] == list(range(20 - len(left[4:]), 20))
    assert spool.drops == {DropKey("pod_health", "raw", "spool_full"): 20 - len(left[4:])}


def test_raw_rows_never_push_out_state_changes(tmp_path: Path) -> None:
    one = len(encode(queued(100)))
    spool = opened(tmp_path, max_bytes=4 * one + 100, segment_bytes=2 * one)
    spool.append([queued(n, TRANSITION) for n in range(100, 104)])
    spool.append([queued(n) for n in range(200, 202)])
    assert spool.drops == {DropKey("pod_health", "raw", "spool_full"): 2}
    assert drain(spool) == [100, 101, 102, 103]


def test_state_changes_push_out_everything_else_before_older_ones_of_their_kind(tmp_path: Path) -> None:
    one = len(encode(queued(100)))
    spool = opened(tmp_path, max_bytes=4 * one + 100, segment_bytes=one)
    spool.append([queued(101, TRANSITION)])
    spool.append([queued(102), queued(103, SUMMARY), queued(104)])
    for n in range(105, 109):
        spool.append([queued(n, TRANSITION)])
    assert drain(spool) == [105, 106, 107, 108]
    assert spool.drops == {
        DropKey("pod_health", "raw", "spool_full"): 2,
        DropKey("pod_health", "summary", "spool_full"): 1,
        DropKey("pod_health", "transition", "spool_full"): 1,
    }


def test_what_was_acknowledged_is_not_counted_as_dropped(tmp_path: Path) -> None:
    one = len(encode(queued(0)))
    spool = opened(tmp_path, max_bytes=4 * one + 50, segment_bytes=4 * one)
    spool.append([queued(n) for n in range(4)])
    spool.peek(3)
    spool.done(3)
    spool.append([queued(9)])
    assert spool.drops == {DropKey("pod_health", "raw", "spool_full"): 1}
    assert drain(spool) == [9]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["append", "drain", "reopen"]), st.lists(st.sampled_from(RowClass), max_size=12)),
        max_size=25,
    )
)
def test_every_row_is_drained_or_counted_exactly_once(steps: list[tuple[str, list[RowClass]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        spool = opened(Path(name), max_bytes=6_000, segment_bytes=1_500)
        put, seen, dropped = 0, [], 0
        for step, classes in steps:
            if step == "append":
                assert not spool.append([queued(put + i, c) for i, c in enumerate(classes)]).left
                put += len(classes)
            elif step == "drain":
                batch = spool.peek(4)
                spool.done(len(batch)) if batch else None
                seen += numbers(batch)
            else:
                spool.close()
                dropped += spool.drops.total()
                # What a segment's head had acknowledged before the restart comes again: the table's key drops it.
                spool = opened(Path(name), max_bytes=6_000, segment_bytes=1_500)
            assert spool.size <= 6_000
        rest = drain(spool)
        dropped += spool.drops.total()
        assert set(seen) | set(rest) <= set(range(put))
        assert len(set(seen) | set(rest)) + dropped >= put
        if not any(step == "reopen" for step, _ in steps):
            assert len(seen) + len(rest) + dropped == put
            assert len(set(seen + rest)) == len(seen + rest)


def test_a_row_without_a_spool_form_is_counted_and_the_others_are_kept(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([queued(1), QueuedRow(pod_row(at=NOON, reason="\ud800"), RAW), queued(2)])
    assert spool.drops == {DropKey("pod_health", "raw", "poison"): 1}
    assert drain(spool) == [1, 2]


def test_a_damaged_block_is_counted_and_what_follows_is_found(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([queued(n) for n in range(3)])
    spool.close()
    [segment] = tmp_path.iterdir()
    data = bytearray(segment.read_bytes())
    data[len(encode(queued(0))) + 30] ^= 0xFF
    segment.write_bytes(data)
    later = opened(tmp_path)
    assert later.drops == {DropKey("unknown", "raw", "unreadable"): 1}
    assert drain(later) == [0, 2]


def test_rows_that_vanish_from_the_disk_are_counted(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append([queued(n) for n in range(3)])
    [segment] = tmp_path.iterdir()
    os.truncate(segment, len(encode(queued(0))) + 5)
    assert drain(spool) == [0]
    assert spool.drops == {DropKey("pod_health", "raw", "unreadable"): 2}
    assert spool.rows == 0


def test_a_disk_that_takes_nothing_gives_the_rows_back(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    (tmp_path / "spool").rmdir()
    (tmp_path / "spool").touch()
    appended = spool.append([queued(1), QueuedRow(deployment_row(at=NOON), SUMMARY)])
    assert len(appended.left) == 2
    assert "cannot be written" in appended.error
    assert (spool.rows, spool.drops.total()) == (0, 0)


def test_a_folder_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    with pytest.raises(SpoolError, match=r"spool folder .*/spool"):
        Spool(tmp_path / "spool").open()


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "000000000001.raw.v9.spool").write_bytes(b"another format")
    spool = opened(tmp_path)
    spool.append([queued(1)])
    assert drain(spool) == [1]
    assert {p.name for p in tmp_path.iterdir()} == {"lost+found", "000000000001.raw.v9.spool"}
