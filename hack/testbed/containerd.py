"""The node's own containerd: own configuration, root, state and socket (the host's is not touched)."""

import re
import subprocess
import time
from pathlib import Path

from testbed import netns, packages
from testbed.errors import TestbedError
from testbed.processes import Processes
from testbed.scratch import PAUSE

NAME = "containerd"
SOCKET = "/run/containerd/containerd.sock"
"""Inside the node's mount namespace."""

_CONFIG = """version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE nobody may lower an oom_score_adj, and runc dies when it tries.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_programs}"
    conf_dir = "{cni_config}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def start(folder: Path, processes: Processes, cni_config: Path) -> None:
    """Starts containerd and returns when it answers."""
    config = folder / "containerd.toml"
    programs = packages.cni_folder()
    if programs is None:
        raise TestbedError("the CNI plugins are missing: install containernetworking-plugins")
    config.write_text(_CONFIG.format(socket=SOCKET, pause=PAUSE, cni_programs=programs, cni_config=cni_config))
    processes.start(NAME, [*netns.enter(processes), "containerd", "--config", config])
    wait_ready(processes)


def wait_ready(processes: Processes, patience_seconds: float = 60.0) -> None:
    """Returns when containerd answers on its socket."""
    until = time.monotonic() + patience_seconds
    while subprocess.run([*_ctr(processes), "version"], capture_output=True, check=False).returncode != 0:
        processes.require_alive(NAME)
        if time.monotonic() > until:
            raise TestbedError(f"containerd does not answer; end of its log:\n{processes.log_tail(NAME)}")
        time.sleep(0.1)


def load_image(folder: Path, archive: Path) -> list[str]:
    """Imports an archive under the names written in it; TestbedError says why it is refused."""
    with archive.open("rb") as content:
        ran = subprocess.run(
            [*_ctr(Processes(folder)), "images", "import", "-"], stdin=content, capture_output=True, check=False
        )
    output = ran.stdout.decode(errors="replace")
    if ran.returncode != 0:
        raise TestbedError(f"containerd refuses {archive}: {ran.stderr.decode(errors='replace').strip()}")
    return imported_names(output)


def imported_names(output: str) -> list[str]:
    """Image names in what `ctr images import` prints."""
    return re.findall(r"^(?:unpacking )?(\S+:\S+?)\s+\(?sha256:", output, re.MULTILINE)


def _ctr(processes: Processes) -> list[str]:
    return [*netns.enter(processes), "ctr", "--address", SOCKET, "--namespace", "k8s.io"]
