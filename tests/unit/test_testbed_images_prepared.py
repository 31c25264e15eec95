"""Things made once: whole or absent, made by one of several runs, keyed by what went in."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from testbed.child import Child, run_folder
from testbed.errors import TestbedError
from testbed.ollama_build import compiler_flags
from testbed.ollama_server import portable_manifest
from testbed.prepared import clone_tree, key_of, prepare

pytestmark = pytest.mark.unit


def test_a_thing_is_made_once_for_several_askers(tmp_path: Path) -> None:
    made: list[str] = []

    def make(path: Path) -> None:
        made.append("x")
        path.write_text("whole")

    askers = [threading.Thread(target=prepare, args=(tmp_path / "thing", "making it", make)) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert made == ["x"]
    assert (tmp_path / "thing").read_text() == "whole"


def test_a_failed_making_leaves_nothing_that_looks_made(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.mkdir()
        (path / "half").write_text("")
        raise TestbedError("no")

    def succeed(path: Path) -> None:
        path.mkdir()
        (path / "whole").write_text("")

    with pytest.raises(TestbedError):
        prepare(tmp_path / "thing", "making it", fail)
    assert not (tmp_path / "thing").exists()
    prepare(tmp_path / "thing", "making it", succeed)
    assert [file.name for file in (tmp_path / "thing").iterdir()] == ["whole"]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda folder: None, True),
        (lambda folder: (folder / "a").write_text("2"), False),
        (lambda folder: (folder / "a").rename(folder / "b"), False),
        (lambda folder: (folder / "a").chmod(0o755), False),
        (lambda folder: os.utime(folder / "a", (1, 1)), True),
    ],
    ids=["nothing", "content", "name", "mode", "time"],
)
def test_the_key_of_a_folder_changes_with_what_is_in_it(tmp_path: Path, change, same: bool) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a").write_text("1")
    before = key_of(["x", tmp_path])
    change(tmp_path)
    assert (key_of(["x", tmp_path]) == before) is same


def test_a_clone_shares_only_what_may_be_shared(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "blobs").mkdir(parents=True)
    (source / "blobs" / "b").write_text("blob")
    (source / "link").write_text("tag")
    clone_tree(source, tmp_path / "clone", link=lambda file: file.parent.name == "blobs")
    (tmp_path / "clone" / "link").write_text("moved")
    assert (source / "link").read_text() == "tag"
    assert (tmp_path / "clone" / "blobs" / "b").samefile(source / "blobs" / "b")


@pytest.mark.parametrize(
    ("machine", "cpu", "flags"),
    [
        ("x86_64", {"avx2", "fma", "f16c", "sse4_2"}, "-O3 -march=x86-64-v3"),
        ("x86_64", {"sse4_2"}, "-O3 -march=x86-64-v2"),
        ("aarch64", set(), "-O3"),
    ],
)
def test_the_kernels_are_compiled_for_this_machine(machine: str, cpu: set[str], flags: str) -> None:
    assert compiler_flags(machine, cpu) == flags


def test_a_manifest_has_the_same_bytes_on_every_machine() -> None:
    here = b'{"config":{"digest":"c"},"layers":[{"digest":"l","from":"/home/a/blobs/l"}]}\n'
    there = b'{"config":{"digest":"c"},"layers":[{"digest":"l","from":"/home/b/blobs/l"}]}\n'
    assert portable_manifest(here) == portable_manifest(there) == b'{"config":{"digest":"c"},"layers":[{"digest":"l"}]}'


def test_a_server_dies_with_the_run_that_was_killed(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from testbed.child import Child, run_folder
folder = run_folder("server", Path({str(tmp_path)!r}))
child = Child(["sleep", "600"], log=folder / "log", remove=folder)
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    server = int(killed.stdout)
    waiting = threading.Event()
    for _ in range(200):
        state = Path(f"/proc/{server}/stat")
        if (not state.exists() or state.read_text().split()[2] == "Z") and not list(tmp_path.iterdir()):
            break
        waiting.wait(0.05)
    else:
        pytest.fail(f"process {server} or its folder outlived its starter")


def test_a_server_that_dies_at_its_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    folder = run_folder("server", tmp_path)
    child = Child(["sh", "-c", "echo out of luck; exit 3"], log=folder / "log")
    with pytest.raises(TestbedError, match=r"sh ended with 3 before answering:\nout of luck"):
        child.wait_until(lambda: False, "answering")
    child.stop()
