"""What is written down about a cluster, so that any later command can use it, mend it or clear it away."""

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from testbed.errors import TestbedError
from testbed.processes import start_time

Kind = Literal["control-plane", "node"]
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?")


@dataclass
class State:
    """One cluster's facts. `phase` is `ready` only after a whole start; anything else is cleared by the next start."""

    name: str
    kind: Kind
    phase: Literal["starting", "ready"] = "starting"
    api_port: int = 0
    etcd_port: int = 0
    etcd_peer_port: int = 0
    subnet: int = 0
    """Second byte of the node cluster's 10.N.0.0/16; 0 without a node."""
    owner_pid: int = 0
    """A process that wants the cluster gone when it is (a test session); 0: it stays until `down`."""
    owner_start_time: int = 0

    @property
    def abandoned(self) -> bool:
        """Whether it belonged to a process that has died."""
        return self.owner_pid != 0 and start_time(self.owner_pid) != self.owner_start_time

    def own(self) -> None:
        """Ties the cluster's life to this process."""
        self.owner_pid = os.getpid()
        self.owner_start_time = start_time(self.owner_pid) or 0

    def save(self, folder: Path) -> None:
        """Replaces the file in one step: a reader sees the old or the new one."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = folder / ".state.new"
        unfinished.write_text(json.dumps(asdict(self), indent=1))
        unfinished.rename(folder / "state.json")


def load(folder: Path) -> State | None:
    """What is written there; None when nothing (readable) is."""
    try:
        return State(**json.loads((folder / "state.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def checked_name(name: str) -> str:
    """The name itself if it can be part of host names, folders and interface names; TestbedError otherwise."""
    if not _NAME.fullmatch(name):
        raise TestbedError(
            f"cluster name {name!r}: use 1 to 30 lower-case letters, digits and dashes, no dash at the ends"
        )
    return name
