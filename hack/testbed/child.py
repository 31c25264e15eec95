"""Processes that never outlive the one that started them, unless they are told to.

A test run that is killed with -9 cannot clean up after itself. So each process gets a watcher: a shell that waits on
a pipe whose other end only we hold; when we die, however we die, the pipe closes and the watcher kills the process
group and removes its folder. (PR_SET_PDEATHSIG would fire when the starting *thread* ends.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from testbed.errors import TestbedError
from testbed.paths import cache_dir

_WATCH = 'read -r _; kill -9 "-$1" 2>/dev/null; [ -z "$2" ] || rm -rf -- "$2"'


_DETACHED: list[subprocess.Popen[bytes]] = []


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on at the moment of asking."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def run_folder(name: str, parent: Path | None = None) -> Path:
    """A fresh folder for one running server, by default on the cache's file system, so that hard links work."""
    base = parent or cache_dir() / "run"
    base.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))


class Child:
    """One running server process, its process group and, unless `detached`, its watcher."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        remove: Path | None = None,
        detached: bool = False,
    ) -> None:
        """Start `command` in a process group of its own, both outputs appended to `log`.

        `user`: run as this account (we must be root). `remove`: folder that the watcher deletes if we die first.
        """
        self.log = log
        self._name = Path(command[0]).name
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=[] if user else None,
            )
        self.pid = self._process.pid
        self._watcher: subprocess.Popen[bytes] | None = None
        if detached:
            # It is meant to outlive this object, of which Popen would complain.
            _DETACHED.append(self._process)
        else:
            arguments = [str(self.pid), str(remove or "")]
            watch = ["sh", "-c", _WATCH, "watch", *arguments]
            self._watcher = subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True)

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the main process alone."""
        if self.alive():
            os.kill(self.pid, number)

    def freeze(self) -> None:
        """Stop the process and its children with SIGSTOP: connections stay open and nothing answers."""
        for process in self.family():
            process.suspend()

    def thaw(self) -> None:
        """Let a frozen process go on."""
        for process in reversed(self.family()):
            process.resume()

    def kill(self) -> None:
        """SIGKILL to the whole group, as the kernel's OOM killer does it: no goodbye on any connection."""
        end_group(self.pid)
        self._reap()

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 15) -> None:
        """Ask the process to end; kill what is left of its group after `seconds`."""
        if self.alive():
            self.thaw()
            os.kill(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=seconds)
        self.kill()

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until `ready()` says yes. Raises with the end of the log if the process dies first or `seconds` pass."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive():
                raise TestbedError(f"{self._name} ended with {self._process.returncode} before {what}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise TestbedError(f"{self._name}: not {what} after {seconds:.0f} s:\n{self.tail()}")
            time.sleep(0.03)

    def tail(self, lines: int = 20) -> str:
        """The last lines that it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def family(self) -> list[psutil.Process]:
        """The process and all that it started, directly or not; empty when it is gone."""
        try:
            main = psutil.Process(self.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _reap(self) -> None:
        self._process.wait()
        if self._watcher is not None:
            # The watcher dies before its pipe closes, so it never fires at a process id that somebody else got.
            self._watcher.kill()
            self._watcher.wait()
            if self._watcher.stdin is not None:
                self._watcher.stdin.close()
            self._watcher = None


def end_group(group: int) -> None:
    """SIGKILL to a process group, if it still exists."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
