"""Gives the path of a binary in the wanted version: built before, brought by the user, or built now.

Order: the cache, $KUBEBUILDER_ASSETS, PATH (both only when major.minor fits), else a build from the Go module.
"""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed import gobuild, versions
from testbed.paths import bin_dir, cache_dir
from testbed.progress import say
from testbed.versions import Tool

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
NODE = ("kubelet", "kube-proxy", "coredns", "pause")
_VERSION_ARGUMENTS = {"kubectl": ["version", "--client"], "helm": ["version", "--short"]}


def ensure(name: str) -> Path:
    """The path of one binary; TestbedError says why it cannot be had."""
    tool = versions.tool(name)
    target = bin_dir(name, tool.version) / name
    if target.exists():
        return target
    brought = brought_along(tool)
    if brought is not None:
        return brought
    with file_lock(cache_dir() / "bin" / f".{tool.module}.lock", f"another process builds {tool.module}"):
        if not target.exists():
            gobuild.build(tool, target)
    return target


def ensure_all(names: Iterable[str]) -> dict[str, Path]:
    """Several binaries at once, by name."""
    return {name: ensure(name) for name in names}


def present(name: str) -> bool:
    """Whether a binary is there without a build."""
    tool = versions.tool(name)
    return (bin_dir(name, tool.version) / name).exists() or brought_along(tool) is not None


def brought_along(tool: Tool) -> Path | None:
    """A binary of $KUBEBUILDER_ASSETS or PATH, if its version fits."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    for candidate in (shutil.which(tool.name, path=assets) if assets else None, shutil.which(tool.name)):
        if candidate and _fits(Path(candidate), tool):
            return Path(candidate).resolve()
    return None


def _fits(binary: Path, tool: Tool) -> bool:
    """Whether a found binary says that it is of the wanted minor version."""
    arguments = _VERSION_ARGUMENTS.get(tool.name, ["--version"])
    try:
        ran = subprocess.run([str(binary), *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return says_minor(ran.stdout + ran.stderr, tool.minor)


def says_minor(text: str, minor: str) -> bool:
    """Whether the first version number in the output of `--version` has this major.minor."""
    found = re.search(r"(?<![\d.])v?(\d+\.\d+)\.\d+", text)
    return found is not None and found.group(1) == minor


@contextmanager
def file_lock(path: Path, waiting: str) -> Iterator[None]:
    """One process at a time; the kernel frees it when the holder dies, however it dies.

    The holder may delete the file: who then gets the lock of the deleted file sees that and asks for the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    said = False
    while True:
        with path.open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not said:
                    say(f"{waiting}: waiting for it")
                    said = True
                fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_still(path, handle.fileno()):
                yield
                return


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the path still names the opened file."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
