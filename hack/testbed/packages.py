"""Programs of the operating system that a node needs; on Debian and its kin they are installed when missing."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from testbed.errors import TestbedError
from testbed.progress import say

NODE: Mapping[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "sysctl": "procps",
    "mkfs.ext4": "e2fsprogs",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
}
"""Program to Debian package."""

_CNI_FOLDERS = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
_CNI_PLUGINS = ("bridge", "host-local", "portmap", "loopback")


def ensure(programs: Mapping[str, str]) -> None:
    """Installs the packages of missing programs; TestbedError names them where that is not possible."""
    missing = sorted({package for program, package in programs.items() if find(program) is None})
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise TestbedError(f"programs are missing; install these packages (Debian names): {names}")
    say(f"installing {names} (apt)")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
        ran = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise TestbedError(f"apt-get {command[0]} failed; install {names} yourself: {ran.stderr.strip()[-500:]}")


def find(program: str) -> str | None:
    """A program on PATH or in the folders of administrators, which PATH often lacks."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def ensure_node() -> None:
    """Everything that `up --node` calls, CNI plugins included."""
    ensure(NODE)
    if cni_folder() is None:
        ensure({"no such program": "containernetworking-plugins"})


def cni_folder() -> Path | None:
    """The folder that holds all the CNI plugins that we use."""
    for folder in map(Path, _CNI_FOLDERS):
        if all((folder / plugin).exists() for plugin in _CNI_PLUGINS):
            return folder
    return None
