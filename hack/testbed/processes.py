"""Processes of a cluster: started so that they outlive the command, found again and ended however it died.

A process is known by two marks. Its record (`processes/NAME.json`: pid and start time, because pids are reused) serves
the ordinary case. The environment variable MARK, which holds the cluster's folder and is inherited by children, finds
those whose starter was killed before it could write the record.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed.errors import TestbedError

MARK = "RETINUE_TESTBED_CLUSTER"


@dataclass(frozen=True)
class Record:
    """One started process, and how to start it again."""

    name: str
    pid: int
    start_time: int
    argv: list[str]

    @property
    def alive(self) -> bool:
        """Whether exactly this process (not another with its number) still runs."""
        return start_time(self.pid) == self.start_time


class Processes:
    """The processes of one cluster's folder."""

    def __init__(self, folder: Path) -> None:
        self._cluster = folder
        self._records = folder / "processes"
        self.logs = folder / "logs"

    def records(self) -> list[Record]:
        """All that were started and not stopped on purpose; a torn file counts as absent (MARK finds its process)."""
        found = []
        for file in sorted(self._records.glob("*.json")):
            with contextlib.suppress(ValueError, TypeError, OSError):
                found.append(Record(**json.loads(file.read_text())))
        return found

    def record(self, name: str) -> Record | None:
        """One record by name."""
        return next((record for record in self.records() if record.name == name), None)

    def start(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Record:
        """Starts a process in its own session, its output appended to logs/NAME.log."""
        self._records.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        command = [str(part) for part in argv]
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
                env={**os.environ, **(env or {}), MARK: str(self._cluster)},
            )
        started = start_time(process.pid)
        # Nobody waits for it: the command ends before its processes do. Without this Popen warns when collected.
        process.returncode = 0
        record = Record(name, process.pid, started or 0, command)
        unfinished = self._records / f".{name}.new"
        unfinished.write_text(json.dumps(asdict(record)))
        unfinished.rename(self._records / f"{name}.json")
        return record

    def restart_dead(self, *names: str) -> list[str]:
        """Starts again, with the same command line, whatever has died (of these names, if given); returns the names."""
        dead = [record for record in self.records() if not record.alive and (not names or record.name in names)]
        for record in dead:
            self.start(record.name, record.argv)
        return [record.name for record in dead]

    def kill(self, name: str) -> None:
        """Kills one process with -9 and forgets it."""
        record = self.record(name)
        if record is not None:
            if record.alive:
                kill_all([record.pid])
            (self._records / f"{name}.json").unlink(missing_ok=True)

    def require_alive(self, *names: str) -> None:
        """TestbedError with the end of its log when one of them has died."""
        for name in names:
            record = self.record(name)
            if record is None or not record.alive:
                raise TestbedError(f"{name} has ended; end of {self.logs / name}.log:\n{self.log_tail(name)}")

    def log_tail(self, name: str, lines: int = 12) -> str:
        """The last lines that a process wrote."""
        try:
            return "\n".join((self.logs / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def all_pids(self) -> set[int]:
        """Recorded ones that live and marked ones."""
        return {record.pid for record in self.records() if record.alive} | marked(self._cluster)


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which a process started; None when there is none (or only its zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def marked(folder: Path) -> set[int]:
    """Processes whose environment carries this cluster's mark."""
    wanted = f"{MARK}={folder}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return found


def kill_all(pids: Iterable[int], patience_seconds: float = 20.0) -> None:
    """Kills with -9 and waits until they are gone; TestbedError names those that stay."""
    waiting = set(pids)
    for pid in waiting:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + patience_seconds
    while waiting:
        for pid in list(waiting):
            # Collects the exit status where the process is a child of ours, so that no zombie stays.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        waiting = {pid for pid in waiting if start_time(pid) is not None}
        if waiting and time.monotonic() > until:
            raise TestbedError(f"processes {sorted(waiting)} do not end on SIGKILL: they hang in the kernel (see ps)")
        if waiting:
            time.sleep(0.02)
