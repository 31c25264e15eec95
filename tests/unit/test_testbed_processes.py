"""Processes of a cluster are found and ended by their marks, whatever was (or was not) written down about them."""

import io
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import processes, scratch, state
from testbed.binaries import file_lock
from testbed.errors import TestbedError
from testbed.processes import Processes, kill_all, start_time
from testbed.state import State

pytestmark = pytest.mark.unit


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Processes]:
    """Processes of a folder of their own, ended afterwards."""
    found = Processes(tmp_path)
    yield found
    kill_all(found.all_pids())


def test_a_started_process_is_recorded_and_killed(running: Processes) -> None:
    record = running.start("sleeper", ["sleep", "600"])
    assert running.record("sleeper") == record
    assert record.alive
    running.kill("sleeper")
    assert not record.alive
    assert running.records() == []


def test_a_process_without_a_record_is_found_by_its_mark(running: Processes, tmp_path: Path) -> None:
    record = running.start("sleeper", ["sleep", "600"])
    (tmp_path / "processes" / "sleeper.json").write_text('{"name": "slee')
    assert running.records() == []
    assert running.all_pids() == {record.pid}


def test_a_child_of_a_dead_process_is_found_by_its_mark(running: Processes) -> None:
    record = running.start("parent", ["sh", "-c", "sleep 600 & wait"])
    while len(running.all_pids()) < 2:
        time.sleep(0.01)
    kill_all([record.pid])
    assert len(running.all_pids()) == 1


def test_a_reused_number_is_not_taken_for_the_process() -> None:
    other = processes.Record("x", os.getpid(), (start_time(os.getpid()) or 0) + 1, [])
    assert not other.alive


def test_the_dead_are_started_again_with_the_same_command(running: Processes) -> None:
    kept = running.start("kept", ["sleep", "600"])
    dead = running.start("dead", ["sleep", "601"])
    kill_all([dead.pid])
    assert running.restart_dead() == ["dead"]
    revived = running.record("dead")
    assert revived is not None
    assert revived.alive
    assert revived.argv == dead.argv
    assert running.record("kept") == kept


def test_a_process_that_ended_is_reported_with_the_end_of_its_log(running: Processes) -> None:
    record = running.start("broken", ["sh", "-c", "echo no such flag >&2; exit 1"])
    while record.alive:
        time.sleep(0.01)
    with pytest.raises(TestbedError, match=r"broken has ended(.|\n)*no such flag"):
        running.require_alive("broken")


def test_a_cluster_is_abandoned_when_its_owner_is_dead() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    facts = State(name="x", kind="node", owner_pid=ended.pid, owner_start_time=1)
    assert facts.abandoned
    facts.own()
    assert not facts.abandoned
    assert not State(name="x", kind="node").abandoned


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "x"}', '{"unknown": 1}'])
def test_an_unreadable_state_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    assert state.load(tmp_path) is None


def test_a_state_is_read_as_it_was_saved(tmp_path: Path) -> None:
    facts = State(name="x", kind="node", phase="ready", api_port=6443, subnet=101)
    facts.save(tmp_path)
    assert state.load(tmp_path) == facts


def test_a_lock_has_one_holder_although_holders_delete_its_file(tmp_path: Path) -> None:
    lock, holders, seen = tmp_path / "lock", [0], []

    def hold() -> None:
        for _ in range(20):
            with file_lock(lock, "busy"):
                holders[0] += 1
                seen.append(holders[0])
                holders[0] -= 1
                lock.unlink()  # last: from here on the next one may hold a new file

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 80


def test_an_image_of_one_program_names_it_as_entrypoint(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_bytes(b"#!")
    scratch.write(tmp_path / "image.tar", "example/tool:1", program)
    with tarfile.open(tmp_path / "image.tar") as image:
        members = {member.name: image.extractfile(member) for member in image}
        manifest = members["manifest.json"]
        assert manifest is not None
        text = manifest.read().decode()
        [layer] = [content for name, content in members.items() if name.endswith(".tar") and content]
        with tarfile.open(fileobj=io.BytesIO(layer.read())) as files:
            assert [(member.name, member.mode) for member in files] == [("tool", 0o755)]
    assert "example/tool:1" in text
