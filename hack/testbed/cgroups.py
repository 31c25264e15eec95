"""One cgroup subtree per node cluster, so that two kubelets never touch each other's pods."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from testbed.errors import TestbedError


def hierarchies(mountinfo: str) -> list[tuple[str, Path]]:
    """(`cgroup` or `cgroup2`, mount point) of every cgroup mount in the text of /proc/self/mountinfo."""
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind = right.split(" ")[0]
        if kind in ("cgroup", "cgroup2"):
            found.append((kind, Path(left.split(" ")[4])))
    return found


def create(name: str) -> None:
    """Makes /NAME in every hierarchy, usable as a kubelet's cgroupRoot."""
    for kind, mount in _mounted():
        group = mount / name
        group.mkdir(exist_ok=True)
        # A cpuset starts empty, and a process cannot be put into an empty one.
        for file in ("cpuset.cpus", "cpuset.mems") if kind == "cgroup" else ():
            if (mount / file).exists():
                (group / file).write_text((mount / file).read_text())
        if kind == "cgroup2" and mount == Path("/sys/fs/cgroup"):
            for controller in (mount / "cgroup.controllers").read_text().split():
                for parent in (mount, group):
                    with contextlib.suppress(OSError):
                        (parent / "cgroup.subtree_control").write_text(f"+{controller}")


def pids(name: str) -> set[int]:
    """Every process anywhere below /NAME: containers, of whichever state."""
    found: set[int] = set()
    for group in _groups(name):
        with contextlib.suppress(OSError):
            found.update(int(line) for line in (group / "cgroup.procs").read_text().split() if line != "0")
    return found


def remove(name: str, patience_seconds: float = 10.0) -> None:
    """Removes the subtrees; their processes must be dead. The kernel needs a moment after the last one."""
    until = time.monotonic() + patience_seconds
    while groups := list(_groups(name)):
        for group in reversed(groups):
            with contextlib.suppress(OSError):
                group.rmdir()
        if time.monotonic() > until:
            raise TestbedError(f"the cgroup {groups[-1]} cannot be removed; processes in it: {sorted(pids(name))}")
        time.sleep(0.02)


def _mounted() -> list[tuple[str, Path]]:
    return hierarchies(Path("/proc/self/mountinfo").read_text())


def _groups(name: str) -> Iterator[Path]:
    """All groups at and below /NAME, parents first."""
    for _, mount in _mounted():
        top = mount / name
        if top.is_dir():
            yield top
            yield from sorted(entry for entry in top.rglob("*") if entry.is_dir())
