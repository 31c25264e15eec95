"""Things made once and kept in the user's cache folder: built binaries, models, stores, images.

Every maker in this package needs the same four things: a place, a lock so that two runs do not make the same thing
twice, a result that is either whole or absent, and a line that says what takes so long. They live here once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from testbed.binaries import file_lock
from testbed.errors import TestbedError
from testbed.paths import cache_dir
from testbed.progress import say


def prepare(target: Path, label: str, make: Callable[[Path], None], *, lock: str | None = None) -> Path:
    """Make `target` (file or folder) once. `make` gets a temporary path beside it, which is renamed when it returns.

    A killed run leaves only the temporary path, which the next run removes; no reader ever sees half a result.
    `lock`: name of the lock file, for targets whose own names change with their content.
    """
    if target.exists():
        return target
    with file_lock(target.parent / f".{lock or target.name}.lock", f"another process is {label}"):
        if target.exists():
            return target
        partial = target.parent / f".{target.name}.partial"
        remove(partial)
        started = time.monotonic()
        say(f"{label} ...")
        make(partial)
        partial.rename(target)
        say(f"{label}: done in {time.monotonic() - started:.0f} s")
    return target


def remove(path: Path) -> None:
    """Remove a file or a folder, whichever it is, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run(command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return its stdout; on failure raise with the last lines that it printed."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise TestbedError(f"`{' '.join(str(part) for part in command)}` ended with {done.returncode}:\n{tail}")
    return done.stdout


def require_debian(probes: Mapping[str, str]) -> None:
    """See that each probe (a command name or an absolute path) exists; install its Debian package if we are root.

    `probes` maps probe to package name.
    """
    missing = sorted({package for probe, package in probes.items() if not _present(probe)})
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise TestbedError(f"missing on this machine: {', '.join(missing)}; install them (Debian package names)")
    with file_lock(cache_dir() / ".apt.lock", "another process installs packages"):
        say(f"installing {', '.join(missing)} (apt)")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        try:
            run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], env=env)
        except TestbedError:
            run(["apt-get", "update", "-qq"], env=env)
            run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], env=env)


def _present(probe: str) -> bool:
    return Path(probe).exists() if probe.startswith("/") else which(probe) is not None


def which(name: str) -> str | None:
    """Find a command, also in the folders for system commands that a user's PATH leaves out."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def key_of(parts: Iterable[str | bytes | Path]) -> str:
    """A short content key of strings and files: same inputs, same key. A folder counts with all files in it."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = (
                sorted(p for p in part.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
                if part.is_dir()
                else [part]
            )
            for file in files:
                name = file.relative_to(part) if part.is_dir() else Path(file.name)
                digest.update(f"{name}\0{sha256_of(file)}\0{file.stat().st_mode & 0o111:o}\n".encode())
        else:
            digest.update((part if isinstance(part, bytes) else part.encode()) + b"\0")
    return digest.hexdigest()[:12]


def clone_tree(source: Path, target: Path, *, link: Callable[[Path], bool]) -> None:
    """Copy a folder; files for which `link` says yes (big, never rewritten) are hard links where possible."""
    for folder, _, names in os.walk(source):
        here = Path(folder)
        there = target / here.relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for name in names:
            if link(here / name):
                try:
                    os.link(here / name, there / name)
                    continue
                except OSError:
                    pass  # another file system, or hard links not allowed: a copy serves as well
            shutil.copy2(here / name, there / name)
